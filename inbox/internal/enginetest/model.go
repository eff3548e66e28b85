package enginetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"

	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// Tables is a look at a store's tables from beside the inbox, and the operations
// that others do on them: River's fetching, and what its page offers.
type Tables struct {
	Queue Queue

	db      *sql.DB
	queries tableQueries
}

// Queue is what River's page does.
type Queue interface {
	// JobCancel cancels a job, at once unless it is running.
	JobCancel(ctx context.Context, job int64) (*rivertype.JobRow, error)
	// JobDelete deletes a job that is not running.
	JobDelete(ctx context.Context, job int64) (*rivertype.JobRow, error)
	// JobRetry makes a job available that is not running.
	JobRetry(ctx context.Context, job int64) (*rivertype.JobRow, error)
}

// EventRow is a row of the events.
type EventRow struct {
	ID, TransactionID, ExternalID, Status string
	Seq                                   int64
	State                                 string
	Attempts, Failures                    int
	Discarded, HasError                   bool
	DoneAt                                int64 // in microseconds
}

// CaseRow is a row of the cases.
type CaseRow struct {
	NextSeq, LiveJob int64
	LiveEvent        string
}

// JobRow is a row of the jobs.
type JobRow struct {
	ID    int64
	Event string
	State rivertype.JobState
}

type tableQueries struct{ events, cases, jobs, fetch, end string }

var (
	sqliteQueries = tableQueries{
		events: `SELECT id, coalesce(transaction_id, ''), external_id, status, coalesce(seq, 0), state, attempts, failures, discarded <> 0, last_error <> '', coalesce(done_at, 0) FROM events`,
		cases:  `SELECT transaction_id, next_seq, coalesce(live_job, 0), coalesce(live_event, '') FROM cases`,
		jobs:   `SELECT id, json_extract(args, '$.event_id'), state FROM river_job ORDER BY id`,
		fetch:  `UPDATE river_job SET state = 'running', attempt = attempt + 1, attempted_at = datetime('now', 'subsec') WHERE id = %d AND state = 'available'`,
		end:    `UPDATE river_job SET state = '%s', finalized_at = datetime('now', 'subsec') WHERE id = %d AND state = 'running'`,
	}
	postgresQueries = tableQueries{
		events: `SELECT id::text, coalesce(transaction_id::text, ''), convert_from(external_id, 'UTF8'), convert_from(status, 'UTF8'), coalesce(seq, 0), state, attempts, failures,
	discarded, last_error <> '', coalesce(extract(epoch FROM done_at) * 1000000, 0)::bigint FROM pixmed_inbox.events`,
		cases: `SELECT transaction_id::text, next_seq, coalesce(live_job, 0), coalesce(live_event::text, '') FROM pixmed_inbox.cases`,
		jobs:  `SELECT id, args ->> 'event_id', state::text FROM pixmed_inbox.river_job ORDER BY id`,
		fetch: `UPDATE pixmed_inbox.river_job SET state = 'running', attempt = attempt + 1, attempted_at = now() WHERE id = %d AND state = 'available'`,
		end:   `UPDATE pixmed_inbox.river_job SET state = '%s', finalized_at = now() WHERE id = %d AND state = 'running'`,
	}
)

// Tables returns the tables of a store that has been opened. The pool is the one
// to use on PostgreSQL.
func (s *Store) Tables(tb testing.TB, pool *pgxpool.Pool) (*Tables, error) {
	tb.Helper()
	if s.Engine == "postgres" {
		client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Schema: postgres.DefaultSchema, Logger: Logger(tb)})
		return &Tables{Queue: client, db: stdlib.OpenDBFromPool(pool), queries: postgresQueries}, err
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: s.Path}).EscapedPath()+"?_pragma=busy_timeout(10000)&_pragma=synchronous(OFF)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	client, err := river.NewClient(riversqlite.New(db), &river.Config{Logger: Logger(tb)})
	return &Tables{Queue: client, db: db, queries: sqliteQueries}, err
}

// Close closes the connection to the tables.
func (t *Tables) Close() error { return t.db.Close() }

// Fetch marks a job as running, as a worker's client does before it works it.
func (t *Tables) Fetch(ctx context.Context, job int64) error {
	return t.Exec(ctx, fmt.Sprintf(t.queries.fetch, job))
}

// End gives a running job its final state, as a worker's client does when it was
// worked, and the rescuer when it was not.
func (t *Tables) End(ctx context.Context, job int64, state rivertype.JobState) error {
	return t.Exec(ctx, fmt.Sprintf(t.queries.end, state, job))
}

// Exec executes a statement.
func (t *Tables) Exec(ctx context.Context, statement string) error {
	_, err := t.db.ExecContext(ctx, statement)
	return err
}

// Events returns the events in no order.
func (t *Tables) Events(ctx context.Context) ([]EventRow, error) {
	return collect(ctx, t.db, t.queries.events, func(r *EventRow) []any {
		return []any{&r.ID, &r.TransactionID, &r.ExternalID, &r.Status, &r.Seq, &r.State, &r.Attempts, &r.Failures, &r.Discarded, &r.HasError, &r.DoneAt}
	})
}

// Jobs returns the jobs by number.
func (t *Tables) Jobs(ctx context.Context) ([]JobRow, error) {
	return collect(ctx, t.db, t.queries.jobs, func(r *JobRow) []any { return []any{&r.ID, &r.Event, &r.State} })
}

// Cases returns the cases by transaction.
func (t *Tables) Cases(ctx context.Context) (map[string]CaseRow, error) {
	type row struct {
		CaseRow
		id string
	}
	rows, err := collect(ctx, t.db, t.queries.cases, func(r *row) []any { return []any{&r.id, &r.NextSeq, &r.LiveJob, &r.LiveEvent} })
	cases := make(map[string]CaseRow)
	for _, r := range rows {
		cases[r.id] = r.CaseRow
	}
	return cases, err
}

// Strings returns the first column of a query.
func (t *Tables) Strings(ctx context.Context, query string) ([]string, error) {
	return collect(ctx, t.db, query, func(s *string) []any { return []any{s} })
}

func collect[T any](ctx context.Context, db *sql.DB, query string, fields func(*T) []any) (all []T, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var row T
		if err := rows.Scan(fields(&row)...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}
