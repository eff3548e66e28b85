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

// shown are further columns of an event on a page, computed from its case's row: when
// it runs next, and whether it is running. With EXISTS a plan might read all held cases.
const shown = `, CASE WHEN e.state = 'pending' THEN (SELECT CASE WHEN NOT (c.held AND c.running > 0) AND c.head = e.seq THEN c.event_at END
	FROM {schema}.cases c WHERE c.transaction_id = e.transaction_id) END,
	e.state = 'pending' AND coalesce((SELECT c.held AND c.running = e.seq FROM {schema}.cases c WHERE c.transaction_id = e.transaction_id), false)`

const (
	sqlEvent   = `SELECT ` + whole + shown + ` FROM {schema}.events e WHERE e.id = $1::text::uuid`
	sqlHistory = `SELECT ` + whole + shown + ` FROM {schema}.events e WHERE e.transaction_id = $1::text::uuid ORDER BY e.seq`
	// sqlStats reads the index of open cases once, and a part of it for those that are
	// overdue and the next that is due.
	sqlStats = `
SELECT p.n, (SELECT count(*) FROM {schema}.events WHERE state = 'dead'), (SELECT count(*) FROM {schema}.events WHERE state = 'quarantined'),
	p.oldest, o.n, o.blocked,
	(SELECT count(*) FROM {schema}.cases c WHERE c.open AND c.answered_at IS NULL AND c.opened_at <= ` + openedAtEdge + `),
	(SELECT c.opened_at + s.defence * interval '1 microsecond' FROM {schema}.settings s, {schema}.cases c
		WHERE s.one AND c.open AND c.answered_at IS NULL AND c.opened_at > ` + openedAtEdge + ` ORDER BY c.opened_at LIMIT 1),
	o.given_up
FROM (SELECT count(*) n, coalesce(extract(epoch FROM clock_timestamp() - min(received_at)), 0)::float8 oldest FROM {schema}.events WHERE state = 'pending') p, (
	SELECT count(*) n, least(coalesce(sum(value), 0), 9223372036854775807)::bigint blocked, count(*) FILTER (WHERE given_up > 0 AND answered_at IS NULL) given_up
	FROM {schema}.cases WHERE open) o`
	// A case that opened before this time is overdue; NULL without WithDefence.
	openedAtEdge = `(SELECT statement_timestamp() - defence * interval '1 microsecond' FROM {schema}.settings WHERE one)`
	sqlReceived  = `
SELECT floor(extract(epoch FROM received_at - $3::timestamptz) * 1000000 / $4::bigint)::bigint, state, count(*)
FROM {schema}.events WHERE id >= $1::text::uuid AND id < $2::text::uuid GROUP BY 1, 2`

	// sqlMatches finds the transactions that a search matches. It reads a bounded part of
	// each index.
	sqlMatches = `(
	(SELECT transaction_id FROM {schema}.ids WHERE external_key >= $1::bytea AND external_key <= $2::bytea ORDER BY external_key LIMIT ` + ledger.MaxMatches + `) UNION
	(SELECT transaction_id FROM {schema}.ids WHERE e2e_key >= $1::bytea AND e2e_key <= $2::bytea ORDER BY e2e_key LIMIT ` + ledger.MaxMatches + `) UNION
	(SELECT transaction_id FROM {schema}.cases WHERE transaction_id BETWEEN $3::text::uuid AND $4::text::uuid ORDER BY transaction_id LIMIT ` + ledger.MaxMatches + `))`
	// These read only the rows that were found. Without OFFSET the planner may choose to
	// read rows in the order of the list until the page is full, which may be all of them.
	sqlMatchingCases  = ` FROM ` + sqlMatches + ` m CROSS JOIN LATERAL (SELECT * FROM {schema}.cases x WHERE x.transaction_id = m.transaction_id OFFSET 0) c`
	sqlMatchingEvents = ` FROM ` + sqlMatches + ` m CROSS JOIN LATERAL (SELECT * FROM {schema}.events x WHERE x.transaction_id = m.transaction_id OFFSET 0) e`

	sqlCaseColumns = `
SELECT c.transaction_id::text, c.updated_at, c.dead, c.next_seq - 1, c.remind_at, (SELECT coalesce(defence, 0) FROM {schema}.settings WHERE one),
	c.pending, e.status, e.external_id, ` + summary
	sqlCaseStatus  = ` JOIN {schema}.events e ON e.transaction_id = c.transaction_id AND e.seq = c.status_seq WHERE true`
	sqlListCases   = sqlCaseColumns + ` FROM {schema}.cases c` + sqlCaseStatus
	sqlSearchCases = sqlCaseColumns + sqlMatchingCases + sqlCaseStatus
	// sqlCurrents reads the current event of cases: the first that is pending, or the
	// last that is dead, or the last.
	sqlCurrents = `
SELECT ` + bare + shown + ` FROM unnest($1::text[]::uuid[]) k (id) JOIN {schema}.cases d ON d.transaction_id = k.id JOIN {schema}.events e ON e.transaction_id = k.id AND e.seq = coalesce(nullif(d.head, 0),
	(SELECT p.seq FROM {schema}.events p WHERE p.transaction_id = k.id AND p.state = 'dead' ORDER BY p.seq DESC LIMIT 1),
	(SELECT p.seq FROM {schema}.events p WHERE p.transaction_id = k.id ORDER BY p.seq DESC LIMIT 1))`

	noteColumns   = `coalesce(transaction_id::text, ''), coalesce(event_id::text, ''), at, action, by, note`
	sqlNotes      = `SELECT ` + noteColumns + ` FROM {schema}.notes WHERE transaction_id = $1::text::uuid ORDER BY id`
	sqlEventNotes = `SELECT ` + noteColumns + ` FROM {schema}.notes WHERE transaction_id IS NULL AND event_id = $1::text::uuid ORDER BY id`
	sqlFailures   = `
SELECT ` + sqlGroup + `, count(*), max(received_at) FROM {schema}.events
WHERE state IN ('dead', 'quarantined') AND state = $1 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $2`
	// sqlGroup is the text by which failures are grouped.
	sqlGroup = `left(split_part(last_error, chr(10), 1), ` + ledger.FailureText + `)`
)

