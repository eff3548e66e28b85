package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	sqlEvent   = `SELECT ` + whole + ` FROM {schema}.events e WHERE e.id = $1::text::uuid`
	sqlList    = `SELECT ` + whole + ` FROM {schema}.events e WHERE true`
	sqlHistory = `SELECT ` + whole + ` FROM {schema}.events e WHERE e.transaction_id = $1::text::uuid ORDER BY e.seq`
	sqlStats   = `
SELECT count(*), (SELECT count(*) FROM {schema}.events WHERE state = 'dead'), (SELECT count(*) FROM {schema}.events WHERE state = 'quarantined'),
	coalesce(extract(epoch FROM clock_timestamp() - min(received_at)), 0)::float8
FROM {schema}.events WHERE state = 'pending'`
	sqlReceived = `
SELECT floor(extract(epoch FROM received_at - $3::timestamptz) * 1000000 / $4::bigint)::bigint, state, count(*)
FROM {schema}.events WHERE id >= $1::text::uuid AND id < $2::text::uuid GROUP BY 1, 2`

	sqlListCases   = `SELECT c.transaction_id::text, c.updated_at FROM {schema}.cases c WHERE true`
	sqlCasePending = `EXISTS (SELECT FROM {schema}.events e WHERE e.transaction_id = c.transaction_id AND e.state = 'pending')`
	sqlCaseDead    = `EXISTS (SELECT FROM {schema}.events e WHERE e.transaction_id = c.transaction_id AND e.state IN ('dead', 'quarantined') AND e.state = 'dead')`
	// Not with OR, for which all events would be read for each case.
	sqlCaseSearch = `c.transaction_id IN (SELECT nullif($1::text, '')::uuid UNION
	SELECT e.transaction_id FROM {schema}.events e WHERE e.external_id = $2::bytea OR position($2::bytea IN e.raw) > 0)`
	sqlHistories = `SELECT ` + whole + ` FROM {schema}.events e WHERE e.transaction_id = ANY ($1::text[]::uuid[]) ORDER BY e.transaction_id, e.seq`
)

// query runs a query for pages and counts. It waits for others of its kind, so that
// they never take a connection that the inbox or its workers need.
func (s *store) query(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return fmt.Errorf("wait for other queries: %w", ctx.Err())
	}
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	return read(rows)
}

func (s *store) events(ctx context.Context, sql string, args ...any) (events []*ledger.Event, err error) {
	err = s.query(ctx, func(rows pgx.Rows) (err error) {
		events, err = scanEvents(rows)
		return err
	}, sql, args...)
	return events, err
}

// Event implements [ledger.Reader].
func (s *store) Event(ctx context.Context, id string) (*ledger.Event, error) {
	events, err := s.events(ctx, s.sql.event, id)
	if err == nil && len(events) == 0 {
		return nil, ledger.ErrNone
	}
	if err != nil {
		return nil, err
	}
	return events[0], nil
}

// List implements [ledger.Reader].
func (s *store) List(ctx context.Context, f ledger.Filter) ([]*ledger.Event, error) {
	query, args := s.sql.list, []any{}
	where := func(condition, value string) {
		if value != "" {
			args = append(args, value)
			query += fmt.Sprintf(" AND "+condition, len(args))
		}
	}
	where("e.transaction_id = $%d::text::uuid", f.TransactionID)
	where("e.id >= $%d::text::uuid", f.From)
	where("e.id < $%d::text::uuid", f.To)
	where("e.id < $%d::text::uuid", f.Before)
	if f.State == ledger.Dead || f.State == ledger.Quarantined {
		query += " AND e.state IN ('dead', 'quarantined')" // which is what the smaller index is of
	}
	where("e.state = $%d", string(f.State))
	if f.Search != "" {
		args = append(args, []byte(f.Search))
		query += fmt.Sprintf(" AND (e.external_id = $%[1]d OR position($%[1]d IN e.raw) > 0)", len(args))
	}
	args = append(args, f.Limit)
	return s.events(ctx, fmt.Sprintf("%s ORDER BY e.id DESC LIMIT $%d", query, len(args)), args...)
}

