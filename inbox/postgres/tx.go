package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// ErrTxManaged is the error of Commit and Rollback of a transaction that [Tx]
// returned: the inbox commits it when the callback returns nil, together with the
// fact that the notification is done, and rolls it back otherwise.
var ErrTxManaged = errors.New("postgres: the inbox itself commits the transaction of a callback when the callback returns nil, and rolls it back when it returns an error")

// Tx returns the transaction of a callback that an inbox in PostgreSQL calls, and
// false in any other context. It is begun when Tx is called first. What is
// written in it happens exactly once: it is committed together with the fact that
// the notification is done, and not at all if the callback fails or another
// attempt has taken over meanwhile. It reads committed rows.
//
// A transaction that a failed statement has aborted cannot be committed: the
// attempt fails, even if the callback returns nil; use Begin for a savepoint. If
// it cannot be begun, all its methods return the error.
func Tx(ctx context.Context) (pgx.Tx, bool) {
	s, ok := ctx.Value(sessionKey{}).(*session)
	if !ok {
		return nil, false
	}
	return s.begin(ctx), true
}

type sessionKey struct{}

// txOptions are those of every transaction: in any other isolation level a
// statement would not see what was committed while the one before it waited.
var txOptions = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// session is an attempt's transaction.
type session struct {
	store *store

	mu     sync.Mutex
	conn   *pgxpool.Conn // nil until the transaction is begun, and when it has ended
	tx     pgx.Tx
	err    error // why it could not be begun
	closed bool
}

// Session implements [ledger.Store].
func (s *store) Session() ledger.Session { return &session{store: s} }

// Context implements [ledger.Session].
func (s *session) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

func (s *session) begin(ctx context.Context) pgx.Tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil && s.err == nil && !s.closed {
		s.err = s.beginTx(ctx)
	}
	return &callbackTx{session: s}
}

func (s *session) beginTx(ctx context.Context) error {
	conn, err := s.store.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	s.conn = conn
	var batch pgx.Batch
	batch.BeginTx(txOptions)
	// A callback that hangs must not keep its locks when its attempt is given up.
	idle := strconv.FormatInt(s.store.config.AttemptTimeout.Milliseconds()+1, 10)
	batch.Queue("SELECT set_config('idle_in_transaction_session_timeout', $1, true)", idle)
	results := conn.SendBatch(ctx, &batch)
	s.tx = results.Tx()
	if err := results.Close(); err != nil {
		s.end()
		return err
	}
	return nil
}

// end undoes what was not committed, and gives the connection back.
func (s *session) end() {
	if s.conn == nil {
		return
	}
	if s.conn.Conn().PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.tx.Rollback(ctx) // what cannot be rolled back is not committed either
	}
	s.conn.Release() // closes it if it is broken
	s.conn = nil
}

// Commit implements [ledger.Session]. It is called when the callback has
// returned.
func (s *session) Commit(ctx context.Context, op *ledger.Op) (ended bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn == nil && s.err == nil {
		return false, nil // nobody asked for it
	}
	if err := s.commit(ctx, op); err != nil {
		return false, fmt.Errorf("the transaction of the callback could not be committed: %w", err)
	}
	return true, nil
}

func (s *session) commit(ctx context.Context, op *ledger.Op) error {
	if s.err != nil {
		return s.err
	}
	ctx, cancel := context.WithTimeout(ctx, s.store.config.CommitTimeout)
	defer cancel()
	switch s.conn.Conn().PgConn().TxStatus() {
	case 'T':
	case 'E':
		return errors.New("a statement failed in it, which has aborted it")
	default:
		return errors.New("it was ended by a statement of the callback's")
	}
	l := s.store.newLoad()
	l.settings(lockTimeout)
	l.lockedCase(op.TransactionID)
	if err := l.read(s.tx.SendBatch(ctx, &l.batch)); err != nil {
		return err
	}
	c := l.found[op.TransactionID]
	if c == nil {
		return nil // purged, and so another attempt has ended it
	}
	op.Apply(c)
	if !c.Changes().RowChanged {
		return nil // superseded: nothing is committed
	}
	woken, err := s.store.flush(ctx, s.tx, l.found, nil)
	if err != nil {
		return err
	}
	s.end()
	if woken {
		s.store.Wake()
	}
	return nil
}

// Rollback implements [ledger.Session].
func (s *session) Rollback() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.end()
}

// lockedCase locks one case that must be there. As in cases, what is pending is
// read behind the lock.
func (l *load) lockedCase(id string) {
	l.queue(l.s.sql.lockCase, func(rows pgx.Rows) error {
		var liveEvent string
		var nextSeq, liveJob int64
		_, err := pgx.ForEachRow(rows, []any{&nextSeq, &liveJob, &liveEvent}, func() error {
			l.found[id] = ledger.NewCase(id, nextSeq, liveJob, liveEvent)
			return nil
		})
		return err
	}, id)
	l.queue(l.s.sql.events, l.addEvents, []string{id}, []string{}, [][]byte{})
}

// callbackTx is what a callback gets.
type callbackTx struct{ session *session }

// open returns the transaction, unless the callback has returned.
func (t *callbackTx) open() (pgx.Tx, error) {
	t.session.mu.Lock()
	defer t.session.mu.Unlock()
	switch {
	case t.session.err != nil:
		return nil, t.session.err
	case t.session.closed:
		return nil, pgx.ErrTxClosed
	}
	return t.session.tx, nil
}

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
