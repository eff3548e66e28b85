package pixmed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

const (
	statusA = pixmed.Acknowledged
	statusC = pixmed.Cancelled
	statusD = pixmed.Debited
)

var errCallback = errors.New("callback failed")

// notification is a delivery of the spec's example in some state.
func notification(status pixmed.MEDStatus) *pixmed.Notification {
	n := &pixmed.Notification{Infraction: specInfraction(), Attempt: 1}
	n.MEDStatus = status
	return n
}

// dedupClock is a clock that stands still until it is told.
type dedupClock struct {
	mu  sync.Mutex
	now time.Time
}

func newDedupClock() *dedupClock {
	return &dedupClock{now: time.Date(2025, 1, 18, 0, 0, 0, 0, time.UTC)}
}

func (c *dedupClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *dedupClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestDeduplicateSequences(t *testing.T) {
	t.Parallel()
	type step struct {
		deliver  pixmed.MEDStatus
		fails    bool // the callback, if it is called
		called   bool
		previous pixmed.MEDStatus
		seen     int // the step, from 1, that SeenAt names; 0 for never
		reopened bool
	}
	const reopening = "REOPENING" // a status that the package does not know
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"a redelivery", []step{
			{deliver: statusA, called: true},
			{deliver: statusA},
			{deliver: statusA},
		}},
		{"a case that is cancelled", []step{
			{deliver: statusA, called: true},
			{deliver: statusC, called: true, previous: statusA},
			{deliver: statusC},
		}},
		{"a case that is re-opened, or a late redelivery", []step{
			{deliver: statusA, called: true},
			{deliver: statusC, called: true, previous: statusA},
			{deliver: statusA, called: true, previous: statusC, seen: 1, reopened: true},
			{deliver: statusA},
			{deliver: statusC, called: true, previous: statusA, seen: 2},
			{deliver: statusA, called: true, previous: statusC, seen: 3, reopened: true},
		}},
		{"a first ACKNOWLEDGED that arrives late", []step{
			{deliver: statusC, called: true},
			{deliver: statusA, called: true, previous: statusC},
			{deliver: statusC, called: true, previous: statusA, seen: 1},
			{deliver: statusA, called: true, previous: statusC, seen: 2, reopened: true},
		}},
		{"DEBITED counts as an end", []step{
			{deliver: statusA, called: true},
			{deliver: statusD, called: true, previous: statusA},
			{deliver: statusA, called: true, previous: statusD, seen: 1, reopened: true},
		}},
		{"one end after another is not an opening", []step{
			{deliver: statusC, called: true},
			{deliver: statusD, called: true, previous: statusC},
			{deliver: statusC, called: true, previous: statusD, seen: 1},
		}},
		{"unknown statuses count like any other", []step{
			{deliver: statusA, called: true},
			{deliver: reopening, called: true, previous: statusA},
			{deliver: reopening},
			{deliver: statusC, called: true, previous: reopening},
			{deliver: reopening, called: true, previous: statusC, seen: 2, reopened: true},
		}},
		{"a failed callback leaves no trace", []step{
			{deliver: statusA, called: true, fails: true},
			{deliver: statusA, called: true, fails: true},
			{deliver: statusA, called: true},
			{deliver: statusA},
		}},
		{"a failed change leaves the last status as it was", []step{
			{deliver: statusA, called: true},
			{deliver: statusC, called: true, fails: true, previous: statusA},
			{deliver: statusA},
			{deliver: statusC, called: true, previous: statusA},
			{deliver: statusA, called: true, fails: true, previous: statusC, seen: 1, reopened: true},
			{deliver: statusC},
			{deliver: statusA, called: true, previous: statusC, seen: 1, reopened: true},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := newDedupClock()
			var store pixmed.MemoryStore
			store.SetNow(clock.Now)
			var got *pixmed.Notification
			var result error
			r := pixmed.Deduplicate(&store, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
				got = n
				return result
			}))
			var at []time.Time
			for i, step := range tt.steps {
				clock.Advance(time.Minute)
				at = append(at, clock.Now())
				got, result = nil, nil
				if step.fails {
					result = errCallback
				}
				n := notification(step.deliver)
				err := r.Receive(t.Context(), n)

				if !step.called {
					if got != nil || err != pixmed.ErrDuplicate {
						t.Fatalf("step %d: called %v, %v; want ErrDuplicate", i+1, got != nil, err)
					}
					continue
				}
				if got != n || err != result {
					t.Fatalf("step %d: called with %v, %v; want the notification and %v", i+1, got, err, result)
				}
				var seenAt time.Time
				if step.seen > 0 {
					seenAt = at[step.seen-1]
				}
				if n.Previous != step.previous || !n.SeenAt.Equal(seenAt) || n.MaybeReopened() != step.reopened {
					t.Errorf("step %d: Previous %q, SeenAt %v, MaybeReopened %v; want %q, %v, %v",
						i+1, n.Previous, n.SeenAt, n.MaybeReopened(), step.previous, seenAt, step.reopened)
				}
			}
		})
	}
}

