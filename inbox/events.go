package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// State is the state of a stored notification.
type State string

const (
	// Pending is what was accepted and is not done: it waits for its turn or its
	// retry, or is running.
	Pending State = "pending"
	// Done is what the receiver handled without an error.
	Done State = "done"
	// Dead is what failed for good: its attempts are used up, or the receiver or an
	// operator discarded it. Replay runs it again.
	Dead State = "dead"
	// Quarantined is a body that passed verification but not validation, or that the
	// database rejected.
	Quarantined State = "quarantined"
	// Resolved is what was dead or quarantined until a person dealt with it, and
	// called [Inbox.Resolve]. A redelivery does not revive it; Replay runs it again.
	Resolved State = "resolved"
)

// Event is a stored notification.
type Event struct {
	// ID is the inbox's id for it, a UUID; ids sort by ReceivedAt.
	ID string `json:"id"`
	// Key is its case; empty while it is quarantined.
	Key pixmed.Key `json:"key"`
	// Status is its medStatus; empty while it is quarantined, or if it has none.
	Status pixmed.MEDStatus `json:"status"`
	// Value is its value; 0 while it is quarantined.
	Value pixmed.Amount `json:"value"`
	// Raw is the body as it was received.
	Raw []byte `json:"raw"`
	// Seq is its place among the notifications of its transaction, in the order
	// in which they were accepted, from 1; 0 while it is quarantined.
	Seq int64 `json:"seq"`
	// State is its state.
	State State `json:"state"`
	// Attempts is how many calls of the receiver have ended, or were lost.
	Attempts int `json:"attempts"`
	// Discarded is set when the receiver or an operator decided that it is dead: a
	// redelivery does not revive it.
	Discarded bool `json:"discarded"`
	// LastError is why the last attempt failed, or why it is quarantined: for a body that
	// is not valid, the first line says what is wrong and the next what was found. It is
	// what the receiver returned, and may hold personal data.
	LastError string `json:"lastError"`
	// ReceivedAt is when the handler got it.
	ReceivedAt time.Time `json:"receivedAt"`
	// Deliveries is how often a quarantined body was delivered; 1 for everything else.
	Deliveries int `json:"deliveries"`
	// LastAt is when a quarantined body was last delivered; zero for everything else.
	LastAt time.Time `json:"lastAt,omitzero"`
	// DoneAt is when it was done, on the database's clock; zero if it is not.
	DoneAt time.Time `json:"doneAt,omitzero"`
	// NextAttempt is when the receiver is called next. It is set if the event is the
	// next of its transaction and not running; a time in the past means as soon as a
	// worker is free. See [Inbox.RetryNow].
	NextAttempt time.Time `json:"nextAttempt,omitzero"`
	// Running is set while an attempt at it runs.
	Running bool `json:"running,omitempty"`
}

// String describes the event in a short line, without the body and the error.
func (e *Event) String() string {
	return fmt.Sprintf("%s: %s %q of %q, place %d, attempts %d", e.ID, e.State, e.Status, e.Key.TransactionID, e.Seq, e.Attempts)
}

// LogValue groups the event's fields for log/slog, without the body, the error
// and the external id.
func (e *Event) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("event_id", e.ID),
		slog.String("transaction_id", e.Key.TransactionID),
		slog.String("med_status", string(e.Status)),
		slog.String("state", string(e.State)),
		slog.Int64("seq", e.Seq),
		slog.Int("attempts", e.Attempts),
		slog.Bool("discarded", e.Discarded),
		slog.Time("received_at", e.ReceivedAt),
		slog.Time("done_at", e.DoneAt),
	)
}

// Infraction parses the body. It fails for what is quarantined.
func (e *Event) Infraction() (*pixmed.Infraction, error) { return pixmed.ParseInfraction(e.Raw) }

