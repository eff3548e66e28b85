package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// sqlSession is an attempt's transaction for database/sql: a database of one
// connection, the attempt's, in which a transaction has begun already.
type sqlSession struct {
	db *sql.DB
	tx *sql.Tx

	closing   atomic.Bool // the inbox ends it, and not the callback
	misplaced atomic.Bool // the callback has called Commit or Rollback
}

// sqlTx returns the transaction of a callback.
func (s *session) sqlTx(ctx context.Context) (*sql.Tx, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked(ctx)
	switch {
	case s.err != nil:
		return nil, s.err
	case s.closed:
		return nil, pgx.ErrTxClosed
	case s.sql != nil:
		return s.sql.tx, nil
	}
	q := &sqlSession{}
	q.db = sql.OpenDB(&sqlConnector{&sqlConn{s.conn, q}})
	q.db.SetMaxOpenConns(1)
	// Not with the callback's context: when it ends, database/sql would roll back,
	// which is for the inbox to do.
	tx, err := q.db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, err
	}
	q.tx, s.sql = tx, q
	return tx, nil
}

// ended reports whether the callback has tried to end the transaction.
func (q *sqlSession) ended() bool { return q != nil && q.misplaced.Load() }

// close ends what database/sql holds, and leaves the connection alone.
func (q *sqlSession) close() {
	if q == nil || q.closing.Swap(true) {
		return
	}
	_ = q.tx.Rollback() // which does nothing
	_ = q.db.Close()
}

// sqlConnector connects to the one connection that there is.
type sqlConnector struct{ conn *sqlConn }

func (c *sqlConnector) Connect(context.Context) (driver.Conn, error) { return c.conn, nil }
func (c *sqlConnector) Driver() driver.Driver                        { return stdlib.GetDefaultDriver() }

// sqlConn is the attempt's connection. Its transaction has begun.
type sqlConn struct {
	*stdlib.Conn
	session *sqlSession
}

// BeginTx implements [driver.ConnBeginTx].
func (c *sqlConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return managedTx{c.session}, nil
}

// Begin implements [driver.Conn].
func (c *sqlConn) Begin() (driver.Tx, error) { return managedTx{c.session}, nil }

// Close implements [driver.Conn]: the session closes the connection.
func (c *sqlConn) Close() error { return nil }

// ResetSession implements [driver.SessionResetter].
func (c *sqlConn) ResetSession(context.Context) error { return nil }

// managedTx refuses to end.
type managedTx struct{ session *sqlSession }

func (t managedTx) Commit() error   { return t.end() }
func (t managedTx) Rollback() error { return t.end() }

func (t managedTx) end() error {
	if t.session.closing.Load() {
		return nil
	}
	t.session.misplaced.Store(true)
	return ErrTxManaged
}
