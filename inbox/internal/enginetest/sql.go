package enginetest

import (
	"context"
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
)

// DB returns a connection to a store beside its inboxes, as an operator or River's
// own page have one.
func (s *Store) DB(tb testing.TB) *sql.DB {
	tb.Helper()
	driver, dsn := "sqlite", "file:"+s.Path+"?_pragma=busy_timeout(10000)&_txlock=immediate"
	if s.Engine == "postgres" {
		driver, dsn = "pgx", s.URL+"&search_path=pixmed_inbox"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// Jobs returns all there is in the queue, a text for each job.
func (s *Store) Jobs(tb testing.TB) []string {
	tb.Helper()
	query := `SELECT json(args) || json(metadata) || coalesce(json(errors), '') FROM river_job`
	if s.Engine == "postgres" {
		query = `SELECT j::text FROM river_job j`
	}
	rows, err := s.DB(tb).QueryContext(context.WithoutCancel(tb.Context()), query)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var jobs []string
	for rows.Next() {
		var job string
		if err := rows.Scan(&job); err != nil {
			tb.Fatal(err)
		}
		jobs = append(jobs, job)
	}
	if err := rows.Err(); err != nil || len(jobs) == 0 {
		tb.Fatalf("%d jobs, %v", len(jobs), err)
	}
	return jobs
}
