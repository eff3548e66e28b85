package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// applicationID marks a file as an inbox in its header: "pxmd".
const applicationID = 0x70786d64

// migrations are applied in order; the file's user_version counts those that were.
// Times are microseconds since 1970 in UTC.
var migrations = []string{`
CREATE TABLE settings (
	one       integer PRIMARY KEY CHECK (one = 1),
	owner     integer NOT NULL DEFAULT 0, -- the random number of the process that has the file open
	probed_at integer,                    -- when the last readiness check wrote this
	defence   integer NOT NULL DEFAULT 0, -- from when a case opened until it is due; 0: it is never
	reminders text    NOT NULL DEFAULT '[]' -- how long before that reminders are called, in JSON
) STRICT;
INSERT INTO settings (one) VALUES (1);

CREATE TABLE cases (
	id             integer PRIMARY KEY,
	transaction_id text    NOT NULL UNIQUE,
	next_seq       integer NOT NULL DEFAULT 1, -- the place of the next event
	pending        integer NOT NULL DEFAULT 0, -- how many of its events are pending
	head           integer NOT NULL DEFAULT 0, -- the place of the first of them; 0: nothing is pending
	event_at       integer,                    -- when its first pending event runs; NULL: nothing is pending
	remind_at      integer,                    -- when the next reminder is called, or tried again; NULL: none is
	run_at         integer,                    -- when it may be claimed: the earlier of both or, while it is held, the end of the lease
	lease          integer NOT NULL DEFAULT 0, -- the random number of the last claim
	held           integer NOT NULL DEFAULT 0, -- by the last claim, until run_at
	running        integer NOT NULL DEFAULT 0, -- the place of the event that is leased; -1: the reminder is
	updated_at     integer NOT NULL,

	open            integer NOT NULL DEFAULT 0 CHECK (open IN (0, 1)),
	status_seq      integer NOT NULL DEFAULT 0,  -- the place of the event whose status is the case's
	value           integer NOT NULL DEFAULT 0,  -- in centavos
	dead            integer NOT NULL DEFAULT 0,  -- how many of its events are dead
	opened_at       integer,
	answered_at     integer,
	answered_by     text    NOT NULL DEFAULT '',
	ended_at        integer,
	ended_by        text    NOT NULL DEFAULT '', -- '': a notification ended it
	reminded_at     integer,                     -- up to when reminders are done or given up
	tried_at        integer,                     -- when the last failed attempt at the next reminder was claimed
	remind_failures integer NOT NULL DEFAULT 0,
	given_up        integer NOT NULL DEFAULT 0,  -- reminders
	CHECK (held IN (0, 1) AND (held = 0 OR run_at IS NOT NULL) AND (pending > 0) = (event_at IS NOT NULL) AND (pending > 0) = (head > 0))
) STRICT;
CREATE INDEX cases_run ON cases (run_at) WHERE run_at IS NOT NULL;
CREATE INDEX cases_held ON cases (id) WHERE held;
CREATE INDEX cases_open ON cases (opened_at, transaction_id, value, answered_at, given_up) WHERE open;
CREATE INDEX cases_ended ON cases (updated_at, transaction_id) WHERE NOT open;
CREATE INDEX cases_waiting ON cases (open, opened_at, transaction_id) WHERE event_at IS NOT NULL;
CREATE INDEX cases_dead ON cases (open, opened_at, transaction_id) WHERE dead > 0;

CREATE TABLE events (
	id              text    PRIMARY KEY NOT NULL,
	case_id         integer,          -- its case, NULL while quarantined. New numbers are the highest, so
	                                  -- an index of them grows at its end; transaction ids are random
	transaction_id  text,             -- that of its case
	external_id     text    NOT NULL,
	external_digest integer NOT NULL, -- of the external id, which may be long
	status          text    NOT NULL,
	value           integer NOT NULL, -- in centavos
	raw             blob    NOT NULL,
	digest          blob,             -- SHA-256 of raw, if it is quarantined or has no status
	seq             integer,          -- place in the case, NULL while quarantined
	state           text    NOT NULL CHECK (state IN ('pending', 'done', 'dead', 'quarantined', 'resolved')),
	standing        integer NOT NULL DEFAULT 0, -- 0: not the last of its external id; 1: the last, and final or ended by hand; 2: the last, and open
	attempts        integer NOT NULL DEFAULT 0,
	failures        integer NOT NULL DEFAULT 0,
	discarded       integer NOT NULL DEFAULT 0,
	last_error      text    NOT NULL DEFAULT '',
	received_at     integer NOT NULL,
	done_at         integer,
	deliveries      integer NOT NULL DEFAULT 1, -- of a quarantined body
	last_at         integer,                    -- the last of them
	metadata        blob
) STRICT;
CREATE UNIQUE INDEX events_case ON events (case_id, seq);
CREATE INDEX events_key ON events (case_id, external_digest, seq);
CREATE INDEX events_pending ON events (case_id, seq, received_at) WHERE state = 'pending';
-- Without the first of a case, which is found by its place: most cases have one or two.
CREATE INDEX events_open ON events (case_id, seq) WHERE standing = 2 AND seq > 1;
CREATE INDEX events_value ON events (case_id, standing, value) WHERE standing > 0 AND seq > 1;
CREATE INDEX events_failed ON events (state, id) WHERE state IN ('dead', 'quarantined');
CREATE INDEX events_dead ON events (case_id, seq) WHERE state = 'dead';
CREATE UNIQUE INDEX events_body ON events (digest) WHERE transaction_id IS NULL;

CREATE TABLE ids ( -- the ids by which a search finds cases; see ledger.Key
	case_id      integer NOT NULL,
	external_key blob    NOT NULL,
	e2e_key      blob    NOT NULL,
	PRIMARY KEY (case_id, external_key, e2e_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX ids_external ON ids (external_key);
CREATE INDEX ids_e2e ON ids (e2e_key);

CREATE TABLE notes ( -- what people did, and reminders that were called
	id             integer PRIMARY KEY,
	transaction_id text,    -- NULL if the event is quarantined
	event_id       text,    -- NULL if it is about the case
	at             integer NOT NULL,
	action         text    NOT NULL,
	by             text    NOT NULL,
	note           text    NOT NULL
) STRICT;
CREATE INDEX notes_case ON notes (transaction_id, id) WHERE transaction_id IS NOT NULL;
CREATE INDEX notes_event ON notes (event_id, id) WHERE transaction_id IS NULL;
`}

