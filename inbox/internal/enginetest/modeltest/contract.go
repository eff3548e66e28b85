package modeltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// newEvent returns an event to accept.
func newEvent(external string, value int64) *ledger.Event {
	id := uuid.Must(uuid.NewV7())
	return &ledger.Event{
		ID: id.String(), ExternalID: external, EndToEndID: "e" + id.String(), Status: string(pixmed.Acknowledged), Value: value,
		Raw: []byte(`{"of":"` + external + `"}`), Metadata: []byte(`{"trace":"` + external + `"}`), ReceivedAt: time.UnixMicro(time.Now().UnixMicro()).UTC(), Deliveries: 1,
	}
}

func accept(transaction string, e *ledger.Event) *ledger.Op {
	return &ledger.Op{TransactionID: transaction, ExternalID: &e.ExternalID, New: e, Apply: func(c *ledger.Case) { c.Accept(e) }}
}

// Loads checks which events of a case an operation gets: those that it needs, and of
// a case with many events no others.
func Loads(ctx context.Context, engine ledger.Engine) error {
	const events = 8 // of which the first are dead and the last is pending
	transaction := uuid.NewString()
	names := make(map[string]string) // by id
	ids := make([]string, events)
	var ops []*ledger.Op
	for i := range ids {
		name := fmt.Sprint("e", i)
		e := newEvent(name, int64(i))
		names[e.ID], ids[i] = name, e.ID
		ops = append(ops, accept(transaction, e))
	}
	if err := engine.Commit(ctx, ops, nil); err != nil {
		return err
	}
	discard := &ledger.Op{TransactionID: transaction, All: true, Apply: func(c *ledger.Case) {
		for _, id := range ids[:events-1] {
			c.Discard(id, "no")
		}
	}}
	if err := engine.Commit(ctx, []*ledger.Op{discard}, nil); err != nil {
		return err
	}
	e2, e3, unknown := "e2", "e3", "e99"
	for _, test := range []struct {
		name string
		ops  []ledger.Op
		want string // what the last of them gets
	}{
		{"nothing but what is pending", []ledger.Op{{}}, "e7"},
		{"an event", []ledger.Op{{Event: ids[2]}}, "e2 e7"},
		{"all", []ledger.Op{{All: true}}, "e0 e1 e2 e3 e4 e5 e6 e7"},
		// The last of an external id and, in case that ends, the two that may become the
		// case's status or value, beside the first of the case.
		{"an accept", []ledger.Op{{ExternalID: &e3}}, "e0 e3 e6 e7"},
		{"an accept of an external id that is new", []ledger.Op{{ExternalID: &unknown}}, "e0 e6 e7"},
		{"two accepts at once", []ledger.Op{{ExternalID: &e3}, {ExternalID: &e2}}, "e0 e2 e3 e5 e6 e7"},
	} {
		var got []string
		ops = nil
		for _, op := range test.ops {
			op.TransactionID = transaction
			op.Apply = func(c *ledger.Case) {
				got = nil
				for id, name := range names {
					if c.Event(id) != nil {
						got = append(got, name)
					}
				}
			}
			ops = append(ops, &op)
		}
		if err := engine.Commit(ctx, ops, nil); err != nil {
			return fmt.Errorf("%s: %w", test.name, err)
		}
		slices.Sort(got)
		if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
			return fmt.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	return nil
}

// Batches checks that all of a transaction is written, however many operations it
// has.
func Batches(ctx context.Context, engine ledger.Engine) error {
	for _, n := range []int{1, 3, 4, 5, 15, 16, 17, 64, 65, 85, 256} {
		want := make(map[string]*ledger.Event, n)
		var ops []*ledger.Op
		for i := range n {
			e := newEvent(fmt.Sprintf("order %d-%d", n, i), int64(i))
			e.EndToEndID = fmt.Sprintf("e%d-%d", n, i)
			transaction := uuid.NewString()
			want[transaction] = e
			ops = append(ops, accept(transaction, e))
		}
		if err := engine.Commit(ctx, ops, nil); err != nil {
			return fmt.Errorf("%d: %w", n, err)
		}
		for transaction, e := range want {
			history, err := engine.History(ctx, transaction)
			if err != nil {
				return err
			}
			stored := *e
			stored.EndToEndID, stored.TransactionID, stored.Seq, stored.State, stored.Standing = "", transaction, 1, ledger.Pending, ledger.Open
			ignoreTimes := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".NextAttempt" }, cmp.Ignore())
			if diff := cmp.Diff([]*ledger.Event{&stored}, history, ignoreTimes); diff != "" {
				return fmt.Errorf("%d in a transaction (-want +got):\n%s", n, diff)
			}
		}
		for _, search := range []string{fmt.Sprintf("order %d-", n), fmt.Sprintf("e%d-", n)} {
			found, err := engine.Cases(ctx, ledger.CaseFilter{Search: ledger.NewSearch(search), Limit: 1000})
			if err != nil {
				return err
			}
			for _, c := range found {
				if want[c.TransactionID] == nil {
					return fmt.Errorf("%d in a transaction: a search for %q finds %s", n, search, c.TransactionID)
				}
			}
			if len(found) != n {
				return fmt.Errorf("%d in a transaction: a search for %q finds %d cases", n, search, len(found))
			}
		}
	}
	return nil
}

