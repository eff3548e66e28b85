package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// migrations are applied in order; inbox_migrations lists those that have been. Texts
// that senders choose are bytes, since they may contain NUL.
var migrations = []string{`
CREATE TABLE {schema}.settings (
	one       boolean     PRIMARY KEY DEFAULT true CHECK (one),
	probed_at timestamptz, -- when the last readiness check wrote this
	defence   bigint,      -- microseconds from when a case opened until it is due; NULL: it is never
	reminders bigint[]     NOT NULL DEFAULT '{}' -- microseconds before that, for each reminder
);
INSERT INTO {schema}.settings DEFAULT VALUES;

CREATE TABLE {schema}.cases (
	transaction_id uuid        PRIMARY KEY,
	next_seq       bigint      NOT NULL DEFAULT 1,     -- the place of the next event
	pending        bigint      NOT NULL DEFAULT 0,     -- how many of its events are pending
	head           bigint      NOT NULL DEFAULT 0,     -- the place of the first of them; 0: nothing is pending
	event_at       timestamptz,                        -- when its first pending event runs; NULL: nothing is pending
	remind_at      timestamptz,                        -- when the next reminder is called, or tried again; NULL: none is
	run_at         timestamptz,                        -- when it may be claimed: the earlier of both or, while it is held, the end of the lease
	lease          bigint      NOT NULL DEFAULT 0,     -- the random number of the last claim
	held           boolean     NOT NULL DEFAULT false, -- by the last claim, until run_at
	running        bigint      NOT NULL DEFAULT 0,     -- the place of the event that is leased; -1: the reminder is
	updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),

	open            boolean     NOT NULL DEFAULT false,
	status_seq      bigint      NOT NULL DEFAULT 0,  -- the place of the event whose status is the case's
	value           bigint      NOT NULL DEFAULT 0,  -- in centavos
	dead            bigint      NOT NULL DEFAULT 0,  -- how many of its events are dead
	opened_at       timestamptz,
	answered_at     timestamptz,
	answered_by     text        NOT NULL DEFAULT '',
	ended_at        timestamptz,
	ended_by        text        NOT NULL DEFAULT '', -- '': a notification ended it
	reminded_at     timestamptz,                     -- up to when reminders are done or given up
	tried_at        timestamptz,                     -- when the last failed attempt at the next reminder was claimed
	remind_failures integer     NOT NULL DEFAULT 0,
	given_up        integer     NOT NULL DEFAULT 0,  -- reminders
	CHECK ((NOT held OR run_at IS NOT NULL) AND (pending > 0) = (event_at IS NOT NULL) AND (pending > 0) = (head > 0))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX cases_run ON {schema}.cases (run_at) WHERE run_at IS NOT NULL;
CREATE INDEX cases_open ON {schema}.cases (opened_at, transaction_id) INCLUDE (value, answered_at, given_up) WHERE open;
CREATE INDEX cases_ended ON {schema}.cases (updated_at, transaction_id) WHERE NOT open;
CREATE INDEX cases_waiting ON {schema}.cases (open, opened_at, transaction_id) WHERE event_at IS NOT NULL;
CREATE INDEX cases_dead ON {schema}.cases (open, opened_at, transaction_id) WHERE dead > 0;

CREATE TABLE {schema}.events (
	id              uuid        PRIMARY KEY,
	transaction_id  uuid,       -- NULL while quarantined
	external_id     bytea       NOT NULL,
	external_digest bigint      NOT NULL, -- of the external id, which may be too long for an index
	status          bytea       NOT NULL,
	value           bigint      NOT NULL, -- in centavos
	raw             bytea       NOT NULL,
	digest          bytea,      -- SHA-256 of raw, if it is quarantined or has no status
	seq             bigint,     -- place in the case, NULL while quarantined
	state           text        NOT NULL CHECK (state IN ('pending', 'done', 'dead', 'quarantined', 'resolved')),
	standing        smallint    NOT NULL DEFAULT 0, -- 0: not the last of its external id; 1: the last, and final or ended by hand; 2: the last, and open
	attempts        integer     NOT NULL DEFAULT 0,
	failures        integer     NOT NULL DEFAULT 0,
	discarded       boolean     NOT NULL DEFAULT false,
	last_error      text        NOT NULL DEFAULT '',
	received_at     timestamptz NOT NULL,
	done_at         timestamptz,
	deliveries      integer     NOT NULL DEFAULT 1, -- of a quarantined body
	last_at         timestamptz,                    -- the last of them
	metadata        bytea
);
CREATE UNIQUE INDEX events_case ON {schema}.events (transaction_id, seq);
CREATE INDEX events_key ON {schema}.events (external_digest, transaction_id, seq);
CREATE INDEX events_pending ON {schema}.events (transaction_id, seq) INCLUDE (received_at) WHERE state = 'pending';
-- Without the first of a case, which is found by its place: most cases have one or two.
CREATE INDEX events_open ON {schema}.events (transaction_id, seq) WHERE standing = 2 AND seq > 1;
CREATE INDEX events_value ON {schema}.events (transaction_id, standing, value) WHERE standing > 0 AND seq > 1;
CREATE INDEX events_failed ON {schema}.events (state, id) WHERE state IN ('dead', 'quarantined');
CREATE INDEX events_dead ON {schema}.events (transaction_id, seq) WHERE state = 'dead';
CREATE UNIQUE INDEX events_body ON {schema}.events (digest) WHERE transaction_id IS NULL;

CREATE TABLE {schema}.ids ( -- the ids by which a search finds cases; see ledger.Key
	transaction_id uuid  NOT NULL,
	external_key   bytea NOT NULL,
	e2e_key        bytea NOT NULL,
	PRIMARY KEY (transaction_id, external_key, e2e_key)
);
CREATE INDEX ids_external ON {schema}.ids (external_key);
CREATE INDEX ids_e2e ON {schema}.ids (e2e_key);

CREATE TABLE {schema}.notes ( -- what people did, and reminders that were called
	id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	transaction_id uuid,       -- NULL if the event is quarantined
	event_id       uuid,       -- NULL if it is about the case
	at             timestamptz NOT NULL DEFAULT clock_timestamp(),
	action         text        NOT NULL,
	by             text        NOT NULL,
	note           text        NOT NULL
);
CREATE INDEX notes_case ON {schema}.notes (transaction_id, id) WHERE transaction_id IS NOT NULL;
CREATE INDEX notes_event ON {schema}.notes (event_id, id) WHERE transaction_id IS NULL;
`}

