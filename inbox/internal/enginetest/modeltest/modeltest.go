// Package modeltest does random operations on an engine and on a model of it that
// keeps everything in memory, and compares the two after each. That the rules are
// right is for package ledger's own tests; this is about how an engine loads, writes
// and claims.
package modeltest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Row is what is compared of a case's row.
type Row struct {
	NextSeq, Pending, Head, Running, Dead int64
	Held                                  bool
	Event, Reminder, Run                  string // when that is due: "never", "past" or "future"
}

// Engine is an engine under test.
type Engine struct {
	ledger.Engine
	// Rows returns the rows of the cases, by transaction.
	Rows func(ctx context.Context) (map[string]Row, error)
	// Pass makes everything due that will be, and ends all leases.
	Pass func(ctx context.Context) error
}

// Run does that many steps, from a seed. It returns in what the engine differs from
// the model.
func Run(ctx context.Context, e Engine, seed uint64, steps int) error {
	m := &model{
		engine: e, random: rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // it is for repetition
		cases: make(map[string]*modelCase), events: make(map[string]*ledger.Event), done: make(map[string]int),
		notes: make(map[string][]string), future: time.Now().UTC().Truncate(time.Hour).AddDate(0, 1, 0),
	}
	if err := e.SetDefence(ctx, defence); err != nil {
		return err
	}
	for range 3 {
		m.transactions = append(m.transactions, uuid.NewString())
	}
	for range steps {
		if err := m.step(ctx); err != nil {
			return fmt.Errorf("seed %d: %w\n%s", seed, err, strings.Join(m.log, "\n"))
		}
	}
	return nil
}

// defence has two reminders, the first of which is missed where the second is.
var defence = ledger.Defence{Window: 48 * time.Hour, Before: []time.Duration{24 * time.Hour, time.Hour}}

type model struct {
	engine       Engine
	random       *rand.Rand
	transactions []string
	log          []string

	cases    map[string]*modelCase
	events   map[string]*ledger.Event // all that are stored
	done     map[string]int           // in which order events were done
	attempts []*ledger.Attempt        // that were claimed, settled or not
	notes    map[string][]string
	applying bool // operations to the model, not to the engine
	now      int64
	future   time.Time
}

type modelCase struct {
	row             ledger.Row
	dead            int64
	eventPast, past bool // whether event_at has passed, and the lease's end
	passed          bool // whether remind_at was made to
}

// reminder is when the next reminder is due.
func (c *modelCase) reminder() string {
	switch {
	case c.row.RemindAt.IsZero():
		return "never"
	case c.passed || !c.row.RemindAt.After(time.Now()):
		return "past"
	}
	return "future"
}

// planned returns the first reminder of a case after a time.
func planned(c *ledger.Summary, after time.Time) (at time.Time) {
	for _, before := range defence.Before {
		if p := c.OpenedAt.Add(defence.Window - before); p.After(after) && at.IsZero() {
			at = p
		}
	}
	return at
}

// pick returns one of several.
func pick[T any](m *model, from ...T) T { return from[m.random.IntN(len(from))] }

