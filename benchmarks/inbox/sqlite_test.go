package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/riverqueue/river/riverdriver/riversqlite"
	"maragu.dev/goqite"
	_ "modernc.org/sqlite" // the driver

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// startSQLiteInbox starts the inbox. It syncs the log of SQLite once for all
// notifications that wait, before it answers any of them.
func startSQLiteInbox(ctx context.Context, at place, work pixmed.Receiver) (*peer, error) {
	in, err := sqlite.Open(ctx, filepath.Join(at.folder, "inbox.db"), orIgnore(work), inbox.WithWorkers(at.workers), inbox.WithLogger(silent))
	if err != nil {
		return nil, err
	}
	return serveInbox(ctx, in, work != nil)
}

// openSQLite opens a file for a peer, with the inbox's settings: each commit is
// synced to disk (synchronous=FULL), readers do not wait (WAL), the log is long and
// the cache large. There is one connection, as River and goqite recommend: SQLite
// has one writer at a time, and several connections that contend for it are slower.
func openSQLite(ctx context.Context, at place, schema string) (*peer, *sql.DB, error) {
	params := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "fullfsync(true)", "checkpoint_fullfsync(true)",
		"wal_autocheckpoint(10000)", "cache_size(-32768)", "temp_store(MEMORY)",
	}}
	file := url.URL{Scheme: "file", Path: "/" + strings.TrimPrefix(filepath.ToSlash(filepath.Join(at.folder, "peer.db")), "/"), RawQuery: params.Encode()}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(1)
	p := &peer{synced: func(ctx context.Context) error { return sqliteSynced(ctx, db) }}
	p.onClose(db.Close)
	_, err = db.ExecContext(ctx, schema)
	return p, db, err
}

// sqliteSynced checks the settings that openSQLite makes.
func sqliteSynced(ctx context.Context, db *sql.DB) error {
	var mode string
	var synchronous int
	err := errors.Join(
		db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode),
		db.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous),
	)
	const full = 2
	if err == nil && (mode != "wal" || synchronous != full) {
		err = fmt.Errorf("journal_mode is %s and synchronous %d, want wal and %d", mode, synchronous, full)
	}
	return err
}

// countSQL returns a function that returns the number that a query selects.
func countSQL(db *sql.DB, query string) func(context.Context) (int, error) {
	return func(ctx context.Context) (n int, err error) {
		err = db.QueryRowContext(ctx, query).Scan(&n)
		return n, err
	}
}

const sqliteEvents = `
CREATE TABLE events (
	id             integer PRIMARY KEY,
	transaction_id text    NOT NULL,
	external_id    text    NOT NULL,
	med_status     text    NOT NULL,
	body           blob    NOT NULL,
	UNIQUE (transaction_id, external_id, med_status)
) STRICT`

// startSQLiteRiverTx starts what River's users would write: a unique row and a job,
// in one transaction for each request.
func startSQLiteRiverTx(ctx context.Context, at place, work pixmed.Receiver) (*peer, error) {
	p, db, err := openSQLite(ctx, at, sqliteEvents)
	if err != nil {
		return p, err
	}
	p.stored = countSQL(db, "SELECT count(*) FROM events JOIN river_job ON events.id = args ->> 'event'")
	client, err := newRiver(ctx, p, at, riversqlite.New(db), work, func(ctx context.Context, event int64) (body []byte, err error) {
		err = db.QueryRowContext(ctx, "SELECT body FROM events WHERE id = ?", event).Scan(&body)
		return body, err
	})
	if err != nil {
		return p, err
	}
	insert, err := db.PrepareContext(ctx, `
INSERT INTO events (transaction_id, external_id, med_status, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id`)
	if err != nil {
		return p, err
	}
	p.onClose(insert.Close)
	p.handler = storing(func(ctx context.Context, i *pixmed.Infraction, body []byte) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		var event int64
		err = tx.StmtContext(ctx, insert).QueryRowContext(ctx, i.TransactionID, i.ExternalID, string(i.MEDStatus), body).Scan(&event)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // a duplicate: it is stored already
		}
		if err != nil {
			return err
		}
		if _, err := client.InsertTx(ctx, tx, eventArgs{event}, nil); err != nil {
			return err
		}
		return tx.Commit()
	})
	return p, nil
}

// startSQLiteRiver starts River alone: a job that holds the body, for each request.
func startSQLiteRiver(ctx context.Context, at place, work pixmed.Receiver) (*peer, error) {
	p, db, err := openSQLite(ctx, at, "")
	if err != nil {
		return p, err
	}
	p.stored = countSQL(db, "SELECT count(*) FROM river_job")
	return p, serveRiver(ctx, p, at, riversqlite.New(db), work)
}

// startSQLiteInsert starts what inserts the body for each request and does nothing
// else: there is no key, and there are no workers.
func startSQLiteInsert(ctx context.Context, at place, _ pixmed.Receiver) (*peer, error) {
	p, db, err := openSQLite(ctx, at, `CREATE TABLE bodies (id integer PRIMARY KEY, body blob NOT NULL) STRICT`)
	if err != nil {
		return p, err
	}
	p.stored = countSQL(db, "SELECT count(*) FROM bodies")
	insert, err := db.PrepareContext(ctx, "INSERT INTO bodies (body) VALUES (?)")
	if err != nil {
		return p, err
	}
	p.onClose(insert.Close)
	p.handler = storing(func(ctx context.Context, _ *pixmed.Infraction, body []byte) error {
		_, err := insert.ExecContext(ctx, body)
		return err
	})
	return p, nil
}

// goqiteSQLite creates the table that goqite v0.4.0 expects: its columns, with their
// defaults, and the index for receiving. Nothing is updated here, so what goqite has
// for updates is left out.
const goqiteSQLite = `
CREATE TABLE goqite (
	id       text    DEFAULT ('m_' || lower(hex(randomblob(16)))) PRIMARY KEY,
	queue    text    NOT NULL,
	body     blob    NOT NULL,
	priority integer DEFAULT 0 NOT NULL,
	received integer DEFAULT 0 NOT NULL,
	created  text    DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')) NOT NULL,
	updated  text    DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')) NOT NULL,
	timeout  text    DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')) NOT NULL
) STRICT;
CREATE INDEX goqite_next ON goqite (queue, priority DESC, created)`

// startSQLiteGoqite starts goqite: a message for each request, in a transaction of
// its own.
func startSQLiteGoqite(ctx context.Context, at place, _ pixmed.Receiver) (*peer, error) {
	p, db, err := openSQLite(ctx, at, goqiteSQLite)
	if err == nil {
		serveGoqite(p, db, goqite.SQLFlavorSQLite)
	}
	return p, err
}

// serveGoqite sets a peer's handler to goqite's.
func serveGoqite(p *peer, db *sql.DB, flavor goqite.SQLFlavor) {
	q := goqite.New(goqite.NewOpts{DB: db, Name: "notifications", SQLFlavor: flavor})
	p.stored = countSQL(db, "SELECT count(*) FROM goqite")
	p.handler = storing(func(ctx context.Context, _ *pixmed.Infraction, body []byte) error {
		return q.Send(ctx, goqite.Message{Body: body})
	})
}
