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
	"github.com/pixmed-go/pixmed/inbox/internal/queue"
)

// Commit implements [ledger.Store].
func (s *store) Commit(_ context.Context, ops []*ledger.Op) error {
	if full := s.checkDisk(); full != nil {
		// What is left of the disk is for those that were accepted.
		ops = slices.DeleteFunc(slices.Clone(ops), func(op *ledger.Op) bool {
			if op.New == nil && op.Quarantine == nil {
				return false
			}
			op.Err = full
			return true
		})
		if len(ops) == 0 {
			return nil
		}
	}
	err := s.commit(ops)
	if !isDataError(err) || len(ops) == 1 {
		return err
	}
	// The data of one operation is refused: the others go without it.
	for _, op := range ops {
		op.Err = s.commit([]*ledger.Op{op})
		if e := op.New; e != nil && isDataError(op.Err) {
			op.Err = s.commit([]*ledger.Op{ledger.Quarantine(e, op.Err)})
		}
	}
	return nil
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
	now := time.Now().UnixMicro()
	cases := make(map[string]*ledger.Case)
	for _, op := range ops {
		op.Err = nil
		if op.Quarantine != nil {
			if err := s.insertEvent(ctx, tx, op.Quarantine); err != nil {
				return err
			}
			continue
		}
		c := cases[op.TransactionID]
		if c == nil {
			if c, err = s.load(ctx, tx, op.TransactionID, now); err != nil {
				return err
			}
			cases[op.TransactionID] = c
		}
		if err := s.loadFor(ctx, tx, c, op); err != nil {
			return err
		}
		op.Apply(c)
	}
	woken, err := s.flush(ctx, tx, cases, now)
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

// load reads a case and what is pending in it.
func (s *store) load(ctx context.Context, tx *sql.Tx, id string, now int64) (*ledger.Case, error) {
	var nextSeq, liveJob int64
	var liveEvent string
	if err := tx.StmtContext(ctx, s.stmts.lockCase).QueryRowContext(ctx, id, now).Scan(&nextSeq, &liveJob, &liveEvent); err != nil {
		return nil, err
	}
	c := ledger.NewCase(id, nextSeq, liveJob, liveEvent)
	return c, addEvents(c)(tx.StmtContext(ctx, s.stmts.pending).QueryContext(ctx, id))
}

// loadFor reads what an operation needs beside that.
func (s *store) loadFor(ctx context.Context, tx *sql.Tx, c *ledger.Case, op *ledger.Op) error {
	if op.ExternalID != nil {
		if err := addEvents(c)(tx.StmtContext(ctx, s.stmts.last).QueryContext(ctx, c.TransactionID, *op.ExternalID)); err != nil {
			return err
		}
	}
	if op.All {
		if err := addEvents(c)(tx.QueryContext(ctx, `SELECT `+sqlColumns+`, NULL FROM events WHERE transaction_id = ?`, c.TransactionID)); err != nil {
			return err
		}
	}
	if op.Event != "" {
		if err := addEvents(c)(tx.QueryContext(ctx, `SELECT `+sqlColumns+`, NULL FROM events WHERE id = ?`, op.Event)); err != nil {
			return err
		}
	}
	if op.Job {
		var job ledger.Job
		err := tx.QueryRowContext(ctx, `SELECT `+sqlJob("?2")+` FROM (SELECT ?1 AS live) LEFT JOIN river_job j ON j.id = live`,
			c.LiveJob(), op.Overdue.Seconds()).Scan(&job)
		if err != nil {
			return err
		}
		c.SetJob(job)
	}
	return nil
}

// sqlJob is the state of a job j, as the ledger sees it.
func sqlJob(overdueSeconds string) string {
	return `CASE
	WHEN j.state = 'cancelled' THEN 'cancelled'
	WHEN j.id IS NULL OR j.state IN ('completed', 'discarded') THEN 'lost'
	WHEN j.state = 'running' AND unixepoch('now', 'subsec') - unixepoch(j.attempted_at, 'subsec') >= ` + overdueSeconds + ` THEN 'lost'
	ELSE 'alive' END`
}

// flush writes what changed.
func (s *store) flush(ctx context.Context, tx *sql.Tx, cases map[string]*ledger.Case, now int64) (woken bool, err error) {
	var issues []*ledger.Issue
	for _, c := range cases {
		ch := c.Changes()
		if ch.Issue != nil {
			issues = append(issues, ch.Issue)
		}
		for _, e := range ch.Added {
			if err := s.insertEvent(ctx, tx, e); err != nil {
				return false, err
			}
		}
		for _, e := range ch.Changed {
			if _, err := tx.StmtContext(ctx, s.stmts.updateEvent).ExecContext(ctx, e.ID, e.TransactionID, e.ExternalID, e.Status, e.Seq,
				string(e.State), e.Attempts, e.Failures, e.Discarded, e.LastError, now); err != nil {
				return false, err
			}
		}
	}
	var jobs map[string]int64
	if len(issues) > 0 {
		if jobs, err = queue.Insert(ctx, s.client, tx, issues); err != nil {
			return false, err
		}
	}
	for _, c := range cases {
		ch := c.Changes()
		if !ch.RowChanged {
			continue
		}
		if ch.Issue != nil {
			ch.LiveJob = jobs[ch.Issue.Event]
		}
		if _, err := tx.StmtContext(ctx, s.stmts.updateCase).ExecContext(ctx, c.TransactionID, ch.NextSeq, ch.LiveJob, ch.LiveEvent); err != nil {
			return false, err
		}
	}
	return len(issues) > 0, nil
}

func (s *store) insertEvent(ctx context.Context, tx *sql.Tx, e *ledger.Event) error {
	_, err := tx.StmtContext(ctx, s.stmts.insertEvent).ExecContext(ctx, e.ID, e.TransactionID, e.ExternalID, e.Status, nonNil(e.Raw), e.Seq,
		string(e.State), e.LastError, e.ReceivedAt.UnixMicro(), e.Metadata)
	return err
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// addEvents returns a function that adds a query's rows to a case.
func addEvents(c *ledger.Case) func(*sql.Rows, error) error {
	return func(rows *sql.Rows, err error) error {
		events, err := scanEvents(rows, err)
		for _, e := range events {
			c.Add(e)
		}
		return err
	}
}

func scanEvents(rows *sql.Rows, err error) ([]*ledger.Event, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var events []*ledger.Event
	for rows.Next() {
		e := new(ledger.Event)
		if err := scanEvent(rows, e); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

func scanEvent(row interface{ Scan(...any) error }, e *ledger.Event, more ...any) error {
	var receivedAt, doneAt int64
	err := row.Scan(append([]any{
		&e.ID, &e.TransactionID, &e.ExternalID, &e.Status, &e.Seq, &e.State, &e.Attempts, &e.Failures,
		&e.Discarded, &e.LastError, &receivedAt, &doneAt, &e.Metadata, &e.Raw,
	}, more...)...)
	e.ReceivedAt, e.DoneAt = fromMicro(receivedAt), fromMicro(doneAt)
	return err
}

func fromMicro(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// Attempt implements [ledger.Store].
func (s *store) Attempt(ctx context.Context, job int64, event string) (*ledger.Attempt, error) {
	a := new(ledger.Attempt)
	var seenAt int64
	err := scanEvent(s.stmts.attempt.QueryRowContext(ctx, event, job), &a.Event, &a.Previous, &seenAt)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ledger.ErrNone
	}
	a.SeenAt = fromMicro(seenAt)
	return a, err
}

var sqlBroken = `
SELECT transaction_id FROM cases c LEFT JOIN river_job j ON j.id = c.live_job
WHERE c.live_job IS NOT NULL AND ` + sqlJob("?1") + ` <> 'alive'
UNION
SELECT transaction_id FROM events e JOIN cases c USING (transaction_id) WHERE e.state = 'pending' AND c.live_job IS NULL`

// Broken implements [ledger.Store].
func (s *store) Broken(ctx context.Context, overdue time.Duration) ([]string, error) {
	rows, err := s.read.QueryContext(ctx, sqlBroken, overdue.Seconds())
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// Event implements [ledger.Store].
func (s *store) Event(ctx context.Context, id string) (*ledger.Event, error) {
	e := new(ledger.Event)
	err := scanEvent(s.read.QueryRowContext(ctx, `SELECT `+sqlColumns+`, raw FROM events WHERE id = ?`, id), e)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ledger.ErrNone
	}
	return e, err
}

// List implements [ledger.Store].
func (s *store) List(ctx context.Context, f ledger.Filter) ([]*ledger.Event, error) {
	query, args := `SELECT `+sqlColumns+`, raw FROM events WHERE true`, []any{}
	where := func(condition, value string) {
		if value != "" {
			query += " AND " + condition
			args = append(args, value)
		}
	}
	where("transaction_id = ?", f.TransactionID)
	where("id >= ?", f.From)
	where("id < ?", f.To)
	where("id < ?", f.Before)
	if f.State == ledger.Dead || f.State == ledger.Quarantined {
		query += " AND state IN ('dead', 'quarantined')" // which is what the smaller index is of
	}
	where("state = ?", string(f.State))
	return scanEvents(s.read.QueryContext(ctx, query+" ORDER BY id DESC LIMIT ?", append(args, f.Limit)...))
}

// History implements [ledger.Store].
func (s *store) History(ctx context.Context, transactionID string) ([]*ledger.Event, error) {
	return scanEvents(s.read.QueryContext(ctx, `SELECT `+sqlColumns+`, raw FROM events WHERE transaction_id = ? ORDER BY seq`, transactionID))
}

// Stats implements [ledger.Store].
func (s *store) Stats(ctx context.Context) (st ledger.Stats, err error) {
	var all, oldest int64
	err = s.read.QueryRowContext(ctx, `
SELECT (SELECT count(*) FROM events),
	(SELECT count(*) FROM events WHERE state = 'pending'),
	(SELECT count(*) FROM events WHERE state = 'dead'),
	(SELECT count(*) FROM events WHERE state = 'quarantined'),
	coalesce((SELECT min(received_at) FROM events WHERE state = 'pending'), 0)`).
		Scan(&all, &st.Pending, &st.Dead, &st.Quarantined, &oldest)
	st.Done = all - st.Pending - st.Dead - st.Quarantined
	if oldest != 0 {
		st.OldestPending = max(time.Since(time.UnixMicro(oldest)), 0)
	}
	return st, err
}

// purgeBatch is how many cases are deleted in one transaction.
const purgeBatch = 200

// Purge implements [ledger.Store].
func (s *store) Purge(_ context.Context, after string, age time.Duration, unfinished bool) (deleted int64, next string, err error) {
	ctx := context.Background() // never cancelled
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return 0, "", err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback()
		}
	}()
	before := time.Now().Add(-age).UnixMicro()
	keep := `'pending', 'dead'`
	if unfinished {
		keep = `'pending'`
	}
	rows, err := tx.QueryContext(ctx, `
SELECT transaction_id FROM cases c
WHERE transaction_id > ? AND updated_at <= ? AND live_job IS NULL
	AND NOT EXISTS (SELECT 1 FROM events e WHERE e.transaction_id = c.transaction_id AND e.state IN (`+keep+`))
ORDER BY transaction_id LIMIT ?`, after, before, purgeBatch)
	if err != nil {
		return 0, "", err
	}
	var ids []string
	for rows.Next() {
		if err := rows.Scan(&next); err != nil {
			return 0, "", errors.Join(err, rows.Close())
		}
		ids = append(ids, next)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return 0, "", err
	}
	remove := func(query string, args ...any) error {
		result, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		deleted += n
		return err
	}
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, `DELETE FROM cases WHERE transaction_id = ?`, id); err != nil {
			return 0, "", err
		}
		if err := remove(`DELETE FROM events WHERE transaction_id = ?`, id); err != nil {
			return 0, "", err
		}
	}
	if len(ids) < purgeBatch {
		next = ""
		if unfinished {
			if err := remove(`DELETE FROM events WHERE state = 'quarantined' AND received_at <= ?`, before); err != nil {
				return 0, "", err
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, "", fmt.Errorf("purge: %w", err)
	}
	return deleted, next, nil
}
