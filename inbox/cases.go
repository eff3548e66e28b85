package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Case is a transaction under a MED request, with the notifications accepted for it.
//
// It is open while the last accepted notification of any of its external ids is not
// final: CANCELLED and DEBITED are final; ACKNOWLEDGED, an empty status and an unknown
// one are not. [Inbox.End] ends it too. Whatever ended it, a later notification that is
// neither final nor a duplicate opens it again. Whether a notification is done or dead
// here makes no difference: what counts is what the gateway said.
type Case struct {
	// TransactionID names it, in lower case.
	TransactionID string `json:"transactionId"`
	// Open is set while the case is open.
	Open bool `json:"open"`
	// Status is the status accepted last. While the case is open, only the last
	// notification of each external id counts, and only those that are not final.
	Status pixmed.MEDStatus `json:"status"`
	// ExternalID is that of the same notification.
	ExternalID string `json:"externalId"`
	// Value is the largest value among the notifications that Status is chosen from:
	// they are about the same money. After DEBITED it is the last value that the
	// gateway named, not a sum.
	Value pixmed.Amount `json:"value"`
	// OpenedAt is when the notification that last opened the case was received; zero
	// if none ever did.
	OpenedAt time.Time `json:"openedAt,omitzero"`
	// DueAt is when it must be answered by: [WithDefence]'s window after OpenedAt. It
	// is zero without WithDefence, and once the case has ended.
	DueAt time.Time `json:"dueAt,omitzero"`
	// AnsweredAt is when [Inbox.MarkAnswered] was called since the case opened, on the
	// database's clock, and AnsweredBy is who called it; zero if nobody did.
	AnsweredAt time.Time `json:"answeredAt,omitzero"`
	AnsweredBy string    `json:"answeredBy"`
	// EndedAt is when the notification that ended the case was received, or when a
	// person ended it, and EndedBy is that person; zero while it is open.
	EndedAt time.Time `json:"endedAt,omitzero"`
	EndedBy string    `json:"endedBy"`
	// NextReminder is when WithDefence's function is called next; zero if no reminder
	// is planned.
	NextReminder time.Time `json:"nextReminder,omitzero"`
	// RemindersGivenUp is how many reminders used up their attempts since it opened.
	RemindersGivenUp int `json:"remindersGivenUp"`
	// UpdatedAt is when something last happened to it, on the database's clock: a
	// notification was accepted, an attempt ended, a person did something.
	UpdatedAt time.Time `json:"updatedAt"`
	// Accepted is how many of its notifications were accepted; Pending and Dead are
	// how many are in that state now.
	Accepted int64 `json:"accepted"`
	Pending  int64 `json:"pending"`
	Dead     int64 `json:"dead"`
	// Current is the notification to look at first, without its body: the first that
	// is pending; if none is, the last that is dead; otherwise the last of all.
	Current *Event `json:"current"`
	// Events are its notifications in the order in which they were accepted, and Notes
	// is what was done about it, oldest first. [Inbox.Case] and reminders set them,
	// [Inbox.Cases] does not. Only reminders set the bodies; see [Inbox.History].
	Events []*Event `json:"events,omitempty"`
	Notes  []Note   `json:"notes,omitempty"`
}

// Note is something that a person did about a case or a notification, or a reminder
// that was called.
type Note struct {
	// At is when it was done, on the database's clock.
	At time.Time `json:"at"`
	// Action is what was done.
	Action Action `json:"action"`
	// By is who did it, as [By] names them.
	By string `json:"by"`
	// Text is the person's note, or the error of a reminder.
	Text string `json:"text"`
	// EventID is the notification that it is about; empty if it is about the case.
	EventID string `json:"eventId,omitempty"`
}

// Action is the kind of a [Note].
type Action string

// The actions.
const (
	Answered        Action = ledger.NoteAnswered
	Ended           Action = ledger.NoteEnded
	Replayed        Action = "replayed"
	ResolvedByHand  Action = "resolved"
	Discarded       Action = "discarded"
	Retried         Action = "retried"
	ReminderCalled  Action = ledger.NoteReminded
	ReminderGivenUp Action = ledger.NoteReminder
)