// Where the next Receiver recognises a duplicate by itself, the case has the
// status all the same.
func TestDeduplicateBeforeAReceiverThatKnowsDuplicates(t *testing.T) {
	t.Parallel()
	known := fmt.Errorf("event 5: %w", pixmed.ErrDuplicate)
	for _, tt := range []struct {
		name     string
		result   error
		recorded bool
	}{
		{"duplicate", pixmed.ErrDuplicate, true},
		{"wrapped", known, true},
		{"joined with a failure", errors.Join(pixmed.ErrDuplicate, errCallback), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls, previous := 0, pixmed.MEDStatus("")
			r := pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
				calls++
				previous = n.Previous
				return tt.result
			}))
			if err := r.Receive(t.Context(), notification(statusA)); err != tt.result {
				t.Errorf("first delivery: %v, want %v", err, tt.result)
			}
			if err := r.Receive(t.Context(), notification(statusA)); (err == pixmed.ErrDuplicate) != (tt.recorded || tt.result == pixmed.ErrDuplicate) {
				t.Errorf("second delivery: %v", err)
			}
			if want := map[bool]int{true: 1, false: 2}[tt.recorded]; calls != want {
				t.Errorf("%d calls, want %d", calls, want)
			}
			_ = r.Receive(t.Context(), notification(statusC))
			if want := map[bool]pixmed.MEDStatus{true: statusA, false: ""}[tt.recorded]; previous != want {
				t.Errorf("Previous is %q, want %q", previous, want)
			}
		})
	}
}

func TestDeduplicateKeys(t *testing.T) {
	t.Parallel()
	const id, other = "5a94d48d-c9f3-46be-8448-83510ca42bde", "b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5"
	for _, tt := range []struct {
		name          string
		first, second pixmed.Infraction
		same          bool
	}{
		{"the same", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: id, ExternalID: "x"}, true},
		{"UUID in upper case", pixmed.Infraction{TransactionID: id}, pixmed.Infraction{TransactionID: strings.ToUpper(id)}, true},
		{"other fields differ", pixmed.Infraction{TransactionID: id, Value: 1}, pixmed.Infraction{TransactionID: id, Value: 2, EndToEndID: "E"}, true},
		{"another transaction", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: other, ExternalID: "x"}, false},
		{"another external id", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: id, ExternalID: "y"}, false},
		{"no external id", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: id}, false},
		{"external id in upper case", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: id, ExternalID: "X"}, false},
		{"the same text, split elsewhere", pixmed.Infraction{TransactionID: "ab", ExternalID: "c"}, pixmed.Infraction{TransactionID: "a", ExternalID: "bc"}, false},
		{
			"long external ids that differ at the end",
			pixmed.Infraction{TransactionID: id, ExternalID: strings.Repeat("x", 10_000) + "a"},
			pixmed.Infraction{TransactionID: id, ExternalID: strings.Repeat("x", 10_000) + "b"},
			false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.ReceiverFunc(pixmed.Ignore))
			for i, infraction := range []pixmed.Infraction{tt.first, tt.second} {
				infraction.MEDStatus = statusA
				err := r.Receive(t.Context(), &pixmed.Notification{Infraction: infraction})
				if want := i == 1 && tt.same; errors.Is(err, pixmed.ErrDuplicate) != want {
					t.Errorf("delivery %d: %v, want a duplicate: %v", i+1, err, want)
				}
			}
		})
	}
}

// gatedCall is a callback that has begun, and ends as it is told.
type gatedCall struct {
	*pixmed.Notification
	end chan<- func() error
}

// gate is a Receiver whose calls the test ends one by one.
type gate chan gatedCall

func (g gate) Receive(_ context.Context, n *pixmed.Notification) error {
	end := make(chan func() error)
	g <- gatedCall{n, end}
	return (<-end)()
}

var (
	errPanicked = errors.New("panicked")
	errExited   = errors.New("the goroutine ended")
)

// deliver calls r in another goroutine and reports how the call ended.
func deliver(ctx context.Context, r pixmed.Receiver, n *pixmed.Notification) <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := errExited
		defer func() {
			if recover() != nil {
				err = errPanicked
			}
			ended <- err
		}()
		err = r.Receive(ctx, n)
	}()
	return ended
}

