package download_test

import (
	"fmt"
	"strings"
	"testing"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

var schemes = []string{"http", "https"}

// loads are the downloads at once and their size in bytes. 32 of 16 MiB would take
// several GiB in some implementations.
var loads = []struct{ parallel, size int }{
	{1, 1 * mib},
	{1, 16 * mib},
	{32, 1 * mib},
	{32, 4 * mib},
}

// BenchmarkDownload fetches receipts. The package documentation says what an operation
// is and which process measures it.
func BenchmarkDownload(b *testing.B) {
	for _, scheme := range schemes {
		for _, load := range loads {
			if testing.Short() && load.size > mib {
				continue
			}
			b.Run(fmt.Sprintf("scheme=%s/parallel=%d/size=%dMiB", scheme, load.parallel, load.size/mib), func(b *testing.B) {
				g := startGateway(b, scheme, load.size)
				for _, p := range peers {
					b.Run("impl="+p.name, func(b *testing.B) { measure(b, g, p.name, load.parallel) })
				}
			})
		}
	}
}

func measure(b *testing.B, g *gateway, impl string, parallel int) {
	b.Helper()
	j := job{Impl: impl, Base: g.base, Roots: g.roots, Parallel: parallel, Operations: b.N, Want: g.want(impl)}
	got, err := j.do(b.Context(), b.ResetTimer) // the time here only tells package testing how many operations to ask for
	b.StopTimer()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs() // the client's, reported below
	operations := float64(b.N)
	b.ReportMetric(float64(got.Elapsed.Nanoseconds())/operations, "ns/op")
	b.ReportMetric(float64(g.pdf.Size)*float64(parallel)*operations/got.Elapsed.Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(got.Allocated)/operations, "B/op")
	b.ReportMetric(float64(got.Allocations)/operations, "allocs/op")
	if got.Peak != 0 {
		b.ReportMetric(float64(got.Peak)/mib, "peak-MiB")
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	for _, scheme := range schemes {
		g := startGateway(t, scheme, 100*kib+1)
		for _, p := range peers {
			t.Run(scheme+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				warmed := false
				j := job{Impl: p.name, Base: g.base, Roots: g.roots, Parallel: 3, Operations: 2, Want: g.want(p.name)}
				got, err := j.do(t.Context(), func() { warmed = true })
				if err != nil || !warmed || got.Elapsed <= 0 || got.Allocated == 0 {
					t.Errorf("got %+v, %v; warmed up: %t", got, err, warmed)
				}
			})
		}
	}
}

// A client does not measure a download that fails.
func TestDownloadFails(t *testing.T) {
	t.Parallel()
	g := startGateway(t, "https", 100*kib)
	other := g.pdf
	other.SHA256[0]++
	good := job{Impl: "pixmed", Base: g.base, Roots: g.roots, Parallel: 1, Operations: 1, Want: g.pdf}
	for _, tt := range []struct {
		name  string
		spoil func(*job)
		want  string
	}{
		{"implementation", func(j *job) { j.Impl = "none" }, "no implementation"},
		{"content", func(j *job) { j.Want = other }, "want 102400 with"},
		{"size", func(j *job) { j.Want.Size++ }, "got 102400 bytes"},
		{"roots", func(j *job) { j.Roots = []byte("none") }, "no certificate"},
		{"status", func(j *job) { j.Base += "/v2"; j.Impl = "resty" }, "status 404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j := good
			tt.spoil(&j)
			if _, err := j.do(t.Context(), func() {}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
