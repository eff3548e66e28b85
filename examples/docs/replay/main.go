// Command replay makes dead notifications pending again once their cause is gone: all
// those whose last error contains a text.
//
//	PIXMED_DB=postgres://… go run ./examples/docs/replay -since 2026-01-31T00:00:00Z -error 'no such column'
//
// It is for an inbox in PostgreSQL, at which other processes are at work. A SQLite
// file is open in the service alone: stop it, and use pixmed inbox replay.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv("PIXMED_DB")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string, url string) (err error) {
	flags := flag.NewFlagSet("replay", flag.ContinueOnError)
	cause := flags.String("error", "", "replay what failed with an error that contains this `TEXT`")
	by := flags.String("by", os.Getenv("USER"), "your `NAME`, which is kept with the cases")
	schema := flags.String("schema", postgres.DefaultSchema, "the inbox's schema")
	var since time.Time
	flags.TextVar(&since, "since", since, "replay what was received at this `TIME` or later, such as 2026-01-31T00:00:00Z")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("PIXMED_DB: %w", err)
	}
	config.MaxConns = max(config.MaxConns, 4) // what an inbox with one worker needs
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	// It is never started, so it calls nobody: the service does the work.
	in, err := postgres.Open(ctx, pool, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithWorkers(1), postgres.WithSchema(*schema))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Stop(context.WithoutCancel(ctx))) }()
	report, err := in.ReplayAll(ctx, inbox.Filter{State: inbox.Dead, Since: since, Error: *cause}, inbox.By(*by))
	log.Printf("replayed %d; %d were left alone, look at their history: %s", report.Done, len(report.Skipped), strings.Join(report.Skipped, " "))
	return err
}
