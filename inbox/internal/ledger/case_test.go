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
	liveJob     = 7 // of the cases below that have one
	maxFailures = 3
)

// event returns a stored event of external id "x".
func event(id string, seq int64, state ledger.State, modify ...func(*ledger.Event)) *ledger.Event {
	e := &ledger.Event{
		ID: id, TransactionID: transaction, ExternalID: "x", Status: "S-" + id, Seq: seq, State: state,
		ReceivedAt: time.Unix(seq, 0),
	}
	for _, m := range modify {
		m(e)
	}
	return e
}

func status(s string) func(*ledger.Event) {
	return func(e *ledger.Event) { e.Status = s }
}

func otherExternalID(e *ledger.Event) { e.ExternalID = "y" }

func counts(attempts, failures int) func(*ledger.Event) {
	return func(e *ledger.Event) { e.Attempts, e.Failures = attempts, failures }
}

func discarded(e *ledger.Event) { e.Discarded = true }

// quarantined returns an event, q, that is in no case yet.
func quarantined(receivedAt int64) *ledger.Event {
	return &ledger.Event{ID: "q", State: ledger.Quarantined, ReceivedAt: time.Unix(receivedAt, 0)}
}

// newCase returns a case with the events; live names the one that has the live
// job, if it is not empty.
func newCase(live string, events ...*ledger.Event) *ledger.Case {
	var next, job int64 = 1, 0
	for _, e := range events {
		next = max(next, e.Seq+1)
	}
	if live != "" {
		job = liveJob
	}
	c := ledger.NewCase(transaction, next, job, live)
	for _, e := range events {
		c.Add(e)
		c.Add(e) // two queries may load the same one
	}
	return c
}