func succeed() error { return nil }
func fail() error    { return errCallback }

// idle fails the test if a callback has begun, or a delivery has ended.
func idle(t *testing.T, g gate, deliveries ...<-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case call := <-g:
		t.Fatalf("%s is being handled", call.MEDStatus)
	default:
	}
	for i, d := range deliveries {
		if len(d) > 0 {
			t.Fatalf("delivery %d ended with %v", i+1, <-d)
		}
	}
}

func TestIdenticalDeliveriesAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		end           func() error
		first, others func(error) bool
		again         bool // a later delivery is handled
	}{
		{
			"success", succeed,
			func(err error) bool { return err == nil },
			func(err error) bool { return err == pixmed.ErrDuplicate },
			false,
		},
		{
			"error", fail,
			func(err error) bool { return err == errCallback },
			func(err error) bool { return err == errCallback },
			true,
		},
		{
			"panic", func() error { panic("boom") },
			func(err error) bool { return err == errPanicked },
			func(err error) bool { return err != nil && !errors.Is(err, pixmed.ErrDuplicate) },
			true,
		},
		{
			"Goexit", func() error { runtime.Goexit(); return nil },
			func(err error) bool { return err == errExited },
			func(err error) bool { return err != nil && !errors.Is(err, pixmed.ErrDuplicate) },
			true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := make(gate)
				r := pixmed.Deduplicate(new(pixmed.MemoryStore), g)
				first := deliver(t.Context(), r, notification(statusA))
				call := <-g
				var others []<-chan error
				for range 9 {
					others = append(others, deliver(t.Context(), r, notification(statusA)))
				}
				idle(t, g, first)
				idle(t, g, others...)
				call.end <- tt.end
				if err := <-first; !tt.first(err) {
					t.Errorf("the first delivery ended with %v", err)
				}
				for _, other := range others {
					if err := <-other; !tt.others(err) {
						t.Errorf("another delivery ended with %v", err)
					}
				}
				idle(t, g)

				later := deliver(t.Context(), r, notification(statusA))
				if tt.again {
					(<-g).end <- succeed
				}
				if err := <-later; (err == nil) != tt.again || err != nil && !errors.Is(err, pixmed.ErrDuplicate) {
					t.Errorf("a later delivery ended with %v", err)
				}
			})
		})
	}
}

// A first delivery that fails after its own deadline has not failed the others,
// which have time left: they say busy, and are sent again.
func TestIdenticalDeliveriesAndTheFirstRunsOutOfTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := make(gate)
		r := pixmed.Deduplicate(new(pixmed.MemoryStore), g)
		ctx, cancel := context.WithCancel(t.Context())
		first := deliver(ctx, r, notification(statusA))
		call := <-g
		other := deliver(t.Context(), r, notification(statusA))
		synctest.Wait()
		cancel()
		idle(t, g, first, other) // the callback decides when it ends
		call.end <- fail
		if err := <-first; !errors.Is(err, errCallback) || errors.Is(err, pixmed.ErrBusy) {
			t.Errorf("the first delivery ended with %v", err)
		}
		if err := <-other; !errors.Is(err, pixmed.ErrBusy) || !errors.Is(err, errCallback) {
			t.Errorf("the other delivery ended with %v, want ErrBusy", err)
		}
	})
}

func TestCallsForOneKeyStandInLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := make(gate)
		r := pixmed.Deduplicate(new(pixmed.MemoryStore), g)
		// A is being handled, C waits, and the second A must not be taken for the
		// first: C is between them.
		a1 := deliver(t.Context(), r, notification(statusA))
		call := <-g
		c := deliver(t.Context(), r, notification(statusC))
		synctest.Wait()
		a2 := deliver(t.Context(), r, notification(statusA))
		idle(t, g, a1, c, a2)
		for i, want := range []struct {
			status, previous pixmed.MEDStatus
			ended            <-chan error
		}{{statusA, "", a1}, {statusC, statusA, c}, {statusA, statusC, a2}} {
			if i > 0 {
				call = <-g
			}
			idle(t, g, want.ended)
			if call.MEDStatus != want.status || call.Previous != want.previous {
				t.Errorf("call %d is %q after %q, want %q after %q", i+1, call.MEDStatus, call.Previous, want.status, want.previous)
			}
			call.end <- succeed
			if err := <-want.ended; err != nil {
				t.Errorf("delivery %d: %v", i+1, err)
			}
		}
		if call.SeenAt.IsZero() || !call.MaybeReopened() {
			t.Error("the second A does not say that it may be a re-opened case")
		}
	})
}

func TestWaitingDeliveriesAreJoinedToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := make(gate)
		r := pixmed.Deduplicate(new(pixmed.MemoryStore), g)
		a := deliver(t.Context(), r, notification(statusA))
		call := <-g
		c1 := deliver(t.Context(), r, notification(statusC))
		synctest.Wait()
		c2 := deliver(t.Context(), r, notification(statusC))
		idle(t, g, a, c1, c2)
		call.end <- fail
		call = <-g
		if call.MEDStatus != statusC || call.Previous != "" {
			t.Errorf("after the failure: %q after %q", call.MEDStatus, call.Previous)
		}
		idle(t, g, c1, c2)
		call.end <- succeed
		if err := <-a; !errors.Is(err, errCallback) {
			t.Errorf("A: %v", err)
		}
		if err := <-c1; err != nil {
			t.Errorf("the first C: %v", err)
		}
		if err := <-c2; !errors.Is(err, pixmed.ErrDuplicate) {
			t.Errorf("the second C: %v", err)
		}
	})
}

func TestDifferentKeysRunAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := make(gate)
		r := pixmed.Deduplicate(new(pixmed.MemoryStore), g)
		var ended []<-chan error
		var calls []gatedCall
		for i := range 5 {
			n := notification(statusA)
			n.ExternalID = fmt.Sprint(i)
			ended = append(ended, deliver(t.Context(), r, n))
			calls = append(calls, <-g) // while the others are still being handled
		}
		for i, call := range calls {
			call.end <- succeed
			if err := <-ended[i]; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	cause := context.Canceled
	for _, tt := range []struct {
		name string
		// what is delivered while A is being handled; the deliveries at the
		// indexes in gone lose their context
		wait []pixmed.MEDStatus
		gone []int
		// the calls that follow, and the deliveries that are duplicates
		calls      []pixmed.MEDStatus
		duplicates []int
	}{
		{"one that had joined", []pixmed.MEDStatus{statusA, statusA}, []int{0}, nil, []int{1}},
		{"one in the line", []pixmed.MEDStatus{statusC, statusD}, []int{0}, []pixmed.MEDStatus{statusD}, nil},
		{"the last in the line", []pixmed.MEDStatus{statusC, statusD}, []int{1}, []pixmed.MEDStatus{statusC}, nil},
		{"the only one between two of one status", []pixmed.MEDStatus{statusC, statusA}, []int{0}, nil, []int{1}},
		{"one that was joined by another", []pixmed.MEDStatus{statusC, statusC}, []int{0}, []pixmed.MEDStatus{statusC}, nil},
		{"one that was joined by two others", []pixmed.MEDStatus{statusC, statusC, statusC}, []int{0}, []pixmed.MEDStatus{statusC}, nil},
		{"all", []pixmed.MEDStatus{statusC, statusC, statusA, statusA}, []int{0, 1, 2, 3}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := make(gate)
				r := pixmed.Deduplicate(new(pixmed.MemoryStore), g)
				first := deliver(t.Context(), r, notification(statusA))
				call := <-g
				var ended []<-chan error
				var cancels []context.CancelFunc
				for _, status := range tt.wait {
					ctx, cancel := context.WithCancel(t.Context())
					t.Cleanup(cancel)
					cancels = append(cancels, cancel)
					ended = append(ended, deliver(ctx, r, notification(status)))
					synctest.Wait()
				}
				idle(t, g, ended...)
				for _, i := range tt.gone {
					cancels[i]()
					if err := <-ended[i]; !errors.Is(err, cause) {
						t.Errorf("delivery %d: %v, want its context's error", i+1, err)
					}
				}
				idle(t, g, first)
				call.end <- succeed
				if err := <-first; err != nil {
					t.Errorf("the first delivery: %v", err)
				}
				for _, want := range tt.calls {
					call := <-g
					if call.MEDStatus != want {
						t.Errorf("%q is being handled, want %q", call.MEDStatus, want)
					}
					call.end <- succeed
				}
				succeeded := 0
				for i := range ended {
					if slices.Contains(tt.gone, i) {
						continue
					}
					err := <-ended[i]
					if slices.Contains(tt.duplicates, i) && !errors.Is(err, pixmed.ErrDuplicate) {
						t.Errorf("delivery %d: %v, want ErrDuplicate", i+1, err)
					}
					if err == nil {
						succeeded++
					} else if !errors.Is(err, pixmed.ErrDuplicate) {
						t.Errorf("delivery %d: %v", i+1, err)
					}
				}
				if succeeded != len(tt.calls) {
					t.Errorf("%d deliveries say they were handled, want %d", succeeded, len(tt.calls))
				}
			})
		})
	}
}

