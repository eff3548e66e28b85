package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// ErrTxManaged is the error of Commit and Rollback of a transaction that [Tx]
// returned: the inbox commits it when the callback returns nil, together with the
// fact that the notification is done, and rolls it back otherwise.
var ErrTxManaged = errors.New("the inbox itself commits the transaction of a callback when the callback returns nil, and rolls it back when it returns an error")

// ErrNoTx is returned by [SQLTx] outside a callback that an inbox in PostgreSQL
// calls.
var ErrNoTx = errors.New("there is no transaction of a callback in this context")

// Tx returns the transaction of a callback that an inbox in PostgreSQL calls, and
// false in any other context. It begins at the first call of Tx or [SQLTx]. What is
// written in it happens exactly once: it commits together with the fact that
// the notification is done, and not at all if the callback fails or another
// attempt has taken over meanwhile. It reads committed rows.
//
// A transaction that a failed statement has aborted cannot be committed: the
// attempt fails, even if the callback returns nil; use Begin for a savepoint. If
// it cannot be begun, all its methods return the error. Commit and Rollback return
// [ErrTxManaged].
//
// To call such a callback in a unit test, see [ContextWithTx].
func Tx(ctx context.Context) (pgx.Tx, bool) {
	switch s := ctx.Value(sessionKey{}).(type) {
	case *session:
		s.begin(ctx)
		return &callbackTx{s}, true
	case pgx.Tx:
		return &callbackTx{given{s}}, true
	}
	return nil, false
}

// SQLTx is [Tx] for database/sql, and with it for GORM, bun and sqlc. It is the
// same transaction: the two may be mixed, but not used at the same time. It returns
// [ErrNoTx] outside a callback. Commit and Rollback return [ErrTxManaged], and an
// attempt in which one of them was called fails.
//
// To call such a callback in a unit test, see [ContextWithSQLTx].
func SQLTx(ctx context.Context) (*sql.Tx, error) {
	switch s := ctx.Value(sessionKey{}).(type) {
	case *session:
		return s.sqlTx(ctx)
	case *sql.Tx:
		return s, nil
	case pgx.Tx:
		return nil, errors.New("the context holds a pgx.Tx of a test's: use ContextWithSQLTx")
	}
	return nil, ErrNoTx
}

// ContextWithTx returns a context for which [Tx] returns the given transaction, for
// unit tests of callbacks. The test commits it or rolls it back.
func ContextWithTx(ctx context.Context, tx pgx.Tx) context.Context {
	return context.WithValue(ctx, sessionKey{}, tx)
}

// ContextWithSQLTx returns a context for which [SQLTx] returns the given
// transaction, for unit tests of callbacks. The test commits it or rolls it back.
func ContextWithSQLTx(ctx context.Context, tx *sql.Tx) context.Context {
	return context.WithValue(ctx, sessionKey{}, tx)
}

type sessionKey struct{}

// session is an attempt's transaction.
type session struct {
	engine *engine

	mu     sync.Mutex
	conn   *stdlib.Conn // nil until the transaction is begun, and when it has ended
	tx     pgx.Tx
	err    error // why it could not be begun
	closed bool
	sql    *sqlSession // nil until it is asked for
}

// Session implements [ledger.Engine].
func (s *engine) Session() ledger.Session { return &session{engine: s} }

// Context implements [ledger.Session].
func (s *session) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

// begin begins the transaction, unless it has begun.
func (s *session) begin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked(ctx)
}

func (s *session) beginLocked(ctx context.Context) {
	if s.conn == nil && s.err == nil && !s.closed {
		s.err = s.beginTx(ctx)
	}
}

func (s *session) beginTx(ctx context.Context) error {
	if cap(s.engine.transacting) == 0 {
		return fmt.Errorf("the pool has at most %d connections, and the inbox needs all of them: raise its MaxConns (pool_max_conns in the URL)", ownConns)
	}
	select {
	case s.engine.transacting <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for a connection of the pool, of which there are too few for all workers: %w", ctx.Err())
	}
	// Through the driver of database/sql, so that SQLTx can have the connection too.
	conn, err := stdlib.GetPoolConnector(s.engine.pool).Connect(ctx)
	if err != nil {
		<-s.engine.transacting
		return err
	}
	s.conn = conn.(*stdlib.Conn) //nolint:forcetypeassert // it says so
	var batch pgx.Batch
	batch.BeginTx(txOptions)
	// A callback that hangs must not keep its locks when its attempt is given up.
	batch.Queue("SELECT set_config('idle_in_transaction_session_timeout', $1, true)", millis(s.engine.config.AttemptTimeout))
	results := s.conn.Conn().SendBatch(ctx, &batch)
	s.tx = results.Tx()
	if err := results.Close(); err != nil {
		s.end()
		if isConnError(err) && ctx.Err() == nil {
			s.engine.reset()
		}
		return err
	}
	return nil
}