func newOwnEvent(e *ledger.Event) *Event {
	return &Event{
		ID:  e.ID,
		Key: pixmed.Key{TransactionID: e.TransactionID, ExternalID: e.ExternalID},
		Raw: e.Raw, Status: pixmed.MEDStatus(e.Status), Value: pixmed.Amount(e.Value), Seq: e.Seq, State: State(e.State),
		Attempts: e.Attempts, Discarded: e.Discarded, LastError: e.LastError,
		ReceivedAt: e.ReceivedAt, DoneAt: e.DoneAt, Deliveries: e.Deliveries, LastAt: e.LastAt,
		NextAttempt: e.NextAttempt, Running: e.Running,
	}
}

// Filter selects events for [Inbox.List].
type Filter struct {
	// State selects by state; empty selects all.
	State State
	// TransactionID selects one transaction, in any letter case; empty selects all.
	// Quarantined events belong to none.
	TransactionID string
	// Since and Until select by the time at which events were received, in
	// microseconds: from Since, inclusive, to Until, exclusive. Zero selects all.
	Since, Until time.Time
	// Search selects the events of the transactions that [CaseFilter].Search selects;
	// empty selects all. With State Quarantined, whose events belong to no
	// transaction, it selects those whose body contains this text, in any letter case,
	// among the 1000 newest that the rest of the filter selects.
	Search string
	// Error selects what failed with an error that contains this text; empty selects
	// all.
	Error string
	// After is the last ID of the page before; empty for the first page.
	After string
	// Limit is the size of a page: 100 unless set, at most 1000.
	Limit int

	group *string // the Error of a Failure
}

// List returns a page of events, the newest first.
func (r *reads) List(ctx context.Context, f Filter) ([]*Event, error) {
	return own(r.list(ctx, "List", f, false))
}

// list returns a page of events for a function, perhaps without their bodies.
func (r *reads) list(ctx context.Context, function string, f Filter, bare bool) ([]*ledger.Event, error) {
	filter, err := f.filter(function)
	if err != nil {
		return nil, err
	}
	filter.Bare = bare
	ctx, cancel := searchContext(ctx, f.Search)
	defer cancel()
	if f.Search != "" && f.State == Quarantined {
		return r.searchBodies(ctx, filter, f.Search)
	}
	filter.Search = ledger.NewSearch(f.Search)
	return r.from.List(ctx, filter)
}

func (f Filter) filter(function string) (ledger.Filter, error) {
	filter := ledger.Filter{State: ledger.State(f.State), Error: f.Error, Group: f.group, Limit: f.Limit}
	switch f.State {
	case "", Pending, Done, Dead, Quarantined, Resolved:
	default:
		return filter, invalidf("%s: there is no state %q", function, f.State)
	}
	if f.group != nil && !isText(*f.group) || !isText(f.Error) {
		return filter, invalidf("%s: the text of the error is not valid UTF-8, or holds a NUL", function)
	}
	switch {
	case f.Limit == 0:
		filter.Limit = 100
	case f.Limit < 0 || f.Limit > 1000:
		return filter, invalidf("%s: a limit of %d is not between 1 and 1000", function, f.Limit)
	}
	var err error
	if f.TransactionID != "" {
		if filter.TransactionID, err = parseID("transaction id", f.TransactionID); err != nil {
			return filter, err
		}
	}
	if f.After != "" {
		if filter.Before, err = parseID("event id", f.After); err != nil {
			return filter, err
		}
	}
	if !f.Since.IsZero() {
		filter.From = firstID(f.Since).String()
	}
	if !f.Until.IsZero() {
		filter.To = firstID(f.Until).String()
	}
	return filter, nil
}

// Get returns one event, or [ErrNotFound].
func (r *reads) Get(ctx context.Context, id string) (*Event, error) {
	e, err := r.get(ctx, id)
	if err != nil {
		return nil, err
	}
	return newOwnEvent(e), nil
}

func (r *reads) get(ctx context.Context, id string) (*ledger.Event, error) {
	id, err := parseID("event id", id)
	if err != nil {
		return nil, err
	}
	e, err := r.from.Event(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNone):
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	case err != nil:
		return nil, err
	}
	return e, nil
}

