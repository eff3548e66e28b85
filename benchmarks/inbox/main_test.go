package inbox_test

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

var (
	burstSize   = flag.Int("burst", 20_000, "the notifications of BenchmarkBurst")
	backlogSize = flag.Int("backlog", 3000, "the notifications of BenchmarkWork")
)

// server is the package's PostgreSQL server, started when it is first needed.
var server struct {
	once sync.Once
	*localpg.Server
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if server.Server != nil {
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// serverURL returns the URL of a PostgreSQL server: the one in the environment, or
// one that it starts. Without either it skips the test, or fails it in CI.
func serverURL(tb testing.TB) string {
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

// newDatabase creates a database on a server, and returns its URL and a function
// that drops it.
func newDatabase(ctx context.Context, server string) (database string, drop func() error, err error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", nil, err
	}
	name := "pixmed_" + strings.ToLower(rand.Text())
	u.Path = "/" + name
	drop = func() error {
		return execute(context.WithoutCancel(ctx), server, "DROP DATABASE "+name+" WITH (FORCE)")
	}
	return u.String(), drop, execute(ctx, server, "CREATE DATABASE "+name)
}

// execute runs a statement on a connection of its own.
func execute(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}