func (m *model) logf(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

// step does some operations in one transaction, perhaps with a claim, and compares.
func (m *model) step(ctx context.Context) error {
	if m.random.IntN(6) == 0 {
		m.logf("time passes")
		for _, c := range m.cases {
			c.past, c.eventPast, c.passed = true, true, true
		}
		if err := m.engine.Pass(ctx); err != nil {
			return err
		}
	}
	var ops []*ledger.Op
	var checks []func() error
	alone := false
	for range m.random.IntN(4) {
		op, check := m.operation()
		if op == nil {
			continue
		}
		if op.All || op.Event != "" {
			ops, checks, alone = []*ledger.Op{op}, []func() error{check}, true
			break
		}
		ops, checks = append(ops, op), append(checks, check)
	}
	var claim *ledger.Claim
	if !alone && m.random.IntN(2) == 0 {
		claim = &ledger.Claim{Max: 10, Lease: pick(m, time.Hour, -time.Millisecond), Look: m.random.IntN(2) == 0}
	}
	if len(ops) == 0 && claim == nil {
		return nil
	}
	if err := m.engine.Commit(ctx, ops, claim); err != nil {
		return err
	}
	done := slices.DeleteFunc(slices.Clone(ops), wrong)
	m.apply(done)
	if claim != nil {
		if err := m.claim(claim); err != nil {
			return err
		}
	}
	if again := slices.DeleteFunc(ops, func(op *ledger.Op) bool { return !wrong(op) }); len(again) > 0 {
		m.logf("%d guesses were wrong", len(again))
		for _, op := range again {
			op.Wrong = false
		}
		if err := m.engine.Commit(ctx, again, nil); err != nil {
			return err
		}
		if slices.ContainsFunc(again, wrong) {
			return errors.New("what was done again was guessed again")
		}
		m.apply(again)
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return m.compare(ctx)
}

func wrong(op *ledger.Op) bool { return op.Wrong }

// operation returns an operation on the engine, and what compares its result with
// the model's. The model does it when the engine has.
func (m *model) operation() (*ledger.Op, func() error) {
	transaction := pick(m, m.transactions...)
	op := &ledger.Op{TransactionID: transaction}
	var got, want any
	do := func(f func(c *ledger.Case) any) {
		op.Apply = func(c *ledger.Case) {
			if result := f(c); m.applying {
				want = result
			} else {
				got = result // the last time counts
			}
		}
	}
	switch m.random.IntN(11) {
	case 9, 10:
		m.decision(op, do)
	case 0, 1, 2, 3:
		m.now++
		external, status := pick(m, "x", "y", strings.Repeat("long", 1000)), pick(m, "A", string(pixmed.Cancelled), string(pixmed.Debited), "")
		e := ledger.Event{
			ID: uuid.NewString(), ExternalID: external, Status: status, Value: pick[int64](m, 1, 2), Raw: []byte(pick(m, "{}", "{ }")),
			ReceivedAt: pick(m, time.UnixMilli(m.now).UTC(), m.future.Add(time.Duration(m.now)*time.Millisecond)), Deliveries: 1,
		}
		if status == "" {
			e.Digest = ledger.NewDigest(e.Raw)
		}
		m.logf("accept %s of %.8s: %q %.4s %d", e.ID, transaction, status, external, e.Value)
		theirs, ours := e, e // each has its own
		op.New, op.ExternalID = &theirs, &external
		do(func(c *ledger.Case) any {
			if m.applying {
				return c.Accept(&ours)
			}
			return c.Accept(&theirs)
		})
		if m.random.IntN(2) == 0 {
			op.Guess = func() *ledger.Case { return ledger.NewCase(transaction, ledger.Row{NextSeq: 1}) }
		}
	case 4, 5, 6:
		if len(m.attempts) == 0 {
			return nil, nil
		}
		a := pick(m, m.attempts[max(len(m.attempts)-pick(m, 3, len(m.attempts)), 0):]...) // mostly one of the last
		o := pick(m, ledger.Outcome{Done: true}, ledger.Outcome{Error: "no", MaxFailures: 2, Delay: time.Hour},
			ledger.Outcome{Discard: true, Error: "never"}, ledger.Outcome{Interrupted: true, Error: "stop"}, ledger.Outcome{Released: true},
			ledger.Outcome{PutOff: true, Error: "early", Delay: time.Minute})
		op.TransactionID = a.TransactionID
		if a.Reminder {
			m.logf("settle the reminder of %.8s: %+v", a.TransactionID, o)
			do(func(c *ledger.Case) any { return c.SettleReminder(a.Lease, a.Reminded, a.Failures, o) })
			break
		}
		m.logf("settle %s: %+v", a.ID, o)
		do(func(c *ledger.Case) any { return c.Settle(a.Lease, a.ID, o) })
		if a.Alone {
			op.Guess = a.Claimed
		}
	default:
		all := slices.SortedFunc(maps.Values(m.events), func(a, b *ledger.Event) int { return strings.Compare(a.ID, b.ID) })
		if len(all) == 0 {
			return nil, nil
		}
		e := pick(m, all...)
		op.TransactionID, op.Event = e.TransactionID, e.ID
		if what := m.random.IntN(6); what < 3 {
			m.logf("%s %s", []string{"discard", "resolve", "retry"}[what], e.ID)
			do(func(c *ledger.Case) any {
				switch what {
				case 0:
					return c.Discard(e.ID, "enough")
				case 1:
					return c.Resolve(e.ID)
				}
				return c.RetryNow(e.ID)
			})
			break
		}
		op.All = true
		key, force := *e, m.random.IntN(2) == 0
		m.logf("replay %s, forced: %t", e.ID, force)
		do(func(c *ledger.Case) any { return c.Replay(e.ID, key, force) })
	}
	return op, func() error {
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("the operation on %s (-want +got):\n%s", op.TransactionID, diff)
		}
		return nil
	}
}

// decision makes an operation on a whole case.
func (m *model) decision(op *ledger.Op, do func(func(*ledger.Case) any)) {
	switch m.random.IntN(5) {
	case 0:
		m.logf("end %.8s", op.TransactionID)
		op.All = true
		do(func(c *ledger.Case) any { return c.End("ana", "over") })
	case 1:
		force := m.random.IntN(2) == 0
		m.logf("delete %.8s, forced: %t", op.TransactionID, force)
		op.All = true
		do(func(c *ledger.Case) any { return c.Delete(force) })
	default:
		m.logf("answer %.8s", op.TransactionID)
		do(func(c *ledger.Case) any { return c.MarkAnswered("rui", "sent") })
	}
}

// apply does operations on the model, as one transaction does them.
func (m *model) apply(ops []*ledger.Op) {
	m.applying = true
	defer func() { m.applying = false }()
	loaded := make(map[string]*ledger.Case)
	for _, op := range ops {
		c := loaded[op.TransactionID]
		if c == nil {
			row := ledger.Row{NextSeq: 1}
			if known := m.cases[op.TransactionID]; known != nil {
				row = known.row
			}
			row.Now = time.Now().UTC()
			c = ledger.NewCase(op.TransactionID, row)
			for _, e := range m.events {
				if e.TransactionID == op.TransactionID {
					copied := *e
					c.Add(&copied)
				}
			}
			loaded[op.TransactionID] = c
		}
		op.Apply(c)
	}
	for id, c := range loaded {
		ch := c.Changes()
		for _, e := range append(slices.Clone(ch.Added), ch.Changed...) {
			if before := m.events[e.ID]; e.State == ledger.Done && (before == nil || before.State != ledger.Done) {
				m.done[e.ID] = len(m.done) + 1
			}
			m.events[e.ID] = e
		}
		for _, n := range ch.Notes {
			m.notes[id] = append(m.notes[id], n.Action+" "+n.By+" "+n.Text)
		}
		if !ch.RowChanged {
			continue
		}
		if ch.Deleted {
			maps.DeleteFunc(m.events, func(_ string, e *ledger.Event) bool { return e.TransactionID == id })
			delete(m.cases, id)
			delete(m.notes, id)
			continue
		}
		k := m.cases[id]
		if k == nil {
			k = &modelCase{}
			m.cases[id] = k
		}
		k.row.NextSeq, k.dead = ch.NextSeq, k.dead+ch.Dead
		if ch.Released {
			k.row.Held, k.row.Running = false, 0
		}
		if ch.Due != ledger.Kept {
			k.row.Due, k.eventPast = ch.Due == ledger.After, ch.Delay == 0
		}
		if !ch.SummaryChanged {
			continue
		}
		k.row.Summary = ch.Summary
		switch ch.Remind {
		case ledger.RemindKept:
			continue
		case ledger.RemindNever:
			k.row.RemindAt = time.Time{}
		case ledger.RemindNext:
			k.row.RemindAt = planned(&ch.Summary, ch.Summary.RemindedAt)
		case ledger.RemindRetry:
			k.row.RemindAt = time.Now().Add(ch.RemindDelay).UTC()
			if p := planned(&ch.Summary, ch.Summary.TriedAt); !p.IsZero() && p.Before(k.row.RemindAt) {
				k.row.RemindAt = p
			}
		}
		k.passed = false
	}
}

// claim claims in the model what the engine must have claimed, and compares.
func (m *model) claim(claim *ledger.Claim) error {
	m.logf("claim for %v: %d", claim.Lease, len(claim.Attempts))
	var want, got []string
	byCase := make(map[string]*ledger.Attempt)
	for _, a := range claim.Attempts {
		m.attempts, byCase[a.TransactionID] = append(m.attempts, a), a
		if a.Reminder {
			got = append(got, describeReminder(a.TransactionID, a.Lost, a.Failures, a.Reminded.OpenedAt))
			continue
		}
		if alone := m.pending(a.TransactionID) == 1; a.Alone && !alone {
			return fmt.Errorf("the attempt at %s says that it is alone", a.ID)
		}
		got = append(got, describe(a.ID, a.Lost, a.Previous, a.PreviousValue, !a.PreviousAt.IsZero(), !a.SeenAt.IsZero(), string(a.Raw)))
	}
	for id, c := range m.cases {
		if m.run(c) != "past" {
			continue
		}
		lost := c.row.Held
		switch {
		case lost:
		case c.row.Due && c.eventPast:
			c.row.Running = m.lowest(id).Seq
		default:
			c.row.Running = ledger.TheReminder
		}
		c.row.Held, c.past = true, claim.Lease < 0
		if a := byCase[id]; a != nil {
			c.row.Lease = a.Lease
		}
		if c.row.Running == ledger.TheReminder {
			failures := c.row.Failures
			if p := planned(&c.row.Summary, c.row.TriedAt); !p.IsZero() && !p.After(time.Now()) {
				failures = 0
			}
			want = append(want, describeReminder(id, lost, failures, c.row.OpenedAt))
			continue
		}
		var head *ledger.Event
		for _, e := range m.events {
			if e.TransactionID == id && e.Seq == c.row.Running {
				head = e
			}
		}
		previous, value, seen := m.previous(head)
		want = append(want, describe(head.ID, lost, previous, value, previous != "" || value != 0, seen, string(head.Raw)))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("the claim (-want +got):\n%s", diff)
	}
	if len(claim.Headless) > 0 {
		return fmt.Errorf("cases without a head: %v", claim.Headless)
	}
	return nil
}

func describe(id string, lost bool, previous string, value int64, after, seen bool, raw string) string {
	return fmt.Sprintf("%s lost %t after %q %d %t, seen %t: %s", id, lost, previous, value, after, seen, raw)
}

func describeReminder(transaction string, lost bool, failures int, openedAt time.Time) string {
	return fmt.Sprintf("reminder of %.8s, lost %t, after %d failures, opened %v", transaction, lost, failures, openedAt)
}

// run is when a case may be claimed.
func (m *model) run(c *modelCase) string {
	event, reminder := c.event(), c.reminder()
	switch {
	case c.row.Held && c.past:
		return "past"
	case c.row.Held:
		return "future"
	case event == "past" || reminder == "past":
		return "past"
	case event == "future" || reminder == "future":
		return "future"
	}
	return "never"
}

// event is when the lowest pending event is due.
func (c *modelCase) event() string {
	switch {
	case !c.row.Due:
		return "never"
	case c.eventPast:
		return "past"
	}
	return "future"
}

func (m *model) pending(transaction string) (n int64) {
	for _, e := range m.events {
		if e.TransactionID == transaction && e.State == ledger.Pending {
			n++
		}
	}
	return n
}

func (m *model) lowest(transaction string) (lowest *ledger.Event) {
	for _, e := range m.events {
		if e.TransactionID == transaction && e.State == ledger.Pending && (lowest == nil || e.Seq < lowest.Seq) {
			lowest = e
		}
	}
	return lowest
}

// previous returns what was done last for an event's key, and whether its status
// was done before.
func (m *model) previous(head *ledger.Event) (status string, value int64, seen bool) {
	last := 0
	for _, e := range m.events {
		if e.TransactionID != head.TransactionID || e.ExternalID != head.ExternalID || e.State != ledger.Done || e.ID == head.ID {
			continue
		}
		seen = seen || e.Status == head.Status
		if m.done[e.ID] > last {
			last, status, value = m.done[e.ID], e.Status, e.Value
		}
	}
	return status, value, seen
}

// compare compares everything that is stored.
func (m *model) compare(ctx context.Context) error {
	rows, err := m.engine.Rows(ctx)
	if err != nil {
		return err
	}
	want := make(map[string]Row)
	for id, c := range m.cases {
		r := Row{NextSeq: c.row.NextSeq, Pending: m.pending(id), Held: c.row.Held, Running: c.row.Running, Dead: c.dead, Event: c.event(), Reminder: c.reminder(), Run: m.run(c)}
		if head := m.lowest(id); head != nil {
			r.Head = head.Seq
		}
		want[id] = r
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		return fmt.Errorf("rows (-want +got):\n%s", diff)
	}
	for id, c := range m.cases {
		if err := m.compareCase(ctx, id, c); err != nil {
			return err
		}
		stored, err := m.engine.History(ctx, id)
		if err != nil {
			return err
		}
		var expected []*ledger.Event
		for _, e := range m.events {
			if e.TransactionID == id {
				expected = append(expected, e)
			}
		}
		slices.SortFunc(expected, func(a, b *ledger.Event) int { return int(a.Seq - b.Seq) })
		ignoreTimes := cmp.FilterPath(func(p cmp.Path) bool {
			return slices.Contains([]string{".DoneAt", ".NextAttempt", ".Running"}, p.Last().String())
		}, cmp.Ignore())
		if diff := cmp.Diff(expected, stored, ignoreTimes, cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) })); diff != "" {
			return fmt.Errorf("events of %s (-want +got):\n%s", id, diff)
		}
	}
	return nil
}

// compareCase compares what a case is as a whole, and its notes.
func (m *model) compareCase(ctx context.Context, id string, c *modelCase) error {
	stored, err := m.engine.Case(ctx, id)
	if err != nil {
		return err
	}
	got, want := stored.Summary, c.row.Summary
	for _, s := range []*ledger.Summary{&got, &want} { // what the engine's own clock said
		for _, t := range []*time.Time{&s.AnsweredAt, &s.RemindedAt, &s.TriedAt, &s.EndedAt} {
			if !t.IsZero() {
				*t = time.Unix(0, 0)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("case %s (-want +got):\n%s", id, diff)
	}
	rows, err := m.engine.Notes(ctx, id, "")
	if err != nil {
		return err
	}
	var notes []string
	for _, n := range rows {
		notes = append(notes, n.Action+" "+n.By+" "+n.Text)
	}
	if diff := cmp.Diff(m.notes[id], notes); diff != "" {
		return fmt.Errorf("notes of %s (-want +got):\n%s", id, diff)
	}
	return nil
}