// end undoes what was not committed, and gives the connection back.
func (s *session) end() {
	if s.conn == nil {
		return
	}
	s.sql.close()
	if s.conn.Conn().PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.tx.Rollback(ctx) // what cannot be rolled back is not committed either
	}
	_ = s.conn.Close() // gives it back to the pool, which closes it if it is broken
	s.conn = nil
	<-s.engine.transacting
}

// Commit implements [ledger.Session]. It is called when the callback has
// returned.
func (s *session) Commit(ctx context.Context, op *ledger.Op) (used bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn == nil && s.err == nil {
		return false, nil // nobody asked for it
	}
	if err := s.commit(ctx, op); err != nil {
		return true, fmt.Errorf("the transaction of the callback could not be committed: %w", err)
	}
	return true, nil
}

func (s *session) commit(ctx context.Context, op *ledger.Op) error {
	if s.err != nil {
		return s.err
	}
	ctx, cancel := context.WithTimeout(ctx, s.engine.config.CommitTimeout)
	defer cancel()
	if s.sql.ended() {
		return fmt.Errorf("the callback has tried to end it: %w", ErrTxManaged)
	}
	s.sql.close()
	if s.conn.Conn().IsClosed() {
		return errors.New("its connection is closed: the callback has left rows open, or a context ended while a statement ran")
	}
	switch s.conn.Conn().PgConn().TxStatus() {
	case 'T':
	case 'E':
		return errors.New("a statement failed in it, which has aborted it")
	default:
		return errors.New("it was ended by a statement of the callback's")
	}
	l := s.engine.newLoad()
	l.exec(s.engine.sql.settings, millis(lockTimeout), millis(s.engine.config.CommitTimeout))
	l.lock(s.engine.sql.lockCase, []string{op.TransactionID}, nil)
	if err := l.send(ctx, s.tx); err != nil {
		return err
	}
	c := l.found[op.TransactionID]
	if c == nil { // it was purged, after another attempt has settled it
		c = ledger.NewCase(op.TransactionID, ledger.Row{})
	}
	op.Apply(c)
	if !c.Changes().RowChanged {
		return nil // another attempt has taken over: nothing is committed
	}
	w := s.engine.newRound()
	w.write(l.found, nil)
	w.commit()
	if err := w.send(ctx, s.tx); err != nil {
		if isConnError(err) {
			err = fmt.Errorf("%w: %w", ledger.ErrUnknown, err)
		}
		return err
	}
	if c.Waits() {
		s.engine.tell()
	}
	s.end()
	return nil
}

// Rollback implements [ledger.Session].
func (s *session) Rollback() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.end()
}

// opener is where a callback's transaction comes from.
type opener interface{ open() (pgx.Tx, error) }

// open returns the transaction, unless the callback has returned.
func (s *session) open() (pgx.Tx, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return nil, s.err
	case s.closed:
		return nil, pgx.ErrTxClosed
	}
	return s.tx, nil
}

// given is a transaction of a test's.
type given struct{ tx pgx.Tx }

func (g given) open() (pgx.Tx, error) { return g.tx, nil }

// callbackTx is what a callback gets.
type callbackTx struct{ opener }

func (t *callbackTx) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := t.open()
	if err != nil {
		return nil, err
	}
	return tx.Begin(ctx)
}

func (t *callbackTx) Commit(context.Context) error   { return ErrTxManaged }
func (t *callbackTx) Rollback(context.Context) error { return ErrTxManaged }

func (t *callbackTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	tx, err := t.open()
	if err != nil {
		return 0, err
	}
	return tx.CopyFrom(ctx, table, columns, source)
}

func (t *callbackTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	tx, err := t.open()
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return tx.SendBatch(ctx, b)
}

func (t *callbackTx) LargeObjects() pgx.LargeObjects {
	tx, err := t.open()
	if err != nil {
		return pgx.LargeObjects{}
	}
	return tx.LargeObjects()
}

func (t *callbackTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	tx, err := t.open()
	if err != nil {
		return nil, err
	}
	return tx.Prepare(ctx, name, sql)
}

func (t *callbackTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tx, err := t.open()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	return tx.Exec(ctx, sql, args...)
}

func (t *callbackTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	tx, err := t.open()
	if err != nil {
		return pgx.FailedBatchResults(&pgx.Batch{}, err).Query()
	}
	return tx.Query(ctx, sql, args...)
}

func (t *callbackTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	tx, err := t.open()
	if err != nil {
		return pgx.FailedBatchResults(&pgx.Batch{}, err).QueryRow()
	}
	return tx.QueryRow(ctx, sql, args...)
}

func (t *callbackTx) Conn() *pgx.Conn {
	tx, err := t.open()
	if err != nil {
		return nil
	}
	return tx.Conn()
}
