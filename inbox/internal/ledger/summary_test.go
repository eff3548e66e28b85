package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

func at(n int) time.Time { return time.Unix(int64(n), 0).UTC() }

// said is what the gateway has said last about an external id.
type said struct {
	seq    int64
	status pixmed.MEDStatus
	value  int64
	ended  bool
}

// whatItIs is the definition of a case as a whole, of what was said last about each
// of its external ids.
func whatItIs(all map[string]said) (open bool, statusSeq, value int64) {
	for _, s := range all {
		open = open || (!s.status.Final() && !s.ended)
	}
	for _, s := range all {
		if open && (s.status.Final() || s.ended) {
			continue
		}
		value, statusSeq = max(value, s.value), max(statusSeq, s.seq)
	}
	return open, statusSeq, value
}

// TestSummary accepts and ends at random, and compares the case with its definition.
// A case is loaded anew each time, with no more than what an engine loads.
func TestSummary(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		row := ledger.Row{NextSeq: 1}
		events := make(map[string]*ledger.Event)
		all := make(map[string]said)
		var openedAt, answeredAt, endedAt time.Time
		wasOpen := false
		for step := range 40 {
			row.Now = at(step)
			c := ledger.NewCase(transaction, row)
			external, what := fmt.Sprint(r.IntN(3)), r.IntN(10)
			load(c, events, external, what == 0)
			switch what {
			case 0:
				if len(all) > 0 && c.End("ana", "it is over") == ledger.Decides {
					for k, s := range all {
						s.ended = true
						all[k] = s
					}
				}
			case 1:
				if c.MarkAnswered("rui", "sent") == ledger.Decides {
					answeredAt = at(step)
				}
			default:
				status := []pixmed.MEDStatus{"", pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited, "REVIEWED"}[r.IntN(5)]
				e := &ledger.Event{ID: fmt.Sprint(step), ExternalID: external, Status: string(status), Value: r.Int64N(3), ReceivedAt: at(step)}
				e.Digest = ledger.NewDigest([]byte{byte(r.IntN(2))})
				seq := row.NextSeq
				if c.Accept(e) == ledger.Accepted {
					events[e.ID] = e
					all[external] = said{seq, status, e.Value, false}
				}
			}
			ch := c.Changes()
			for _, e := range ch.Changed {
				events[e.ID] = e
			}
			row.NextSeq, row.Due, row.Summary = ch.NextSeq, false, ch.Summary
			for _, e := range events {
				e.State = ledger.Done // so that there is room
			}
			open, seq, value := whatItIs(all)
			switch {
			case open && !wasOpen:
				openedAt, answeredAt, endedAt = at(step), time.Time{}, time.Time{}
			case !open && len(all) > 0 && (wasOpen || endedAt.IsZero()):
				endedAt = at(step)
			}
			wantReminders := ledger.RemindKept
			switch {
			case open && !wasOpen:
				wantReminders = ledger.RemindNext
			case !open && wasOpen, what == 1 && answeredAt.Equal(at(step)):
				wantReminders = ledger.RemindNever
			case !open && endedAt.Equal(at(step)):
				wantReminders = ledger.RemindNever
			}
			wasOpen = open
			want := ledger.Summary{Open: open, StatusSeq: seq, Value: value, OpenedAt: openedAt, AnsweredAt: answeredAt, EndedAt: endedAt, AnsweredBy: row.AnsweredBy, EndedBy: row.EndedBy}
			if diff := cmp.Diff(want, row.Summary); diff != "" {
				t.Fatalf("seed %d, step %d (-want +got):\n%s", seed, step, diff)
			}
			if answered := map[bool]string{true: "rui"}[!answeredAt.IsZero()]; row.AnsweredBy != answered {
				t.Fatalf("seed %d, step %d: answered by %q, want %q", seed, step, row.AnsweredBy, answered)
			}
			if ch.Remind != wantReminders {
				t.Fatalf("seed %d, step %d: reminders %d, want %d", seed, step, ch.Remind, wantReminders)
			}
		}
	}
}

