package pixmed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

func recorded(status pixmed.MEDStatus) pixmed.Recorded { return pixmed.Recorded{Status: status} }

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

// If the first delivery fails after its deadline, the others, whose deadlines
// are later, return ErrBusy, so that they are sent again.
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
			t.Error("the second A does not say that it may be a reopened case")
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
				duplicate, err := store.Do(t.Context(), key, recorded(status), func(before pixmed.Recorded, _, _ time.Time) error {
					previous := before.Status
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
	duplicate, err := store.Do(t.Context(), pixmed.Key{TransactionID: id}, recorded(status), func(p pixmed.Recorded, _, at time.Time) error {
		previous, seenAt = p.Status, at
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
		{8, 0, true},
		{9, 0, false},
		{9, 1, true},
		{40, 31, false},
		{40, 32, true},
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

// modelStore is the rule in its simplest form.
type modelStore struct {
	maxCases int
	maxAge   time.Duration
	cases    []*modelCase // the oldest record first
}

type modelCase struct {
	id   string
	last pixmed.Recorded
	at   time.Time
	seen map[pixmed.MEDStatus]time.Time
}

// result is what a call of Do shows.
type result struct {
	Called     bool
	Duplicate  bool
	Previous   pixmed.Recorded
	PreviousAt time.Time
	SeenAt     time.Time
	Err        bool
}

func (m *modelStore) deliver(now time.Time, id string, r pixmed.Recorded, succeeds bool) result {
	m.cases = slices.DeleteFunc(m.cases, func(c *modelCase) bool { return now.Sub(c.at) > m.maxAge })
	c := &modelCase{id: id, seen: map[pixmed.MEDStatus]time.Time{}}
	i := slices.IndexFunc(m.cases, func(c *modelCase) bool { return c.id == id })
	if i >= 0 {
		c = m.cases[i]
	}
	if i >= 0 && c.last == r {
		return result{Duplicate: true}
	}
	got := result{Called: true, Previous: c.last, PreviousAt: c.at, SeenAt: c.seen[r.Status], Err: !succeeds}
	if succeeds {
		c.last, c.at, c.seen[r.Status] = r, now, now
		if i >= 0 {
			m.cases = slices.Delete(m.cases, i, i+1)
		}
		m.cases = append(m.cases, c)
		m.cases = m.cases[max(0, len(m.cases)-m.maxCases):]
	}
	return got
}

func TestMemoryStoreAgainstModel(t *testing.T) {
	t.Parallel()
	seed := [2]uint64{rand.Uint64(), rand.Uint64()}
	t.Logf("seed %#v", seed)
	random := rand.New(rand.NewPCG(seed[0], seed[1]))
	records := []pixmed.Recorded{
		{Status: statusA},
		{Status: statusA, Value: 5},
		{Status: statusC},
		{Status: statusD},
		{Status: statusD, Value: 5},
		{Status: "OTHER"},
		{},
		{Digest: "one"},
		{Digest: "two"},
		{Digest: "two", Value: 5},
	}
	for range 200 {
		clock := newDedupClock()
		model := &modelStore{maxCases: 1 + random.IntN(4), maxAge: time.Duration(1+random.IntN(50)) * time.Minute}
		store := &pixmed.MemoryStore{MaxCases: model.maxCases, MaxAge: model.maxAge}
		store.SetNow(clock.Now)
		var history []string
		for range 100 {
			clock.Advance(time.Duration(random.IntN(10)) * time.Minute)
			id, r, succeeds := fmt.Sprint(random.IntN(6)), records[random.IntN(len(records))], random.IntN(4) > 0
			history = append(history, fmt.Sprintf("%s %s %+v %v", clock.Now().Format(time.TimeOnly), id, r, succeeds))

			var got result
			duplicate, err := store.Do(t.Context(), pixmed.Key{TransactionID: id}, r, func(previous pixmed.Recorded, previousAt, seenAt time.Time) error {
				got = result{Called: true, Previous: previous, PreviousAt: previousAt, SeenAt: seenAt}
				if succeeds {
					return nil
				}
				return errCallback
			})
			got.Duplicate, got.Err = duplicate, err != nil
			if diff := cmp.Diff(model.deliver(clock.Now(), id, r, succeeds), got); diff != "" {
				t.Fatalf("limits %d and %v (-model +store):\n%s\n%s", model.maxCases, model.maxAge, diff, strings.Join(history, "\n"))
			}
		}
	}
}

// A case that is not being handled takes no memory but its record's.
func TestMemoryStoreKeepsNoEmptyLines(t *testing.T) {
	t.Parallel()
	store := &pixmed.MemoryStore{MaxCases: 1}
	for i := range 10 {
		deliverTo(t, store, fmt.Sprint(i), statusA) // handled
		deliverTo(t, store, fmt.Sprint(i), statusA) // a duplicate
		_, _ = store.Do(t.Context(), pixmed.Key{TransactionID: fmt.Sprint(i)}, recorded(statusC), func(_ pixmed.Recorded, _, _ time.Time) error { return errCallback })
	}
	if n := store.Lines(); n != 0 {
		t.Errorf("%d lines are left", n)
	}
}

// A status or digest that is too long is an error and is not kept.
func TestMemoryStoreRejectsLongRecords(t *testing.T) {
	t.Parallel()
	const want = "MemoryStore: the status or the digest has more than 64 bytes"
	store := new(pixmed.MemoryStore)
	text := func(n int) string { return strings.Repeat("x", n) }
	key := pixmed.Key{TransactionID: "x"}
	for _, r := range []pixmed.Recorded{{Status: pixmed.MEDStatus(text(65))}, {Digest: text(65)}, {Status: pixmed.MEDStatus(text(1 << 20))}} {
		duplicate, err := store.Do(t.Context(), key, r, func(pixmed.Recorded, time.Time, time.Time) error {
			t.Error("the callback was called")
			return nil
		})
		if duplicate || err == nil || err.Error() != want {
			t.Errorf("%v, %v; want %s", duplicate, err, want)
		}
	}
	for i, r := range []pixmed.Recorded{{Status: pixmed.MEDStatus(text(64))}, {Digest: text(64)}} {
		called := false
		_, err := store.Do(t.Context(), key, r, func(previous pixmed.Recorded, previousAt, _ time.Time) error {
			called = true
			if i == 0 && (previous != pixmed.Recorded{} || !previousAt.IsZero()) {
				t.Errorf("something was recorded: %+v", previous)
			}
			return nil
		})
		if err != nil || !called {
			t.Errorf("64 bytes: called %v, %v", called, err)
		}
	}
	if n := store.Lines(); n != 0 {
		t.Errorf("%d lines are left", n)
	}
}

// The figures are in the doc of MaxCases.
//
//nolint:paralleltest // the heap is the process's
func TestMemoryStoreMemory(t *testing.T) {
	const cases, parts = pixmed.DefaultMaxCases / 8, 8 // all of them take seconds
	long := strings.Repeat("x", 500)                   // a part of every external id
	for _, tt := range []struct {
		name    string
		records func(i int) []pixmed.Recorded
		want    uint64 // bytes, by the doc
	}{
		{"the gateway's statuses", func(int) []pixmed.Recorded {
			return []pixmed.Recorded{{Status: statusA, Value: 5}, {Status: statusD, Value: 5}}
		}, 22 << 20},
		{"the worst case", func(i int) []pixmed.Recorded {
			var rs []pixmed.Recorded
			for s := range 9 { // one more than are remembered
				// Parts of something larger, which must not be kept.
				status := fmt.Sprintf("%064d%s", 100*i+s, long)[:64]
				digest := fmt.Sprintf("%064x%s", i, long)[:64]
				rs = append(rs, pixmed.Recorded{Status: pixmed.MEDStatus(status), Digest: digest})
			}
			return rs
		}, 72 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := liveHeap()
			store := &pixmed.MemoryStore{MaxCases: cases}
			for i := range cases + 1000 {
				key := pixmed.Key{TransactionID: specKey.TransactionID, ExternalID: fmt.Sprint(i, long)}
				for _, r := range tt.records(i) {
					if _, err := store.Do(t.Context(), key, r, func(pixmed.Recorded, time.Time, time.Time) error { return nil }); err != nil {
						t.Fatal(err)
					}
				}
			}
			taken := liveHeap() - before
			runtime.KeepAlive(store)
			t.Logf("%d cases take %d bytes, %d each", cases, taken, taken/cases)
			if got := parts * taken; got > tt.want*105/100 || got < tt.want*80/100 {
				t.Errorf("%d bytes for DefaultMaxCases, documented are %d", got, tt.want)
			}
		})
	}
}

// liveHeap returns the bytes that are in use.
func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools let go of
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A call that gives up in the middle or at the end of its line leaves the calls
// around it in their order, and nothing that a later call could join.
func TestMemoryStoreAbandonedCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var (
			store pixmed.MemoryStore
			order []pixmed.MEDStatus
		)
		call := func(ctx context.Context, status pixmed.MEDStatus, takes time.Duration) <-chan error {
			ended := make(chan error, 1)
			go func() {
				_, err := store.Do(ctx, pixmed.Key{}, recorded(status), func(pixmed.Recorded, time.Time, time.Time) error {
					time.Sleep(takes) // on the bubble's clock
					order = append(order, status)
					return nil
				})
				ended <- err
			}()
			synctest.Wait()
			return ended
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		long, cancelLong := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancelLong()

		first := call(t.Context(), "1", 2*time.Second)
		second := call(short, "2", 0) // gives up after a second
		third := call(t.Context(), "3", 2*time.Second)
		fourth := call(long, "4", 0) // gives up after three, while 3 runs and 1 and 2 have ended
		for i, ended := range []<-chan error{second, first, fourth, third} {
			if err := <-ended; (err != nil) != (i%2 == 0) {
				t.Errorf("call %d ended with %v", i, err)
			}
		}
		if n := store.Lines(); n != 0 {
			t.Errorf("%d lines are left", n)
		}
		if err := <-call(t.Context(), "4", 0); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]pixmed.MEDStatus{"1", "3", "4"}, order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}
