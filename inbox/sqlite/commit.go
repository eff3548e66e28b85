package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Commit implements [ledger.Engine].
func (s *engine) Commit(_ context.Context, ops []*ledger.Op, claim *ledger.Claim) error {
	if claim != nil && claim.Made {
		claim = nil
	}
	if err := s.checkDisk(); err != nil && slices.ContainsFunc(ops, addsData) {
		// The room that is left is for what was accepted before.
		rest := slices.DeleteFunc(slices.Clone(ops), addsData)
		for _, op := range ops {
			if addsData(op) {
				op.Err = err
			}
		}
		if ops = rest; len(ops) == 0 && claim == nil {
			return nil
		}
	}
	return classify(s.commit(ops, claim))
}

// addsData reports whether an operation is for a sender or for a readiness check,
// and must fail when there is little room on the disk.
func addsData(op *ledger.Op) bool { return op.New != nil || op.Quarantine != nil || op.Probe }

// classify wraps the error of a commit in what it means to the committer.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case isDataError(err):
		return fmt.Errorf("%w: %w", ledger.ErrRefused, err)
	default:
		return fmt.Errorf("%w: %w", ledger.ErrUnavailable, err)
	}
}

// isDataError reports whether the database works and rejects what it was given.
func isDataError(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT || e.Code()&0xff == sqlite3.SQLITE_TOOBIG || e.Code()&0xff == sqlite3.SQLITE_MISMATCH)
}

// commit does operations and claims cases in one transaction.
func (s *engine) commit(ops []*ledger.Op, claim *ledger.Claim) error {
	since := time.Now()
	var made *ledger.Claim
	err := s.transact(func(t *txn) (err error) {
		if len(ops) > 0 {
			if err := t.do(ops); err != nil {
				return err
			}
		}
		if claim != nil {
			made, err = t.claim(claim, since)
		}
		return err
	})
	if err == nil && made != nil {
		*claim = *made
	}
	return err
}

// txn is the writer's transaction. No statement of it may be cancelled: that would
// roll back what others of its batch wrote.
type txn struct {
	engine *engine
	tx     *sql.Tx
	now    int64 // in microseconds
}

// transact runs a transaction of the writer's. When it returns nil, the transaction
// is on disk, in the file that has the inbox's name.
func (s *engine) transact(do func(*txn) error) (err error) {
	tx, err := s.write.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback()
		}
	}()
	t := &txn{engine: s, tx: tx, now: time.Now().UnixMicro()}
	if err := t.checkOwner(); err != nil {
		return err
	}
	if err := do(t); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.trimWAL()
	return s.checkFile()
}

const sqlOwner = `SELECT owner FROM settings`

// checkOwner fails when another process has opened the file meanwhile. The lock did
// not prevent that: somebody has deleted its file, or the file system has lost it.
func (t *txn) checkOwner() error {
	var owner int64
	if err := t.row(t.engine.stmts.owner).Scan(&owner); err != nil {
		return err
	}
	if owner != t.engine.owner {
		return fmt.Errorf("another process has opened %s: stop one of the two", t.engine.path)
	}
	return nil
}

func (t *txn) row(stmt *sql.Stmt, args ...any) *sql.Row {
	return t.tx.StmtContext(context.Background(), stmt).QueryRowContext(context.Background(), args...)
}

func (t *txn) exec(stmt *sql.Stmt, args ...any) error {
	_, err := t.tx.StmtContext(context.Background(), stmt).ExecContext(context.Background(), args...)
	return err
}

func (t *txn) query(stmt *sql.Stmt, args ...any) (*sql.Rows, error) {
	return t.tx.StmtContext(context.Background(), stmt).QueryContext(context.Background(), args...) //nolint:sqlclosecheck // the caller does
}

// do loads the cases of operations, does the operations and writes what changed.
func (t *txn) do(ops []*ledger.Op) error {
	l := &load{txn: t, cases: make(map[string]*ledger.Case), ids: make(map[string]int64), accepts: make(map[string]int)}
	if err := l.load(ops); err != nil {
		return err
	}
	var quarantined []*ledger.Event
	for _, op := range ops {
		op.Err = nil
		switch {
		case op.Probe:
			if _, err := t.tx.ExecContext(context.Background(), "UPDATE settings SET probed_at = ?", t.now); err != nil {
				return err
			}
		case op.Quarantine != nil:
			quarantined = append(quarantined, op.Quarantine)
		default:
			if err := l.loadFor(op); err != nil {
				return err
			}
			op.Apply(l.cases[op.TransactionID])
		}
	}
	return l.flush(quarantined)
}
