package ledger_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

func TestAccept(t *testing.T) {
	t.Parallel()
	type result struct {
		Verdict ledger.Verdict
		Changes string
	}
	dead := event("a", 1, ledger.Dead, counts(5, 3))
	tests := map[string]struct {
		c    *ledger.Case
		new  *ledger.Event
		want result
	}{
		"the first": {
			newCase(""), event("n", 0, "", status("S")),
			result{ledger.Accepted, "next 2 +0s; +n#1 pending 0/0"},
		},
		"after one that runs": {
			newCase("a", event("a", 1, ledger.Pending)), event("n", 0, ""),
			result{ledger.Accepted, "next 3 kept; +n#2 pending 0/0; ~a#1 pending 0/0"},
		},
		"after one that waits for its retry": {
			newCase("", event("a", 1, ledger.Pending)), event("n", 0, ""),
			result{ledger.Accepted, "next 3 kept; +n#2 pending 0/0; ~a#1 pending 0/0"},
		},
		"after one that is done": {
			newCase("", event("a", 1, ledger.Done)), event("n", 0, ""),
			result{ledger.Accepted, "next 3 +0s; +n#2 pending 0/0; ~a#1 done 0/0"},
		},
		"a status that was not the last": {
			newCase("", event("a", 1, ledger.Done, status("S")), event("b", 2, ledger.Done)), event("n", 0, "", status("S")),
			result{ledger.Accepted, "next 4 +0s; +n#3 pending 0/0; ~b#2 done 0/0"},
		},
		"the same status of another external id": {
			newCase("", event("a", 1, ledger.Done, status("S"))), event("n", 0, "", status("S"), otherExternalID),
			result{ledger.Accepted, "next 3 +0s; +n#2 pending 0/0"},
		},
		"the same status and another value": {
			newCase("", event("a", 1, ledger.Done, status("S"))), event("n", 0, "", status("S"), value(50)),
			result{ledger.Accepted, "next 3 +0s; +n#2 pending 0/0; ~a#1 done 0/0"},
		},
		"no status, the same body": {
			newCase("", event("a", 1, ledger.Done, body("{}"))), event("n", 0, "", body("{}")),
			result{ledger.Duplicate, "same row"},
		},
		"no status, another body": {
			newCase("", event("a", 1, ledger.Done, body("{}"))), event("n", 0, "", body("{ }")),
			result{ledger.Accepted, "next 3 +0s; +n#2 pending 0/0; ~a#1 done 0/0"},
		},
		"a duplicate of one that is pending": {
			newCase("a", event("a", 1, ledger.Pending, status("S"))), event("n", 0, "", status("S")),
			result{ledger.Duplicate, "same row"},
		},
		"a duplicate of one that is done": {
			newCase("", event("a", 1, ledger.Done, status("S"))), event("n", 0, "", status("S")),
			result{ledger.Duplicate, "same row"},
		},
		"a duplicate of the last of its key, not of the case": {
			newCase("", event("a", 1, ledger.Done, status("S")), event("b", 2, ledger.Done, otherExternalID)), event("n", 0, "", status("S")),
			result{ledger.Duplicate, "same row"},
		},
		"a duplicate of one that was discarded": {
			newCase("", event("a", 1, ledger.Dead, status("S"), discarded)), event("n", 0, "", status("S")),
			result{ledger.Duplicate, "same row"},
		},
		"a redelivery of one that used up its attempts": {
			newCase("", dead), event("n", 0, "", status(dead.Status)),
			result{ledger.Revived, "next 2 +0s; ~a#1 pending 5/0; dead -1"},
		},
		"the same while another one runs": {
			newCase("b", event("a", 1, ledger.Dead, status("S")), event("b", 2, ledger.Pending, otherExternalID)), event("n", 0, "", status("S")),
			result{ledger.Revived, "next 3 kept; ~a#1 pending 0/0; dead -1"},
		},
		"the same while a newer one waits for its retry": {
			newCase("", event("a", 1, ledger.Dead, status("S")), event("b", 2, ledger.Pending, otherExternalID)), event("n", 0, "", status("S")),
			result{ledger.Revived, "next 3 +0s; ~a#1 pending 0/0; dead -1"},
		},
		"the same while an older one waits for its retry": {
			newCase("", event("a", 1, ledger.Pending, otherExternalID), event("b", 2, ledger.Dead, status("S"))), event("n", 0, "", status("S")),
			result{ledger.Revived, "next 3 kept; ~b#2 pending 0/0; dead -1"},
		},
		"room for one": {
			newCase("p1", pending(ledger.MaxPending-1)...), event("n", 0, ""),
			result{ledger.Accepted, "next 65 kept; +n#64 pending 0/0; ~p63#63 pending 0/0"},
		},
		"no room": {
			newCase("p1", pending(ledger.MaxPending)...), event("n", 0, ""),
			result{ledger.Full, "same row"},
		},
		"no room for another external id": {
			newCase("p1", pending(ledger.MaxPending)...), event("n", 0, "", otherExternalID),
			result{ledger.Full, "same row"},
		},
		"a duplicate where there is no room": {
			newCase("p1", pending(ledger.MaxPending)...), event("n", 0, "", status("S-p64")),
			result{ledger.Duplicate, "same row"},
		},
		"the last before the first are forgotten": {
			newCase("", event("a", 1021, ledger.Done)), event("n", 0, ""),
			result{ledger.Accepted, "next 1023 +0s; +n#1022 pending 0/0; ~a#1021 done 0/0"},
		},
		"the first are forgotten": {
			newCase("", event("a", 1022, ledger.Done)), event("n", 0, ""),
			result{ledger.Accepted, "next 1024 +0s; +n#1023 pending 0/0; ~a#1022 done 0/0; trim 0-64"},
		},
		"more are forgotten": {
			newCase("", event("a", 1086, ledger.Done)), event("n", 0, ""),
			result{ledger.Accepted, "next 1088 +0s; +n#1087 pending 0/0; ~a#1086 done 0/0; trim 64-128"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := result{test.c.Accept(test.new), show(test.c)}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// One transaction may accept several, over more than one of the steps in which a
// case forgets.
func TestTrimTwice(t *testing.T) {
	t.Parallel()
	c := newCase("", event("a", 1086, ledger.Done))
	for i := range 60 {
		c.Accept(event(fmt.Sprintf("n%d", i), 0, ""))
	}
	c2 := c.Changes()
	if c2.TrimFrom != 64 || c2.TrimTo != 128 || c2.FirstTrim() {
		t.Errorf("%d to %d", c2.TrimFrom, c2.TrimTo)
	}
}
