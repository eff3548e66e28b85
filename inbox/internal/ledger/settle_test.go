package ledger_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

func TestSettle(t *testing.T) {
	t.Parallel()
	type result struct {
		Settlement ledger.Settlement
		Changes    string
	}
	// a runs, b waits for it.
	two := func(a ...func(*ledger.Event)) *ledger.Case {
		return newCase("a", event("b", 2, ledger.Pending), event("a", 1, ledger.Pending, a...))
	}
	// a was replayed while b ran.
	replayed := func() *ledger.Case {
		return newCase("b", event("a", 1, ledger.Pending), event("b", 2, ledger.Pending, counts(0, maxFailures-1)))
	}
	failed := ledger.Outcome{Error: "no", MaxFailures: maxFailures, Delay: time.Second}
	discard, interrupted, done := failed, failed, failed
	discard.Discard, interrupted.Interrupted, done.Done, done.Error = true, true, true, ""
	released, early := ledger.Outcome{Released: true}, ledger.Outcome{PutOff: true, Error: "early", MaxFailures: maxFailures, Delay: time.Minute}
	tests := map[string]struct {
		c       *ledger.Case
		lease   int64
		event   string
		outcome ledger.Outcome
		want    result
	}{
		"done":                  {two(counts(1, 1)), lease, "a", done, result{ledger.Settled, "next 3 +0s; ~a#1 done 2/1"}},
		"done, and it was all":  {newCase("a", event("a", 1, ledger.Pending)), lease, "a", done, result{ledger.Settled, "next 2 never; ~a#1 done 1/0"}},
		"retry":                 {two(), lease, "a", failed, result{ledger.Settled, "next 3 +1s; ~a#1 pending 1/1 no"}},
		"the last but one":      {two(counts(9, maxFailures-2)), lease, "a", failed, result{ledger.Settled, "next 3 +1s; ~a#1 pending 10/2 no"}},
		"exhausted":             {two(counts(9, maxFailures-1)), lease, "a", failed, result{ledger.Settled, "next 3 +0s; ~a#1 dead 10/3 no; dead +1"}},
		"exhausted, all":        {newCase("a", event("a", 1, ledger.Pending, counts(2, 2))), lease, "a", failed, result{ledger.Settled, "next 2 never; ~a#1 dead 3/3 no; dead +1"}},
		"discard":               {two(), lease, "a", discard, result{ledger.Settled, "next 3 +0s; ~a#1 dead 1/1 discarded no; dead +1"}},
		"interrupted":           {two(counts(9, maxFailures-1)), lease, "a", interrupted, result{ledger.Settled, "next 3 +0s; ~a#1 pending 10/2 no"}},
		"never begun":           {two(counts(9, maxFailures-1)), lease, "a", released, result{ledger.Settled, "next 3 +0s"}},
		"put off":               {two(counts(9, maxFailures-1)), lease, "a", early, result{ledger.Settled, "next 3 +1m0s; ~a#1 pending 9/2 early"}},
		"retry, older replayed": {replayed(), lease, "b", interrupted, result{ledger.Settled, "next 3 +0s; ~b#2 pending 1/2 no"}},
		"dead, older replayed":  {replayed(), lease, "b", failed, result{ledger.Settled, "next 3 +0s; ~b#2 dead 1/3 no; dead +1"}},
		"done, older replayed":  {replayed(), lease, "b", done, result{ledger.Settled, "next 3 +0s; ~b#2 done 1/2"}},
		"another lease":         {two(), lease - 1, "a", done, result{ledger.Late, "same row"}},
		"not held":              {newCase("", event("a", 1, ledger.Pending)), 0, "a", done, result{ledger.Before, "same row"}},
		"an unknown event":      {two(), lease, "z", done, result{ledger.Late, "same row"}},
		"no longer pending":     {newCase("a", event("a", 1, ledger.Dead), event("b", 2, ledger.Pending)), lease, "a", done, result{ledger.Late, "same row"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := result{test.c.Settle(test.lease, test.event, test.outcome), show(test.c)}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := test.c.Settle(test.lease, test.event, test.outcome); got.Settlement == ledger.Settled && again != ledger.Before {
				t.Errorf("the same attempt once more: %v, want Before", again)
			}
			if diff := cmp.Diff(test.want.Changes, show(test.c)); diff != "" {
				t.Errorf("after once more (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOrder settles what may be claimed, as an engine would, until nothing may.
func TestOrder(t *testing.T) {
	t.Parallel()
	added := event("f", 0, "")
	events := []*ledger.Event{
		event("d", 4, ledger.Pending), event("b", 2, ledger.Dead), event("c", 3, ledger.Pending),
		event("a", 1, ledger.Dead), event("e", 5, ledger.Done, otherExternalID),
	}
	c := newCase("c", events...)
	if got := c.Replay("b", *events[1], false); got != ledger.ReplayStarted {
		t.Fatalf("Replay: %v", got)
	}
	if got := c.Accept(added); got != ledger.Accepted {
		t.Fatalf("Accept: %v", got)
	}
	events = append(events, added)
	var order []string
	for running := events[2]; running != nil; running = lowestPending(events) {
		order = append(order, running.ID)
		c = newCase(running.ID, events...)
		if got := c.Settle(lease, running.ID, ledger.Outcome{Done: true}); got != ledger.Settled {
			t.Fatalf("the attempt of %s: %v", running.ID, got)
		}
	}
	// What runs is not interrupted; after it comes the lowest place that is pending.
	if diff := cmp.Diff([]string{"c", "b", "d", "f"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if c.Changes().Due != ledger.Never {
		t.Errorf("at the end: %s", show(c))
	}
}
