package inbox

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Case is a transaction under a MED request, with all that was accepted of it.
type Case struct {
	// TransactionID names it, in lower case.
	TransactionID string `json:"transactionId"`
	// UpdatedAt is when something last happened to it, on the database's clock: a
	// notification was accepted, or an attempt ended.
	UpdatedAt time.Time `json:"updatedAt"`
	// Events are its notifications in the order in which they were accepted, at
	// least one.
	Events []*Event `json:"events"`
}

// Last returns the notification that was accepted last: its status is what the
// gateway says of the transaction.
func (c *Case) Last() *Event { return c.Events[len(c.Events)-1] }

// Current returns the notification that the case is at: the first that is pending;
// if none is, the last that is dead; otherwise the last of all.
func (c *Case) Current() *Event {
	current := c.Last()
	for _, e := range slices.Backward(c.Events) {
		if e.State == Pending || (e.State == Dead && current.State == Done) {
			current = e
		}
	}
	return current
}

// Cursor returns what [CaseFilter].After has to be for the cases after this one.
func (c *Case) Cursor() string {
	return strconv.FormatInt(c.UpdatedAt.UnixMicro(), 10) + "." + c.TransactionID
}

// CaseFilter selects cases for [Inbox.Cases].
type CaseFilter struct {
	// State selects the cases that hold a notification in this state and, for Done,
	// those that hold nothing else; all of them if it is empty. No case holds
	// what is quarantined.
	State State
	// Search selects as [Filter].Search does, and by transaction id in any letter
	// case.
	Search string
	// After is the [Case.Cursor] of the last case of the page before; empty for
	// the first page.
	After string
	// Limit is the size of a page: 50 unless set, at most 200.
	Limit int
}

// Cases returns a page of cases, those to which something happened last first. It
// reads an index of all cases, or all bodies if it has to search them: with a
// million of them that takes some tenths of a second, or some seconds.
func (r *reads) Cases(ctx context.Context, f CaseFilter) ([]*Case, error) {
	filter := ledger.CaseFilter{State: ledger.State(f.State), Search: f.Search, Limit: f.Limit}
	switch f.State {
	case "", Pending, Done, Dead:
	case Quarantined:
		return nil, invalidf("Cases: what is %s belongs to no case: use List", f.State)
	default:
		return nil, invalidf("Cases: there is no state %q", f.State)
	}
	switch {
	case f.Limit == 0:
		filter.Limit = 50
	case f.Limit < 0 || f.Limit > 200:
		return nil, invalidf("Cases: a limit of %d is not between 1 and 200", f.Limit)
	}
	filter.TransactionID, _ = parseID("transaction id", f.Search)
	if f.After != "" {
		micros, id, _ := strings.Cut(f.After, ".")
		at, err := strconv.ParseInt(micros, 10, 64)
		if err == nil {
			filter.BeforeID, err = parseID("transaction id", id)
		}
		if err != nil {
			return nil, invalidf("Cases: %q is not a case's cursor", f.After)
		}
		filter.Before = time.UnixMicro(at)
	}
	rows, err := r.from.Cases(ctx, filter)
	if err != nil {
		return nil, err
	}
	cases := make([]*Case, 0, len(rows))
	for _, row := range rows {
		if len(row.Events) == 0 {
			continue // it was purged meanwhile
		}
		events, _ := own(row.Events, nil)
		cases = append(cases, &Case{TransactionID: row.TransactionID, UpdatedAt: row.UpdatedAt, Events: events})
	}
	return cases, nil
}

// Received counts the notifications that were received in a span of time, by the
// state in which they are now.
type Received struct {
	From                             time.Time
	Pending, Done, Dead, Quarantined int64
}

// CountReceived counts the notifications that were received in each of n spans of
// time, at most 1000, one after the other from the given time on.
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
		}
	}
	return received, nil
}
