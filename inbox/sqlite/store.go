package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

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
	err := scanEvent(s.attempt.QueryRowContext(ctx, event, job), &a.Event, &a.Previous, &seenAt)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ledger.ErrNone
	}
	a.SeenAt = fromMicro(seenAt)
	return a, err
}

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
	where("case_id = (SELECT id FROM cases WHERE transaction_id = ?)", f.TransactionID)
	where("id >= ?", f.From)
	where("id < ?", f.To)
	where("id < ?", f.Before)
	if f.State != "" && f.State != ledger.Done {
		query += " AND state <> 'done'" // which is what the smaller index is of
	}
	where("state = ?", string(f.State))
	if f.Search != "" {
		query += " AND (external_id = ? OR instr(raw, ?) > 0)"
		args = append(args, f.Search, []byte(f.Search))
	}
	return scanEvents(s.read.QueryContext(ctx, query+" ORDER BY id DESC LIMIT ?", append(args, f.Limit)...))
}

// Cases implements [ledger.Store].
func (s *store) Cases(ctx context.Context, f ledger.CaseFilter) (cases []*ledger.CaseRow, err error) {
	query, args := `SELECT transaction_id, updated_at FROM cases c WHERE true`, []any{}
	where := func(condition string, values ...any) {
		query += " AND " + condition
		args = append(args, values...)
	}
	const holds = `c.id IN (SELECT case_id FROM events WHERE state <> 'done' AND state `
	switch f.State {
	case ledger.Pending, ledger.Dead:
		where(holds+`= ?)`, f.State)
	case ledger.Done:
		where(`NOT ` + holds + `IN ('pending', 'dead'))`)
	default:
	}
	if f.Search != "" {
		where(`c.id IN (SELECT id FROM cases WHERE transaction_id = ? UNION SELECT case_id FROM events WHERE external_id = ? OR instr(raw, ?) > 0)`,
			f.TransactionID, f.Search, []byte(f.Search))
	}
	if f.BeforeID != "" {
		where("(c.updated_at, c.transaction_id) < (?, ?)", f.Before.UnixMicro(), f.BeforeID)
	}
	rows, err := s.read.QueryContext(ctx, query+" ORDER BY c.updated_at DESC, c.transaction_id DESC LIMIT ?", append(args, f.Limit)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	byID := make(map[string]*ledger.CaseRow)
	for rows.Next() {
		c := new(ledger.CaseRow)
		var updatedAt int64
		if err := rows.Scan(&c.TransactionID, &updatedAt); err != nil {
			return nil, err
		}
		c.UpdatedAt = fromMicro(updatedAt)
		cases, byID[c.TransactionID] = append(cases, c), c
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	ids, err := json.Marshal(slices.Collect(maps.Keys(byID)))
	if err != nil {
		return nil, err
	}
	events, err := scanEvents(s.read.QueryContext(ctx, `
SELECT `+sqlColumns+`, raw FROM events
WHERE case_id IN (SELECT id FROM cases WHERE transaction_id IN (SELECT value FROM json_each(?))) ORDER BY case_id, seq`, string(ids)))
	for _, e := range events {
		c := byID[e.TransactionID]
		c.Events = append(c.Events, e)
	}
	return cases, err
}

// Received implements [ledger.Store].
func (s *store) Received(ctx context.Context, span ledger.Span) (counts []ledger.Count, err error) {
	rows, err := s.read.QueryContext(ctx, `SELECT (received_at - ?3) / ?4, state, count(*) FROM events WHERE id >= ?1 AND id < ?2 GROUP BY 1, 2`,
		span.FromID, span.ToID, span.From.UnixMicro(), span.Length.Microseconds())
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var c ledger.Count
		if err := rows.Scan(&c.Span, &c.State, &c.Events); err != nil {
			return nil, err
		}
		counts = append(counts, c)
	}
	return counts, rows.Err()
}

// Ready implements [ledger.Store].
func (s *store) Ready(ctx context.Context) error {
	if err := s.checkFile(); err != nil {
		return err
	}
	var one int
	return s.read.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

// History implements [ledger.Store].
func (s *store) History(ctx context.Context, transactionID string) ([]*ledger.Event, error) {
	return scanEvents(s.read.QueryContext(ctx, `SELECT `+sqlColumns+`, raw FROM events WHERE case_id = (SELECT id FROM cases WHERE transaction_id = ?) ORDER BY seq`, transactionID))
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
	AND NOT EXISTS (SELECT 1 FROM events e WHERE e.case_id = c.id AND e.state IN (`+keep+`))
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
		if err := remove(`DELETE FROM events WHERE case_id = (SELECT id FROM cases WHERE transaction_id = ?)`, id); err != nil {
			return 0, "", err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM cases WHERE transaction_id = ?`, id); err != nil {
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
	s.trimWAL()
	return deleted, next, nil
}