// Cursor returns the [CaseFilter].After that selects the cases after this one.
func (c *Case) Cursor() string {
	at, kind := c.OpenedAt, "o"
	if !c.Open {
		at, kind = c.UpdatedAt, "e"
	}
	return kind + strconv.FormatInt(at.UnixMicro(), 10) + "." + c.TransactionID
}

// CaseFilter selects cases for [Inbox.Cases]: those that meet all conditions.
type CaseFilter struct {
	// Open selects open cases, Ended those that have ended. With neither or both, all
	// are selected and the open ones come first.
	Open, Ended bool
	// Unanswered selects open cases that nobody has answered.
	Unanswered bool
	// DueBefore selects open cases that are due before this time, including those that
	// are overdue; zero selects all.
	DueBefore time.Time
	// State selects the cases that have a notification in this state, Pending or Dead;
	// Done selects those that have neither. Empty selects all.
	State State
	// Search selects the cases with an id that begins with this text, in any letter
	// case: the transaction id, an external id or an end-to-end id; empty selects all.
	// Ids are compared by their first 128 bytes. Of each kind of id the first 1000
	// that match, in alphabetical order, are considered: a complete id comes first.
	Search string
	// After is the [Case.Cursor] of the last case of the page before; empty for
	// the first page.
	After string
	// Limit is the size of a page: 50 unless set, at most 200.
	Limit int
}

// Cases returns a page of cases: first the open ones, those due soonest first, then
// those that have ended, those changed most recently first. It reads an index, which takes
// milliseconds at a million cases. A search ends after 5 s.
func (r *reads) Cases(ctx context.Context, f CaseFilter) ([]*Case, error) {
	filter := ledger.CaseFilter{
		State: ledger.State(f.State), Unanswered: f.Unanswered, DueBefore: f.DueBefore, Search: ledger.NewSearch(f.Search), Limit: f.Limit,
	}
	switch f.State {
	case "", Pending, Done, Dead:
	case Quarantined, Resolved:
		return nil, invalidf("Cases: use List to find what is %s", f.State)
	default:
		return nil, invalidf("Cases: there is no state %q", f.State)
	}
	switch {
	case f.Limit == 0:
		filter.Limit = 50
	case f.Limit < 0 || f.Limit > 200:
		return nil, invalidf("Cases: a limit of %d is not between 1 and 200", f.Limit)
	}
	open, ended := f.Open || !f.Ended, f.Ended || !f.Open
	if f.Unanswered || !f.DueBefore.IsZero() {
		ended = false
	}
	var after ledger.Cursor
	if f.After != "" {
		var kind bool
		var err error
		if after, kind, err = parseCursor(f.After); err != nil {
			return nil, err
		}
		open = open && !kind
		filter.Ended = kind
	}
	ctx, cancel := searchContext(ctx, f.Search)
	defer cancel()
	var cases []*Case
	for _, phase := range []struct{ wanted, ended bool }{{open, false}, {ended, true}} {
		if !phase.wanted || len(cases) == filter.Limit {
			continue
		}
		page := filter
		page.Limit -= len(cases)
		page.Ended = phase.ended
		if filter.Ended == phase.ended {
			page.After = after
		}
		rows, err := r.from.Cases(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			cases = append(cases, newCase(row))
		}
	}
	return cases, nil
}

func parseCursor(s string) (at ledger.Cursor, ended bool, err error) {
	micros, id, _ := strings.Cut(s, ".")
	kind, micros := micros[:min(1, len(micros))], micros[min(1, len(micros)):]
	n, err := strconv.ParseInt(micros, 10, 64)
	if err == nil {
		at.ID, err = parseID("transaction id", id)
	}
	if err != nil || (kind != "o" && kind != "e") {
		return ledger.Cursor{}, false, invalidf("Cases: %q is not a case's cursor", s)
	}
	at.At = time.UnixMicro(n).UTC()
	return at, kind == "e", nil
}