// A hundred goroutines on few keys: calls for one key never overlap, and no
// status is handled twice in a row.
func TestMemoryStoreUnderLoad(t *testing.T) {
	t.Parallel()
	const keys = 3
	var (
		store   pixmed.MemoryStore
		running [keys]atomic.Int32
		mu      sync.Mutex
		handled [keys][]pixmed.MEDStatus
		called  atomic.Int64
		said    atomic.Int64
		wg      sync.WaitGroup
	)
	statuses := []pixmed.MEDStatus{statusA, statusC, statusD}
	for g := range 100 {
		wg.Go(func() {
			for i := range 50 {
				k, status := (g+i)%keys, statuses[(g/keys+i)%len(statuses)]
				key := pixmed.Key{TransactionID: fmt.Sprint(k)}
				duplicate, err := store.Do(t.Context(), key, status, func(previous pixmed.MEDStatus, _ time.Time) error {
					if n := running[k].Add(1); n != 1 {
						t.Errorf("%d calls for one key at once", n)
					}
					defer running[k].Add(-1)
					runtime.Gosched()
					mu.Lock()
					defer mu.Unlock()
					if done := handled[k]; len(done) > 0 && done[len(done)-1] != previous || previous == status {
						t.Errorf("%q after %q, where the last of %d was another", status, previous, len(done))
					}
					called.Add(1)
					if i%7 == 0 {
						return errCallback
					}
					handled[k] = append(handled[k], status)
					return nil
				})
				if err == nil && !duplicate {
					said.Add(1)
				}
				if duplicate && err != nil {
					t.Errorf("a duplicate, and %v", err)
				}
			}
		})
	}
	wg.Wait()
	total := int64(0)
	for _, done := range handled {
		total += int64(len(done))
	}
	if said.Load() != total || total == 0 || total == called.Load() {
		t.Errorf("%d calls, %d succeeded, %d deliveries say they were handled", called.Load(), total, said.Load())
	}
}

// deliverTo makes a delivery for a case and reports whether it was a duplicate,
// and what the callback got if it was not.
func deliverTo(t *testing.T, store pixmed.StatusStore, id string, status pixmed.MEDStatus) (duplicate bool, previous pixmed.MEDStatus, seenAt time.Time) {
	t.Helper()
	duplicate, err := store.Do(t.Context(), pixmed.Key{TransactionID: id}, status, func(p pixmed.MEDStatus, at time.Time) error {
		previous, seenAt = p, at
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return duplicate, previous, seenAt
}

func TestMemoryStoreMaxCases(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		limit, effectiv int
	}{{"one", 1, 1}, {"three", 3, 3}, {"the default", 0, 65_536}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := &pixmed.MemoryStore{MaxCases: tt.limit}
			for i := range tt.effectiv { // at the limit
				deliverTo(t, store, fmt.Sprint(i), statusA)
			}
			if duplicate, _, _ := deliverTo(t, store, "0", statusA); !duplicate {
				t.Error("a case was forgotten before the limit was passed")
			}
			deliverTo(t, store, "one more", statusA) // over it: "0" has the oldest record
			if tt.effectiv > 1 {
				if duplicate, _, _ := deliverTo(t, store, "1", statusA); !duplicate {
					t.Error("more than one case was forgotten")
				}
			}
			if duplicate, previous, seenAt := deliverTo(t, store, "0", statusA); duplicate || previous != "" || !seenAt.IsZero() {
				t.Errorf("the case with the oldest record was not forgotten: duplicate %v, previous %q, seen %v", duplicate, previous, seenAt)
			}
		})
	}

	t.Run("a record makes a case young again, a duplicate does not", func(t *testing.T) {
		t.Parallel()
		store := &pixmed.MemoryStore{MaxCases: 2}
		deliverTo(t, store, "x", statusA)
		deliverTo(t, store, "y", statusA)
		deliverTo(t, store, "x", statusC)
		deliverTo(t, store, "y", statusA) // a duplicate
		deliverTo(t, store, "z", statusA)
		if duplicate, _, _ := deliverTo(t, store, "x", statusC); !duplicate {
			t.Error("x was forgotten, which had the younger record")
		}
		if duplicate, _, _ := deliverTo(t, store, "y", statusA); duplicate {
			t.Error("y was not forgotten, which had the oldest record")
		}
	})
}

