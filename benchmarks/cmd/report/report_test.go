package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sampleRun = `date: 2026-01-31
go: go1.26.0
cores: 2
benchtime: 1s
round: 1
goos: linux
goarch: amd64
pkg: example
cpu: a processor
BenchmarkParse/impl=pixmed-2         1000   500 ns/op   200 B/op   4 allocs/op
BenchmarkParse/impl=encoding-json-2  1000  2000 ns/op   448 B/op  11 allocs/op
BenchmarkAccept/engine=sqlite/conns=64/impl=pixmed-2      100  0 ns/op  9000 accepts/s  5.5 p50-µs  1500 p99-µs
BenchmarkAccept/engine=sqlite/conns=64/impl=river-tx-2    100  0 ns/op  1000 accepts/s  9 p50-µs  30000 p99-µs
BenchmarkBurst/engine=sqlite/impl=pixmed-2  1  0 ns/op  2.5 worked-s  0 lost  12 heap-MiB
BenchmarkWork/engine=sqlite/workers=10/impl=pixmed-2  1  0 ns/op  9000 callbacks/s  80.5 cpu-µs  0 connections
BenchmarkWork/engine=sqlite/workers=10/impl=river-2  1  0 ns/op  1000 callbacks/s  160 cpu-µs  0 connections
BenchmarkLatency/engine=sqlite/impl=pixmed-2  1  0 ns/op  900 p50-µs  250 after-the-200-p50-µs
BenchmarkParseGrowing/bytes=256/impl=pixmed-2  1000  700 ns/op
BenchmarkParseGrowing/bytes=1024/impl=pixmed-2  1000  1700 ns/op
PASS
round: 2
BenchmarkParse/impl=pixmed-2         1000  1000 ns/op   200 B/op   4 allocs/op
BenchmarkParse/impl=encoding-json-2  1000  2500 ns/op   448 B/op  11 allocs/op
BenchmarkAccept/engine=sqlite/conns=64/impl=pixmed-2      100  0 ns/op  8000 accepts/s  6.5 p50-µs  1500 p99-µs
BenchmarkAccept/engine=sqlite/conns=64/impl=river-tx-2    100  0 ns/op  1000 accepts/s  9 p50-µs  30000 p99-µs
BenchmarkBurst/engine=sqlite/impl=pixmed-2  1  0 ns/op  2.5 worked-s  0 lost  12 heap-MiB
round: 3
BenchmarkParse/impl=pixmed-2         1000   600 ns/op   200 B/op   4 allocs/op
BenchmarkParse/impl=encoding-json-2  1000  1800 ns/op   448 B/op  11 allocs/op
BenchmarkAccept/engine=sqlite/conns=64/impl=pixmed-2      100  0 ns/op  1000 accepts/s  5.5 p50-µs  1500 p99-µs
BenchmarkAccept/engine=sqlite/conns=64/impl=river-tx-2    100  0 ns/op   500 accepts/s  9 p50-µs  30000 p99-µs
BenchmarkBurst/engine=sqlite/impl=pixmed-2  1  0 ns/op  2.5 worked-s  0 lost  12 heap-MiB
`

func TestTable(t *testing.T) {
	t.Parallel()
	s, err := read(strings.NewReader(sampleRun))
	if err != nil {
		t.Fatal(err)
	}
	// Ratios of a round each: 4, 2.5 and 3; 9, 8 and 2.
	const want = `| What | Conditions | Implementation | Median | × pixmed | Besides |
|---|---|---|--:|--:|---|
| Parse |  | pixmed | 600 ns | 1 | 200 B allocated, 4 allocations |
|  |  | encoding-json | 2 µs | 3 | 448 B allocated, 11 allocations |
| Accept | engine=sqlite conns=64 | pixmed | 8000/s | 1 | p50 5.50 µs, p99 1.50 ms |
|  |  | river-tx | 1000/s | 8 | p50 9 µs, p99 30 ms |
| Burst | engine=sqlite | pixmed | worked in 2.50 s | 1 | 0 lost, heap 12 MiB |
| Work | engine=sqlite workers=10 | pixmed | 9000/s | 1 | cpu 80.5 µs |
|  |  | river | 1000/s | 9 | cpu 160 µs |
| Latency | engine=sqlite | pixmed | p50 900 µs | 1 | after the 200 p50 250 µs |
`
	if diff := cmp.Diff(want, s.table()); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
	if s.rounds != 3 {
		t.Errorf("%d rounds", s.rounds)
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	s, err := read(strings.NewReader(sampleRun))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range s.goals()[:3] {
		got = append(got, g.String())
	}
	want := []string{
		"| ParseInfraction, of encoding/json's time |  | at most 0.45 | 0.33 | yes |",
		"| ParseInfraction, allocations |  | at most 4 | 4 | yes |",
		"| Handler, µs more than reading and the HMAC |  | at most 2.50 |  | not measured |",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
	all := s.goals()
	got = nil
	for _, g := range all[len(all)-4:] {
		got = append(got, g.String())
	}
	want = []string{
		"| accepts from 64 senders, times as many as with river-tx | sqlite | at least 1 | 8 | yes |",
		"| from the 200 to the callback in ms, median | sqlite | at most 1 | 0.25 | yes |",
		"| accepts from 64 senders, times as many as with river-tx | postgres | at least 1 |  | not measured |",
		"| from the 200 to the callback in ms, median | postgres | at most 1 |  | not measured |",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
	s, err = read(strings.NewReader("BenchmarkParse/impl=pixmed 1 9 ns/op 5 allocs/op\nBenchmarkParse/impl=encoding-json 1 10 ns/op\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range s.goals()[:2] {
		if g.met || !strings.HasSuffix(g.String(), "| **no** |") {
			t.Errorf("met: %v", g)
		}
	}
}

func TestNotABenchmark(t *testing.T) {
	t.Parallel()
	if _, err := read(strings.NewReader("BenchmarkParse 1 9 ns/op\n")); err == nil || !strings.Contains(err.Error(), "Parse names no implementation") {
		t.Errorf("without an implementation: %v", err)
	}
	if _, err := read(strings.NewReader("BenchmarkParse/impl=x 1 ns/op\n")); err == nil {
		t.Error("without a figure: no error")
	}
}

func TestDigits(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]string{0: "0", 4: "4", 0.2149: "0.21", 0.0014: "0.0014", 3.14159: "3.14", 31.4159: "31.4", 314.159: "314", 31415.9: "31416"} {
		if got := digits(value); got != want {
			t.Errorf("%v: %s, want %s", value, got, want)
		}
	}
}

func TestPlots(t *testing.T) {
	t.Parallel()
	s, err := read(strings.NewReader(sampleRun))
	if err != nil {
		t.Fatal(err)
	}
	drawings := s.drawings()
	if len(drawings) != 1 || drawings[0].Name != "performance-parse-time.svg" {
		t.Fatalf("%v", drawings)
	}
	svg, err := drawings[0].svg()
	if err != nil || !strings.Contains(string(svg), "Parsing a webhook: time") {
		t.Errorf("%s, %v", svg, err)
	}
}

// The page is what the raw figures beside it give.
func TestPageIsGenerated(t *testing.T) {
	t.Parallel()
	const docs = "../../../docs"
	raw, err := os.Open(filepath.Join(docs, "performance.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	s, err := read(raw)
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.page()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(docs, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/performance.md is not what go run ./benchmarks/cmd/report -from docs/performance.txt -docs docs writes (-want +got)\n%s", diff)
	}
	for _, d := range s.drawings() {
		if _, err := os.Stat(filepath.Join(docs, d.Name)); err != nil {
			t.Error(err)
		}
	}
}