// History implements [ledger.Reader].
func (s *store) History(ctx context.Context, transactionID string) ([]*ledger.Event, error) {
	return s.events(ctx, s.sql.history, transactionID)
}

// Cases implements [ledger.Reader].
func (s *store) Cases(ctx context.Context, f ledger.CaseFilter) (cases []*ledger.CaseRow, err error) {
	query, args := s.sql.listCases, []any{}
	where := func(condition string, values ...any) {
		args = append(args, values...)
		query += " AND " + strings.NewReplacer("$1", fmt.Sprintf("$%d", len(args)-len(values)+1), "$2", fmt.Sprintf("$%d", len(args))).Replace(condition)
	}
	switch f.State {
	case ledger.Pending:
		where(s.sql.casePending)
	case ledger.Dead:
		where(s.sql.caseDead)
	case ledger.Done:
		where("NOT " + s.sql.casePending)
		where("NOT " + s.sql.caseDead)
	default:
	}
	if f.Search != "" {
		where(s.sql.caseSearch, f.TransactionID, []byte(f.Search))
	}
	if f.BeforeID != "" {
		where("(c.updated_at, c.transaction_id) < ($1, $2::text::uuid)", f.Before, f.BeforeID)
	}
	args = append(args, f.Limit)
	err = s.query(ctx, func(rows pgx.Rows) (err error) {
		cases, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*ledger.CaseRow, error) {
			c := new(ledger.CaseRow)
			err := row.Scan(&c.TransactionID, &c.UpdatedAt)
			c.UpdatedAt = c.UpdatedAt.UTC()
			return c, err
		})
		return err
	}, fmt.Sprintf("%s ORDER BY c.updated_at DESC, c.transaction_id DESC LIMIT $%d", query, len(args)), args...)
	if err != nil || len(cases) == 0 {
		return nil, err
	}
	byID := make(map[string]*ledger.CaseRow, len(cases))
	ids := make([]string, len(cases))
	for i, c := range cases {
		ids[i], byID[c.TransactionID] = c.TransactionID, c
	}
	events, err := s.events(ctx, s.sql.histories, ids)
	for _, e := range events {
		c := byID[e.TransactionID]
		c.Events = append(c.Events, e)
	}
	return cases, err
}

// Stats implements [ledger.Reader].
func (s *store) Stats(ctx context.Context) (st ledger.Stats, err error) {
	var oldest float64
	err = s.query(ctx, func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&st.Pending, &st.Dead, &st.Quarantined, &oldest}, func() error { return nil })
		return err
	}, s.sql.stats)
	st.OldestPending = max(time.Duration(oldest*float64(time.Second)), 0)
	return st, err
}

// CountReceived implements [ledger.Reader].
func (s *store) CountReceived(ctx context.Context, span ledger.Span) (counts []ledger.Count, err error) {
	err = s.query(ctx, func(rows pgx.Rows) (err error) {
		counts, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c ledger.Count, err error) {
			return c, row.Scan(&c.Span, &c.State, &c.Events)
		})
		return err
	}, s.sql.received, span.FromID, span.ToID, span.From, span.Length.Microseconds())
	return counts, err
}

// version reads the version of the tables, for a probe.
func (r *round) version(rows pgx.Rows) error {
	version, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	if err == nil {
		err = r.s.checkVersion(version)
	}
	return err
}

// noteVersion logs once that another process has brought the tables further than
// this program knows.
func (s *store) noteVersion(version int) {
	if err := s.checkVersion(version); errors.Is(err, errOutdated) && !s.outdated {
		s.outdated = true
		s.log.Error("pixmed: the inbox is not ready", "error", err)
	}
}
