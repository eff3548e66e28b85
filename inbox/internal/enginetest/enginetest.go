// Package enginetest gives tests the real engines: files of SQLite's, and
// databases of a PostgreSQL server that the tests start themselves.
package enginetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/bridge"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/internal/localpg"
)

// Database is where an inbox lives: it can be opened again and again, and, on
// PostgreSQL, several times at once.
type Database struct {
	Engine string // "sqlite" or "postgres"
	Path   string // of the file
	URL    string // of the database
}

// Each runs a test for each engine, in parallel, in an empty database.
func Each(t *testing.T, test func(t *testing.T, s *Database)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, SQLite(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, Postgres(t))
	})
}

// SQLite returns a database in a file that does not exist yet.
func SQLite(tb testing.TB) *Database {
	tb.Helper()
	return &Database{Engine: "sqlite", Path: filepath.Join(tb.TempDir(), "inbox.db")}
}

// Postgres returns a new database on the server.
func Postgres(tb testing.TB) *Database {
	tb.Helper()
	name := "pixmed_" + strings.ToLower(rand.Text())
	server := ServerURL(tb)
	if err := run(tb, server, "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := run(tb, server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		tb.Fatal(err)
	}
	u.Path = "/" + name
	return &Database{Engine: "postgres", URL: u.String()}
}

func run(tb testing.TB, url, sql string) error {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Open opens an inbox, which the test need not stop. What the tests do not set is
// made short.
func (s *Database) Open(tb testing.TB, receiver pixmed.Receiver, opts ...inbox.Option) *inbox.Inbox {
	tb.Helper()
	in, err := s.TryOpen(tb, receiver, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

// TryOpen is Open with an error.
func (s *Database) TryOpen(tb testing.TB, receiver pixmed.Receiver, opts ...inbox.Option) (*inbox.Inbox, error) {
	tb.Helper()
	opts = append([]inbox.Option{Quick(), Log(tb)}, opts...)
	var in *inbox.Inbox
	var err error
	if s.Engine == "sqlite" {
		in, err = sqlite.Open(tb.Context(), s.Path, receiver, opts...)
	} else {
		in, err = postgres.Open(tb.Context(), s.Pool(tb), receiver, opts...)
	}
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := in.Stop(ctx); err != nil {
			tb.Errorf("Stop: %v", err)
		}
	})
	return in, nil
}

// Start opens an inbox and starts it.
func (s *Database) Start(tb testing.TB, receiver pixmed.Receiver, opts ...inbox.Option) *inbox.Inbox {
	tb.Helper()
	in := s.Open(tb, receiver, opts...)
	if err := in.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return in
}

// Pool returns a new pool for a PostgreSQL database, which is closed at the
// end of the test.
func (s *Database) Pool(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	c, err := pgxpool.ParseConfig(s.URL)
	if err != nil {
		tb.Fatal(err)
	}
	c.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// Quick makes an inbox try again soon.
func Quick() inbox.Option {
	return Configure(func(c *config.Config) {
		c.FirstDelay, c.MaxDelay = time.Millisecond, 20*time.Millisecond
		c.PollInterval = 20 * time.Millisecond
	})
}

// Configure returns an option that changes what no other option does. It may be
// given several times.
func Configure(change func(*config.Config)) inbox.Option {
	return bridge.Inbox.Option("", func(c *config.Config) error { //nolint:forcetypeassert // it is one
		change(c)
		return nil
	}).(inbox.Option)
}

// Log has an inbox log to the test's log.
func Log(tb testing.TB) inbox.Option {
	tb.Helper()
	return Configure(func(c *config.Config) { c.Logger = Logger(tb) })
}

// Logger returns a logger that writes to the test's log.
func Logger(tb testing.TB) *slog.Logger {
	tb.Helper()
	return slog.New(slog.NewTextHandler(&testLog{tb: tb}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// testLog writes to a test's log for as long as it lasts: a server's goroutines
// may outlive it a little.
type testLog struct {
	tb   testing.TB
	once sync.Once
	mu   sync.Mutex
	over bool
}

func (l *testLog) Write(p []byte) (int, error) {
	l.once.Do(func() {
		l.tb.Cleanup(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.over = true
		})
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.tb.Logf("%s", strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// The server is shared by the tests of a package, each of which has a database
// of its own on it.
var server struct {
	once sync.Once
	*localpg.Server
	err error
}

// Main runs a package's tests, stops the server if one was started, and
// returns the exit code.
func Main(m *testing.M) (code int) {
	code = m.Run()
	if server.Server != nil {
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}

// ServerURL returns the URL of a PostgreSQL server: the one that the environment
// names, or one that it starts. Without either it skips the test, and in CI it
// fails.
func ServerURL(tb testing.TB) string {
	tb.Helper()
	if u := os.Getenv(localpg.URLVariable); u != "" {
		return u
	}
	server.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		server.Server, server.err = localpg.Start(ctx, localpg.WithSetting("max_connections", "400"))
	})
	localpg.Need(tb, server.err)
	return server.URL()
}
