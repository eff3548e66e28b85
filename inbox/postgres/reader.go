package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/bridge"
)

// readTimeout is how long one query of a reader may take: a migration waits for those
// who read, and everybody else for the migration.
const readTimeout = 5 * time.Second

// OpenReader opens the inbox in a database for reading, beside the processes that have
// it open or without one. It changes nothing, and the tables least of all: it fails if
// they are older or newer than this version knows. Each query takes 5 s at most. A role
// that may only read is enough, a hot standby will do, and so will a pooler in any mode.
//
// It takes the options of [Open], of which only [WithSchema] has an effect. The pool
// stays yours.
func OpenReader(ctx context.Context, pool *pgxpool.Pool, opts ...inbox.Option) (*inbox.Reader, error) {
	s, err := openReader(ctx, pool, opts)
	if err != nil {
		return nil, fmt.Errorf("open a reader of the inbox in PostgreSQL: %w", err)
	}
	return bridge.Inbox.NewReader(s).(*inbox.Reader), nil //nolint:forcetypeassert // it is one
}

// openReader returns an engine that is used for reading alone.
func openReader(ctx context.Context, pool *pgxpool.Pool, opts []inbox.Option) (*engine, error) {
	c, err := configure(pool, opts)
	if err != nil {
		return nil, err
	}
	s := &engine{
		pool: pool, config: c, schema: pgx.Identifier{c.Schema}.Sanitize(), readTimeout: readTimeout,
		reading: make(chan struct{}, pool.Config().MaxConns),
	}
	s.sql = newQueries(s.in)
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	switch version, err := s.version(ctx); {
	case isBarred(err):
		return nil, fmt.Errorf("the role may not read it: GRANT USAGE ON SCHEMA %[1]s, and SELECT ON ALL TABLES IN SCHEMA %[1]s: %[2]w", c.Schema, err)
	case err != nil:
		return nil, err
	case version == 0:
		return nil, fmt.Errorf("there is none in the schema %s: start the service first, which creates it", c.Schema)
	case version < len(migrations):
		return nil, fmt.Errorf("the schema %s has version %d, and this program reads %d: start the new version of the service first", c.Schema, version, len(migrations))
	}
	return s, nil
}

// isBarred reports whether the role lacks a right.
func isBarred(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "42501"
}

// readOnly runs a query in a transaction that can change nothing. The server ends what
// this process does not.
func (s *engine) readOnly(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, s.readTimeout)
	defer cancel()
	limit := millis(s.readTimeout + time.Second) // later than the context, whose error is known
	begin := "BEGIN READ ONLY; SET LOCAL statement_timeout = " + limit + "; SET LOCAL idle_in_transaction_session_timeout = " + limit
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, append([]any{pgx.QueryExecModeExec}, args...)...) // a pooler may know no prepared statements
		if err != nil {
			return err
		}
		return read(rows)
	})
}
