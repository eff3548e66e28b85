package inbox_test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkAccept measures durable accepts: how many in a second, and how long each
// takes.
func BenchmarkAccept(b *testing.B) {
	for _, engine := range engines() {
		b.Run("engine="+engine.name, func(b *testing.B) {
			for _, conns := range []int{1, 8, 64} {
				b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
					for _, i := range engine.implementations {
						s := &stage{group: b, engine: engine.name, implementation: i}
						b.Run("impl="+i.name, func(b *testing.B) { accept(b, s.peer(b), conns) })
						s.clear()
					}
				})
			}
		})
	}
}

// stage keeps a member for all runs of a measurement, which begins with a run of
// one: starting a member takes longer than the short runs.
type stage struct {
	group          *testing.B // outlives the runs
	engine         string
	implementation implementation
	current        *peer
}

// peer returns the member, a new one when a measurement begins.
func (s *stage) peer(b *testing.B) *peer {
	b.Helper()
	if b.N == 1 {
		s.clear()
	}
	if s.current == nil {
		var err error
		s.current, err = launch(s.group.Context(), s.implementation, s.group.TempDir(), databaseServer(b, s.engine), 0, nil)
		if err != nil {
			b.Fatal(err)
		}
	}
	return s.current
}

// clear stops the member if there is one.
func (s *stage) clear() {
	if err := s.current.stop(); err != nil {
		s.group.Error(err)
	}
	s.current = nil
}

// accept sends b.N notifications over the given number of connections, and more if
// that is too few to keep the connections busy.
func accept(b *testing.B, p *peer, connections int) {
	b.Helper()
	conns, err := dialAll(b.Context(), p.address(), connections)
	if err != nil {
		b.Fatal(err)
	}
	defer closeAll(conns)
	took := make([]time.Duration, max(b.N, 100, 16*connections))
	b.ResetTimer()
	err = sendOnce(conns, took)
	b.StopTimer()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "accepts/s")
	b.ReportMetric(percentile(took, 50), "p50-µs")
	b.ReportMetric(percentile(took, 99), "p99-µs")
	b.ReportMetric(0, "ns/op") // with many connections it says less than accepts/s
}
