package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// txOptions are those of every transaction: in any other isolation level a
// statement would not see what was committed while the one before it waited. The
// access mode is the server's default: nothing may be written to a server that was set
// read-only, as in a failover that keeps sockets open.
var txOptions = pgx.TxOptions{IsoLevel: pgx.ReadCommitted}

const begin = "BEGIN ISOLATION LEVEL READ COMMITTED"

// How long a transaction waits for a case that another one holds. The committer's
// waits only for cases that somebody has created and not committed, and then tries
// again later, so that others do not wait with it.
const (
	lockTimeout       = 2 * time.Second
	commitLockTimeout = 50 * time.Millisecond
)

// sqlSettings sets what a transaction needs, for itself or for its session. A commit
// must be on disk. A wait for a lock must end before the senders give up, with an error
// that tells it from a failure. A frozen process must not keep its locks. Planning these
// statements takes longer than running them, so plans are kept; but a plan that was made
// while a table was small must not read all of it.
func sqlSettings(local string) string {
	return `SELECT set_config('lock_timeout', $1, ` + local + `), set_config('idle_in_transaction_session_timeout', $2, ` + local + `),
	set_config('statement_timeout', '0', ` + local + `), set_config('plan_cache_mode', 'force_generic_plan', ` + local + `), set_config('enable_seqscan', 'off', ` + local + `),
	set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') = 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, ` + local + `)`
}

func millis(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }

// errExhausted is not the server's fault: another connection would not help.
var errExhausted = errors.New("all connections of the pool are in use: raise its MaxConns (pool_max_conns in the URL)")

// connect makes sure that the committer has a connection.
func (s *engine) connect(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		if all := s.pool.Stat(); errors.Is(err, context.DeadlineExceeded) && all.AcquiredConns() >= all.MaxConns() {
			err = fmt.Errorf("%w: %w", errExhausted, err)
		}
		return err
	}
	s.conn = conn
	if s.config.PollOnly { // the connection may lead to another session each time
		return nil
	}
	_, err = conn.Exec(ctx, s.sql.session, millis(commitLockTimeout), millis(s.config.CommitTimeout))
	return err
}

// drop gives up the committer's connection and closes it, so that nobody else gets its
// settings.
func (s *engine) drop() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Conn().Close(ctx) // so that the pool forgets it
	s.conn.Release()
	s.conn = nil
}

// reset makes the pool give up all its connections: idle ones lead where the one that
// failed led, to a server that is gone or read-only now, or nowhere. It does so once a
// second at most.
func (s *engine) reset() {
	now := time.Now().UnixNano()
	if last := s.resetAt.Load(); now-last > int64(time.Second) && s.resetAt.CompareAndSwap(last, now) {
		s.pool.Reset()
	}
}

// classify wraps the error of a commit in what it means to the committer.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case isLockError(err):
		return fmt.Errorf("%w: %w", ledger.ErrLocked, err)
	case isDataError(err):
		return fmt.Errorf("%w: %w", ledger.ErrRefused, err)
	default:
		return fmt.Errorf("%w: %w", ledger.ErrUnavailable, err)
	}
}

// isLockError reports whether somebody else holds what is needed.
func isLockError(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "55P03" || e.Code == "40P01" || e.Code == "40001")
}

// isDataError reports whether the database works and rejects what it was given.
func isDataError(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch class(e) {
	case "22", "23", "54":
		return true
	}
	return false
}

// isConnError reports whether another connection may help: this one is broken, or
// leads to a server that is shutting down or read-only.
func isConnError(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return !errors.Is(err, errExhausted)
	}
	class := class(e)
	return e.Code == readOnly || class == "57" && e.Code != cancelled || class == "08" || e.Severity == "FATAL"
}

// Codes of errors: of a server that is read-only, and of a statement that somebody has
// cancelled.
const (
	readOnly  = "25006"
	cancelled = "57014"
)

// class returns the class of an error's code.
func class(e *pgconn.PgError) string { return e.Code[:min(2, len(e.Code))] }

// poolerChecks is how many times checkPooler looks for a pooler: one that spreads its
// clients over its sessions may look like none.
const poolerChecks = 3

// checkPooler checks whether the database is behind a pooler in transaction
// mode: there, each transaction may run in another session.
func (s *engine) checkPooler(ctx context.Context) error {
	a, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer a.Release()
	b, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer b.Release()
	pooled := false
	for range poolerChecks {
		if pooled, err = sharesSessions(ctx, a, b); err != nil || pooled {
			break
		}
	}
	switch {
	case err != nil || !pooled:
		return err
	case !s.config.PollOnly:
		return errors.New("the database is behind a pooler in transaction mode: connect to the database itself, or use WithPollOnly and read its documentation")
	}
	switch s.pool.Config().ConnConfig.DefaultQueryExecMode {
	case pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe:
		if err := checkPrepared(ctx, a, b); err != nil {
			return fmt.Errorf("the pooler before the database does not know prepared statements: set the pool's DefaultQueryExecMode to pgx.QueryExecModeExec, or the pooler's max_prepared_statements: %w", err)
		}
	default:
	}
	return nil
}

// sharesSessions reports whether two connections lead to one session at different
// times.
func sharesSessions(ctx context.Context, a, b *pgxpool.Conn) (bool, error) {
	before, err := sessionOf(ctx, a)
	if err != nil {
		return false, err
	}
	tx, err := b.Begin(ctx) // occupies one of the pooler's sessions, probably a's
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	other, err := sessionOf(ctx, tx)
	if err != nil {
		return false, err
	}
	after, err := sessionOf(ctx, a)
	return other == before || after != before, err
}

// checkPrepared prepares a statement in a session and executes it in another one.
func checkPrepared(ctx context.Context, a, b *pgxpool.Conn) error {
	const name = "pixmed_pooler_check"
	prepared, err := b.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = prepared.Prepare(ctx, name, "SELECT 1")
	if err := errors.Join(err, prepared.Rollback(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	occupied, err := a.Begin(ctx) // most probably the session that was used last
	if err != nil {
		return err
	}
	defer func() { _ = occupied.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := sessionOf(ctx, occupied); err != nil {
		return err
	}
	_, err = b.Exec(ctx, name)
	return err
}

// sessionOf returns the number of the session that a connection leads to.
func sessionOf(ctx context.Context, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
},
) (pid int64, err error) {
	err = q.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid)
	return pid, err
}
