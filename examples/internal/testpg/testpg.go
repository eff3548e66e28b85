// Package testpg gives the tests of the examples a PostgreSQL database.
package testpg

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

// URL returns the URL of an empty database, which goes with the test: on the
// server that the environment names, or on one that it starts. Without either it
// skips the test, and in CI it fails.
func URL(tb testing.TB) string {
	tb.Helper()
	server := os.Getenv(localpg.URLVariable)
	if server == "" {
		server = start(tb)
	}
	name := "pixmed_examples_" + strings.ToLower(rand.Text())
	run(tb, server, "CREATE DATABASE "+name)
	tb.Cleanup(func() { run(tb, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(server)
	if err != nil {
		tb.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func start(tb testing.TB) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	server, err := localpg.Start(ctx)
	localpg.Need(tb, err)
	tb.Cleanup(func() {
		if err := server.Close(); err != nil {
			tb.Error(err)
		}
	})
	return server.URL()
}

func run(tb testing.TB, url, sql string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		tb.Error(err)
	}
	if err := conn.Close(ctx); err != nil {
		tb.Error(err)
	}
}
