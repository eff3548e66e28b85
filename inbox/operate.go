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

// State is where a stored notification stands.
type State string

const (
	// Pending is accepted and not done: it waits for its turn or its retry, or
	// runs.
	Pending State = "pending"
	// Done is what the receiver has taken care of.
	Done State = "done"
	// Dead is what failed for good: its attempts were used up, the receiver
	// discarded it, or an operator cancelled it. Replay runs it again.
	Dead State = "dead"
	// Quarantined is a body that passed verification and not validation.
	Quarantined State = "quarantined"
)

// Event is a stored notification.
type Event struct {
	// ID is the inbox's own id of it, a UUID; ids sort by ReceivedAt.
	ID string `json:"id"`
	// Key is its case; empty while it is quarantined.
	Key pixmed.Key `json:"key"`
	// Status is its medStatus; empty while it is quarantined.
	Status pixmed.MEDStatus `json:"status"`
	// Raw is the body as it was received.
	Raw []byte `json:"raw"`
	// Seq is its place among the notifications of its transaction, in the order
	// in which they were accepted, from 1; 0 while it is quarantined.
	Seq int64 `json:"seq"`
	// State is where it stands.
	State State `json:"state"`
	// Attempts is how many calls of the receiver have ended, or were lost.
	Attempts int `json:"attempts"`
	// Discarded says that it is dead by a decision, the receiver's or an
	// operator's: a redelivery does not revive it.
	Discarded bool `json:"discarded"`
	// LastError is why the last attempt failed, or why it is quarantined. It may
	// hold personal data: it is what the receiver returned.
	LastError string `json:"lastError"`
	// ReceivedAt is when the handler got it.
	ReceivedAt time.Time `json:"receivedAt"`
	// DoneAt is when it was done, on the database's clock; zero if it is not.
	DoneAt time.Time `json:"doneAt,omitzero"`
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
		Raw: e.Raw, Status: pixmed.MEDStatus(e.Status), Seq: e.Seq, State: State(e.State),
		Attempts: e.Attempts, Discarded: e.Discarded, LastError: e.LastError,
		ReceivedAt: e.ReceivedAt, DoneAt: e.DoneAt,
	}
}

// Filter selects events for [Inbox.List].
type Filter struct {
	// State selects by state, all of them if it is empty.
	State State
	// TransactionID selects one transaction, in any letter case; all of them if
	// it is empty. Quarantined events belong to none.
	TransactionID string
	// Since and Until select by the time at which events were received, to the
	// microsecond: from Since on, and before Until. Zero times select all.
	Since, Until time.Time
	// Search selects what has this external id, or holds this text in its body,
	// such as an end-to-end id; all of them if it is empty.
	Search string
	// After is the last ID of the page before; empty for the first page.
	After string
	// Limit is the size of a page: 100 unless set, at most 1000.
	Limit int
}

// Errors of the operations. Ask with errors.Is.
var (
	// ErrInvalidArgument says that an id is no UUID, or that a filter, a cursor, a
	// limit or the like is not one; the text says which.
	ErrInvalidArgument = errors.New("inbox: invalid argument")
	// ErrNotFound says that there is no event with the given id.
	ErrNotFound = errors.New("inbox: there is no such event")
	// ErrNotReplayable says that the event is neither dead nor quarantined.
	ErrNotReplayable = errors.New("inbox: the event is neither dead nor quarantined")
	// ErrSuperseded says that a newer notification of the case was done since:
	// replaying an old one could undo it. Look first, then use [Force].
	ErrSuperseded = errors.New("inbox: a newer notification of the case is done; replaying this one could undo it")
)

// List returns a page of events, those received last first.
func (in *Inbox) List(ctx context.Context, f Filter) ([]*Event, error) {
	filter := ledger.Filter{State: ledger.State(f.State), Search: f.Search, Limit: f.Limit}
	switch f.State {
	case "", Pending, Done, Dead, Quarantined:
	default:
		return nil, invalidf("List: there is no state %q", f.State)
	}
	switch {
	case f.Limit == 0:
		filter.Limit = 100
	case f.Limit < 0 || f.Limit > 1000:
		return nil, invalidf("List: a limit of %d is not between 1 and 1000", f.Limit)
	}
	var err error
	if f.TransactionID != "" {
		if filter.TransactionID, err = parseID("transaction id", f.TransactionID); err != nil {
			return nil, err
		}
	}
	if f.After != "" {
		if filter.Before, err = parseID("event id", f.After); err != nil {
			return nil, err
		}
	}
	if !f.Since.IsZero() {
		filter.From = firstID(f.Since).String()
	}
	if !f.Until.IsZero() {
		filter.To = firstID(f.Until).String()
	}
	return own(in.store.List(ctx, filter))
}

// Get returns one event, or [ErrNotFound].
func (in *Inbox) Get(ctx context.Context, id string) (*Event, error) {
	e, err := in.get(ctx, id)
	if err != nil {
		return nil, err
	}
	return newOwnEvent(e), nil
}

