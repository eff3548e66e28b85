package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// shown are further columns of an event on a page, computed from its case's row: when
// it runs next, and whether it is running.
const shown = `, coalesce(CASE WHEN e.state = 'pending' THEN (SELECT CASE WHEN NOT (c.held AND c.running > 0) AND c.head = e.seq THEN c.event_at END
	FROM cases c WHERE c.id = e.case_id) END, 0),
	e.state = 'pending' AND EXISTS (SELECT 1 FROM cases c WHERE c.id = e.case_id AND c.held AND c.running = e.seq)`

const (
	sqlEvent   = `SELECT ` + whole + shown + ` FROM events e WHERE id = ?`
	sqlHistory = `SELECT ` + whole + shown + ` FROM events e WHERE case_id = (SELECT id FROM cases WHERE transaction_id = ?) ORDER BY seq`

	// sqlStats reads the index of open cases once, and a part of it for those that are
	// overdue and the next that is due. The sum may overflow an integer, so it is taken
	// in two halves.
	sqlStats = `
SELECT (SELECT count(*) FROM events WHERE state = 'pending'),
	(SELECT count(*) FROM events WHERE ` + failed + ` AND state = 'dead'), (SELECT count(*) FROM events WHERE ` + failed + ` AND state = 'quarantined'),
	coalesce((SELECT min(received_at) FROM events WHERE state = 'pending'), 0),
	count(*), coalesce(sum(value >> 32), 0), coalesce(sum(value & 0xffffffff), 0),
	(SELECT count(*) FROM cases c INDEXED BY cases_open WHERE c.open AND c.answered_at IS NULL AND c.opened_at <= ` + openedAtEdge + `),
	coalesce((SELECT c.opened_at + s.defence FROM settings s CROSS JOIN cases c INDEXED BY cases_open
		WHERE s.one = 1 AND c.open AND c.answered_at IS NULL AND c.opened_at > ` + openedAtEdge + ` ORDER BY c.opened_at LIMIT 1), 0),
	count(*) FILTER (WHERE given_up > 0 AND answered_at IS NULL)
FROM cases INDEXED BY cases_open WHERE open`
	// A case that opened before this time is overdue; NULL without WithDefence.
	openedAtEdge = `(SELECT ?1 - defence FROM settings WHERE one = 1 AND defence > 0)`
	sqlReceived  = `SELECT (received_at - ?3) / ?4, state, count(*) FROM events WHERE id >= ?1 AND id < ?2 GROUP BY 1, 2`

	// sqlMatches finds the cases of a search. It reads a bounded part of each index.
	sqlMatches = `(
	SELECT * FROM (SELECT case_id AS number FROM ids INDEXED BY ids_external WHERE external_key >= ?1 AND external_key <= ?2 ORDER BY external_key LIMIT ` + ledger.MaxMatches + `) UNION
	SELECT * FROM (SELECT case_id FROM ids INDEXED BY ids_e2e WHERE e2e_key >= ?1 AND e2e_key <= ?2 ORDER BY e2e_key LIMIT ` + ledger.MaxMatches + `) UNION
	SELECT * FROM (SELECT id FROM cases WHERE transaction_id BETWEEN ?3 AND ?4 ORDER BY transaction_id LIMIT ` + ledger.MaxMatches + `))`

	sqlCaseColumns = `
SELECT c.transaction_id, c.updated_at, c.dead, c.next_seq - 1, coalesce(c.remind_at, 0), (SELECT defence FROM settings WHERE one = 1),
	c.pending, e.status, e.external_id, ` + summary
	sqlCaseStatus  = ` CROSS JOIN events e ON e.case_id = c.id AND e.seq = c.status_seq WHERE true`
	sqlListCases   = sqlCaseColumns + ` FROM cases c` + sqlCaseStatus
	sqlSearchCases = sqlCaseColumns + ` FROM ` + sqlMatches + ` m CROSS JOIN cases c ON c.id = m.number` + sqlCaseStatus
	// sqlCurrents reads the current event of cases: the first that is pending, or the
	// last that is dead, or the last.
	sqlCurrents = `
SELECT ` + bare + shown + ` FROM json_each(?) k CROSS JOIN cases d ON d.transaction_id = k.value CROSS JOIN events e ON e.case_id = d.id AND e.seq = coalesce(nullif(d.head, 0),
	(SELECT p.seq FROM events p INDEXED BY events_dead WHERE p.case_id = d.id AND p.state = 'dead' ORDER BY p.seq DESC LIMIT 1),
	(SELECT p.seq FROM events p WHERE p.case_id = d.id ORDER BY p.seq DESC LIMIT 1))`

	noteColumns   = `coalesce(transaction_id, ''), coalesce(event_id, ''), at, action, by, note`
	sqlNotes      = `SELECT ` + noteColumns + ` FROM notes WHERE transaction_id = ? ORDER BY id`
	sqlEventNotes = `SELECT ` + noteColumns + ` FROM notes WHERE transaction_id IS NULL AND event_id = ? ORDER BY id`
	sqlFailures   = `
SELECT ` + sqlGroup + `, count(*), max(received_at) FROM events INDEXED BY events_failed
WHERE ` + failed + ` AND state = ?1 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?2`
	// failed is what events_failed is an index of.
	failed = `state IN ('dead', 'quarantined')`
	// sqlGroup is the text by which failures are grouped.
	sqlGroup = `substr(last_error, 1, min(` + ledger.FailureText + `, instr(last_error || char(10), char(10)) - 1))`
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
		events, err = shownEvents(db.QueryContext(ctx, query, args...))
		return err
	})
	return events, err
}

