package ledger_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

func TestActs(t *testing.T) {
	t.Parallel()
	type result struct {
		Acted   ledger.Acted
		Changes string
	}
	resolve := func(c *ledger.Case) ledger.Acted { return c.Resolve("a") }
	retry := func(c *ledger.Case) ledger.Acted { return c.RetryNow("a") }
	remove := func(force bool) func(*ledger.Case) ledger.Acted {
		return func(c *ledger.Case) ledger.Acted { return c.Delete(force) }
	}
	waiting := func() *ledger.Case { return newCase("", event("a", 1, ledger.Pending, counts(2, 2))) }
	for name, test := range map[string]struct {
		c    *ledger.Case
		do   func(*ledger.Case) ledger.Acted
		want result
	}{
		"resolve":               {newCase("", event("a", 1, ledger.Dead)), resolve, result{ledger.Acts, "next 2 kept; ~a#1 resolved 0/0; dead -1"}},
		"resolve a pending one": {waiting(), resolve, result{ledger.ActsUnneeded, "same row"}},
		"resolve none":          {newCase(""), resolve, result{ledger.ActsUnneeded, "same row"}},
		"retry":                 {waiting(), retry, result{ledger.Acts, "next 2 +0s"}},
		"retry what runs":       {newCase("a", event("a", 1, ledger.Pending)), retry, result{ledger.ActsRunning, "same row"}},
		"retry the second": {
			newCase("", event("b", 1, ledger.Pending), event("a", 2, ledger.Pending)), retry, result{ledger.ActsNotInTurn, "same row"},
		},
		"retry a replayed one while a newer one runs": {
			newCase("b", event("a", 1, ledger.Pending), event("b", 2, ledger.Pending)), retry, result{ledger.ActsNotInTurn, "same row"},
		},
		"retry a dead one":                  {newCase("", event("a", 1, ledger.Dead)), retry, result{ledger.ActsUnneeded, "same row"}},
		"delete":                            {newCase("", event("a", 1, ledger.Dead)), remove(false), result{ledger.Acts, "deleted"}},
		"delete a pending one":              {waiting(), remove(false), result{ledger.ActsRunning, "same row"}},
		"delete a pending one all the same": {waiting(), remove(true), result{ledger.Acts, "deleted"}},
		"delete what is not there":          {ledger.NewCase(transaction, ledger.Row{}), remove(true), result{ledger.ActsUnneeded, "same row"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := result{test.do(test.c), show(test.c)}
			if test.c.Changes().Deleted {
				got.Changes = "deleted"
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What was resolved is not revived by a redelivery, supersedes nothing and may be
// replayed.
func TestResolved(t *testing.T) {
	t.Parallel()
	c := newCase("", event("a", 1, ledger.Dead), event("b", 2, ledger.Dead, status("S")))
	c.Resolve("b")
	if got := c.Accept(event("n", 0, "", status("S"))); got != ledger.Duplicate {
		t.Errorf("a redelivery: %v, want Duplicate", got)
	}
	if got := c.Replay("a", ledger.Event{ExternalID: "x"}, false); got != ledger.ReplayStarted {
		t.Errorf("Replay of an older one: %v, want ReplayStarted", got)
	}
	if got := c.Replay("b", ledger.Event{ExternalID: "x"}, false); got != ledger.ReplayStarted {
		t.Errorf("Replay: %v, want ReplayStarted", got)
	}
	if got := show(c); got != "next 3 +0s; ~b#2 pending 0/0; ~a#1 pending 0/0; dead -2" {
		t.Error(got)
	}
}