// query runs a query for pages and counts. Only a few run at a time, so that they never
// take a connection that the inbox or its workers need.
func (s *engine) query(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return fmt.Errorf("wait for other queries: %w", ctx.Err())
	}
	if s.readTimeout > 0 {
		return s.readOnly(ctx, read, sql, args...)
	}
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	return read(rows)
}

func (s *engine) events(ctx context.Context, sql string, args ...any) (events []*ledger.Event, err error) {
	err = s.query(ctx, func(rows pgx.Rows) (err error) {
		events, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*ledger.Event, error) {
			e := new(ledger.Event)
			var next *time.Time
			err := scanEvent(row, e, &next, &e.Running)
			e.NextAttempt = fromNull(next)
			return e, err
		})
		return err
	}, sql, args...)
	return events, err
}

// Event implements [ledger.Reader].
func (s *engine) Event(ctx context.Context, id string) (*ledger.Event, error) {
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
func (s *engine) List(ctx context.Context, f ledger.Filter) ([]*ledger.Event, error) {
	query, args := s.listQuery(f)
	return s.events(ctx, query, args...)
}

func (s *engine) listQuery(f ledger.Filter) (query string, args []any) {
	columns, from := whole, ` FROM {schema}.events e`
	if f.Bare {
		columns = bare
	}
	if f.Search != nil {
		from, args = sqlMatchingEvents, searchArgs(f.Search)
	}
	query = s.in("SELECT " + columns + shown + from + " WHERE true")
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
		query += " AND e.state IN ('dead', 'quarantined')" // so that it reads events_failed
	}
	where("e.state = $%d", string(f.State))
	where("position($%d IN e.last_error) > 0", f.Error)
	if f.Group != nil {
		args = append(args, *f.Group)
		query += fmt.Sprintf(" AND "+sqlGroup+" = $%d", len(args))
	}
	args = append(args, f.Limit)
	return fmt.Sprintf("%s ORDER BY e.id DESC LIMIT $%d", query, len(args)), args
}

func searchArgs(s *ledger.Search) []any { return []any{s.FromKey, s.ToKey, s.FromID, s.ToID} }

// History implements [ledger.Reader].
func (s *engine) History(ctx context.Context, transactionID string) ([]*ledger.Event, error) {
	return s.events(ctx, s.sql.history, transactionID)
}

// Cases implements [ledger.Reader].
func (s *engine) Cases(ctx context.Context, f ledger.CaseFilter) ([]*ledger.CaseRow, error) {
	query, args := s.casesQuery(f)
	return s.cases(ctx, query, args...)
}

func (s *engine) casesQuery(f ledger.CaseFilter) (query string, args []any) {
	query = s.sql.listCases
	if f.Search != nil {
		query, args = s.sql.searchCases, searchArgs(f.Search)
	}
	where := func(condition string, values ...any) {
		args = append(args, values...)
		query += " AND " + strings.NewReplacer("$1", fmt.Sprintf("$%d", len(args)-len(values)+1), "$2", fmt.Sprintf("$%d", len(args))).Replace(condition)
	}
	if f.Ended {
		where("NOT c.open")
	} else {
		where("c.open")
	}
	if f.Unanswered {
		where("c.answered_at IS NULL")
	}
	if !f.DueBefore.IsZero() {
		where(s.in("c.opened_at < $1::timestamptz - (SELECT defence * interval '1 microsecond' FROM {schema}.settings WHERE one)"), f.DueBefore)
	}
	switch f.State {
	case ledger.Pending:
		where("c.event_at IS NOT NULL")
	case ledger.Dead:
		where("c.dead > 0")
	case ledger.Done:
		where("c.event_at IS NULL AND c.dead = 0")
	default:
	}
	order := "c.opened_at, c.transaction_id"
	if f.Ended {
		order = "c.updated_at DESC, c.transaction_id DESC"
	}
	if f.After.ID != "" {
		condition := "(c.opened_at, c.transaction_id) > ($1, $2::text::uuid)"
		if f.Ended {
			condition = "(c.updated_at, c.transaction_id) < ($1, $2::text::uuid)"
		}
		where(condition, f.After.At, f.After.ID)
	}
	return fmt.Sprintf("%s ORDER BY %s LIMIT %d", query, order, f.Limit), args
}