// Case returns a case with its notifications, without their bodies, and its notes, or
// [ErrNotFound].
func (r *reads) Case(ctx context.Context, transactionID string) (*Case, error) {
	id, err := parseID("transaction id", transactionID)
	if err != nil {
		return nil, err
	}
	notes, err := r.notes(ctx, id, "") // read first, so that the rest is not older
	if err != nil {
		return nil, err
	}
	row, err := r.from.Case(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNone):
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	case err != nil:
		return nil, err
	}
	c := newCase(row)
	c.Notes = notes
	c.Events, err = own(r.from.List(ctx, ledger.Filter{TransactionID: id, Bare: true, Limit: math.MaxInt32}))
	slices.SortFunc(c.Events, func(a, b *Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return c, err
}

func newCase(row *ledger.CaseRow) *Case {
	c := &Case{
		TransactionID: row.TransactionID, Open: row.Open, Status: pixmed.MEDStatus(row.Status), ExternalID: row.ExternalID, Value: pixmed.Amount(row.Value),
		OpenedAt: row.OpenedAt, AnsweredAt: row.AnsweredAt, AnsweredBy: row.AnsweredBy, EndedAt: row.EndedAt, EndedBy: row.EndedBy,
		NextReminder: row.Reminder, RemindersGivenUp: row.GivenUp, UpdatedAt: row.UpdatedAt,
		Accepted: row.Events, Pending: row.Pending, Dead: row.Dead,
	}
	if row.Open && row.Window > 0 {
		c.DueAt = row.OpenedAt.Add(row.Window)
	}
	if row.Current != nil {
		c.Current = newOwnEvent(row.Current)
	}
	return c
}

// Notes returns what was done about a quarantined body, oldest first. For a case, see
// [Case].Notes.
func (r *reads) Notes(ctx context.Context, id string) ([]Note, error) {
	id, err := parseID("event id", id)
	if err != nil {
		return nil, err
	}
	return r.notes(ctx, "", id)
}

func (r *reads) notes(ctx context.Context, transactionID, event string) ([]Note, error) {
	rows, err := r.from.Notes(ctx, transactionID, event)
	if err != nil {
		return nil, err
	}
	notes := make([]Note, len(rows))
	for i, n := range rows {
		notes[i] = Note{At: n.At, Action: Action(n.Action), By: n.By, Text: n.Text, EventID: n.EventID}
	}
	return notes, nil
}

// Received counts the notifications received in a span of time, by the state that they
// are in now.
type Received struct {
	From                                       time.Time
	Pending, Done, Dead, Quarantined, Resolved int64
}

// CountReceived counts the notifications received in each of n consecutive spans of
// time, at most 1000, beginning at from.
func (r *reads) CountReceived(ctx context.Context, from time.Time, span time.Duration, n int) ([]Received, error) {
	switch {
	case span < time.Microsecond:
		return nil, invalidf("CountReceived: a span of %v is too short", span)
	case n < 1 || n > 1000:
		return nil, invalidf("CountReceived: %d spans are not between 1 and 1000", n)
	}
	from = from.Truncate(time.Microsecond)
	counts, err := r.from.CountReceived(ctx, ledger.Span{
		FromID: firstID(from).String(), ToID: firstID(from.Add(time.Duration(n) * span)).String(),
		From: from, Length: span,
	})
	if err != nil {
		return nil, err
	}
	received := make([]Received, n)
	for i := range received {
		received[i].From = from.Add(time.Duration(i) * span)
	}
	for _, c := range counts {
		span := &received[min(max(c.Span, 0), int64(n-1))]
		switch c.State {
		case ledger.Pending:
			span.Pending += c.Events
		case ledger.Done:
			span.Done += c.Events
		case ledger.Dead:
			span.Dead += c.Events
		case ledger.Quarantined:
			span.Quarantined += c.Events
		case ledger.Resolved:
			span.Resolved += c.Events
		}
	}
	return received, nil
}
