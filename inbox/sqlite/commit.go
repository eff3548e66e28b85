package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/riverqueue/river/rivertype"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
	"github.com/pixmed-go/pixmed/inbox/internal/queue"
)

// Commit implements [ledger.Store].
func (s *store) Commit(_ context.Context, ops []*ledger.Op) error {
	if err := s.checkFile(); err != nil {
		// What is left of the disk is for those that were accepted.
		ops = slices.DeleteFunc(slices.Clone(ops), func(op *ledger.Op) bool {
			if op.New == nil && op.Quarantine == nil {
				return false
			}
			op.Err = err
			return true
		})
		if len(ops) == 0 {
			return nil
		}
	}
	return ledger.Isolate(ops, isDataError, s.commit)
}

// isDataError reports whether the database refuses what it was given, and works.
func isDataError(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT || e.Code()&0xff == sqlite3.SQLITE_TOOBIG || e.Code()&0xff == sqlite3.SQLITE_MISMATCH)
}

func (s *store) commit(ops []*ledger.Op) (err error) {
	ctx := context.Background() // never cancelled
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback()
		}
	}()
	t := &txn{store: s, tx: tx, stmts: s.stmts.in(ctx, tx), now: time.Now().UnixMicro(), cases: make(map[string]*ledger.Case)}
	for _, op := range ops {
		op.Err = nil
		if err := t.do(ctx, op); err != nil {
			return err
		}
	}
	woken, err := t.flush(ctx)
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if woken {
		s.waker.Wake()
	}
	return nil
}

// txn is the writer's transaction.
type txn struct {
	store *store
	tx    *sql.Tx
	stmts writeStatements
	now   int64 // in microseconds
	cases map[string]*ledger.Case
}

func (t *txn) do(ctx context.Context, op *ledger.Op) (err error) {
	if op.Quarantine != nil {
		return t.insertEvent(ctx, op.Quarantine)
	}
	c := t.cases[op.TransactionID]
	if c == nil {
		if c, err = t.load(ctx, op.TransactionID); err != nil {
			return err
		}
		t.cases[op.TransactionID] = c
	}
	if err := t.loadFor(ctx, c, op); err != nil {
		return err
	}
	op.Apply(c)
	return nil
}

// load reads a case and what is pending in it.
func (t *txn) load(ctx context.Context, id string) (*ledger.Case, error) {
	var nextSeq, liveJob int64
	var liveEvent string
	err := t.stmts.readCase.QueryRowContext(ctx, id).Scan(&nextSeq, &liveJob, &liveEvent)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.NewCase(id, 1, 0, ""), nil
	}
	if err != nil {
		return nil, err
	}
	c := ledger.NewCase(id, nextSeq, liveJob, liveEvent)
	return c, addEvents(c)(t.stmts.pending.QueryContext(ctx, id))
}

// loadFor reads what an operation needs beside that.
func (t *txn) loadFor(ctx context.Context, c *ledger.Case, op *ledger.Op) error {
	if op.ExternalID != nil && !c.Empty() {
		if err := addEvents(c)(t.stmts.last.QueryContext(ctx, c.TransactionID, *op.ExternalID)); err != nil {
			return err
		}
	}
	if op.All {
		if err := addEvents(c)(t.tx.QueryContext(ctx, `SELECT `+sqlColumns+`, NULL FROM events WHERE transaction_id = ?`, c.TransactionID)); err != nil {
			return err
		}
	}
	if op.Event != "" {
		if err := addEvents(c)(t.tx.QueryContext(ctx, `SELECT `+sqlColumns+`, NULL FROM events WHERE id = ?`, op.Event)); err != nil {
			return err
		}
	}
	if op.Job {
		var job ledger.Job
		err := t.tx.QueryRowContext(ctx, `SELECT `+sqlJob+` FROM (SELECT ?2 AS live) LEFT JOIN river_job j ON j.id = live`,
			op.Overdue.Seconds(), c.LiveJob()).Scan(&job)
		if err != nil {
			return err
		}
		c.SetJob(job)
	}
	return nil
}

// flush writes what changed.
func (t *txn) flush(ctx context.Context) (woken bool, err error) {
	for _, c := range t.cases {
		ch := c.Changes()
		for _, e := range ch.Added {
			if err := t.insertEvent(ctx, e); err != nil {
				return false, err
			}
		}
		for _, e := range ch.Changed {
			if _, err := t.stmts.updateEvent.ExecContext(ctx, e.ID, e.TransactionID, e.ExternalID, e.Status, e.Seq,
				string(e.State), e.Attempts, e.Failures, e.Discarded, e.LastError, t.now); err != nil {
				return false, err
			}
		}
		if ch.Issue != nil {
			if ch.LiveJob, err = t.insertJob(ctx, ch.Issue); err != nil {
				return false, err
			}
			woken = true
		}
		if !ch.RowChanged {
			continue
		}
		if _, err := t.stmts.writeCase.ExecContext(ctx, c.TransactionID, ch.NextSeq, ch.LiveJob, ch.LiveEvent, t.now); err != nil {
			return false, err
		}
	}
	return woken, nil
}

// insertJob inserts the job of an attempt, as River's clients in other languages
// do: its own way goes through JSON, and takes as long as all the rest.
func (t *txn) insertJob(ctx context.Context, issue *ledger.Issue) (number int64, err error) {
	args, err := json.Marshal(queue.Args{Event: issue.Event})
	if err != nil {
		return 0, err
	}
	state := rivertype.JobStateAvailable
	if issue.Delay > queue.Soon {
		state = rivertype.JobStateScheduled
	}
	err = t.stmts.insertJob.QueryRowContext(ctx, string(args), queue.Args{}.Kind(), string(state), issue.Delay.Seconds()).Scan(&number)
	return number, err
}

func (t *txn) insertEvent(ctx context.Context, e *ledger.Event) error {
	_, err := t.stmts.insertEvent.ExecContext(ctx, e.ID, e.TransactionID, e.ExternalID, e.Status, nonNil(e.Raw), e.Seq,
		string(e.State), e.LastError, e.ReceivedAt.UnixMicro(), e.Metadata)
	return err
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