// show describes what is to be written: "next 3 live b+1s" is the row, with a job
// to insert for b that is due in a second; then come new (+) and changed (~)
// events, with their place, attempts and failures.
func show(c *ledger.Case) string {
	ch := c.Changes()
	var b strings.Builder
	switch {
	case !ch.RowChanged:
		b.WriteString("same row")
	case ch.Issue != nil:
		fmt.Fprintf(&b, "next %d live %s", ch.NextSeq, ch.Issue.Event)
		if ch.LiveEvent != ch.Issue.Event {
			fmt.Fprintf(&b, " but %s", ch.LiveEvent)
		}
		fmt.Fprintf(&b, "+%v", ch.Issue.Delay)
	default:
		fmt.Fprintf(&b, "next %d job %d%s", ch.NextSeq, ch.LiveJob, ch.LiveEvent)
	}
	for _, e := range ch.Added {
		b.WriteString("; +" + showEvent(e))
	}
	for _, e := range ch.Changed {
		b.WriteString("; ~" + showEvent(e))
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
			result{ledger.Accepted, "next 2 live n+0s; +n#1 pending 0/0"},
		},
		"behind a pending one": {
			newCase("a", event("a", 1, ledger.Pending)), event("n", 0, ""),
			result{ledger.Accepted, fmt.Sprintf("next 3 job %da; +n#2 pending 0/0", liveJob)},
		},
		"behind a done one": {
			newCase("", event("a", 1, ledger.Done)), event("n", 0, ""),
			result{ledger.Accepted, "next 3 live n+0s; +n#2 pending 0/0"},
		},
		"a status that was not the last": {
			newCase("", event("a", 1, ledger.Done, status("S")), event("b", 2, ledger.Done)), event("n", 0, "", status("S")),
			result{ledger.Accepted, "next 4 live n+0s; +n#3 pending 0/0"},
		},
		"the same status of another external id": {
			newCase("", event("a", 1, ledger.Done, status("S"))), event("n", 0, "", status("S"), otherExternalID),
			result{ledger.Accepted, "next 3 live n+0s; +n#2 pending 0/0"},
		},
		"a duplicate of a pending one": {
			newCase("a", event("a", 1, ledger.Pending, status("S"))), event("n", 0, "", status("S")),
			result{ledger.Duplicate, "same row"},
		},
		"a duplicate of a done one": {
			newCase("", event("a", 1, ledger.Done, status("S"))), event("n", 0, "", status("S")),
			result{ledger.Duplicate, "same row"},
		},
		"a duplicate of the last of its key, not of the case": {
			newCase("", event("a", 1, ledger.Done, status("S")), event("b", 2, ledger.Done, otherExternalID)), event("n", 0, "", status("S")),
			result{ledger.Duplicate, "same row"},
		},
		"a duplicate of a discarded one": {
			newCase("", event("a", 1, ledger.Dead, status("S"), discarded)), event("n", 0, "", status("S")),
			result{ledger.Duplicate, "same row"},
		},
		"a redelivery of one that used its attempts up": {
			newCase("", dead), event("n", 0, "", status(dead.Status)),
			result{ledger.Revived, "next 2 live a+0s; ~a#1 pending 5/0"},
		},
		"a redelivery of such a one while another is live": {
			newCase("b", event("a", 1, ledger.Dead, status("S")), event("b", 2, ledger.Pending, otherExternalID)), event("n", 0, "", status("S")),
			result{ledger.Revived, "same row; ~a#1 pending 0/0"},
		},
		"room for one": {
			newCase("p1", pending(ledger.MaxPending-1)...), event("n", 0, ""),
			result{ledger.Accepted, fmt.Sprintf("next 65 job %dp1; +n#64 pending 0/0", liveJob)},
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

func TestSettle(t *testing.T) {
	t.Parallel()
	type result struct {
		Settled bool
		Changes string
	}
	// a is live, b waits behind it.
	two := func(a ...func(*ledger.Event)) *ledger.Case {
		return newCase("a", event("b", 2, ledger.Pending), event("a", 1, ledger.Pending, a...))
	}
	failed := ledger.Outcome{Error: "no", MaxFailures: maxFailures, Delay: time.Second}
	discard, interrupted, done := failed, failed, failed
	discard.Discard, interrupted.Interrupted, done.Done, done.Error = true, true, true, ""
	tests := map[string]struct {
		c       *ledger.Case
		job     int64
		event   string
		outcome ledger.Outcome
		want    result
	}{
		"done":                 {two(counts(1, 1)), liveJob, "a", done, result{true, "next 3 live b+0s; ~a#1 done 2/1"}},
		"done, and it was all": {newCase("a", event("a", 1, ledger.Pending)), liveJob, "a", done, result{true, "next 2 job 0; ~a#1 done 1/0"}},
		"retry":                {two(), liveJob, "a", failed, result{true, "next 3 live a+1s; ~a#1 pending 1/1 no"}},
		"the last but one":     {two(counts(9, maxFailures-2)), liveJob, "a", failed, result{true, "next 3 live a+1s; ~a#1 pending 10/2 no"}},
		"exhausted":            {two(counts(9, maxFailures-1)), liveJob, "a", failed, result{true, "next 3 live b+0s; ~a#1 dead 10/3 no"}},
		"discard":              {two(), liveJob, "a", discard, result{true, "next 3 live b+0s; ~a#1 dead 1/1 discarded no"}},
		"interrupted":          {two(counts(9, maxFailures-1)), liveJob, "a", interrupted, result{true, "next 3 live a+1s; ~a#1 pending 10/2 no"}},
		"a stale job":          {two(), liveJob - 1, "a", done, result{false, "same row"}},
		"no job":               {newCase("", event("a", 1, ledger.Pending)), 0, "a", done, result{false, "same row"}},
		"an unknown event":     {two(), liveJob, "z", done, result{false, "same row"}},
		"no longer pending":    {newCase("a", event("a", 1, ledger.Dead), event("b", 2, ledger.Pending)), liveJob, "a", done, result{false, "same row"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := result{test.c.Settle(test.job, test.event, test.outcome), show(test.c)}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if test.c.Settle(test.job, test.event, test.outcome) {
				t.Error("the same attempt settled twice")
			}
		})
	}
}

// TestOrder settles what is issued, as an engine would, until nothing is.
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
	order := []string{"c"}
	for job := int64(liveJob); order[len(order)-1] != ""; job++ {
		live := order[len(order)-1]
		c = ledger.NewCase(transaction, c.Changes().NextSeq, job, live)
		for _, e := range events {
			c.Add(e)
		}
		if !c.Settle(job, live, ledger.Outcome{Done: true}) {
			t.Fatalf("the attempt of %s did not settle", live)
		}
		order = append(order, c.Changes().LiveEvent)
	}
	// What runs is not interrupted; after it comes the lowest place that is pending.
	if diff := cmp.Diff([]string{"c", "b", "d", "f", ""}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	type result struct {
		Recovered bool
		Changes   string
	}
	nothing := result{false, "same row"}
	// a is live, b waits behind it.
	two := func(a ...func(*ledger.Event)) *ledger.Case {
		return newCase("a", event("a", 1, ledger.Pending, a...), event("b", 2, ledger.Pending))
	}
	tests := map[string]struct {
		c    *ledger.Case
		job  ledger.Job
		want result
	}{
		"alive":                        {two(), ledger.JobAlive, nothing},
		"nobody looked":                {two(), "", nothing},
		"lost":                         {two(), ledger.JobLost, result{true, "next 3 live a+0s; ~a#1 pending 1/1 gone"}},
		"lost for the last time":       {two(counts(5, maxFailures-1)), ledger.JobLost, result{true, "next 3 live b+0s; ~a#1 dead 6/3 gone"}},
		"cancelled":                    {two(counts(1, 1)), ledger.JobCancelled, result{true, "next 3 live b+0s; ~a#1 dead 1/1 discarded gone"}},
		"alive, its event is done":     {newCase("a", event("a", 1, ledger.Done), event("b", 2, ledger.Pending)), ledger.JobAlive, result{true, "next 3 live b+0s"}},
		"lost, its event is done":      {newCase("a", event("a", 1, ledger.Done), event("b", 2, ledger.Pending)), ledger.JobLost, result{true, "next 3 live b+0s"}},
		"cancelled, its event is gone": {newCase("z", event("b", 2, ledger.Pending)), ledger.JobCancelled, result{true, "next 3 live b+0s"}},
		"no job, something pending":    {newCase("", event("b", 2, ledger.Pending), event("a", 1, ledger.Pending)), ledger.JobLost, result{true, "next 3 live a+0s"}},
		"no job, nothing pending":      {newCase("", event("a", 1, ledger.Dead)), ledger.JobLost, nothing},
		"alive, nothing pending":       {newCase("a", event("a", 1, ledger.Dead)), ledger.JobAlive, result{true, "next 2 job 0"}},
		"lost, nothing pending":        {newCase("a", event("a", 1, ledger.Dead)), ledger.JobLost, result{true, "next 2 job 0"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.c.SetJob(test.job)
			got := result{test.c.Recover(maxFailures, "gone"), show(test.c)}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRecoverBesideSettle has one transaction both settle an attempt and look at
// its case: what the queue said was about the job before, and the new one is not
// even inserted.
func TestRecoverBesideSettle(t *testing.T) {
	t.Parallel()
	for _, job := range []ledger.Job{ledger.JobLost, ledger.JobCancelled} {
		c := newCase("a", event("a", 1, ledger.Pending), event("b", 2, ledger.Pending))
		c.SetJob(job)
		if !c.Settle(liveJob, "a", ledger.Outcome{Done: true}) {
			t.Fatal("it did not settle")
		}
		if c.Recover(maxFailures, "gone") {
			t.Errorf("%s: an event that nobody has tried was recovered", job)
		}
		if diff := cmp.Diff("next 3 live b+0s; ~a#1 done 1/0", show(c)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", job, diff)
		}
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	type result struct {
		Replayed ledger.Replayed
		Changes  string
	}
	// What parsing the quarantined event q gives.
	parsed := ledger.Event{ExternalID: "x", Status: "S"}
	dead := event("a", 1, ledger.Dead, counts(9, maxFailures), discarded)
	tests := map[string]struct {
		c     *ledger.Case
		id    string
		force bool
		want  result
	}{
		"dead": {
			newCase("", dead), "a", false,
			result{ledger.ReplayStarted, "next 2 live a+0s; ~a#1 pending 9/0"},
		},
		"dead, with a live one behind it": {
			newCase("b", event("a", 1, ledger.Dead), event("b", 2, ledger.Pending)), "a", false,
			result{ledger.ReplayStarted, "same row; ~a#1 pending 0/0"},
		},
		"dead, and a newer one is done": {
			newCase("", event("a", 1, ledger.Dead), event("b", 2, ledger.Done)), "a", false,
			result{ledger.ReplaySuperseded, "same row"},
		},
		"the same, forced": {
			newCase("", event("a", 1, ledger.Dead), event("b", 2, ledger.Done)), "a", true,
			result{ledger.ReplayStarted, "next 3 live a+0s; ~a#1 pending 0/0"},
		},
		"dead, and an older one is done": {
			newCase("", event("a", 1, ledger.Done), event("b", 2, ledger.Dead)), "b", false,
			result{ledger.ReplayStarted, "next 3 live b+0s; ~b#2 pending 0/0"},
		},
		"dead, and a newer one of another external id is done": {
			newCase("", event("a", 1, ledger.Dead), event("b", 2, ledger.Done, otherExternalID)), "a", false,
			result{ledger.ReplayStarted, "next 3 live a+0s; ~a#1 pending 0/0"},
		},
		"quarantined, the first of its case": {
			newCase("", quarantined(1)), "q", false,
			result{ledger.ReplayStarted, "next 2 live q+0s; ~q#1 pending 0/0"},
		},
		"quarantined": {
			newCase("b", event("b", 2, ledger.Pending), quarantined(1)), "q", false,
			result{ledger.ReplayStarted, fmt.Sprintf("next 4 job %db; ~q#3 pending 0/0", liveJob)},
		},
		"quarantined, and one that was received later is done": {
			newCase("", event("b", 2, ledger.Done), quarantined(1)), "q", false,
			result{ledger.ReplaySuperseded, "same row"},
		},
		"quarantined, and one that was received before is done": {
			newCase("", event("b", 2, ledger.Done), quarantined(3)), "q", false,
			result{ledger.ReplayStarted, "next 4 live q+0s; ~q#3 pending 0/0"},
		},
		"quarantined, a duplicate": {
			newCase("", event("b", 2, ledger.Done, status("S")), quarantined(3)), "q", false,
			result{ledger.ReplayDuplicate, "same row"},
		},
		"the same, forced once more": {
			newCase("", event("b", 2, ledger.Done, status("S")), quarantined(1)), "q", true,
			result{ledger.ReplayStarted, "next 4 live q+0s; ~q#3 pending 0/0"},
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
				key = ledger.Event{ExternalID: "x", Status: "S-" + test.id}
			}
			got := result{test.c.Replay(test.id, key, test.force), show(test.c)}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