func TestMemoryStoreMaxAge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		limit, effectiv time.Duration
	}{{"an hour", time.Hour, time.Hour}, {"the default", 0, 90 * 24 * time.Hour}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := newDedupClock()
			store := &pixmed.MemoryStore{MaxAge: tt.limit}
			store.SetNow(clock.Now)
			start := clock.Now()
			deliverTo(t, store, "x", statusA)
			clock.Advance(tt.effectiv) // at the limit
			if duplicate, _, _ := deliverTo(t, store, "x", statusA); !duplicate {
				t.Error("forgotten at the limit")
			}
			clock.Advance(1)
			if duplicate, previous, seenAt := deliverTo(t, store, "x", statusA); duplicate || previous != "" || !seenAt.IsZero() {
				t.Errorf("remembered past the limit: duplicate %v, previous %q, seen %v", duplicate, previous, seenAt)
			}
			clock.Advance(tt.effectiv) // since the new record
			duplicate, previous, seenAt := deliverTo(t, store, "x", statusC)
			if duplicate || previous != statusA || !seenAt.IsZero() {
				t.Errorf("at the limit again: duplicate %v, previous %q, seen %v", duplicate, previous, seenAt)
			}
			clock.Advance(tt.effectiv)
			if _, _, seenAt := deliverTo(t, store, "x", statusA); !seenAt.Equal(start.Add(tt.effectiv + 1)) {
				t.Errorf("a status that is older than the limit, of a case that is not, was seen at %v", seenAt)
			}
		})
	}
}

func TestMemoryStoreBoundsTheStatusesOfACase(t *testing.T) {
	t.Parallel()
	status := func(i int) pixmed.MEDStatus { return pixmed.MEDStatus(fmt.Sprint("status ", i)) }
	for _, tt := range []struct {
		recorded, again int // how many, and the one that comes again
		remembered      bool
	}{
		{16, 0, true},
		{17, 0, false},
		{17, 1, true},
		{40, 23, false},
		{40, 24, true},
	} {
		var store pixmed.MemoryStore
		for i := range tt.recorded {
			deliverTo(t, &store, "x", status(i))
		}
		duplicate, previous, seenAt := deliverTo(t, &store, "x", status(tt.again))
		if duplicate || previous != status(tt.recorded-1) || seenAt.IsZero() == tt.remembered {
			t.Errorf("%d, then number %d again: duplicate %v, previous %q, seen at %v", tt.recorded, tt.again, duplicate, previous, seenAt)
		}
	}
	// However often a case changes between two statuses, they are two.
	var store pixmed.MemoryStore
	deliverTo(t, &store, "x", statusD)
	for range 20 {
		deliverTo(t, &store, "x", statusA)
		deliverTo(t, &store, "x", statusC)
	}
	if _, _, seenAt := deliverTo(t, &store, "x", statusD); seenAt.IsZero() {
		t.Error("a status was forgotten, though there were only three")
	}
}

// modelStore is the rule in its shortest form.
type modelStore struct {
	maxCases int
	maxAge   time.Duration
	cases    []*modelCase // the oldest record first
}

type modelCase struct {
	id   string
	last pixmed.MEDStatus
	seen map[pixmed.MEDStatus]time.Time
}

func (m *modelStore) deliver(now time.Time, id string, status pixmed.MEDStatus, succeeds bool) (called bool, previous pixmed.MEDStatus, seenAt time.Time) {
	m.cases = slices.DeleteFunc(m.cases, func(c *modelCase) bool { return now.Sub(c.seen[c.last]) > m.maxAge })
	c := &modelCase{id: id, seen: map[pixmed.MEDStatus]time.Time{}}
	i := slices.IndexFunc(m.cases, func(c *modelCase) bool { return c.id == id })
	if i >= 0 {
		c = m.cases[i]
	}
	if c.last == status {
		return false, "", time.Time{}
	}
	previous, seenAt = c.last, c.seen[status]
	if succeeds {
		c.last, c.seen[status] = status, now
		if i >= 0 {
			m.cases = slices.Delete(m.cases, i, i+1)
		}
		m.cases = append(m.cases, c)
		m.cases = m.cases[max(0, len(m.cases)-m.maxCases):]
	}
	return true, previous, seenAt
}

