package ledger_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// quarantined returns an event, q, that is in no case yet.
func quarantined(receivedAt int64) *ledger.Event {
	return &ledger.Event{ID: "q", State: ledger.Quarantined, ReceivedAt: time.Unix(receivedAt, 0)}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	type result struct {
		Replayed ledger.Replayed
		Changes  string
	}
	// What parsing the quarantined event q gives.
	parsed := ledger.Event{ExternalID: "x", Status: "S", Value: 100}
	dead := event("a", 1, ledger.Dead, counts(9, maxFailures), discarded)
	tests := map[string]struct {
		c     *ledger.Case
		id    string
		force bool
		want  result
	}{
		"dead": {
			newCase("", dead), "a", false,
			result{ledger.ReplayStarted, "next 2 +0s; ~a#1 pending 9/0; dead -1"},
		},
		"dead, and a newer one runs": {
			newCase("b", event("a", 1, ledger.Dead), event("b", 2, ledger.Pending)), "a", false,
			result{ledger.ReplayStarted, "next 3 kept; ~a#1 pending 0/0; dead -1"},
		},
		"dead, and a newer one waits for its retry": {
			newCase("", event("a", 1, ledger.Dead), event("b", 2, ledger.Pending)), "a", false,
			result{ledger.ReplayStarted, "next 3 +0s; ~a#1 pending 0/0; dead -1"},
		},
		"dead, and an older one waits for its retry": {
			newCase("", event("a", 1, ledger.Pending), event("b", 2, ledger.Dead)), "b", false,
			result{ledger.ReplayStarted, "next 3 kept; ~b#2 pending 0/0; dead -1"},
		},
		"dead, and a newer one is done": {
			newCase("", event("a", 1, ledger.Dead), event("b", 2, ledger.Done)), "a", false,
			result{ledger.ReplaySuperseded, "same row"},
		},
		"the same, forced": {
			newCase("", event("a", 1, ledger.Dead), event("b", 2, ledger.Done)), "a", true,
			result{ledger.ReplayStarted, "next 3 +0s; ~a#1 pending 0/0; dead -1"},
		},
		"dead, and an older one is done": {
			newCase("", event("a", 1, ledger.Done), event("b", 2, ledger.Dead)), "b", false,
			result{ledger.ReplayStarted, "next 3 +0s; ~b#2 pending 0/0; dead -1"},
		},
		"dead, and a newer one of another external id is done": {
			newCase("", event("a", 1, ledger.Dead), event("b", 2, ledger.Done, otherExternalID)), "a", false,
			result{ledger.ReplayStarted, "next 3 +0s; ~a#1 pending 0/0; dead -1"},
		},
		"quarantined, the first of its case": {
			newCase("", quarantined(1)), "q", false,
			result{ledger.ReplayStarted, "next 2 +0s; ~q#1 pending 0/0"},
		},
		"quarantined": {
			newCase("b", event("b", 2, ledger.Pending), quarantined(1)), "q", false,
			result{ledger.ReplayStarted, "next 4 kept; ~b#2 pending 0/0; ~q#3 pending 0/0"},
		},
		"quarantined, and one that was received later is done": {
			newCase("", event("b", 2, ledger.Done), quarantined(1)), "q", false,
			result{ledger.ReplaySuperseded, "same row"},
		},
		"quarantined, and one that was received before is done": {
			newCase("", event("b", 2, ledger.Done), quarantined(3)), "q", false,
			result{ledger.ReplayStarted, "next 4 +0s; ~b#2 done 0/0; ~q#3 pending 0/0"},
		},
		"quarantined, a duplicate": {
			newCase("", event("b", 2, ledger.Done, status("S")), quarantined(3)), "q", false,
			result{ledger.ReplayDuplicate, "same row"},
		},
		"quarantined, the same status and another value": {
			newCase("", event("b", 2, ledger.Done, status("S"), value(1)), quarantined(3)), "q", false,
			result{ledger.ReplayStarted, "next 4 +0s; ~b#2 done 0/0; ~q#3 pending 0/0"},
		},
		"a duplicate, forced": {
			newCase("", event("b", 2, ledger.Done, status("S")), quarantined(1)), "q", true,
			result{ledger.ReplayStarted, "next 4 +0s; ~b#2 done 0/0; ~q#3 pending 0/0"},
		},
		"pending": {newCase("a", event("a", 1, ledger.Pending)), "a", true, result{ledger.ReplayUnneeded, "same row"}},
		"done":    {newCase("", event("a", 1, ledger.Done)), "a", true, result{ledger.ReplayUnneeded, "same row"}},
		"unknown": {newCase("", event("a", 1, ledger.Dead)), "z", true, result{ledger.ReplayUnneeded, "same row"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := parsed
			if test.id != "q" {
				key = ledger.Event{ExternalID: "x", Status: "S-" + test.id, Value: 100}
			}
			got := result{test.c.Replay(test.id, key, test.force), show(test.c)}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	type result struct {
		Discarded ledger.Acted
		Changes   string
	}
	tests := map[string]struct {
		c    *ledger.Case
		id   string
		want result
	}{
		"the only one": {
			newCase("", event("a", 1, ledger.Pending, counts(3, 2))), "a",
			result{ledger.Acts, "next 2 never; ~a#1 dead 3/2 discarded no; dead +1"},
		},
		"one that others wait for": {
			newCase("", event("a", 1, ledger.Pending), event("b", 2, ledger.Pending)), "a",
			result{ledger.Acts, "next 3 +0s; ~a#1 dead 0/0 discarded no; dead +1"},
		},
		"one that waits for another": {
			newCase("", event("a", 1, ledger.Pending), event("b", 2, ledger.Pending)), "b",
			result{ledger.Acts, "next 3 kept; ~b#2 dead 0/0 discarded no; dead +1"},
		},
		"one that waits for another that runs": {
			newCase("a", event("a", 1, ledger.Pending), event("b", 2, ledger.Pending)), "b",
			result{ledger.Acts, "next 3 kept; ~b#2 dead 0/0 discarded no; dead +1"},
		},
		"one that was replayed while a newer one runs": {
			newCase("b", event("a", 1, ledger.Pending), event("b", 2, ledger.Pending)), "a",
			result{ledger.Acts, "next 3 kept; ~a#1 dead 0/0 discarded no; dead +1"},
		},
		"one that runs": {newCase("a", event("a", 1, ledger.Pending)), "a", result{ledger.ActsRunning, "same row"}},
		"dead":          {newCase("", event("a", 1, ledger.Dead)), "a", result{ledger.ActsUnneeded, "same row"}},
		"unknown":       {newCase("", event("a", 1, ledger.Pending)), "z", result{ledger.ActsUnneeded, "same row"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := result{test.c.Discard(test.id, "no"), show(test.c)}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