func shownEvents(rows *sql.Rows, err error) (events []*ledger.Event, _ error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		e := new(ledger.Event)
		var next int64
		if err := scanEvent(rows, e, &next, &e.Running); err != nil {
			return nil, err
		}
		e.NextAttempt = fromMicro(next)
		events = append(events, e)
	}
	return events, rows.Err()
}

// List implements [ledger.Reader].
func (r *reader) List(ctx context.Context, f ledger.Filter) ([]*ledger.Event, error) {
	query, args := listQuery(f)
	return r.events(ctx, query, args...)
}

func listQuery(f ledger.Filter) (query string, args []any) {
	columns, from := whole, " FROM events e"
	if f.Bare {
		columns = bare
	}
	switch {
	case f.State == ledger.Pending && f.Search == nil:
		from += " INDEXED BY events_pending"
	case f.Search != nil:
		from, args = " FROM "+sqlMatches+" m CROSS JOIN events e ON e.case_id = m.number", searchArgs(f.Search)
	}
	query = "SELECT " + columns + shown + from + " WHERE true"
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
	switch f.State { // so that it reads a smaller index
	case ledger.Pending:
		query += " AND state = 'pending'"
	case ledger.Dead, ledger.Quarantined:
		query += " AND " + failed
	default:
	}
	where("state = ?", string(f.State))
	where("instr(last_error, ?) > 0", f.Error)
	if f.Group != nil {
		query += " AND " + sqlGroup + " = ?"
		args = append(args, *f.Group)
	}
	return query + " ORDER BY e.id DESC LIMIT ?", append(args, f.Limit)
}

func searchArgs(s *ledger.Search) []any { return []any{s.FromKey, s.ToKey, s.FromID, s.ToID} }

// History implements [ledger.Reader].
func (r *reader) History(ctx context.Context, transactionID string) ([]*ledger.Event, error) {
	return r.events(ctx, sqlHistory, transactionID)
}

// Cases implements [ledger.Reader].
func (r *reader) Cases(ctx context.Context, f ledger.CaseFilter) ([]*ledger.CaseRow, error) {
	query, args := casesQuery(f)
	return r.cases(ctx, query, args...)
}

func casesQuery(f ledger.CaseFilter) (query string, args []any) {
	query = sqlListCases
	if f.Search != nil {
		query, args = sqlSearchCases, searchArgs(f.Search)
	}
	where := func(condition string, values ...any) {
		query += " AND " + condition
		args = append(args, values...)
	}
	by := func(index string) {
		if f.Search == nil {
			query = strings.Replace(query, "cases c ", "cases c INDEXED BY "+index+" ", 1)
		}
	}
	switch f.State { // few cases are in one, so it is not read by when they opened
	case ledger.Pending:
		by("cases_waiting")
		where("c.event_at IS NOT NULL AND c.open = ?", !f.Ended)
	case ledger.Dead:
		by("cases_dead")
		where("c.dead > 0 AND c.open = ?", !f.Ended)
	case ledger.Done:
		where("c.event_at IS NULL AND c.dead = 0")
		fallthrough
	default:
		if f.Ended {
			where("NOT c.open")
		} else {
			where("c.open")
		}
	}
	if f.Unanswered {
		where("c.answered_at IS NULL")
	}
	if !f.DueBefore.IsZero() {
		where("c.opened_at < (SELECT ? - defence FROM settings WHERE one = 1 AND defence > 0)", f.DueBefore.UnixMicro())
	}
	order := "c.opened_at, c.transaction_id"
	if f.Ended {
		order = "c.updated_at DESC, c.transaction_id DESC"
	}
	if f.After.ID != "" {
		condition := "(c.opened_at, c.transaction_id) > (?, ?)"
		if f.Ended {
			condition = "(c.updated_at, c.transaction_id) < (?, ?)"
		}
		where(condition, f.After.At.UnixMicro(), f.After.ID)
	}
	return query + " ORDER BY " + order + " LIMIT ?", append(args, f.Limit)
}