func (in *Inbox) get(ctx context.Context, id string) (*ledger.Event, error) {
	id, err := parseID("event id", id)
	if err != nil {
		return nil, err
	}
	e, err := in.store.Event(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNone):
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	case err != nil:
		return nil, fmt.Errorf("inbox: %w", err)
	}
	return e, nil
}

// History returns all events of a transaction in the order in which they were
// accepted.
func (in *Inbox) History(ctx context.Context, transactionID string) ([]*Event, error) {
	id, err := parseID("transaction id", transactionID)
	if err != nil {
		return nil, err
	}
	return own(in.store.History(ctx, id))
}

func own(events []*ledger.Event, err error) ([]*Event, error) {
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	result := make([]*Event, len(events))
	for i, e := range events {
		result[i] = newOwnEvent(e)
	}
	return result, nil
}

// Stats counts events.
type Stats struct {
	// Events by state.
	Pending, Done, Dead, Quarantined int64
	// OldestPending is how long the oldest pending event has been waiting, on
	// the database's clock since it was received; 0 if none is pending.
	OldestPending time.Duration
}

// Stats counts the events. It reads an index of all of them: with a million that
// takes a tenth of a second or so.
func (in *Inbox) Stats(ctx context.Context) (Stats, error) {
	s, err := in.store.Stats(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("inbox: %w", err)
	}
	return Stats(s), nil
}

// ReplayOption changes what [Inbox.Replay] does.
type ReplayOption func(*replay)

type replay struct{ force bool }

// Force replays an event although a newer one of its case is done or, if it is
// quarantined, although its status is the last accepted one.
func Force() ReplayOption { return func(r *replay) { r.force = true } }

// Replay makes a dead event pending again at its old place, with all its attempts
// before it, or takes a quarantined one up if it has become valid, as after an
// update of this module. It returns [ErrNotFound], [ErrNotReplayable],
// [ErrSuperseded], [pixmed.ErrDuplicate] for a quarantined event whose status is
// the last accepted one of its case, or why a quarantined body is not valid.
func (in *Inbox) Replay(ctx context.Context, id string, opts ...ReplayOption) error {
	var o replay
	for _, opt := range opts {
		opt(&o)
	}
	e, err := in.get(ctx, id)
	if err != nil {
		return err
	}
	key := *e
	switch e.State {
	case ledger.Quarantined:
		infraction, err := pixmed.ParseInfraction(e.Raw)
		if err != nil {
			return fmt.Errorf("inbox: Replay: %w", err)
		}
		k := infraction.Key()
		key.TransactionID, key.ExternalID, key.Status = k.TransactionID, k.ExternalID, string(infraction.MEDStatus)
	case ledger.Dead:
	default:
		return fmt.Errorf("%w: %s is %s", ErrNotReplayable, e.ID, e.State)
	}
	result := ledger.ReplayUnneeded
	err = in.committer.commit(ctx, &ledger.Op{
		TransactionID: key.TransactionID,
		Event:         e.ID,
		All:           true,
		Apply: func(c *ledger.Case) {
			if r := c.Replay(e.ID, key, o.force); result != ledger.ReplayStarted || r != ledger.ReplayUnneeded {
				result = r // and not what it left behind, when its commit's outcome was lost
			}
		},
	})
	if err != nil {
		return err
	}
	switch result {
	case ledger.ReplayStarted:
	case ledger.ReplaySuperseded:
		return fmt.Errorf("%w: %s", ErrSuperseded, e.ID)
	case ledger.ReplayDuplicate:
		return pixmed.ErrDuplicate
	case ledger.ReplayUnneeded:
		return fmt.Errorf("%w: %s", ErrNotReplayable, e.ID)
	}
	in.log.InfoContext(ctx, "inbox: replayed", "event_id", e.ID, "transaction_id", key.TransactionID, "forced", o.force)
	return nil
}

// PurgeOption changes what [Inbox.Purge] does.
type PurgeOption func(*purge)

type purge struct{ unfinished bool }

// Unfinished purges what is dead and quarantined too.
func Unfinished() PurgeOption { return func(p *purge) { p.unfinished = true } }

// Purge deletes the cases to which nothing has happened for at least age, on the
// database's clock, and returns how many events went. It never touches a case
// that holds something pending and, without [Unfinished], none that holds
// something dead. A started inbox does it by itself, once an hour, with the age
// that [WithRetention] sets. What is deleted is no longer known as a duplicate.
func (in *Inbox) Purge(ctx context.Context, age time.Duration, opts ...PurgeOption) (int64, error) {
	if age < 0 {
		return 0, invalidf("Purge: the age, %v, is negative", age)
	}
	var o purge
	for _, opt := range opts {
		opt(&o)
	}
	deleted, err := in.purge(ctx, age, o.unfinished)
	if err != nil {
		err = fmt.Errorf("inbox: Purge: %w", err)
	}
	return deleted, err
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

func (e *argumentError) Error() string        { return "inbox: " + e.text }
func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }
