package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pixmed-go/pixmed/inbox/internal/queue"
)

// migrations are applied in order; the file's user_version counts those that
// were. Times are microseconds since 1970 in UTC.
var migrations = []string{`
CREATE TABLE cases (
	id             integer PRIMARY KEY,
	transaction_id text    NOT NULL UNIQUE,
	next_seq       integer NOT NULL DEFAULT 1,
	live_job       integer,          -- the river_job of the running or next attempt
	live_event     text,             -- its event
	updated_at     integer NOT NULL
) STRICT;

CREATE TABLE events (
	id             text    PRIMARY KEY NOT NULL,
	case_id        integer,          -- its case, NULL while quarantined; numbers of new cases grow, and
	                                 -- so does the index of them, where transaction ids are all over it
	transaction_id text,             -- that of its case
	external_id    text    NOT NULL,
	status         text    NOT NULL,
	raw            blob    NOT NULL,
	seq            integer,          -- place in the case, NULL while quarantined
	state          text    NOT NULL CHECK (state IN ('pending', 'done', 'dead', 'quarantined')),
	attempts       integer NOT NULL DEFAULT 0,
	failures       integer NOT NULL DEFAULT 0,
	discarded      integer NOT NULL DEFAULT 0,
	last_error     text    NOT NULL DEFAULT '',
	received_at    integer NOT NULL,
	done_at        integer,
	metadata       blob
) STRICT;
CREATE UNIQUE INDEX events_case ON events (case_id, seq);
CREATE INDEX events_open ON events (state, id) WHERE state <> 'done';
`}

// migrate brings the tables up to date. The file is locked: nobody else does.
func (s *store) migrate(ctx context.Context) error {
	river, err := rivermigrate.New(riversqlite.New(s.write), &rivermigrate.Config{Logger: queue.Warnings(s.log)})
	if err != nil {
		return err
	}
	if _, err := river.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("river: %w", err)
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("the file's schema has version %d, and this program knows %d: update the program", version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
			return fmt.Errorf("version %d: %w", version+1, err)
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version+1)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// prepared statements for what happens all the time.
const (
	sqlCases       = `SELECT id, transaction_id, next_seq, coalesce(live_job, 0), coalesce(live_event, '') FROM cases WHERE transaction_id IN (SELECT value FROM json_each(?))`
	sqlColumns     = `id, coalesce(transaction_id, ''), external_id, status, coalesce(seq, 0), state, attempts, failures, discarded, last_error, received_at, coalesce(done_at, 0), metadata`
	sqlPending     = `SELECT ` + sqlColumns + `, NULL FROM events INDEXED BY events_case WHERE case_id = ? AND state = 'pending'`
	sqlLastIDs     = `SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'river_job'), 0), coalesce((SELECT max(id) FROM cases), 0)`
	sqlLast        = `SELECT ` + sqlColumns + `, NULL FROM events WHERE case_id = ? AND external_id = ? ORDER BY seq DESC LIMIT 1`
	sqlUpdateEvent = `
UPDATE events SET transaction_id = nullif(?2, ''), external_id = ?3, status = ?4, seq = nullif(?5, 0), state = ?6, attempts = ?7,
	failures = ?8, discarded = ?9, last_error = ?10, done_at = CASE WHEN ?6 = 'done' THEN ?11 END, case_id = nullif(?12, 0)
WHERE id = ?1`
	sqlAttempt = `
SELECT ` + sqlColumns + `, raw,
	coalesce((SELECT p.status FROM events p WHERE p.case_id = e.case_id AND p.external_id = e.external_id
		AND p.state = 'done' AND p.id <> e.id ORDER BY p.done_at DESC, p.seq DESC LIMIT 1), ''),
	coalesce((SELECT max(p.done_at) FROM events p WHERE p.case_id = e.case_id AND p.external_id = e.external_id
		AND p.state = 'done' AND p.id <> e.id AND p.status = e.status), 0)
FROM events e
WHERE id = ?1 AND state = 'pending' AND EXISTS (SELECT 1 FROM cases c WHERE c.id = e.case_id AND c.live_job = ?2)`
)

// sqlBroken finds the cases that Recover may have to set right; ?1 is the overdue
// time in seconds.
const sqlBroken = `
SELECT DISTINCT e.transaction_id FROM events e JOIN cases c ON c.id = e.case_id LEFT JOIN river_job j ON j.id = c.live_job
WHERE e.state = 'pending' AND (c.live_job IS NULL OR ` + sqlJob + ` <> 'alive')`

// sqlJob is the state of a job j, as the ledger sees it.
const sqlJob = `CASE
	WHEN j.state = 'cancelled' THEN 'cancelled'
	WHEN j.id IS NULL OR j.state IN ('completed', 'discarded') THEN 'lost'
	WHEN j.state = 'running' AND (?1 = 0 OR unixepoch('now', 'subsec') - unixepoch(j.attempted_at, 'subsec') >= ?1) THEN 'lost'
	ELSE 'alive' END`

// writeStatements are prepared on the writing connection.
type writeStatements struct {
	readCases, pending, last, updateEvent, lastIDs *sql.Stmt
	events, jobs, cases                            bulk
}

// bulk is an INSERT of several rows; there is a statement for each of bulkRows. On
// a violated constraint it rolls the transaction back, which is what happens then
// anyway, and so it need not keep what it would take to undo the statement alone.
type bulk struct {
	columns int // that a row binds
	stmts   [4]*sql.Stmt
}

var bulkRows = [4]int{64, 16, 4, 1}

func (s *store) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		db   *sql.DB
		sql  string
	}{
		{&s.stmts.readCases, s.write, sqlCases},
		{&s.stmts.pending, s.write, sqlPending},
		{&s.stmts.last, s.write, sqlLast},
		{&s.stmts.updateEvent, s.write, sqlUpdateEvent},
		{&s.stmts.lastIDs, s.write, sqlLastIDs},
		{&s.attempt, s.read, sqlAttempt},
	} {
		if err := s.prepareOne(ctx, p.stmt, p.db, p.sql); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		bulk           *bulk
		head, row, end string
	}{
		{
			&s.stmts.events, "INSERT OR ROLLBACK INTO events (id, case_id, transaction_id, external_id, status, raw, seq, state, last_error, received_at, metadata) VALUES ",
			"(?, nullif(?, 0), nullif(?, ''), ?, ?, ?, nullif(?, 0), ?, ?, ?, ?)", "",
		},
		{
			&s.stmts.jobs, "INSERT OR ROLLBACK INTO river_job (id, args, kind, max_attempts, state, scheduled_at) VALUES ",
			"(?, jsonb(?), ?, 1, ?, datetime('now', 'subsec', ? || ' seconds'))", "",
		},
		{
			&s.stmts.cases, "INSERT OR ROLLBACK INTO cases (id, transaction_id, next_seq, live_job, live_event, updated_at) VALUES ",
			"(?, ?, ?, nullif(?, 0), nullif(?, ''), ?)",
			" ON CONFLICT DO UPDATE SET next_seq = excluded.next_seq, live_job = excluded.live_job, live_event = excluded.live_event, updated_at = excluded.updated_at",
		},
	} {
		p.bulk.columns = strings.Count(p.row, "?")
		for i, rows := range bulkRows {
			query := p.head + strings.Repeat(p.row+", ", rows-1) + p.row + p.end
			if err := s.prepareOne(ctx, &p.bulk.stmts[i], s.write, query); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *store) prepareOne(ctx context.Context, stmt **sql.Stmt, db *sql.DB, query string) (err error) {
	if *stmt, err = db.PrepareContext(ctx, query); err == nil {
		s.prepared = append(s.prepared, *stmt)
	}
	return err
}
