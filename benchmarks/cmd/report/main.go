// Command report measures the SDK beside its peers and writes docs/performance.md:
//
//	go run ./benchmarks/cmd/report                 print the table
//	go run ./benchmarks/cmd/report -docs docs      write the page, its plots, and the raw figures
//	go run ./benchmarks/cmd/report -from docs/performance.txt -docs docs
//	                                               write them again from the raw figures
//
// Each round runs every package of benchmarks once; the figures are the medians of
// the rounds. A ratio is taken within a round, in which the members of a group run one
// right after the other, since the machine may be faster in the next round.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const packages = "github.com/pixmed-go/pixmed/benchmarks/"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := report(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "report:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func report(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	rounds := flags.Int("rounds", 3, "how many times to run everything")
	benchtime := flags.String("benchtime", "50ms", "how long a benchmark runs in a round, as for go test")
	pattern := flags.String("bench", ".", "the benchmarks to run, as for go test")
	only := flags.String("packages", "webhook,receipt,download,inbox", "the packages to run")
	note := flags.String("note", "", "a sentence about the run, for the page")
	from := flags.String("from", "", "use the raw figures of an earlier run, and run nothing")
	docs := flags.String("docs", "", "the folder in which to write performance.md, its plots, and performance.txt")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var raw []byte
	var err error
	if *from != "" {
		raw, err = os.ReadFile(*from)
	} else {
		m := measurement{rounds: *rounds, benchtime: *benchtime, pattern: *pattern, note: *note, packages: strings.Split(*only, ",")}
		raw, err = m.run(ctx)
	}
	if err != nil {
		return err
	}
	results, err := read(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if *docs == "" {
		_, err := io.WriteString(os.Stdout, results.table())
		return err
	}
	return write(*docs, raw, results)
}

// write writes the page, the raw figures and the plots.
func write(dir string, raw []byte, results *results) error {
	page, err := results.page()
	if err != nil {
		return err
	}
	files := map[string][]byte{"performance.md": page, "performance.txt": raw}
	for _, d := range results.drawings() {
		if files[d.Name], err = d.svg(); err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// measurement is a run of the benchmarks.
type measurement struct {
	rounds                   int
	benchtime, pattern, note string
	packages                 []string
}

// run returns the benchmarks' output, with the date and the machine.
func (m *measurement) run(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "report-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, p := range m.packages {
		progress("building %s", p)
		if _, err := command(ctx, "", "go", "test", "-c", "-o", filepath.Join(dir, p+".test"), packages+p); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "date: %s\ngo: %s\ncores: %d\nbenchtime: %s\n", time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.NumCPU(), m.benchtime)
	if m.note != "" {
		fmt.Fprintf(&out, "note: %s\n", m.note)
	}
	for round := range m.rounds {
		fmt.Fprintf(&out, "round: %d\n", round+1)
		for _, p := range m.packages {
			progress("round %d of %d: %s", round+1, m.rounds, p)
			printed, err := command(ctx, dir, filepath.Join(dir, p+".test"),
				"-test.run=^$", "-test.bench="+m.pattern, "-test.benchtime="+m.benchtime, "-test.timeout=1h")
			if err != nil {
				return nil, err
			}
			out.Write(printed)
		}
	}
	return out.Bytes(), nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// command runs a program and returns its output.
func command(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, out)
	}
	return out, nil
}
