package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	sqlEvent   = `SELECT ` + whole + ` FROM events e WHERE id = ?`
	sqlList    = `SELECT ` + whole + ` FROM events e WHERE true`
	sqlHistory = `SELECT ` + whole + ` FROM events e WHERE case_id = (SELECT id FROM cases WHERE transaction_id = ?) ORDER BY seq`

	sqlStats = `
SELECT (SELECT count(*) FROM events WHERE state = 'pending' AND state <> 'done'),
	(SELECT count(*) FROM events WHERE state = 'dead' AND state <> 'done'),
	(SELECT count(*) FROM events WHERE state = 'quarantined' AND state <> 'done'),
	coalesce((SELECT received_at FROM events WHERE state = 'pending' AND state <> 'done' ORDER BY id LIMIT 1), 0)`
	sqlReceived = `SELECT (received_at - ?3) / ?4, state, count(*) FROM events WHERE id >= ?1 AND id < ?2 GROUP BY 1, 2`

	sqlListCases  = `SELECT transaction_id, updated_at FROM cases c WHERE true`
	sqlCaseHolds  = `c.id IN (SELECT case_id FROM events WHERE state <> 'done' AND state = ?)`
	sqlCaseDone   = `NOT c.id IN (SELECT case_id FROM events WHERE state <> 'done' AND state IN ('pending', 'dead'))`
	sqlCaseSearch = `c.id IN (SELECT id FROM cases WHERE transaction_id = ? UNION SELECT case_id FROM events WHERE external_id = ? OR instr(raw, ?) > 0)`
	sqlHistories  = `
SELECT ` + whole + ` FROM events e
WHERE case_id IN (SELECT id FROM cases WHERE transaction_id IN (SELECT value FROM json_each(?))) ORDER BY case_id, seq`
)

// Event implements [ledger.Reader].
func (r *reader) Event(ctx context.Context, id string) (*ledger.Event, error) {
	events, err := r.events(ctx, sqlEvent, id)
	if err == nil && len(events) == 0 {
		return nil, ledger.ErrNone
	}
	if err != nil {
		return nil, err
	}
	return events[0], nil
}

func (r *reader) events(ctx context.Context, query string, args ...any) (events []*ledger.Event, err error) {
	err = r.do(ctx, func(ctx context.Context, db *sql.DB) (err error) {
		events, err = scanEvents(db.QueryContext(ctx, query, args...))
		return err
	})
	return events, err
}

// List implements [ledger.Reader].
func (r *reader) List(ctx context.Context, f ledger.Filter) ([]*ledger.Event, error) {
	query, args := sqlList, []any{}
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
	return r.events(ctx, query+" ORDER BY id DESC LIMIT ?", append(args, f.Limit)...)
}

// History implements [ledger.Reader].
func (r *reader) History(ctx context.Context, transactionID string) ([]*ledger.Event, error) {
	return r.events(ctx, sqlHistory, transactionID)
}

// Cases implements [ledger.Reader].
func (r *reader) Cases(ctx context.Context, f ledger.CaseFilter) (cases []*ledger.CaseRow, err error) {
	err = r.do(ctx, func(ctx context.Context, db *sql.DB) (err error) {
		cases, err = listCases(ctx, db, f)
		return err
	})
	return cases, err
}

func listCases(ctx context.Context, db *sql.DB, f ledger.CaseFilter) (cases []*ledger.CaseRow, err error) {
	query, args := sqlListCases, []any{}
	where := func(condition string, values ...any) {
		query += " AND " + condition
		args = append(args, values...)
	}
	switch f.State {
	case ledger.Pending, ledger.Dead:
		where(sqlCaseHolds, string(f.State))
	case ledger.Done:
		where(sqlCaseDone)
	default:
	}
	if f.Search != "" {
		where(sqlCaseSearch, f.TransactionID, f.Search, []byte(f.Search))
	}
	if f.BeforeID != "" {
		where("(c.updated_at, c.transaction_id) < (?, ?)", f.Before.UnixMicro(), f.BeforeID)
	}
	rows, err := db.QueryContext(ctx, query+" ORDER BY c.updated_at DESC, c.transaction_id DESC LIMIT ?", append(args, f.Limit)...)
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
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	ids, err := json.Marshal(slices.Collect(maps.Keys(byID)))
	if err != nil {
		return nil, err
	}
	events, err := scanEvents(db.QueryContext(ctx, sqlHistories, string(ids)))
	for _, e := range events {
		c := byID[e.TransactionID]
		c.Events = append(c.Events, e)
	}
	return cases, err
}

// Stats implements [ledger.Reader].
func (r *reader) Stats(ctx context.Context) (st ledger.Stats, err error) {
	var oldest int64
	err = r.do(ctx, func(ctx context.Context, db *sql.DB) error {
		return db.QueryRowContext(ctx, sqlStats).Scan(&st.Pending, &st.Dead, &st.Quarantined, &oldest)
	})
	if oldest != 0 {
		st.OldestPending = max(time.Since(time.UnixMicro(oldest)), 0)
	}
	return st, err
}

// CountReceived implements [ledger.Reader].
func (r *reader) CountReceived(ctx context.Context, span ledger.Span) (counts []ledger.Count, err error) {
	err = r.do(ctx, func(ctx context.Context, db *sql.DB) (err error) {
		rows, err := db.QueryContext(ctx, sqlReceived, span.FromID, span.ToID, span.From.UnixMicro(), span.Length.Microseconds())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			var c ledger.Count
			if err := rows.Scan(&c.Span, &c.State, &c.Events); err != nil {
				return err
			}
			counts = append(counts, c)
		}
		return rows.Err()
	})
	return counts, err
}