// Dismisses checks that Dismiss resolves and deletes what is quarantined, and leaves
// the events of cases alone.
func Dismisses(ctx context.Context, engine ledger.Engine) error {
	accepted := newEvent("accepted", 1)
	bodies := make([]*ledger.Event, 2)
	ops := []*ledger.Op{accept(uuid.NewString(), accepted)}
	for i := range bodies {
		e := newEvent(fmt.Sprint("body ", i), 0)
		e.State, e.Digest, e.Status, e.LastError = ledger.Quarantined, ledger.NewDigest(e.Raw), "", "no"
		bodies[i] = e
		ops = append(ops, &ledger.Op{Quarantine: e})
	}
	if err := engine.Commit(ctx, ops, nil); err != nil {
		return err
	}
	note := func(e *ledger.Event) *ledger.Note {
		return &ledger.Note{EventID: e.ID, Action: "resolved", By: "ana", Text: "a probe"}
	}
	for _, test := range []struct {
		name    string
		event   *ledger.Event
		resolve bool
		want    error
		state   ledger.State // afterwards; "" if it is gone
		notes   int
	}{
		{"resolve an event of a case", accepted, true, ledger.ErrNone, ledger.Pending, 0},
		{"delete an event of a case", accepted, false, ledger.ErrNone, ledger.Pending, 0},
		{"resolve a body", bodies[0], true, nil, ledger.Resolved, 1},
		{"resolve it again", bodies[0], true, ledger.ErrNone, ledger.Resolved, 1},
		{"delete what is resolved", bodies[0], false, nil, "", 0},
		{"delete it again", bodies[0], false, ledger.ErrNone, "", 0},
		{"delete another body", bodies[1], false, nil, "", 0},
		{"resolve what is gone", bodies[1], true, ledger.ErrNone, "", 0},
	} {
		var n *ledger.Note
		if test.resolve {
			n = note(test.event)
		}
		if err := engine.Dismiss(ctx, test.event.ID, n); !errors.Is(err, test.want) {
			return fmt.Errorf("%s: %v, want %v", test.name, err, test.want) //nolint:errorlint // either may be nil
		}
		var state ledger.State
		switch e, err := engine.Event(ctx, test.event.ID); {
		case err == nil:
			state = e.State
		case !errors.Is(err, ledger.ErrNone):
			return err
		}
		notes, err := engine.Notes(ctx, "", test.event.ID)
		if err != nil {
			return err
		}
		if state != test.state || len(notes) != test.notes {
			return fmt.Errorf("%s: it is %q with %d notes, want %q with %d", test.name, state, len(notes), test.state, test.notes)
		}
	}
	return nil
}
