package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pixmed-go/pixmed/inbox"
)

// A result is the outcome of a run.
type result struct {
	settings
	ledger *ledger

	began        time.Time
	sent, worked time.Duration // since then, of the last answer and of the last effect

	answers  *hdrhistogram.Histogram // from when one was due to its 200, in microseconds
	effects  *hdrhistogram.Histogram // from when it was stored to the end of its work, the same
	retried  int64                   // requests that were not answered 200
	attempts map[inbox.AttemptResult]int64
	outages  int64

	samples []sample
}

// A sample is the state at a moment.
type sample struct {
	at         time.Duration
	heap, rss  float64 // in MiB; live, and of the whole process
	goroutines int
	p99        time.Duration // of the answers since the sample before
}

func newResult(s settings, l *ledger) *result {
	return &result{settings: s, ledger: l, began: time.Now()}
}

// sample takes samples until the context ends.
func (r *result) sample(ctx context.Context, l *load) {
	tick := time.NewTicker(max(r.duration/180, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.samples = append(r.samples, sample{
				at: time.Since(r.began), heap: liveHeap(), rss: resident(),
				goroutines: runtime.NumGoroutine(), p99: l.takeRecent(),
			})
		}
	}
}

// liveHeap returns the heap that was live after the last garbage collection, in MiB.
func liveHeap() float64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return float64(s[0].Value.Uint64()) / (1 << 20)
}

// resident returns the process's resident memory in MiB; 0 where /proc does not tell.
func resident() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// growth returns the medians of the live heap in the second and the last quarter of
// the run.
func (r *result) growth() (second, last float64) {
	var early, late []float64
	for _, s := range r.samples {
		switch quarter := int(4 * s.at / r.duration); quarter {
		case 1:
			early = append(early, s.heap)
		case 3:
			late = append(late, s.heap)
		}
	}
	return median(early), median(late)
}

func median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[len(of)/2]
}

// verdict returns everything that is wrong with the result.
func (r *result) verdict() error {
	var wrong []error
	missing, accepted := r.ledger.missing()
	if want := int64(r.duration.Seconds() * float64(r.rate)); accepted < want {
		wrong = append(wrong, fmt.Errorf("%d notifications were answered 200, want %d", accepted, want))
	}
	for what, n := range map[string]int64{
		"notifications were answered 200 and had no effect": missing,
		"effects came before an earlier one":                r.ledger.disordered.Load(),
		"effects are of notifications that were never sent": r.ledger.unknown.Load(),
		"receipts were wrong":                               r.ledger.wrongReceipts.Load(),
		"notifications are dead":                            r.attempts[inbox.AttemptDead],
	} {
		if n != 0 {
			wrong = append(wrong, fmt.Errorf("%d %s", n, what))
		}
	}
	if n, most := r.ledger.repeated.Load(), r.outages*int64(r.workers); n > most {
		wrong = append(wrong, fmt.Errorf("%d effects were repeated, and outages explain no more than %d", n, most))
	}
	const (
		settled = 10 * time.Minute // a shorter run ends before growth can be told
		slack   = 8                // MiB
	)
	if second, last := r.growth(); r.duration >= settled && last > 1.25*second+slack {
		wrong = append(wrong, fmt.Errorf("the live heap grew from %.1f to %.1f MiB", second, last))
	}
	return errors.Join(wrong...)
}

// markdown returns the result as a table.
func (r *result) markdown() string {
	missing, accepted := r.ledger.missing()
	second, last := r.growth()
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s/%s, %d processors, %s:\n\n", r.began.UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	fmt.Fprintf(&b, "| | %s |\n|---|---|\n", map[string]string{"sqlite": "SQLite", "postgres": "PostgreSQL"}[r.engine])
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, fmt.Sprintf(format, args...))
	}
	row("Load", "%d notifications a second for %v", r.rate, r.duration)
	row("Outages of the database", "%d of %v", r.outages, r.outage)
	row("Answered 200", "%d", accepted)
	row("Requests without a 200, sent again", "%d", r.retried)
	row("**Answered 200 and without effect**", "**%d**", missing)
	row("**Out of order**", "**%d**", r.ledger.disordered.Load())
	row("Effects repeated after an outage", "%d", r.ledger.repeated.Load())
	row("Attempts that failed and were repeated", "%d", r.attempts[inbox.AttemptFailed])
	row("From due to 200: 50 / 99 / 99.9 %, longest", "%s", quantiles(r.answers))
	row("From stored to done: 50 / 99 / 99.9 %, longest", "%s", quantiles(r.effects))
	row("Everything worked after the last 200", "%v", (r.worked - r.sent).Round(100*time.Millisecond))
	row("Live heap, second quarter → last quarter", "%.1f → %.1f MiB", second, last)
	row("Resident memory, most", "%.0f MiB", slices.MaxFunc(append(r.samples, sample{}), func(a, b sample) int { return int(a.rss - b.rss) }).rss)
	row("Goroutines, most", "%d", slices.MaxFunc(append(r.samples, sample{}), func(a, b sample) int { return a.goroutines - b.goroutines }).goroutines)
	return b.String()
}

func quantiles(h *hdrhistogram.Histogram) string {
	at := func(q float64) time.Duration { return rounded(h.ValueAtQuantile(q)) }
	return fmt.Sprintf("%v / %v / %v, %v", at(50), at(99), at(99.9), rounded(h.Max()))
}

// rounded keeps two or three digits.
func rounded(microseconds int64) time.Duration {
	d := time.Duration(microseconds) * time.Microsecond
	for unit := 10 * time.Microsecond; unit < time.Second; unit *= 10 {
		if d < 100*unit {
			return d.Round(unit / 10)
		}
	}
	return d.Round(100 * time.Millisecond)
}

// write writes the result to the engine's place in reliability.md, and its plot beside
// it.
func (r *result) write(docs string) error {
	svg, err := r.plot()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(docs, "reliability-"+r.engine+".svg"), svg, 0o644); err != nil {
		return err
	}
	path := filepath.Join(docs, "reliability.md")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := []byte("<!-- soak "+r.engine+" -->\n"), []byte("<!-- end "+r.engine+" -->")
	before, rest, ok := bytes.Cut(page, begin)
	_, after, ended := bytes.Cut(rest, end)
	if !ok || !ended {
		return fmt.Errorf("%s has no place between %q and %q", path, begin, end)
	}
	page = slices.Concat(before, begin, []byte(r.markdown()), end, after)
	return os.WriteFile(path, page, 0o644)
}