func TestMemoryStoreAgainstModel(t *testing.T) {
	t.Parallel()
	seed := [2]uint64{rand.Uint64(), rand.Uint64()}
	t.Logf("seed %#v", seed)
	random := rand.New(rand.NewPCG(seed[0], seed[1]))
	statuses := []pixmed.MEDStatus{statusA, statusC, statusD, "OTHER"}
	type result struct {
		Called    bool
		Duplicate bool
		Previous  pixmed.MEDStatus
		SeenAt    time.Time
		Err       bool
	}
	for range 200 {
		clock := newDedupClock()
		model := &modelStore{maxCases: 1 + random.IntN(4), maxAge: time.Duration(1+random.IntN(50)) * time.Minute}
		store := &pixmed.MemoryStore{MaxCases: model.maxCases, MaxAge: model.maxAge}
		store.SetNow(clock.Now)
		var history []string
		for range 100 {
			clock.Advance(time.Duration(random.IntN(10)) * time.Minute)
			id, status, succeeds := fmt.Sprint(random.IntN(6)), statuses[random.IntN(len(statuses))], random.IntN(4) > 0
			history = append(history, fmt.Sprintf("%s %s %s %v", clock.Now().Format(time.TimeOnly), id, status, succeeds))

			var want, got result
			want.Called, want.Previous, want.SeenAt = model.deliver(clock.Now(), id, status, succeeds)
			want.Duplicate, want.Err = !want.Called, want.Called && !succeeds
			duplicate, err := store.Do(t.Context(), pixmed.Key{TransactionID: id}, status, func(previous pixmed.MEDStatus, seenAt time.Time) error {
				got.Called, got.Previous, got.SeenAt = true, previous, seenAt
				if succeeds {
					return nil
				}
				return errCallback
			})
			got.Duplicate, got.Err = duplicate, err != nil
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("limits %d and %v (-model +store):\n%s\n%s", model.maxCases, model.maxAge, diff, strings.Join(history, "\n"))
			}
		}
	}
}

// stubStore is a StatusStore of somebody else.
type stubStore struct {
	duplicate bool
	err       error
	run       bool
	key       pixmed.Key
	status    pixmed.MEDStatus
	problem   error
}

func (s *stubStore) Validate() error { return s.problem }

func (s *stubStore) Do(_ context.Context, key pixmed.Key, status pixmed.MEDStatus, fn func(pixmed.MEDStatus, time.Time) error) (bool, error) {
	s.key, s.status = key, status
	if s.run {
		return false, fn(statusC, time.Unix(1, 0))
	}
	return s.duplicate, s.err
}

func TestDeduplicateWithAnotherStore(t *testing.T) {
	t.Parallel()
	broken := errors.New("database is down")
	for _, tt := range []struct {
		name  string
		store stubStore
		want  error
		calls int
	}{
		{"runs", stubStore{run: true}, nil, 1},
		{"duplicate", stubStore{duplicate: true}, pixmed.ErrDuplicate, 0},
		{"fails", stubStore{err: broken}, broken, 0},
		{"fails and says duplicate", stubStore{duplicate: true, err: broken}, broken, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			n := notification(statusA)
			n.TransactionID = strings.ToUpper(n.TransactionID)
			err := pixmed.Deduplicate(&tt.store, pixmed.ReceiverFunc(func(_ context.Context, got *pixmed.Notification) error {
				calls++
				if got != n || got.Previous != statusC || !got.SeenAt.Equal(time.Unix(1, 0)) {
					t.Errorf("the callback got %+v", got)
				}
				return nil
			})).Receive(t.Context(), n)
			if !errors.Is(err, tt.want) || calls != tt.calls {
				t.Errorf("%v after %d calls, want %v after %d", err, calls, tt.want, tt.calls)
			}
			want := pixmed.Key{TransactionID: specInfraction().TransactionID, ExternalID: specInfraction().ExternalID}
			if tt.store.key != want || tt.store.status != statusA {
				t.Errorf("the store was asked about %v, %q", tt.store.key, tt.store.status)
			}
		})
	}
}

