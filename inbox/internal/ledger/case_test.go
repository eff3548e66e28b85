package ledger_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	transaction = "00000000-0000-4000-8000-000000000001"
	lease       = 7 // of the cases below that are held
	maxFailures = 3
)

// event returns a stored event of external id "x".
func event(id string, seq int64, state ledger.State, modify ...func(*ledger.Event)) *ledger.Event {
	e := &ledger.Event{
		ID: id, TransactionID: transaction, ExternalID: "x", Status: "S-" + id, Value: 100, Seq: seq, State: state,
		ReceivedAt: time.Unix(seq, 0),
	}
	for _, m := range modify {
		m(e)
	}
	return e
}

func status(s string) func(*ledger.Event) { return func(e *ledger.Event) { e.Status = s } }
func value(v int64) func(*ledger.Event)   { return func(e *ledger.Event) { e.Value = v } }

func body(raw string) func(*ledger.Event) {
	return func(e *ledger.Event) { e.Status, e.Digest = "", ledger.NewDigest([]byte(raw)) }
}

func otherExternalID(e *ledger.Event) { e.ExternalID = "y" }

func counts(attempts, failures int) func(*ledger.Event) {
	return func(e *ledger.Event) { e.Attempts, e.Failures = attempts, failures }
}

func discarded(e *ledger.Event) { e.Discarded = true }

// newCase returns a case with the events. running names the one that is leased, if
// it is not empty.
func newCase(running string, events ...*ledger.Event) *ledger.Case {
	row := ledger.Row{NextSeq: 1}
	last := make(map[string]*ledger.Event)
	for _, e := range events {
		if e.Seq > 0 && (last[e.ExternalID] == nil || last[e.ExternalID].Seq < e.Seq) {
			last[e.ExternalID] = e
		}
		row.NextSeq = max(row.NextSeq, e.Seq+1)
		row.Due = row.Due || e.State == ledger.Pending
		if e.ID == running {
			row.Lease, row.Held, row.Running = lease, true, e.Seq
		}
	}
	for _, e := range last {
		e.Standing, row.Open = ledger.Open, true
	}
	c := ledger.NewCase(transaction, row)
	for _, e := range events {
		c.Add(e)
		c.Add(e) // two queries may load the same one
	}
	return c
}

// show describes what is to be written. "next 3 +1s" is the row: it may be claimed
// in a second. "kept" leaves that as it was, and "never" says that nothing is
// pending. Then come new (+) and changed (~) events, with their place, attempts and
// failures.
func show(c *ledger.Case) string {
	ch := c.Changes()
	var b strings.Builder
	switch {
	case !ch.RowChanged:
		b.WriteString("same row")
	case ch.Due == ledger.Kept:
		fmt.Fprintf(&b, "next %d kept", ch.NextSeq)
	case ch.Due == ledger.Never:
		fmt.Fprintf(&b, "next %d never", ch.NextSeq)
	default:
		fmt.Fprintf(&b, "next %d +%v", ch.NextSeq, ch.Delay)
	}
	for _, e := range ch.Added {
		b.WriteString("; +" + showEvent(e))
	}
	for _, e := range ch.Changed {
		b.WriteString("; ~" + showEvent(e))
	}
	if ch.Dead != 0 {
		fmt.Fprintf(&b, "; dead %+d", ch.Dead)
	}
	if ch.TrimTo > 0 {
		fmt.Fprintf(&b, "; trim %d-%d", ch.TrimFrom, ch.TrimTo)
	}
	return b.String()
}

func showEvent(e *ledger.Event) string {
	s := fmt.Sprintf("%s#%d %s %d/%d", e.ID, e.Seq, e.State, e.Attempts, e.Failures)
	if e.Discarded {
		s += " discarded"
	}
	if e.LastError != "" {
		s += " " + e.LastError
	}
	return s
}

// pending returns that many pending events, p1 and so on.
func pending(n int) []*ledger.Event {
	events := make([]*ledger.Event, n)
	for i := range events {
		events[i] = event(fmt.Sprintf("p%d", i+1), int64(i+1), ledger.Pending)
	}
	return events
}

