package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
)

// BenchmarkLatency measures how long it takes until the callback is called, one
// notification at a time.
func BenchmarkLatency(b *testing.B) {
	count := 300
	if testing.Short() {
		count = 20
	}
	for _, engine := range engines() {
		b.Run("engine="+engine.name, func(b *testing.B) {
			for _, i := range engine.working() {
				b.Run("impl="+i.name, func(b *testing.B) {
					database := databaseServer(b, engine.name)
					var all latency
					for b.Loop() {
						l, err := runLatency(b.Context(), i, b.TempDir(), database, count)
						if err != nil {
							b.Fatal(err)
						}
						all.called = append(all.called, l.called...)
						all.after = append(all.after, l.after...)
					}
					b.ReportMetric(percentile(all.called, 50), "p50-µs")
					b.ReportMetric(percentile(all.called, 99), "p99-µs")
					b.ReportMetric(percentile(all.after, 50), "after-the-200-p50-µs")
					b.ReportMetric(percentile(all.after, 99), "after-the-200-p99-µs")
					b.ReportMetric(0, "ns/op") // it includes creating the store
				})
			}
		})
	}
}

// latency is how long each notification took.
type latency struct {
	called []time.Duration // from the request until the callback was called
	after  []time.Duration // from its 200 until then; 0 if the callback was called first
}

// runLatency starts a member and sends it notifications, each after the callback of
// the one before was called.
func runLatency(ctx context.Context, i implementation, folder, database string, count int) (result latency, err error) {
	ctx, cancel := context.WithTimeout(ctx, burstPatience)
	defer cancel()
	called := make(chan time.Time, count)
	p, err := launch(ctx, i, folder, database, 0, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
		called <- time.Now()
		return nil
	}))
	if err != nil {
		return latency{}, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	c, err := dial(ctx, p.address())
	if err != nil {
		return latency{}, err
	}
	defer func() { _ = c.Close() }()
	first := newIDs(count)
	for n := range count {
		sent := time.Now()
		status, err := c.post(first + uint64(n))
		if err != nil {
			return latency{}, err
		}
		if status != http.StatusOK {
			return latency{}, fmt.Errorf("the status is %d", status)
		}
		answered := time.Now()
		select {
		case at := <-called:
			result.called = append(result.called, at.Sub(sent))
			result.after = append(result.after, max(at.Sub(answered), 0))
		case <-ctx.Done():
			return latency{}, context.Cause(ctx)
		}
	}
	return result, nil
}
