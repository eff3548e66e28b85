package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/internal/localpg"
)

// A database holds the inbox.
type database interface {
	// away makes it unusable for the duration of an outage.
	away(ctx context.Context, outage time.Duration) error
	close()
}

// open opens the inbox in a new database.
func open(ctx context.Context, s settings, folder string, receiver pixmed.Receiver, opts ...inbox.Option) (*inbox.Inbox, database, error) {
	if s.engine == "sqlite" {
		path := filepath.Join(folder, "inbox.db")
		in, err := sqlite.Open(ctx, path, receiver, opts...)
		return in, file(path), err
	}
	d := new(server)
	var err error
	if d.Server, err = localpg.Start(ctx); err != nil {
		return nil, nil, err
	}
	pool, err := pgxpool.ParseConfig(d.URL())
	if err != nil {
		return nil, d, err
	}
	pool.MaxConns = int32(s.workers) + 8
	if d.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return nil, d, err
	}
	in, err := postgres.Open(ctx, d.pool, receiver, opts...)
	return in, d, err
}

// A file is a SQLite database, by its path.
type file string

// away locks the file so that nobody else can write.
func (f file) away(ctx context.Context, outage time.Duration) error {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: string(f)}).EscapedPath()+"?_txlock=immediate&_pragma=busy_timeout(60000)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("locking the database: %w", err)
	}
	timer := time.NewTimer(outage)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return tx.Rollback()
}

func (file) close() {} // the whole folder is removed

// A server is a PostgreSQL server.
type server struct {
	*localpg.Server
	pool *pgxpool.Pool
}

// away has the server crash, stay away and recover, also if the context ends first: the
// rest must be worked.
func (d *server) away(ctx context.Context, outage time.Duration) error {
	always := context.WithoutCancel(ctx)
	if err := d.Stop(always); err != nil {
		return err
	}
	timer := time.NewTimer(outage)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return d.Resume(always)
}

func (d *server) close() {
	if d.pool != nil {
		d.pool.Close()
	}
	_ = d.Close()
}
