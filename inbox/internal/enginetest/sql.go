package enginetest

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
)

// DB returns a connection to a database beside its inboxes, as an operator has
// one.
func (s *Database) DB(tb testing.TB) *sql.DB {
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
