package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/internal/localpg"
)

const effectsTable = "effects"

// patience is how long the last callbacks, and dropping the schema, may take.
const patience = time.Minute

// openDatabase returns the URL it is given or, if that is empty, the one of a new
// server with enough connections for the replicas.
func openDatabase(ctx context.Context, url string, replicas int, say func(string, ...any)) (string, func() error, error) {
	if url != "" {
		return url, func() error { return nil }, nil
	}
	say("Starting a PostgreSQL server, to be thrown away at the end.")
	server, err := localpg.Start(ctx, localpg.WithSetting("max_connections", strconv.Itoa(50+replicas*conns)))
	if errors.Is(err, localpg.ErrNotFound) {
		return "", nil, errors.New("there is no PostgreSQL on this machine: install it (apt-get install postgresql), or give the URL of a running one: -db postgres://…")
	}
	if err != nil {
		return "", nil, err
	}
	return server.URL(), server.Close, nil
}

// stage is a schema with a table for the effects and an inbox. It reads the inbox as
// an operator does, without starting it.
type stage struct {
	pool   *pgxpool.Pool
	schema string
	table  string
	inbox  *inbox.Inbox
}

func newStage(ctx context.Context, url string) (*stage, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("-db: %w", err)
	}
	config.MaxConns = 5
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	schema := "pixmed_scaleout_" + strings.ToLower(rand.Text())
	s := &stage{pool: pool, schema: schema, table: pgx.Identifier{schema, effectsTable}.Sanitize()}
	if err := s.create(ctx); err != nil {
		_ = s.close() // fails for the same reason, if it fails
		return nil, err
	}
	return s, nil
}

func (s *stage) create(ctx context.Context) error {
	// Nothing in the table prevents a second effect.
	_, err := s.pool.Exec(ctx, "CREATE SCHEMA "+s.schema+`;
		CREATE TABLE `+s.table+` (
			place          bigint GENERATED ALWAYS AS IDENTITY,
			transaction_id text,
			status         text,
			replica        text
		)`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("-db: make a schema: %w", err)
	}
	s.inbox, err = postgres.Open(ctx, s.pool, pixmed.ReceiverFunc(pixmed.Ignore),
		postgres.WithSchema(s.schema), inbox.WithWorkers(1), inbox.WithLogger(slog.New(slog.DiscardHandler)))
	return err
}

// close drops the schema with everything in it.
func (s *stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	defer s.pool.Close()
	var err error
	if s.inbox != nil {
		err = s.inbox.Stop(ctx)
	}
	if _, dropErr := s.pool.Exec(ctx, "DROP SCHEMA IF EXISTS "+s.schema+" CASCADE"); dropErr != nil {
		err = errors.Join(err, fmt.Errorf("drop the schema %s: %w", s.schema, dropErr))
	}
	return err
}

// drained waits until no notification is pending.
func (s *stage) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("callbacks are pending yet, after a minute"))
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		stats, err := s.inbox.Stats(ctx)
		if err == nil && stats.Pending == 0 {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// effects returns the rows of the table in the order in which they were written,
// and a text that says how many each replica has written.
func (s *stage) effects(ctx context.Context) ([]notification, string, error) {
	rows, err := s.pool.Query(ctx, "SELECT transaction_id, status FROM "+s.table+" ORDER BY place")
	if err != nil {
		return nil, "", err
	}
	effects, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n notification, err error) {
		return n, row.Scan(&n.transaction, &n.status)
	})
	if err != nil {
		return nil, "", err
	}
	rows, err = s.pool.Query(ctx, "SELECT 'replica ' || replica || ': ' || count(*) FROM "+s.table+" GROUP BY replica ORDER BY replica")
	if err != nil {
		return nil, "", err
	}
	byReplica, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return effects, strings.Join(byReplica, ", "), err
}

// cutOff counts the attempts that were interrupted.
func (s *stage) cutOff(ctx context.Context) (int, error) {
	filter := inbox.Filter{Limit: 1000}
	total := 0
	for {
		events, err := s.inbox.List(ctx, filter)
		if err != nil || len(events) == 0 {
			return total, err
		}
		for _, event := range events {
			total += event.Attempts - 1
		}
		filter.After = events[len(events)-1].ID
	}
}
