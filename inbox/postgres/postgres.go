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
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/bridge"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// DefaultSchema is the schema that holds the inbox's tables.
const DefaultSchema = "pixmed_inbox"

// WithSchema sets the schema that holds the inbox's tables, which is created if
// needed. The name has at most 46 lower-case letters, digits and underscores, and
// does not begin with a digit. Default [DefaultSchema].
func WithSchema(name string) inbox.Option {
	return option("WithSchema", func(c *config.Config) error {
		if !schemaName.MatchString(name) {
			return fmt.Errorf("%q is not a name of at most 46 lower-case letters, digits and underscores", name)
		}
		c.Schema = name
		return nil
	})
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,45}$`)

// WithPollOnly makes the inbox look ten times a second for work that other processes
// have accepted, instead of listening for it, and set what it needs in each transaction
// instead of once for each connection. Use it with a pooler in transaction mode, such
// as PgBouncer. There, set the pool's DefaultQueryExecMode to
// pgx.QueryExecModeExec too, unless the pooler knows prepared statements.
func WithPollOnly() inbox.Option {
	return option("WithPollOnly", func(c *config.Config) error {
		c.PollOnly = true
		return nil
	})
}

func option(name string, set func(*config.Config) error) inbox.Option {
	return bridge.Inbox.Option(name, set).(inbox.Option) //nolint:forcetypeassert // it is one
}

// ownConns is how many connections the inbox needs beside those of callbacks that
// use [Tx]: the committer's, the listener's, and one for everything else.
const ownConns = 3

// Open opens the inbox in a database and brings its tables up to date, which is
// safe to do from many processes at once. A role that may not create tables can
// open an inbox that is up to date. The workers call receiver once Start has been
// called; what it writes through [Tx] or [SQLTx] is committed together with the fact
// that the notification is done.
//
// The pool stays yours: call Stop before you close it. Its MaxConns must be at
// least 3, and a callback that uses Tx or SQLTx needs one more while it runs: with
// fewer than three more than [inbox.WithWorkers], such callbacks wait for each
// other.
func Open(ctx context.Context, pool *pgxpool.Pool, receiver pixmed.Receiver, opts ...inbox.Option) (*inbox.Inbox, error) {
	in, err := open(ctx, pool, receiver, opts)
	if err != nil {
		return nil, fmt.Errorf("open the inbox in PostgreSQL: %w", err)
	}
	return in, nil
}

// configure returns what options set.
func configure(pool *pgxpool.Pool, opts []inbox.Option) (*config.Config, error) {
	c, err := bridge.Inbox.Configure(opts)
	if err != nil {
		return nil, err
	}
	if c.MinFreeDisk != nil {
		return nil, errors.New("an option of package sqlite is given")
	}
	if pool == nil {
		return nil, errors.New("the pool is nil")
	}
	if c.Schema == "" {
		c.Schema = DefaultSchema
	}
	return c, nil
}

func open(ctx context.Context, pool *pgxpool.Pool, receiver pixmed.Receiver, opts []inbox.Option) (*inbox.Inbox, error) {
	c, err := configure(pool, opts)
	if err != nil {
		return nil, err
	}
	if err := bridge.Inbox.CheckReceiver(receiver); err != nil {
		return nil, err
	}
	if c.PollInterval == 0 {
		c.PollInterval = time.Second
		if c.PollOnly {
			c.PollInterval = 100 * time.Millisecond
		}
	}
	s, err := newEngine(ctx, pool, c)
	if err != nil {
		return nil, err
	}
	if c.Defence {
		if err := s.SetDefence(ctx, ledger.Defence{Window: c.Window, Before: c.Before}); err != nil {
			return nil, errors.Join(fmt.Errorf("WithDefence: %w", err), s.Close())
		}
	}
	if transactions := cap(s.transacting); transactions < c.Workers {
		c.Logger.WarnContext(ctx, "pixmed: the pool has fewer connections than callbacks with postgres.Tx may need; such callbacks wait for each other",
			"pool_max_conns", pool.Config().MaxConns, "workers", c.Workers, "tx_at_a_time", transactions)
	}
	return bridge.Inbox.New(s, receiver, c).(*inbox.Inbox), nil //nolint:forcetypeassert // it is one
}

// newEngine returns the engine, with its tables up to date.
func newEngine(ctx context.Context, pool *pgxpool.Pool, c *config.Config) (*engine, error) {
	conns := int(pool.Config().MaxConns)
	if conns < ownConns {
		return nil, fmt.Errorf("the pool has at most %d connections, and the inbox needs %d: raise its MaxConns (pool_max_conns in the URL)", conns, ownConns)
	}
	s := &engine{
		pool: pool, config: c, log: c.Logger, schema: pgx.Identifier{c.Schema}.Sanitize(),
		waiting: make(chan struct{}, 1),
		reading: make(chan struct{}, max(1, conns-ownConns+1-c.Workers)), transacting: make(chan struct{}, conns-ownConns),
	}
	s.sql = newQueries(s.in)
	if err := s.checkPooler(ctx); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, err
	}
	s.background, s.stop = context.WithCancel(context.Background())
	s.goroutines.Go(s.notifyLoop)
	return s, nil
}

// engine is the [ledger.Engine].
type engine struct {
	pool   *pgxpool.Pool
	config *config.Config
	log    *slog.Logger
	schema string // quoted
	sql    *queries

	conn     *pgxpool.Conn // the committer's own, nil until it is needed
	lost     []lostClaim   // claims whose COMMIT was not answered
	floor    floor
	outdated bool        // whether it was logged that the tables are newer
	works    atomic.Bool // whether the committer's last transaction did
	resetAt  atomic.Int64

	readTimeout time.Duration   // of a reader's queries; 0 if it is none
	reading     chan struct{}   // holds one for each connection that reads for pages and counts,
	transacting chan struct{}   // and for each that a callback's transaction has
	waiting     chan struct{}   // of 1: something waits that other processes may take
	background  context.Context //nolint:containedctx // it ends with the engine
	stop        context.CancelFunc
	goroutines  sync.WaitGroup
}

var _ ledger.Engine = (*engine)(nil)

// Held implements [ledger.Engine]: other processes may be at work on what is held.
func (s *engine) Held(context.Context) ([]*ledger.Attempt, error) { return nil, nil }

// Close implements [ledger.Engine].
func (s *engine) Close() error {
	s.stop()
	s.goroutines.Wait()
	s.drop()
	return nil
}

// queries are the statements, with the schema's name in its place.
type queries struct {
	settings, session                        string
	createCases, lockCases, lockCase, exists string
	events, standing, known, all, byID       string
	first, settle                            string
	write, ids, quarantine, trim             string
	summary, note, delete, probe             string
	resolveOne, deleteOne, setWindow         string
	lockDefence, shareDefence                string
	openCases, replan                        string
	claim, heads, next, lowest, release      string
	oldCases, purgeCases, purgeQuarantined   string
	event, history, stats, received          string
	listCases, searchCases, currents         string
	notes, eventNotes, failures              string
}

func newQueries(in func(string) string) *queries {
	return &queries{
		settings: sqlSettings("true"), session: sqlSettings("false"),
		createCases: in(sqlCreateCases), lockCases: in(sqlLockCases), lockCase: in(sqlLockCase), exists: in(sqlExists),
		events: in(sqlEvents), standing: in(sqlStanding), known: in(sqlKnown), all: in(sqlAll), byID: in(sqlByID),
		first: in(sqlFirst), settle: in(sqlSettle), write: in(sqlWrite), ids: in(sqlIDs), quarantine: in(sqlQuarantine), trim: in(sqlTrim), probe: in(sqlProbe),
		summary: in(sqlSummary), note: in(sqlNote), delete: in(sqlDelete),
		resolveOne: in(sqlResolveOne), deleteOne: in(sqlDeleteOne), setWindow: in(sqlSetDefence),
		lockDefence: in(sqlLockDefence), shareDefence: in(sqlShareDefence), openCases: in(sqlOpenCases), replan: in(sqlReplan),
		claim: in(sqlClaim), heads: in(sqlHeads), next: in(sqlNext), lowest: in(sqlLowest), release: in(sqlRelease),
		oldCases: in(sqlOldCases), purgeCases: in(sqlPurgeCases), purgeQuarantined: in(sqlPurgeQuarantined),
		event: in(sqlEvent), history: in(sqlHistory), stats: in(sqlStats), received: in(sqlReceived),
		listCases: in(sqlListCases), searchCases: in(sqlSearchCases), currents: in(sqlCurrents),
		notes: in(sqlNotes), eventNotes: in(sqlEventNotes), failures: in(sqlFailures),
	}
}