func TestDeduplicateProblemsAreReportedAtConstruction(t *testing.T) {
	t.Parallel()
	ignore := pixmed.ReceiverFunc(pixmed.Ignore)
	const nothing = "Deduplicate: the StatusStore or the Receiver is nil"
	for _, tt := range []struct {
		name string
		r    pixmed.Receiver
		want string
	}{
		{"no store", pixmed.Deduplicate(nil, ignore), nothing},
		{"nil store", pixmed.Deduplicate((*pixmed.MemoryStore)(nil), ignore), nothing},
		{"no receiver", pixmed.Deduplicate(new(pixmed.MemoryStore), nil), nothing},
		{"nil function", pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.ReceiverFunc(nil)), nothing},
		{"nil callbacks", pixmed.Deduplicate(new(pixmed.MemoryStore), (*pixmed.Callbacks)(nil)), nothing},
		{"negative cases", pixmed.Deduplicate(&pixmed.MemoryStore{MaxCases: -1}, ignore), "MemoryStore: MaxCases -1 or MaxAge 0s is negative"},
		{"negative age", pixmed.Deduplicate(&pixmed.MemoryStore{MaxAge: -1}, ignore), "MemoryStore: MaxCases 0 or MaxAge -1ns is negative"},
		{"callbacks without Other", pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.Callbacks{Cancelled: pixmed.Ignore}), otherIsNil},
		{"nested", pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.Callbacks{})), otherIsNil},
		{
			"all at once", pixmed.Deduplicate(&stubStore{problem: errors.New("the store's own")}, pixmed.Callbacks{}),
			"the store's own\n" + otherIsNil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := pixmed.NewHandler(tt.r, pixmed.WithoutVerification())
			if h != nil || err == nil || err.Error() != tt.want {
				t.Errorf("NewHandler = %v, %v; want %s", h, err, tt.want)
			}
		})
	}
}

const otherIsNil = "Callbacks.Other is nil: set it, or set it to pixmed.Ignore if no other status matters"

// Through the Handler: identical deliveries in flight get the same answer.
func TestDeduplicateBehindTheHandler(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                string
		end                 func() error
		first, other, later int
		results             []pixmed.Result // of the first, the other and the later one
	}{
		{"success", succeed, 200, 200, 200, []pixmed.Result{pixmed.ResultAccepted, pixmed.ResultDuplicate, pixmed.ResultDuplicate}},
		{"error", fail, 500, 500, 200, []pixmed.Result{pixmed.ResultFailed, pixmed.ResultFailed, pixmed.ResultAccepted}},
		{"duplicate", func() error { return fmt.Errorf("known: %w", pixmed.ErrDuplicate) }, 200, 200, 200, []pixmed.Result{pixmed.ResultDuplicate, pixmed.ResultDuplicate, pixmed.ResultDuplicate}},
		{"too late", func() error { time.Sleep(11 * time.Second); return errCallback }, 503, 503, 200, []pixmed.Result{pixmed.ResultBusy, pixmed.ResultBusy, pixmed.ResultAccepted}},
		{"busy", func() error { return pixmed.ErrBusy }, 503, 503, 200, []pixmed.Result{pixmed.ResultBusy, pixmed.ResultBusy, pixmed.ResultAccepted}},
		{"panic", func() error { panic("boom") }, 500, 500, 200, []pixmed.Result{pixmed.ResultFailed, pixmed.ResultFailed, pixmed.ResultAccepted}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := make(gate)
				h := newHook(t, pixmed.Deduplicate(new(pixmed.MemoryStore), g), pixmed.WithoutVerification())
				post := func() <-chan int {
					status := make(chan int, 1)
					r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(specPayload))
					go func() {
						w := httptest.NewRecorder()
						h.ServeHTTP(w, r)
						status <- w.Code
					}()
					return status
				}
				first := post()
				call := <-g
				time.Sleep(9 * time.Second) // on the bubble's clock: the two have different deadlines
				other := post()
				synctest.Wait()
				time.Sleep(500 * time.Millisecond)
				call.end <- tt.end
				got := []int{<-first, <-other}
				later := post()
				synctest.Wait()
				select {
				case call := <-g:
					call.end <- succeed
				default:
				}
				got = append(got, <-later)
				if diff := cmp.Diff([]int{tt.first, tt.other, tt.later}, got); diff != "" {
					t.Errorf("answers (-want +got):\n%s", diff)
				}
				var results []pixmed.Result
				for _, o := range h.outcomes() {
					results = append(results, o.Result)
				}
				slices.Sort(results[:2]) // the two ended at once
				if diff := cmp.Diff(tt.results, results); diff != "" {
					t.Errorf("results (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A case that nobody handles any more costs nothing but its record.
func TestMemoryStoreKeepsNoEmptyLines(t *testing.T) {
	t.Parallel()
	store := &pixmed.MemoryStore{MaxCases: 1}
	for i := range 10 {
		deliverTo(t, store, fmt.Sprint(i), statusA) // handled
		deliverTo(t, store, fmt.Sprint(i), statusA) // a duplicate
		_, _ = store.Do(t.Context(), pixmed.Key{TransactionID: fmt.Sprint(i)}, statusC, func(pixmed.MEDStatus, time.Time) error { return errCallback })
	}
	if n := store.Lines(); n != 0 {
		t.Errorf("%d lines are left", n)
	}
}
