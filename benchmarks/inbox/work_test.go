package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
)

// BenchmarkWork measures how fast a backlog is worked.
func BenchmarkWork(b *testing.B) {
	size, workers := *backlogSize, []int{10, 50}
	if testing.Short() {
		size, workers = min(size, 200), workers[:1]
	}
	for _, engine := range engines() {
		for _, workers := range workers {
			b.Run(fmt.Sprintf("engine=%s/workers=%d", engine.name, workers), func(b *testing.B) {
				for _, i := range engine.working() {
					b.Run("impl="+i.name, func(b *testing.B) {
						database := databaseServer(b, engine.name)
						var sum backlog
						for b.Loop() {
							r, err := runBacklog(b.Context(), i, b.TempDir(), database, size, workers)
							if err != nil {
								b.Fatal(err)
							}
							sum.took += r.took
							sum.used.process += r.used.process
							sum.used.server += r.used.server
							sum.connections = max(sum.connections, r.connections)
						}
						n := float64(b.N * size)
						b.ReportMetric(n/sum.took.Seconds(), "callbacks/s")
						b.ReportMetric(sum.used.process.Seconds()*1e6/n, "cpu-µs")
						b.ReportMetric(sum.used.server.Seconds()*1e6/n, "server-cpu-µs")
						b.ReportMetric(float64(sum.connections), "connections")
						b.ReportMetric(0, "ns/op") // it includes filling the store
					})
				}
			})
		}
	}
}

// backlog is the result of working one.
type backlog struct {
	took        time.Duration // from the first callback that may return to the last that is called
	used        usage
	connections int
}

// runBacklog starts a member, sends it notifications while no callback returns, and
// measures how fast they are worked when callbacks return at once.
func runBacklog(ctx context.Context, i implementation, folder, database string, size, workers int) (result backlog, err error) {
	ctx, cancel := context.WithTimeout(ctx, burstPatience)
	defer cancel()
	all := newTally(size)
	begin := make(chan struct{})
	p, err := launch(ctx, i, folder, database, workers, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
		select {
		case <-begin:
			return all.Receive(ctx, n)
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	if err != nil {
		return backlog{}, err
	}
	defer func() {
		err = errors.Join(err, p.stop())
		if _, twice := all.count(); err == nil && twice > 0 {
			err = fmt.Errorf("%d callbacks were called twice", twice)
		}
	}()
	if _, err := all.send(ctx, p.address()); err != nil {
		return backlog{}, err
	}
	before, err := p.used(ctx)
	if err != nil {
		return backlog{}, err
	}
	start := time.Now()
	close(begin)
	if err := all.await(ctx); err != nil {
		return backlog{}, err
	}
	result.took = time.Since(start)
	after, err := p.used(ctx)
	if err != nil {
		return backlog{}, err
	}
	result.used, result.connections = after.since(before), after.connections
	return result, nil
}
