// Package storetest does random operations on an engine and on a model of it that
// keeps everything in memory, and compares the two after each. That the rules are
// right is for package ledger's own tests; this is about how an engine loads, writes
// and claims.
package storetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Row is what is compared of a case's row.
type Row struct {
	NextSeq, Running int64
	Held             bool
	Due              string // "never", "past" or "future"
}

// Engine is an engine under test.
type Engine struct {
	Store ledger.Store
	// Rows returns the rows of the cases, by transaction.
	Rows func(ctx context.Context) (map[string]Row, error)
	// Pass makes everything due that will be.
	Pass func(ctx context.Context) error
}

// Run does that many steps, from a seed.
func Run(t *testing.T, e Engine, seed uint64, steps int) {
	t.Helper()
	m := &model{
		engine: e, random: rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // it is for repetition
		cases: make(map[string]*modelCase), events: make(map[string]*ledger.Event), done: make(map[string]int),
	}
	for range 3 {
		m.transactions = append(m.transactions, uuid.NewString())
	}
	for range steps {
		if err := m.step(t.Context()); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(m.log, "\n"))
		}
	}
}

type model struct {
	engine       Engine
	random       *rand.Rand
	transactions []string
	log          []string

	cases    map[string]*modelCase
	events   map[string]*ledger.Event // all that are stored
	done     map[string]int           // in which order events were done
	attempts []*ledger.Attempt        // that were claimed, settled or not
	now      int64
}

type modelCase struct {
	row  ledger.Row
	past bool // run_at has passed, if there is one
}

// pick returns one of several.
func pick[T any](m *model, from ...T) T { return from[m.random.IntN(len(from))] }

func (m *model) logf(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

// step does some operations in one transaction, perhaps with a claim, and compares.
func (m *model) step(ctx context.Context) error {
	if m.random.IntN(6) == 0 {
		m.logf("time passes")
		for _, c := range m.cases {
			c.past = true
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
		claim = &ledger.Claim{Max: 10, Lease: pick(m, time.Hour, -time.Hour), Look: m.random.IntN(2) == 0}
	}
	if len(ops) == 0 && claim == nil {
		return nil
	}
	if err := m.engine.Store.Commit(ctx, ops, claim); err != nil {
		return err
	}
	m.apply(ops)
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	if claim != nil {
		if err := m.claim(claim); err != nil {
			return err
		}
	}
	return m.compare(ctx)
}

// operation returns an operation on the engine, and what compares its result with
// the model's. The model does it when the engine has.
func (m *model) operation() (*ledger.Op, func() error) {
	transaction := pick(m, m.transactions...)
	op := &ledger.Op{TransactionID: transaction}
	var got, want any
	do := func(f func(c *ledger.Case) any) {
		op.Apply = func(c *ledger.Case) {
			result := f(c)
			if got == nil {
				got = result // the engine comes first
			} else {
				want = result
			}
		}
	}
	switch m.random.IntN(9) {
	case 0, 1, 2, 3:
		m.now++
		external, status := pick(m, "x", "y", strings.Repeat("long", 1000)), pick(m, "A", "B", "")
		e := ledger.Event{
			ID: uuid.NewString(), ExternalID: external, Status: status, Value: pick[int64](m, 1, 2), Raw: []byte(pick(m, "{}", "{ }")),
			ReceivedAt: time.UnixMilli(m.now).UTC(), Deliveries: 1,
		}
		if status == "" {
			e.Digest = ledger.NewDigest(e.Raw)
		}
		m.logf("accept %s of %.8s: %q %.4s %d", e.ID, transaction, status, external, e.Value)
		first, second := e, e // each has its own
		op.New, op.ExternalID = &first, &external
		do(func(c *ledger.Case) any {
			if got == nil {
				return c.Accept(&first)
			}
			return c.Accept(&second)
		})
	case 4, 5, 6:
		if len(m.attempts) == 0 {
			return nil, nil
		}
		a := pick(m, m.attempts...)
		o := pick(m, ledger.Outcome{Done: true}, ledger.Outcome{Error: "no", MaxFailures: 2, Delay: time.Hour},
			ledger.Outcome{Discard: true, Error: "never"}, ledger.Outcome{Interrupted: true, Error: "stop"}, ledger.Outcome{Released: true})
		op.TransactionID = a.TransactionID
		m.logf("settle %s: %+v", a.ID, o)
		do(func(c *ledger.Case) any { return c.Settle(a.Lease, a.ID, o) })
	default:
		all := slices.SortedFunc(maps.Values(m.events), func(a, b *ledger.Event) int { return strings.Compare(a.ID, b.ID) })
		if len(all) == 0 {
			return nil, nil
		}
		e := pick(m, all...)
		op.TransactionID, op.Event = e.TransactionID, e.ID
		if m.random.IntN(3) == 0 {
			m.logf("discard %s", e.ID)
			do(func(c *ledger.Case) any { return c.Discard(e.ID, "enough") })
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

// apply does operations on the model, as one transaction does them.
func (m *model) apply(ops []*ledger.Op) {
	loaded := make(map[string]*ledger.Case)
	for _, op := range ops {
		c := loaded[op.TransactionID]
		if c == nil {
			row := ledger.Row{NextSeq: 1}
			if known := m.cases[op.TransactionID]; known != nil {
				row = known.row
			}
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
		if !ch.RowChanged {
			continue
		}
		k := m.cases[id]
		if k == nil {
			k = &modelCase{}
			m.cases[id] = k
		}
		k.row.NextSeq = ch.NextSeq
		if ch.Due != ledger.Kept {
			k.row.Held, k.row.Running, k.row.Due, k.past = false, 0, ch.Due == ledger.After, ch.Delay == 0
		}
	}
}

// claim claims in the model what the engine must have claimed, and compares.
func (m *model) claim(claim *ledger.Claim) error {
	m.logf("claim for %v: %d", claim.Lease, len(claim.Attempts))
	var want, got []string
	for _, a := range claim.Attempts {
		got = append(got, describe(a.ID, a.Lost, a.Previous, a.PreviousValue, !a.PreviousAt.IsZero(), !a.SeenAt.IsZero(), string(a.Raw)))
		m.attempts = append(m.attempts, a)
	}
	for id, c := range m.cases {
		if !c.row.Due || !c.past {
			continue
		}
		lost := c.row.Held
		if !lost {
			c.row.Running = m.lowest(id).Seq
		}
		c.row.Held, c.past = true, claim.Lease < 0
		var head *ledger.Event
		for _, e := range m.events {
			if e.TransactionID == id && e.Seq == c.row.Running {
				head = e
			}
		}
		previous, value, seen := m.previous(head)
		want = append(want, describe(head.ID, lost, previous, value, previous != "" || value != 0, seen, string(head.Raw)))
		for _, a := range claim.Attempts {
			if a.TransactionID == id {
				c.row.Lease = a.Lease
			}
		}
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
		r := Row{NextSeq: c.row.NextSeq, Held: c.row.Held, Running: c.row.Running, Due: "never"}
		if c.row.Due {
			r.Due = map[bool]string{true: "past", false: "future"}[c.past]
		}
		want[id] = r
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		return fmt.Errorf("rows (-want +got):\n%s", diff)
	}
	for id := range m.cases {
		stored, err := m.engine.Store.History(ctx, id)
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
		ignoreTimes := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".DoneAt" }, cmp.Ignore())
		if diff := cmp.Diff(expected, stored, ignoreTimes, cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) })); diff != "" {
			return fmt.Errorf("events of %s (-want +got):\n%s", id, diff)
		}
	}
	return nil
}