// History returns all events of a transaction in the order in which they were
// accepted.
func (r *reads) History(ctx context.Context, transactionID string) ([]*Event, error) {
	id, err := parseID("transaction id", transactionID)
	if err != nil {
		return nil, err
	}
	return own(r.from.History(ctx, id))
}

func own(events []*ledger.Event, err error) ([]*Event, error) {
	if err != nil {
		return nil, err
	}
	result := make([]*Event, len(events))
	for i, e := range events {
		result[i] = newOwnEvent(e)
	}
	return result, nil
}

// Stats counts what is not done, and what is open. To count what is done, see
// [Inbox.CountReceived].
type Stats struct {
	// Pending, Dead and Quarantined are how many events are in that state.
	Pending, Dead, Quarantined int64
	// OldestPending is how long ago the oldest pending event was received, on the
	// database's clock; 0 if none is pending.
	OldestPending time.Duration

	// Open is how many cases are open, and Blocked is the sum of their values, or the
	// largest Amount if the sum is larger.
	Open    int64
	Blocked pixmed.Amount
	// Overdue is how many open cases are past their due time and not answered.
	// NearestDue is when the next of the other unanswered cases is due, zero if there
	// is none. Both are zero without [WithDefence].
	Overdue    int64
	NearestDue time.Time
	// RemindersGivenUp is how many open, unanswered cases have a reminder that used up
	// its attempts.
	RemindersGivenUp int64
}

// Stats counts events that are not done and cases that are open. It reads an index
// entry for each of them, and nothing of what is done or has ended: with a million
// cases it takes less than 0.1 s if 100,000 are open, and about a second if all are.
func (r *reads) Stats(ctx context.Context) (Stats, error) {
	s, err := r.from.Stats(ctx)
	if err != nil {
		return Stats{}, err
	}
	return Stats{
		Pending: s.Pending, Dead: s.Dead, Quarantined: s.Quarantined, OldestPending: s.OldestPending,
		Open: s.Open, Blocked: pixmed.Amount(s.Blocked), Overdue: s.Overdue, NearestDue: s.NearestDue, RemindersGivenUp: s.RemindersGivenUp,
	}, nil
}

// Failure is how many events failed with one error.
type Failure struct {
	// State is the state that they are in, Dead or Quarantined.
	State State `json:"state"`
	// Error is the first line of their LastError, at most 200 characters of it. What
	// is different each time, such as an id, belongs on a later line.
	Error string `json:"error"`
	// Events is how many there are.
	Events int64 `json:"events"`
	// LastAt is when the last of them was received.
	LastAt time.Time `json:"lastAt"`
}

// Filter selects the events of the failure, and no others, for [Inbox.List],
// [Inbox.ReplayAll] and [Inbox.ResolveAll].
func (f Failure) Filter() Filter { return Filter{State: f.State, group: &f.Error} }

// maxFailures is how many errors Failures returns.
const maxFailures = 100

// Failures groups the events that are dead, or those that are quarantined, by error.
// It returns at most 100 groups, the largest first.
func (r *reads) Failures(ctx context.Context, s State) ([]Failure, error) {
	if s != Dead && s != Quarantined {
		return nil, invalidf("Failures: the state is %q, and must be %s or %s", s, Dead, Quarantined)
	}
	rows, err := r.from.Failures(ctx, ledger.State(s), maxFailures)
	if err != nil {
		return nil, err
	}
	failures := make([]Failure, len(rows))
	for i, f := range rows {
		failures[i] = Failure{State: s, Error: f.Error, Events: f.Events, LastAt: f.LastAt}
	}
	return failures, nil
}

func parseID(what, id string) (string, error) {
	u, err := uuid.Parse(id)
	if err != nil || len(id) != 36 {
		return "", invalidf("the %s %q is not a UUID of 36 characters", what, id)
	}
	return u.String(), nil
}

// invalidf returns an error that is [ErrInvalidArgument].
func invalidf(format string, args ...any) error {
	return &argumentError{fmt.Sprintf(format, args...)}
}

type argumentError struct{ text string }

func (e *argumentError) Error() string        { return e.text }
func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }
