// Command soak runs an inbox for a long time under a steady load, with failures of
// everything around it, and checks what became of each notification:
//
//	go run ./benchmarks/cmd/soak                          30 minutes at 500 a second, on SQLite
//	go run ./benchmarks/cmd/soak -engine postgres         on a PostgreSQL server of its own
//	go run ./benchmarks/cmd/soak -duration 1m -rate 100   a short one
//	go run ./benchmarks/cmd/soak -docs docs               and write the result to docs/reliability.md
//
// It fails if a notification that was answered 200 had no effect or had it out of
// order, if effects were repeated that no outage explains, or if memory grew.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"time"
)

type settings struct {
	engine   string
	duration time.Duration
	rate     int // notifications a second
	workers  int
	senders  int
	// outageEvery is how often the database is away, and outage for how long.
	outageEvery, outage time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := soak(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func soak(ctx context.Context, args []string) error {
	var s settings
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.StringVar(&s.engine, "engine", "sqlite", "sqlite or postgres")
	flags.DurationVar(&s.duration, "duration", 30*time.Minute, "how long notifications are sent")
	flags.IntVar(&s.rate, "rate", 500, "notifications a second")
	flags.IntVar(&s.workers, "workers", 64, "callbacks at a time")
	flags.IntVar(&s.senders, "senders", 256, "requests at a time")
	flags.DurationVar(&s.outageEvery, "outage-every", 2*time.Minute, "how often the database is away")
	flags.DurationVar(&s.outage, "outage", 12*time.Second, "how long it is; SQLite waits for 10s before it gives up")
	docs := flags.String("docs", "", "the folder in which to write reliability.md's figures and plot")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.engine != "sqlite" && s.engine != "postgres" {
		return fmt.Errorf("-engine is %q, want sqlite or postgres", s.engine)
	}
	if s.rate <= 0 || s.workers <= 0 || s.senders <= 0 || s.duration < time.Second {
		return errors.New("-rate, -workers and -senders must be positive, and -duration at least a second")
	}
	if s.outage <= 0 || s.outageEvery < 2*s.outage {
		return fmt.Errorf("-outage-every is %v and -outage %v: the database would be away more often than not", s.outageEvery, s.outage)
	}
	r, err := run(ctx, s)
	if err != nil {
		return err
	}
	fmt.Print(r.markdown())
	if *docs != "" {
		if err := r.write(*docs); err != nil {
			return err
		}
	}
	return r.verdict()
}

// run runs the load and waits until everything is worked.
func run(ctx context.Context, s settings) (*result, error) {
	folder, err := os.MkdirTemp("", "soak")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()

	planned := int(math.Ceil(s.duration.Seconds() * float64(s.rate)))
	l := newLedger(planned/len(story) + s.senders + 1)
	service, err := newService(ctx, s, folder, l)
	if err != nil {
		return nil, err
	}
	defer service.close()

	r := newResult(s, l)
	load := newLoad(s, service.url, l)
	sampling, stopSampling := context.WithCancel(ctx)
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		r.sample(sampling, load)
	}()
	go service.purge(sampling)
	outages, stopOutages := context.WithCancel(ctx)
	interrupted := make(chan error, 1)
	go func() { interrupted <- service.interrupt(outages, s) }()

	load.run(ctx, planned)
	stopOutages()
	if err := <-interrupted; err != nil {
		stopSampling()
		<-sampled
		return nil, err
	}
	r.sent = time.Since(r.began)
	err = service.drain(ctx)
	r.worked = time.Since(r.began)
	stopSampling()
	<-sampled
	r.answers, r.retried = load.latencies(), load.retried.Load()
	r.effects, r.attempts, r.outages = service.ages(), service.counts(), service.outages.Load()
	return r, err
}