// Case implements [ledger.Reader].
func (s *engine) Case(ctx context.Context, transactionID string) (*ledger.CaseRow, error) {
	cases, err := s.cases(ctx, s.sql.listCases+" AND c.transaction_id = $1::text::uuid", transactionID)
	if err == nil && len(cases) == 0 {
		return nil, ledger.ErrNone
	}
	if err != nil {
		return nil, err
	}
	return cases[0], nil
}

// cases runs a query for cases, and adds their current events.
func (s *engine) cases(ctx context.Context, sql string, args ...any) (cases []*ledger.CaseRow, err error) {
	err = s.query(ctx, func(rows pgx.Rows) (err error) {
		cases, err = pgx.CollectRows(rows, scanCase)
		return err
	}, sql, args...)
	if err != nil || len(cases) == 0 {
		return nil, err
	}
	byID := make(map[string]*ledger.CaseRow, len(cases))
	ids := make([]string, len(cases))
	for i, c := range cases {
		ids[i], byID[c.TransactionID] = c.TransactionID, c
	}
	events, err := s.events(ctx, s.sql.currents, ids)
	for _, e := range events {
		byID[e.TransactionID].Current = e
	}
	return cases, err
}

func scanCase(row pgx.CollectableRow) (*ledger.CaseRow, error) {
	c := new(ledger.CaseRow)
	var remindAt *time.Time
	var window int64
	var status, externalID []byte
	s := newSummaryScan(&c.Summary)
	err := row.Scan(append([]any{&c.TransactionID, &c.UpdatedAt, &c.Dead, &c.Events, &remindAt, &window, &c.Pending, &status, &externalID}, s.into()...)...)
	s.done()
	c.UpdatedAt, c.Reminder, c.Window = c.UpdatedAt.UTC(), fromNull(remindAt), time.Duration(window)*time.Microsecond
	c.Status, c.ExternalID = string(status), string(externalID)
	return c, err
}

// Notes implements [ledger.Reader].
func (s *engine) Notes(ctx context.Context, transactionID, event string) (notes []ledger.Note, err error) {
	sql, id := s.sql.notes, transactionID
	if id == "" {
		sql, id = s.sql.eventNotes, event
	}
	err = s.query(ctx, func(rows pgx.Rows) (err error) {
		notes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n ledger.Note, err error) {
			err = row.Scan(&n.TransactionID, &n.EventID, &n.At, &n.Action, &n.By, &n.Text)
			n.At = n.At.UTC()
			return n, err
		})
		return err
	}, sql, id)
	return notes, err
}

// Failures implements [ledger.Reader].
func (s *engine) Failures(ctx context.Context, state ledger.State, limit int) (failures []ledger.Failure, err error) {
	err = s.query(ctx, func(rows pgx.Rows) (err error) {
		failures, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (ledger.Failure, error) {
			f := ledger.Failure{State: state}
			err := row.Scan(&f.Error, &f.Events, &f.LastAt)
			f.LastAt = f.LastAt.UTC()
			return f, err
		})
		return err
	}, s.sql.failures, string(state), limit)
	return failures, err
}

// Stats implements [ledger.Reader].
func (s *engine) Stats(ctx context.Context) (st ledger.Stats, err error) {
	var oldest float64
	var nearest *time.Time
	err = s.query(ctx, func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&st.Pending, &st.Dead, &st.Quarantined, &oldest, &st.Open, &st.Blocked, &st.Overdue, &nearest, &st.RemindersGivenUp}, func() error { return nil })
		return err
	}, s.sql.stats)
	st.OldestPending, st.NearestDue = max(time.Duration(oldest*float64(time.Second)), 0), fromNull(nearest)
	return st, err
}

// CountReceived implements [ledger.Reader].
func (s *engine) CountReceived(ctx context.Context, span ledger.Span) (counts []ledger.Count, err error) {
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

// noteVersion logs, once, that another process has migrated the tables to a version
// that this program does not know.
func (s *engine) noteVersion(version int) {
	if err := s.checkVersion(version); errors.Is(err, errOutdated) && !s.outdated {
		s.outdated = true
		s.log.Error("pixmed: the inbox is not ready", "error", err)
	}
}