// A claim that finds nothing pending is undone. One that another has followed is
// not.
func TestRepair(t *testing.T) {
	t.Parallel()
	row := ledger.Row{NextSeq: 2, Lease: lease, Held: true, Due: true}
	for name, test := range map[string]struct {
		row    ledger.Row
		events []*ledger.Event
		want   string
	}{
		"nothing pending": {row, []*ledger.Event{event("a", 1, ledger.Done)}, "next 2 never"},
		"something is":    {row, []*ledger.Event{event("a", 1, ledger.Pending)}, "next 2 +0s"},
		"another claim":   {ledger.Row{NextSeq: 2, Lease: lease + 1, Held: true, Due: true}, nil, "same row"},
		"settled":         {ledger.Row{NextSeq: 2, Lease: lease}, nil, "same row"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := ledger.NewCase(transaction, test.row)
			for _, e := range test.events {
				c.Add(e)
			}
			c.Repair(lease)
			if diff := cmp.Diff(test.want, show(c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestInvariants does every operation on every state of a case of three events and
// looks whether the rules hold after it.
func TestInvariants(t *testing.T) {
	t.Parallel()
	outcomes := map[string]ledger.Outcome{
		"done": {Done: true}, "failed": {Error: "no", MaxFailures: maxFailures, Delay: time.Second},
		"exhausted": {Error: "no", MaxFailures: 1}, "discarded": {Discard: true, Error: "no"},
		"interrupted": {Interrupted: true, Error: "no"}, "released": {Released: true},
	}
	names := []string{"a", "b", "c"}
	operations := map[string]func(*ledger.Case){
		"accept": func(c *ledger.Case) { c.Accept(event("n", 0, "")) },
		"repeat": func(c *ledger.Case) { c.Accept(event("n", 0, "", status("S-c"))) },
		"revive": func(c *ledger.Case) { c.Accept(event("n", 0, "", status("S-a"), otherExternalID)) },
		"repair": func(c *ledger.Case) { c.Repair(lease) },
		"replay q": func(c *ledger.Case) {
			c.Add(&ledger.Event{ID: "q", State: ledger.Quarantined, ReceivedAt: time.Unix(9, 0)})
			c.Replay("q", ledger.Event{ExternalID: "x", Status: "S"}, false)
		},
	}
	for _, id := range names {
		operations["replay "+id] = func(c *ledger.Case) { c.Replay(id, ledger.Event{ExternalID: "x", Status: "S-" + id}, true) }
		operations["discard "+id] = func(c *ledger.Case) { c.Discard(id, "no") }
		for name, o := range outcomes {
			operations["settle "+id+" "+name] = func(c *ledger.Case) { c.Settle(lease, id, o) }
			operations["settle late "+id+" "+name] = func(c *ledger.Case) { c.Settle(lease+1, id, o) }
		}
	}
	states := []ledger.State{ledger.Pending, ledger.Done, ledger.Dead, ledger.Resolved}
	checked := 0
	for n := range 64 {
		for running := -1; running < 3; running++ {
			which := []ledger.State{states[n%4], states[n/4%4], states[n/16]}
			if running >= 0 && which[running] != ledger.Pending {
				continue // only what is pending is leased
			}
			for name, operate := range operations {
				var events []*ledger.Event
				for i, id := range names {
					e := event(id, int64(i)+1, which[i])
					if i == 0 {
						e.ExternalID = "y"
					}
					events = append(events, e)
				}
				before := ledger.Row{NextSeq: 4}
				for _, s := range which {
					before.Due = before.Due || s == ledger.Pending
				}
				if running >= 0 {
					before.Held, before.Lease, before.Running = true, lease, int64(running)+1
				}
				c := ledger.NewCase(transaction, before)
				lowest, pending := lowestPending(events), countPending(events)
				for _, e := range events {
					c.Add(e)
				}
				operate(c)
				checked++
				if problem := invariants(before, lowest, pending, events, c.Changes()); problem != "" {
					t.Errorf("%s on %v, running %d: %s: %s", name, which, running, problem, show(c))
				}
			}
		}
	}
	if checked < 1000 {
		t.Errorf("%d were checked", checked)
	}
}

func lowestPending(events []*ledger.Event) (lowest *ledger.Event) {
	for _, e := range events {
		if e.State == ledger.Pending && (lowest == nil || e.Seq < lowest.Seq) {
			lowest = e
		}
	}
	return lowest
}

func countPending(events []*ledger.Event) (n int64) {
	for _, e := range events {
		if e.State == ledger.Pending {
			n++
		}
	}
	return n
}

// invariants says which rule does not hold after an operation.
func invariants(before ledger.Row, lowestBefore *ledger.Event, pendingBefore int64, events []*ledger.Event, ch *ledger.Changes) string {
	after := before
	after.NextSeq = ch.NextSeq
	after.Held = before.Held && !ch.Released
	switch ch.Due {
	case ledger.Kept:
	case ledger.Never:
		after.Due = false
	case ledger.After:
		after.Due = true
	}
	if ch.Due != ledger.Kept && !ch.RowChanged {
		return "run_at changes and the row does not"
	}
	added := ch.Added
	for _, e := range ch.Changed {
		if e.ID == "q" {
			added = append(added, e)
		}
	}
	all := append(append([]*ledger.Event(nil), events...), added...)
	lowest := lowestPending(all)
	head := int64(0)
	if lowest != nil {
		head = lowest.Seq
	}
	switch {
	case ch.Pending != countPending(all), ch.Head != head:
		return "the row does not say what is pending"
	case (lowest != lowestBefore || ch.Pending != pendingBefore) && !ch.RowChanged:
		return "what is pending changes and the row does not"
	case (lowest != nil) != after.Due:
		return "I1: what is pending and run_at do not agree"
	case after.Held && !after.Due:
		return "I2: it is held and has no run_at"
	case after.Held && all[before.Running-1].State != ledger.Pending:
		return "it is held for an event that is not pending"
	case !after.Held && lowest != nil && lowest != lowestBefore && (ch.Due != ledger.After || ch.Delay != 0):
		return "what runs next waits for the delay of another one"
	case before.Held && !after.Held && all[before.Running-1].Attempts == 0 && all[before.Running-1].State != ledger.Pending:
		return "the lease has ended without an attempt"
	}
	for _, e := range added {
		if e.Seq < before.NextSeq || e.Seq >= after.NextSeq {
			return "I5: a place that was not the next one"
		}
	}
	return ""
}