// Case implements [ledger.Reader].
func (r *reader) Case(ctx context.Context, transactionID string) (*ledger.CaseRow, error) {
	cases, err := r.cases(ctx, sqlListCases+" AND c.transaction_id = ?", transactionID)
	if err == nil && len(cases) == 0 {
		return nil, ledger.ErrNone
	}
	if err != nil {
		return nil, err
	}
	return cases[0], nil
}

// cases runs a query for cases, and adds their current events.
func (r *reader) cases(ctx context.Context, query string, args ...any) (cases []*ledger.CaseRow, err error) {
	err = r.do(ctx, func(ctx context.Context, db *sql.DB) error {
		if cases, err = scanCases(db.QueryContext(ctx, query, args...)); err != nil || len(cases) == 0 {
			return err
		}
		byID := make(map[string]*ledger.CaseRow)
		for _, c := range cases {
			byID[c.TransactionID] = c
		}
		ids, err := json.Marshal(slices.Collect(maps.Keys(byID)))
		if err != nil {
			return err
		}
		events, err := shownEvents(db.QueryContext(ctx, sqlCurrents, string(ids)))
		for _, e := range events {
			byID[e.TransactionID].Current = e
		}
		return err
	})
	return cases, err
}

func scanCases(rows *sql.Rows, err error) (cases []*ledger.CaseRow, _ error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		c := new(ledger.CaseRow)
		var updatedAt, remindAt, window int64
		s := summaryScan{s: &c.Summary}
		if err := rows.Scan(append([]any{&c.TransactionID, &updatedAt, &c.Dead, &c.Events, &remindAt, &window, &c.Pending, &c.Status, &c.ExternalID}, s.into()...)...); err != nil {
			return nil, err
		}
		s.done()
		c.UpdatedAt, c.Reminder, c.Window = fromMicro(updatedAt), fromMicro(remindAt), time.Duration(window)*time.Microsecond
		cases = append(cases, c)
	}
	return cases, rows.Err()
}

// Notes implements [ledger.Reader].
func (r *reader) Notes(ctx context.Context, transactionID, event string) (notes []ledger.Note, err error) {
	query, id := sqlNotes, transactionID
	if id == "" {
		query, id = sqlEventNotes, event
	}
	err = r.do(ctx, func(ctx context.Context, db *sql.DB) (err error) {
		rows, err := db.QueryContext(ctx, query, id)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			var n ledger.Note
			var at int64
			if err := rows.Scan(&n.TransactionID, &n.EventID, &at, &n.Action, &n.By, &n.Text); err != nil {
				return err
			}
			n.At = fromMicro(at)
			notes = append(notes, n)
		}
		return rows.Err()
	})
	return notes, err
}

// Failures implements [ledger.Reader].
func (r *reader) Failures(ctx context.Context, state ledger.State, limit int) (failures []ledger.Failure, err error) {
	err = r.do(ctx, func(ctx context.Context, db *sql.DB) (err error) {
		rows, err := db.QueryContext(ctx, sqlFailures, string(state), limit)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			f := ledger.Failure{State: state}
			var at int64
			if err := rows.Scan(&f.Error, &f.Events, &at); err != nil {
				return err
			}
			f.LastAt = fromMicro(at)
			failures = append(failures, f)
		}
		return rows.Err()
	})
	return failures, err
}

// Stats implements [ledger.Reader].
func (r *reader) Stats(ctx context.Context) (st ledger.Stats, err error) {
	var oldest, high, low, nearest int64
	err = r.do(ctx, func(ctx context.Context, db *sql.DB) error {
		return db.QueryRowContext(ctx, sqlStats, time.Now().UnixMicro()).Scan(&st.Pending, &st.Dead, &st.Quarantined, &oldest,
			&st.Open, &high, &low, &st.Overdue, &nearest, &st.RemindersGivenUp)
	})
	if high += low >> 32; high > math.MaxInt64>>32 {
		st.Blocked = math.MaxInt64
	} else {
		st.Blocked = high<<32 | low&0xffffffff
	}
	st.NearestDue = fromMicro(nearest)
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
