package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
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
	t := &txn{store: s, tx: tx, now: time.Now().UnixMicro(), cases: make(map[string]*ledger.Case), ids: make(map[string]int64)}
	if err := t.load(ctx, ops); err != nil {
		return err
	}
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
		s.Wake()
	}
	s.trimWAL()
	return nil
}

// txn is the writer's transaction.
type txn struct {
	store *store
	tx    *sql.Tx
	now   int64 // in microseconds
	cases map[string]*ledger.Case
	ids   map[string]int64 // of the cases that there are
	added []*ledger.Event  // that belong to no case
}

// stmt binds a prepared statement to the transaction.
func (t *txn) stmt(ctx context.Context, s *sql.Stmt) *sql.Stmt { return t.tx.StmtContext(ctx, s) }

func (t *txn) do(ctx context.Context, op *ledger.Op) (err error) {
	if op.Quarantine != nil {
		t.added = append(t.added, op.Quarantine)
		return nil
	}
	c := t.cases[op.TransactionID]
	if err := t.loadFor(ctx, c, op); err != nil {
		return err
	}
	op.Apply(c)
	return nil
}

// load reads the cases and what is pending in them.
func (t *txn) load(ctx context.Context, ops []*ledger.Op) error {
	for _, op := range ops {
		if op.TransactionID != "" {
			t.cases[op.TransactionID] = ledger.NewCase(op.TransactionID, 1, 0, "") // unless there is one
		}
	}
	ids, err := json.Marshal(slices.Collect(maps.Keys(t.cases)))
	if err != nil {
		return err
	}
	rows, err := t.stmt(ctx, t.store.stmts.readCases).QueryContext(ctx, string(ids))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, liveEvent string
		var number, nextSeq, liveJob int64
		if err := rows.Scan(&number, &id, &nextSeq, &liveJob, &liveEvent); err != nil {
			return err
		}
		t.cases[id] = ledger.NewCase(id, nextSeq, liveJob, liveEvent)
		t.ids[id] = number
	}
	if err := rows.Close(); err != nil {
		return err
	}
	for id, number := range t.ids {
		if err := addEvents(t.cases[id])(t.stmt(ctx, t.store.stmts.pending).QueryContext(ctx, number)); err != nil {
			return err
		}
	}
	return rows.Err()
}

// loadFor reads what an operation needs beside that.
func (t *txn) loadFor(ctx context.Context, c *ledger.Case, op *ledger.Op) error {
	if op.ExternalID != nil && !c.Empty() {
		if err := addEvents(c)(t.stmt(ctx, t.store.stmts.last).QueryContext(ctx, t.ids[c.TransactionID], *op.ExternalID)); err != nil {
			return err
		}
	}
	if op.All {
		if err := addEvents(c)(t.tx.QueryContext(ctx, `SELECT `+sqlColumns+`, NULL FROM events WHERE case_id = ?`, t.ids[c.TransactionID])); err != nil {
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
	added := t.added
	var jobs, cases []any
	var lastJob, lastCase int64
	if err := t.stmt(ctx, t.store.stmts.lastIDs).QueryRowContext(ctx).Scan(&lastJob, &lastCase); err != nil {
		return false, err
	}
	for _, id := range slices.Sorted(maps.Keys(t.cases)) {
		ch := t.cases[id].Changes()
		if t.ids[id] == 0 {
			lastCase++
			t.ids[id] = lastCase
		}
		added = append(added, ch.Added...)
		for _, e := range ch.Changed {
			if _, err := t.stmt(ctx, t.store.stmts.updateEvent).ExecContext(ctx, e.ID, e.TransactionID, e.ExternalID, e.Status, e.Seq,
				string(e.State), e.Attempts, e.Failures, e.Discarded, e.LastError, t.now, t.ids[e.TransactionID]); err != nil {
				return false, err
			}
		}
		if ch.Issue != nil {
			lastJob++
			ch.LiveJob = lastJob
			if jobs, err = appendJob(jobs, lastJob, ch.Issue); err != nil {
				return false, err
			}
		}
		if ch.RowChanged {
			cases = append(cases, t.ids[id], id, ch.NextSeq, ch.LiveJob, ch.LiveEvent, t.now)
		}
	}
	var events []any
	for _, e := range added {
		events = append(events, e.ID, t.ids[e.TransactionID], e.TransactionID, e.ExternalID, e.Status, nonNil(e.Raw), e.Seq,
			string(e.State), e.LastError, e.ReceivedAt.UnixMicro(), e.Metadata)
	}
	return len(jobs) > 0, errors.Join(t.insert(ctx, &t.store.stmts.events, events), t.insert(ctx, &t.store.stmts.jobs, jobs), t.insert(ctx, &t.store.stmts.cases, cases))
}

// appendJob appends the columns of a job. River's own way to insert one goes
// through JSON, and takes as long as all the rest; its clients in other languages
// insert as it is done here.
func appendJob(columns []any, number int64, issue *ledger.Issue) ([]any, error) {
	args, err := json.Marshal(queue.Args{Event: issue.Event})
	if err != nil {
		return nil, err
	}
	state := rivertype.JobStateAvailable
	if issue.Delay > queue.Soon {
		state = rivertype.JobStateScheduled
	}
	return append(columns, number, string(args), queue.Args{}.Kind(), string(state), issue.Delay.Seconds()), nil
}

// insert inserts rows, several with each statement: to run one takes longer than
// to write a row.
func (t *txn) insert(ctx context.Context, b *bulk, columns []any) error {
	for i, rows := range bulkRows {
		for n := rows * b.columns; len(columns) >= n; columns = columns[n:] {
			if _, err := t.stmt(ctx, b.stmts[i]).ExecContext(ctx, columns[:n]...); err != nil {
				return err
			}
		}
	}
	return nil
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
