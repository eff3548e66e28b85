package webhook_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
)

// BenchmarkDeduplicateGrowing receives the first notification of a new case twice, in
// a store that already holds the given number of cases. by-hand is a map under a
// mutex, which never forgets and lets two deliveries of a case overlap.
func BenchmarkDeduplicateGrowing(b *testing.B) {
	for _, cases := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run("cases="+strconv.Itoa(cases), func(b *testing.B) {
			b.Run("impl=pixmed", func(b *testing.B) {
				deduplicate(b, &pixmed.MemoryStore{MaxCases: cases}, cases)
			})
			b.Run("impl=by-hand", func(b *testing.B) {
				deduplicate(b, &mapStore{last: make(map[pixmed.Key]pixmed.Recorded)}, cases)
			})
		})
	}
}

func deduplicate(b *testing.B, store pixmed.StatusStore, cases int) {
	b.Helper()
	before := liveHeap()
	d := &deliveries{receiver: pixmed.Deduplicate(store, pixmed.ReceiverFunc(pixmed.Ignore))}
	for range cases {
		if err := d.next(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	perCase := float64(liveHeap()-before) / float64(cases)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.next(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := d.again(b.Context()); err != pixmed.ErrDuplicate {
			b.Fatal(err)
		}
	}
	b.ReportMetric(perCase, "B/case")
	runtime.KeepAlive(store)
}

// deliveries sends notifications of one case after the other.
type deliveries struct {
	receiver pixmed.Receiver
	last     pixmed.Notification
	n        int
}

func (d *deliveries) next(ctx context.Context) error {
	d.n++
	d.last = pixmed.Notification{Infraction: pixmed.Infraction{
		TransactionID: fmt.Sprintf("5a94d48d-c9f3-46be-8448-%012d", d.n),
		ExternalID:    "T&ste378",
		MEDStatus:     pixmed.Acknowledged,
	}}
	return d.again(ctx)
}

func (d *deliveries) again(ctx context.Context) error { return d.receiver.Receive(ctx, &d.last) }

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// mapStore is what a first attempt looks like.
type mapStore struct {
	mu   sync.Mutex
	last map[pixmed.Key]pixmed.Recorded
}

// Do implements [pixmed.StatusStore].
func (s *mapStore) Do(_ context.Context, key pixmed.Key, r pixmed.Recorded, fn func(pixmed.Recorded, time.Time, time.Time) error) (bool, error) {
	s.mu.Lock()
	previous, found := s.last[key]
	s.mu.Unlock()
	if found && previous == r {
		return true, nil
	}
	if err := fn(previous, time.Time{}, time.Time{}); err != nil {
		return false, err
	}
	s.mu.Lock()
	s.last[key] = r
	s.mu.Unlock()
	return false, nil
}