// migrate brings the tables up to date, one process at a time.
func (s *engine) migrate(ctx context.Context) error {
	var encoding string
	if err := s.pool.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s, and the inbox needs UTF8", encoding)
	}
	if current, err := s.current(ctx); err != nil || current {
		return err
	}
	return pgx.BeginTxFunc(ctx, s.pool, txOptions, func(tx pgx.Tx) error {
		// The lock belongs to the transaction, so that it works through a pooler and ends
		// with the connection if this process is killed.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "pixmed inbox "+s.config.Schema); err != nil {
			return fmt.Errorf("wait for the migration lock: %w", err)
		}
		// Not to_regnamespace, whose answer the session may have cached before it had the
		// lock.
		var exists bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", s.config.Schema).Scan(&exists); err != nil {
			return err
		}
		if !exists { // IF NOT EXISTS needs the right to create one even if there is one
			if _, err := tx.Exec(ctx, "CREATE SCHEMA "+s.schema); err != nil {
				return fmt.Errorf("create the schema: %w", err)
			}
		}
		if _, err := tx.Exec(ctx, s.in("CREATE TABLE IF NOT EXISTS {schema}.inbox_migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())")); err != nil {
			return err
		}
		var version int
		if err := tx.QueryRow(ctx, s.in("SELECT coalesce(max(version), 0) FROM {schema}.inbox_migrations")).Scan(&version); err != nil {
			return err
		}
		for ; version < len(migrations); version++ {
			// Several statements at once need the simple protocol.
			if _, err := tx.Exec(ctx, s.in(migrations[version]), pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("migrate to version %d: %w", version+1, err)
			}
			if _, err := tx.Exec(ctx, s.in("INSERT INTO {schema}.inbox_migrations (version) VALUES ($1)"), version+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// current reports whether there is nothing to migrate. It needs no more than the
// right to read.
func (s *engine) current(ctx context.Context) (bool, error) {
	version, err := s.version(ctx)
	return version == len(migrations), err
}

// version returns the version of the tables, 0 if there are none.
func (s *engine) version(ctx context.Context) (version int, err error) {
	var exists, river bool
	if err := s.pool.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL", pgx.QueryExecModeExec,
		s.schema+".inbox_migrations", s.schema+".river_job").Scan(&exists, &river); err != nil {
		return 0, err
	}
	if river {
		return 0, fmt.Errorf("the schema %s was made by a version of pixmed before v0.1.0, whose queue was River; this version does not read it: drop the schema, or choose another one with WithSchema", s.config.Schema)
	}
	if !exists {
		return 0, nil
	}
	if err := s.pool.QueryRow(ctx, s.in("SELECT coalesce(max(version), 0) FROM {schema}.inbox_migrations"), pgx.QueryExecModeExec).Scan(&version); err != nil {
		return 0, err
	}
	return version, s.checkVersion(version)
}

// checkVersion fails if another process has brought the tables further than this
// program knows.
func (s *engine) checkVersion(version int) error {
	if version > len(migrations) {
		return fmt.Errorf("the schema %s has version %d, and this program knows %d: %w", s.config.Schema, version, len(migrations), errOutdated)
	}
	return nil
}

var errOutdated = errors.New("update the program")

// in puts the schema's name into a statement.
func (s *engine) in(sql string) string { return strings.ReplaceAll(sql, "{schema}", s.schema) }