// migrate brings the tables up to date. The file is locked, so nobody else does.
func (s *engine) migrate(ctx context.Context) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	for ; version < len(migrations); version++ {
		if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
			return fmt.Errorf("version %d: %w", version+1, err)
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d", version+1, applicationID)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// statements are those that run often, prepared on the writing connection.
type statements struct {
	owner, cases, pending, last, lastCase     *sql.Stmt
	standing, updateSummary, note             *sql.Stmt
	updateEvent, updateCase, quarantine, trim *sql.Stmt
	due, claim, heads, next                   *sql.Stmt

	insertEvents, insertCases, insertIDs bulk
}

// bulk is an INSERT of several rows, with a statement for each of bulkRows: running a
// statement takes longer than writing a row. A violated constraint rolls the whole
// transaction back, as would happen anyway, so that SQLite keeps no journal for the
// statement alone.
type bulk struct {
	columns int // that a row binds
	stmts   [4]*sql.Stmt
}

var bulkRows = [4]int{64, 16, 4, 1}

func (s *engine) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		sql  string
	}{
		{&s.stmts.owner, sqlOwner},
		{&s.stmts.cases, sqlCases},
		{&s.stmts.pending, sqlPending},
		{&s.stmts.last, sqlLast},
		{&s.stmts.lastCase, sqlLastCase},
		{&s.stmts.standing, sqlStanding},
		{&s.stmts.updateSummary, sqlUpdateSummary},
		{&s.stmts.note, sqlNote},
		{&s.stmts.updateEvent, sqlUpdateEvent},
		{&s.stmts.updateCase, sqlUpdateCase},
		{&s.stmts.quarantine, sqlQuarantine},
		{&s.stmts.trim, sqlTrim},
		{&s.stmts.due, sqlDue},
		{&s.stmts.claim, sqlClaim},
		{&s.stmts.heads, sqlHeads},
		{&s.stmts.next, sqlNext},
	} {
		if err := s.prepareOne(ctx, p.stmt, p.sql); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		bulk      *bulk
		head, row string
	}{
		{&s.stmts.insertEvents, sqlInsertEvents, sqlEventRow},
		{&s.stmts.insertCases, sqlInsertCases, sqlCaseRow},
		{&s.stmts.insertIDs, sqlInsertIDs, sqlIDRow},
	} {
		p.bulk.columns = strings.Count(p.row, "?")
		for i, rows := range bulkRows {
			if err := s.prepareOne(ctx, &p.bulk.stmts[i], p.head+strings.Repeat(p.row+", ", rows-1)+p.row); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *engine) prepareOne(ctx context.Context, stmt **sql.Stmt, query string) (err error) {
	if *stmt, err = s.write.PrepareContext(ctx, query); err == nil {
		s.prepared = append(s.prepared, *stmt)
	}
	return err
}
