package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
)

const (
	burstConns = 64
	// burstPatience bounds a burst: one that makes progress is faster.
	burstPatience = 4 * time.Minute
)

// BenchmarkBurst measures what comes after an outage.
func BenchmarkBurst(b *testing.B) {
	size := *burstSize
	if testing.Short() {
		size = min(size, 500)
	}
	for _, engine := range engines() {
		b.Run("engine="+engine.name, func(b *testing.B) {
			for _, i := range engine.working() {
				if !i.dedupes { // the gateway sends again what came too late
					continue
				}
				b.Run("impl="+i.name, func(b *testing.B) {
					database := databaseServer(b, engine.name)
					var bursts []burst
					for b.Loop() {
						r, err := runBurst(b.Context(), i, b.TempDir(), database, size)
						if err != nil {
							b.Fatal(err)
						}
						bursts = append(bursts, r)
					}
					report(b, bursts)
				})
			}
		})
	}
}

// report reports means of times and counts, and the peak of memory.
func report(b *testing.B, bursts []burst) {
	b.Helper()
	metrics := make(map[string]float64)
	for _, r := range bursts {
		if r.lost > 0 || r.twice > 0 {
			b.Errorf("%d are lost, %d came twice", r.lost, r.twice)
		}
		for unit, value := range map[string]float64{
			"answered-s":    r.answered.Seconds(),
			"worked-s":      r.worked.Seconds(),
			"accepts/s":     float64(len(r.took)) / r.answered.Seconds(),
			"p99-µs":        percentile(r.took, 99),
			"cpu-µs":        r.used.process.Seconds() * 1e6 / float64(len(r.took)),
			"server-cpu-µs": r.used.server.Seconds() * 1e6 / float64(len(r.took)),
			"resent":        float64(r.resent),
			"lost":          float64(r.lost),
			"twice":         float64(r.twice),
		} {
			metrics[unit] += value / float64(len(bursts))
		}
		metrics["heap-MiB"] = max(metrics["heap-MiB"], mebibytes(r.heap))
		if r.grown > 0 {
			metrics["rss-growth-MiB"] = max(metrics["rss-growth-MiB"], mebibytes(r.grown))
		}
	}
	for unit, value := range metrics {
		b.ReportMetric(value, unit)
	}
	b.ReportMetric(0, "ns/op") // it includes creating the store
}

// burst is the result of one.
type burst struct {
	answered, worked time.Duration   // since it began
	took             []time.Duration // for each request that was answered 200
	used             usage
	resent           int64
	lost, twice      int
	heap, grown      uint64 // bytes
}

// runBurst starts a member with workers, sends it a burst, and waits until the
// callback was called for all of it.
func runBurst(ctx context.Context, i implementation, folder, database string, size int) (result burst, err error) {
	ctx, cancel := context.WithTimeout(ctx, burstPatience)
	defer cancel()
	all := newTally(size)
	p, err := launch(ctx, i, folder, database, 0, all)
	if err != nil {
		return burst{}, err
	}
	defer func() { // the workers stop before their calls are counted
		err = errors.Join(err, p.stop())
		result.lost, result.twice = all.count()
	}()
	memory := watchMemory()
	before, err := p.used(ctx)
	if err != nil {
		return burst{}, err
	}
	start := time.Now()
	result, err = all.send(ctx, p.address())
	result.answered = time.Since(start)
	if err == nil {
		err = all.await(ctx)
	}
	result.worked = time.Since(start)
	result.heap, result.grown = memory.stop()
	after, e := p.used(ctx)
	result.used = after.since(before)
	return result, errors.Join(err, e)
}

// tally knows which notifications of a burst were answered, and which were called.
// It is the callback.
type tally struct {
	first     uint64 // the number of the first notification
	answered  []atomic.Bool
	calls     []atomic.Int32
	left      atomic.Int64
	allCalled chan struct{}
}

func newTally(size int) *tally {
	t := &tally{
		first:     newIDs(size),
		answered:  make([]atomic.Bool, size),
		calls:     make([]atomic.Int32, size),
		allCalled: make(chan struct{}),
	}
	t.left.Store(int64(size))
	return t
}

// Receive implements [pixmed.Receiver].
func (t *tally) Receive(_ context.Context, n *pixmed.Notification) error {
	number, err := numberOf(n.TransactionID)
	if err != nil {
		return err
	}
	if number < t.first || number-t.first >= uint64(len(t.calls)) {
		return fmt.Errorf("a notification that was not sent: %s", n.TransactionID)
	}
	if t.calls[number-t.first].Add(1) == 1 && t.left.Add(-1) == 0 {
		close(t.allCalled)
	}
	return nil
}

// await waits until the callback was called for all.
func (t *tally) await(ctx context.Context) error {
	select {
	case <-t.allCalled:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the callback was not called for %d of %d notifications: %w", t.left.Load(), len(t.calls), context.Cause(ctx))
	}
}

// count counts the notifications that were answered 200 and never called, and
// those that were called more than once.
func (t *tally) count() (lost, twice int) {
	for i := range t.calls {
		switch calls := t.calls[i].Load(); {
		case calls > 1:
			twice++
		case calls == 0 && t.answered[i].Load():
			lost++
		}
	}
	return lost, twice
}

// send sends the burst until all of it is answered 200. What gets another answer is
// sent again after all others.
func (t *tally) send(ctx context.Context, address string) (burst, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &sender{
		tally: t, address: address,
		todo: make(chan int, len(t.calls)),
		took: make([]time.Duration, len(t.calls)),
		done: make(chan struct{}),
	}
	s.left.Store(int64(len(t.calls)))
	for i := range t.calls {
		s.todo <- i
	}
	failed := make(chan error, burstConns)
	var senders sync.WaitGroup
	for range burstConns {
		senders.Go(func() {
			if err := s.run(ctx); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	senders.Wait()
	result := burst{took: s.took, resent: s.resent.Load()}
	select {
	case err := <-failed:
		return result, fmt.Errorf("%d notifications are not answered: %w", s.left.Load(), err)
	default:
		return result, nil
	}
}

// sender sends the notifications of a tally.
type sender struct {
	tally   *tally
	address string
	todo    chan int // has room for all
	took    []time.Duration
	left    atomic.Int64
	resent  atomic.Int64
	done    chan struct{} // closed when none is left
}

// run sends over one connection, or over a new one if that breaks, until none is
// left.
func (s *sender) run(ctx context.Context) error {
	c, err := dial(ctx, s.address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for {
		var i int
		select {
		case i = <-s.todo:
		case <-s.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		start := time.Now()
		status, err := c.post(s.tally.first + uint64(i))
		switch {
		case err == nil && status == http.StatusOK:
			s.took[i] = time.Since(start)
			s.tally.answered[i].Store(true)
			if s.left.Add(-1) == 0 {
				close(s.done)
			}
			continue
		case err != nil:
			again, err := dial(ctx, s.address)
			if err != nil {
				return err
			}
			_ = c.Close()
			c = again
		}
		s.resent.Add(1)
		s.todo <- i
	}
}