// load loads what an engine loads for one operation: the last event of the external
// id, the two that stand first by place and by value; or all.
func load(c *ledger.Case, events map[string]*ledger.Event, external string, all bool) {
	var last *ledger.Event
	top := func(standing ledger.Standing, less func(a, b *ledger.Event) bool) {
		var first, second *ledger.Event
		for _, e := range events {
			switch {
			case e.Standing != standing:
			case first == nil || less(first, e):
				first, second = e, first
			case second == nil || less(second, e):
				second = e
			}
		}
		for _, e := range []*ledger.Event{first, second} {
			if e != nil {
				c.Add(e)
			}
		}
	}
	for _, e := range events {
		if e.ExternalID == external && (last == nil || last.Seq < e.Seq) {
			last = e
		}
		if all {
			c.Add(e)
		}
	}
	if last != nil {
		c.Add(last)
	}
	bySeq, byValue := func(a, b *ledger.Event) bool { return a.Seq < b.Seq }, func(a, b *ledger.Event) bool { return a.Value < b.Value }
	top(ledger.Open, bySeq)
	top(ledger.Open, byValue)
	top(ledger.Closed, byValue)
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	type result struct {
		Decided ledger.Decided
		Notes   []ledger.Note
		Summary ledger.Summary
	}
	row := func(s ledger.Summary) ledger.Row { return ledger.Row{NextSeq: 2, Now: at(9), Summary: s} }
	open := ledger.Summary{Open: true, StatusSeq: 1, Value: 100, OpenedAt: at(1)}
	answered, ended := open, ledger.Summary{StatusSeq: 1, Value: 100, OpenedAt: at(1), EndedAt: at(2)}
	answered.AnsweredAt, answered.AnsweredBy = at(9), "ana"
	endedNow := ended
	endedNow.EndedAt, endedNow.EndedBy = at(9), "ana"
	answer := func(c *ledger.Case) ledger.Decided { return c.MarkAnswered("ana", "x") }
	end := func(c *ledger.Case) ledger.Decided { return c.End("ana", "x") }
	note := func(action string) []ledger.Note {
		return []ledger.Note{{TransactionID: transaction, At: at(9), Action: action, By: "ana", Text: "x"}}
	}
	for name, test := range map[string]struct {
		row  ledger.Row
		do   func(*ledger.Case) ledger.Decided
		want result
	}{
		"answer":        {row(open), answer, result{ledger.Decides, note(ledger.NoteAnswered), answered}},
		"answer again":  {row(answered), answer, result{ledger.DecidedAnswered, nil, answered}},
		"answer, ended": {row(ended), answer, result{ledger.DecidedEnded, nil, ended}},
		"answer, none":  {ledger.Row{}, answer, result{ledger.DecidedNothing, nil, ledger.Summary{}}},
		"end":           {row(open), end, result{ledger.Decides, note(ledger.NoteEnded), endedNow}},
		"end again":     {row(ended), end, result{ledger.DecidedEnded, nil, ended}},
		"end, none":     {ledger.Row{}, end, result{ledger.DecidedNothing, nil, ledger.Summary{}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := ledger.NewCase(transaction, test.row)
			c.Add(event("a", 1, ledger.Done, func(e *ledger.Event) {
				if e.Standing = ledger.Closed; test.row.Open {
					e.Standing = ledger.Open
				}
			}))
			got := result{test.do(c), nil, ledger.Summary{}}
			got.Notes, got.Summary = c.Changes().Notes, c.Changes().Summary
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSettleReminder(t *testing.T) {
	t.Parallel()
	type result struct {
		Settlement ledger.Settlement
		Released   bool
		Remind     ledger.Remind
		Due        ledger.Due
		RemindedAt time.Time
		TriedAt    time.Time
		Failures   int
		GivenUp    int
		Note       string
	}
	row := func(modify ...func(*ledger.Row)) ledger.Row {
		r := ledger.Row{
			NextSeq: 2, Lease: lease, Held: true, Running: ledger.TheReminder, Now: at(20), RemindAt: at(5),
			Summary: ledger.Summary{Open: true, StatusSeq: 1, OpenedAt: at(1), TriedAt: at(4)},
		}
		for _, m := range modify {
			m(&r)
		}
		return r
	}
	claimed := ledger.Reminded{OpenedAt: at(1), ClaimedAt: at(9)}
	failed := ledger.Outcome{Error: "no", MaxFailures: 3, Delay: time.Minute}
	kept := result{Settlement: ledger.Settled, Released: true, TriedAt: at(4)}
	never := kept
	never.Remind = ledger.RemindNever
	for name, test := range map[string]struct {
		row      ledger.Row
		reminded ledger.Reminded
		failures int
		outcome  ledger.Outcome
		want     result
	}{
		"done":             {row(), claimed, 2, ledger.Outcome{Done: true}, result{ledger.Settled, true, ledger.RemindNext, ledger.Kept, at(9), time.Time{}, 0, 0, ledger.NoteReminded}},
		"failed":           {row(), claimed, 1, failed, result{ledger.Settled, true, ledger.RemindRetry, ledger.Kept, time.Time{}, at(9), 2, 0, ""}},
		"the last failure": {row(), claimed, 2, failed, result{ledger.Settled, true, ledger.RemindNext, ledger.Kept, at(9), time.Time{}, 0, 1, ledger.NoteReminder}},
		"lost":             {row(), ledger.Reminded{OpenedAt: at(1)}, 2, failed, result{ledger.Settled, true, ledger.RemindNext, ledger.Kept, at(5), time.Time{}, 0, 1, ledger.NoteReminder}},
		"discarded":        {row(), claimed, 0, ledger.Outcome{Discard: true, Error: "no", MaxFailures: 3}, result{ledger.Settled, true, ledger.RemindNext, ledger.Kept, at(9), time.Time{}, 0, 1, ledger.NoteReminder}},
		"put off":          {row(), claimed, 2, ledger.Outcome{PutOff: true, Delay: time.Minute, MaxFailures: 3}, result{ledger.Settled, true, ledger.RemindRetry, ledger.Kept, time.Time{}, at(9), 2, 0, ""}},
		"interrupted":      {row(), claimed, 2, ledger.Outcome{Interrupted: true}, kept},
		"never begun":      {row(), claimed, 2, ledger.Outcome{Released: true}, kept},
		"ended meanwhile":  {row(func(r *ledger.Row) { r.Open = false }), claimed, 2, ledger.Outcome{Done: true}, never},
		"answered":         {row(func(r *ledger.Row) { r.AnsweredAt = at(10) }), claimed, 2, failed, never},
		"opened again":     {row(func(r *ledger.Row) { r.OpenedAt = at(10) }), claimed, 2, ledger.Outcome{Done: true}, kept},
		"another lease":    {row(func(r *ledger.Row) { r.Lease++ }), claimed, 2, failed, result{Settlement: ledger.Late, TriedAt: at(4)}},
		"an event runs":    {row(func(r *ledger.Row) { r.Running = 1 }), claimed, 2, failed, result{Settlement: ledger.Late, TriedAt: at(4)}},
		"settled":          {row(func(r *ledger.Row) { r.Held, r.Running = false, 0 }), claimed, 2, failed, result{Settlement: ledger.Before, TriedAt: at(4)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := ledger.NewCase(transaction, test.row)
			got := result{Settlement: c.SettleReminder(lease, test.reminded, test.failures, test.outcome)}
			ch := c.Changes()
			got.Released, got.Remind, got.Due = ch.Released, ch.Remind, ch.Due
			got.RemindedAt, got.TriedAt, got.Failures, got.GivenUp = ch.Summary.RemindedAt, ch.Summary.TriedAt, ch.Summary.Failures, ch.Summary.GivenUp
			for _, n := range ch.Notes {
				got.Note += n.Action
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is accepted, replayed, discarded or retried while the reminder is leased is
// planned, and the reminder keeps its lease.
func TestBesideTheReminder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		events []*ledger.Event
		do     func(*ledger.Case)
		due    ledger.Due
	}{
		"accept":           {nil, func(c *ledger.Case) { c.Accept(event("n", 0, "")) }, ledger.After},
		"accept, waiting":  {[]*ledger.Event{event("a", 1, ledger.Pending)}, func(c *ledger.Case) { c.Accept(event("n", 0, "")) }, ledger.Kept},
		"replay":           {[]*ledger.Event{event("a", 1, ledger.Dead)}, func(c *ledger.Case) { c.Replay("a", ledger.Event{ExternalID: "x"}, true) }, ledger.After},
		"discard the only": {[]*ledger.Event{event("a", 1, ledger.Pending)}, func(c *ledger.Case) { c.Discard("a", "no") }, ledger.Never},
		"retry now":        {[]*ledger.Event{event("a", 1, ledger.Pending)}, func(c *ledger.Case) { c.RetryNow("a") }, ledger.After},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row := ledger.Row{NextSeq: 2, Lease: lease, Held: true, Running: ledger.TheReminder, Summary: ledger.Summary{Open: true, OpenedAt: at(1)}}
			for _, e := range test.events {
				row.Due = row.Due || e.State == ledger.Pending
			}
			c := ledger.NewCase(transaction, row)
			for _, e := range test.events {
				c.Add(e)
			}
			test.do(c)
			if ch := c.Changes(); ch.Due != test.due || ch.Released {
				t.Errorf("due %v, want %v; released: %t", ch.Due, test.due, ch.Released)
			}
			if got := c.SettleReminder(lease, ledger.Reminded{OpenedAt: at(1), ClaimedAt: at(2)}, 0, ledger.Outcome{Done: true}); got != ledger.Settled {
				t.Errorf("the reminder: %v, want Settled", got)
			}
		})
	}
}
