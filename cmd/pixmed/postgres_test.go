package main

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

// databases are a new database on each engine.
func databases() map[string]func(*testing.T) string {
	return map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { t.Helper(); return filepath.Join(t.TempDir(), "inbox.db") },
		"postgres": newPostgres,
	}
}

// newPostgres returns the URL of an empty database, which goes with the test: on the
// server that the environment names, or on one that all tests share. Without either it
// skips the test, and in CI it fails.
func newPostgres(t *testing.T) string {
	t.Helper()
	server := os.Getenv(localpg.URLVariable)
	if server == "" {
		shared, err := sharedPostgres()
		localpg.Need(t, err)
		server = shared.URL()
	}
	name := "pixmed_cmd_" + strings.ToLower(rand.Text())
	onPostgres(t, server, "CREATE DATABASE "+name)
	t.Cleanup(func() { onPostgres(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// sharedPostgres starts a server when it is first asked for. TestMain ends it.
var sharedPostgres = sync.OnceValues(func() (*localpg.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	server, err := localpg.Start(ctx, localpg.WithSetting("max_connections", "500"))
	if err == nil {
		endPostgres = server.Close
	}
	return server, err
})

var endPostgres = func() error { return nil }

func onPostgres(t *testing.T, url, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Error(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}
}
