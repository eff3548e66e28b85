// Command replay makes dead notifications pending again, once the cause is gone:
// all whose last error holds a text.
//
//	DATABASE_URL=postgres://… go run ./examples/docs/replay -since 2026-01-31T00:00:00Z -error 'no such column'
//
// It is for an inbox in PostgreSQL, which other processes are working meanwhile. A
// file of SQLite's is open in the service alone: call replay from within it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
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
	if err := run(ctx, os.Args[1:], os.Getenv("DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string, url string) (err error) {
	flags := flag.NewFlagSet("replay", flag.ContinueOnError)
	cause := flags.String("error", "", "replay what failed with an error that holds this `TEXT`")
	schema := flags.String("schema", postgres.DefaultSchema, "the inbox's schema")
	var since time.Time
	flags.TextVar(&since, "since", since, "replay what was received at this `TIME` or later, such as 2026-01-31T00:00:00Z")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	config.MaxConns = max(config.MaxConns, 5) // what an inbox with one worker asks for
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	// It is never started, so it calls nothing: the service does the work.
	in, err := postgres.Open(ctx, pool, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithWorkers(1), postgres.WithSchema(*schema))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Stop(context.WithoutCancel(ctx))) }()
	r, err := replay(ctx, in, since, *cause)
	log.Printf("replayed %d; %d are superseded, look at their history: %s", r.replayed, len(r.superseded), strings.Join(r.superseded, " "))
	return err
}

// result is what became of the dead.
type result struct {
	replayed   int
	superseded []string // the ids of those whose case went on without them
}

// replay makes pending again what is dead, was received since a time, and failed
// with an error that holds cause. It may be run again after an error.
func replay(ctx context.Context, in *inbox.Inbox, since time.Time, cause string) (result, error) {
	var ids []string
	filter := inbox.Filter{State: inbox.Dead, Since: since, Limit: 1000}
	for {
		page, err := in.List(ctx, filter)
		if err != nil {
			return result{}, err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if strings.Contains(e.LastError, cause) {
				ids = append(ids, e.ID)
			}
		}
		filter.After = page[len(page)-1].ID
	}

	// List gives the last first. Replay the first first: a newer one of the same
	// case that is done would keep the older from being replayed.
	slices.Reverse(ids)
	var r result
	for _, id := range ids {
		switch err := in.Replay(ctx, id); {
		case err == nil:
			r.replayed++
		case errors.Is(err, inbox.ErrSuperseded):
			r.superseded = append(r.superseded, id)
		case errors.Is(err, inbox.ErrNotReplayable), errors.Is(err, inbox.ErrNotFound):
			// A redelivery has revived it, or it was purged, meanwhile.
		default:
			return r, fmt.Errorf("after %d: %w", r.replayed, err)
		}
	}
	return r, nil
}
