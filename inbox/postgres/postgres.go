// Package postgres opens a durable inbox in a PostgreSQL database, which any
// number of processes may share. See package inbox for what it does and what it
// promises.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/queue"
)

// DefaultSchema is the schema that holds the inbox's tables.
const DefaultSchema = "pixmed_inbox"

// WithSchema sets the schema that holds the inbox's tables, its own and River's;
// it is made if there is none. Lower-case letters, digits and underscores, at
// most 46, not beginning with a digit. Default [DefaultSchema].
func WithSchema(name string) inbox.Option {
	return func(c *config.Config) error {
		if !schemaName.MatchString(name) {
			return fmt.Errorf("postgres: WithSchema: %q is not a name of at most 46 lower-case letters, digits and underscores", name)
		}
		c.Schema = name
		return nil
	}
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,45}$`)

// WithPollOnly makes the workers ask for work ten times a second and not listen
// for it. A pooler such as PgBouncer in transaction mode needs it, since it does
// not pass on notifications; there, set the pool's DefaultQueryExecMode to
// pgx.QueryExecModeExec too, unless the pooler knows prepared statements.
func WithPollOnly() inbox.Option {
	return func(c *config.Config) error {
		c.PollOnly = true
		return nil
	}
}

// spareConns is how many connections the inbox needs beside those of its
// workers: the committer's, the listener's, and two for looking around.
const spareConns = 4

// Open opens the inbox in a database and brings its tables up to date, which is
// safe to do from many processes at once. A role that may not create tables can
// open an inbox that is up to date. receiver is called by the workers once Start
// was called; what it writes through [Tx] is committed together with the fact
// that the notification is done.
//
// The pool stays yours: call Stop before you close it. Its MaxConns must be at
// least four more than [inbox.WithWorkers]; 14 suits the default of ten workers.
// The default of pgxpool is four, or the number of processors, which is often too
// few: set it with pool_max_conns=14 in the URL.
func Open(ctx context.Context, pool *pgxpool.Pool, receiver pixmed.Receiver, opts ...inbox.Option) (*inbox.Inbox, error) {
	c, err := config.New(opts)
	if err != nil {
		return nil, err
	}
	if c.MinFreeDisk != nil {
		return nil, errors.New("postgres: Open: an option of package sqlite was given")
	}
	if pool == nil {
		return nil, errors.New("postgres: Open: the pool is nil")
	}
	if err := inbox.CheckReceiver(receiver); err != nil {
		return nil, err
	}
	have := int(pool.Config().MaxConns)
	if c.Workers == 0 {
		c.Workers = max(min(config.DefaultWorkers, have-spareConns), 1)
	}
	if need := c.Workers + spareConns; have < need {
		return nil, fmt.Errorf("postgres: Open: the pool has at most %d connections, and with workers=%d the inbox needs %d: raise its MaxConns (pool_max_conns in the URL), or lower inbox.WithWorkers", have, c.Workers, need)
	}
	if c.Schema == "" {
		c.Schema = DefaultSchema
	}
	s := &store{pool: pool, config: c, log: c.Logger}
	s.sql = newQueries(pgx.Identifier{c.Schema}.Sanitize())
	if err := s.migrate(ctx); err != nil {
		return nil, fmt.Errorf("postgres: Open: %w", err)
	}
	driver := riverpgxv5.New(pool)
	if s.Queue, err = queue.New(driver, driver, c); err != nil {
		return nil, fmt.Errorf("postgres: Open: %w", err)
	}
	return inbox.New(s, receiver, c)
}

// River returns the client of the queue that schedules the attempts, for a look at
// it, as with riverui. Jobs are the inbox's: do not insert or change any. It fails
// if the inbox was not opened by this package.
func River(in *inbox.Inbox) (*river.Client[pgx.Tx], error) {
	s, ok := in.Store().(*store)
	if !ok {
		return nil, errors.New("postgres: River: the inbox is not in PostgreSQL")
	}
	return s.Client(), nil
}

// store is the engine.
type store struct {
	*queue.Queue[pgx.Tx]

	pool   *pgxpool.Pool
	config *config.Config
	log    *slog.Logger
	sql    *queries
	conn   *pgxpool.Conn // the committer's own, nil until it is needed
}

// Shared implements [ledger.Store].
func (s *store) Shared() bool { return true }

// Close implements [ledger.Store].
func (s *store) Close() error {
	s.Release()
	if s.conn != nil {
		s.conn.Release()
		s.conn = nil
	}
	return nil
}
