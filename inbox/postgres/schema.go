package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pixmed-go/pixmed/inbox/internal/queue"
)

// migrations are applied in order; inbox_migrations names those that were.
// Texts of senders are bytes, since they may hold NUL.
var migrations = []string{`
CREATE TABLE {schema}.cases (
	transaction_id uuid        PRIMARY KEY,
	next_seq       bigint      NOT NULL DEFAULT 1,
	live_job       bigint,     -- the river_job of the running or next attempt
	live_event     uuid,       -- its event
	updated_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX cases_live ON {schema}.cases (transaction_id) WHERE live_job IS NOT NULL;

CREATE TABLE {schema}.events (
	id             uuid        PRIMARY KEY,
	transaction_id uuid,       -- NULL while quarantined
	external_id    bytea       NOT NULL,
	status         bytea       NOT NULL,
	raw            bytea       NOT NULL,
	seq            bigint,     -- place in the case, NULL while quarantined
	state          text        NOT NULL CHECK (state IN ('pending', 'done', 'dead', 'quarantined')),
	attempts       integer     NOT NULL DEFAULT 0,
	failures       integer     NOT NULL DEFAULT 0,
	discarded      boolean     NOT NULL DEFAULT false,
	last_error     text        NOT NULL DEFAULT '',
	received_at    timestamptz NOT NULL,
	done_at        timestamptz,
	metadata       bytea
);
CREATE UNIQUE INDEX events_case ON {schema}.events (transaction_id, seq);
CREATE INDEX events_pending ON {schema}.events (transaction_id, seq) WHERE state = 'pending';
CREATE INDEX events_failed ON {schema}.events (state, id) WHERE state IN ('dead', 'quarantined');
`}

// queries are the statements, with the schema's name in its place.
type queries struct {
	schema string

	settings, lockCases, lockCase, events, known, all, byID, job               string
	updateEvent, write                                                         string
	attempt, broken, event, list, history, stats, purgeCases, purgeQuarantined string
	listCases, casePending, caseDead, caseSearch, histories, received          string
}

func newQueries(schema string) *queries {
	columns := func(e string) string {
		return strings.ReplaceAll(`e.id::text, coalesce(e.transaction_id::text, ''), e.external_id, e.status, coalesce(e.seq, 0), e.state, e.attempts, e.failures, e.discarded, e.last_error, e.received_at, e.done_at, e.metadata`, "e.", e+".")
	}
	bare := columns("e") + `, NULL::bytea`
	whole := columns("e") + `, e.raw`
	job := `CASE
	WHEN j.state = 'cancelled' THEN 'cancelled'
	WHEN j.id IS NULL OR j.state IN ('completed', 'discarded') THEN 'lost'
	WHEN j.state = 'running' AND clock_timestamp() - j.attempted_at >= $1 * interval '1 microsecond' THEN 'lost'
	ELSE 'alive' END`
	q := &queries{
		schema: schema,
		// A commit must be on disk, and a lock must not be waited for until the
		// senders have given up, nor for as long as a statement may take: whoever waits
		// too long must be told from what fails. To plan these statements takes longer than to run
		// them; but a plan that is kept, and was made while a table was small, must
		// not be one that reads all of it.
		settings: `SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', '0', true), set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),
	set_config('synchronous_commit',
	CASE WHEN current_setting('synchronous_commit') = 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`,
		// The rows are locked in the order of the ids, by everybody. They are
		// changed and not only locked, so that a purge that waits for them looks
		// at them again.
		lockCases: `
INSERT INTO {schema}.cases AS c (transaction_id) SELECT unnest($1::text[]::uuid[])
ON CONFLICT (transaction_id) DO UPDATE SET updated_at = clock_timestamp()
RETURNING c.transaction_id::text, c.next_seq, coalesce(c.live_job, 0), coalesce(c.live_event::text, '')`,
		lockCase: `
SELECT next_seq, coalesce(live_job, 0), coalesce(live_event::text, '') FROM {schema}.cases
WHERE transaction_id = $1::text::uuid FOR NO KEY UPDATE`,
		events: `
SELECT ` + bare + ` FROM {schema}.events e WHERE e.transaction_id = ANY ($1::text[]::uuid[]) AND e.state = 'pending'
UNION ALL
SELECT l.* FROM unnest($2::text[]::uuid[], $3::bytea[]) k (transaction_id, external_id), LATERAL (
	SELECT ` + bare + ` FROM {schema}.events e
	WHERE e.transaction_id = k.transaction_id AND e.external_id = k.external_id ORDER BY e.seq DESC LIMIT 1) l`,
		known: `SELECT id::text FROM {schema}.events WHERE id = ANY ($1::text[]::uuid[])`,
		all:   `SELECT ` + bare + ` FROM {schema}.events e WHERE e.transaction_id = $1::text::uuid`,
		byID:  `SELECT ` + bare + ` FROM {schema}.events e WHERE e.id = $1::text::uuid`,
		job:   `SELECT ` + job + ` FROM {schema}.cases c LEFT JOIN {schema}.river_job j ON j.id = c.live_job WHERE c.transaction_id = $2::text::uuid`,
		updateEvent: `
UPDATE {schema}.events SET transaction_id = nullif($2::text, '')::uuid, external_id = $3, status = $4, seq = nullif($5::bigint, 0), state = $6::text,
	attempts = $7, failures = $8, discarded = $9, last_error = $10, done_at = CASE WHEN $6::text = 'done' THEN clock_timestamp() END
WHERE id = $1::text::uuid`,
		// One statement, since each takes its time.
		write: `
WITH added AS (
	INSERT INTO {schema}.events (id, transaction_id, external_id, status, raw, seq, state, last_error, received_at, metadata)
	SELECT id, nullif(transaction_id, '')::uuid, external_id, status, raw, nullif(seq, 0), state, last_error, received_at, metadata
	FROM unnest($5::text[]::uuid[], $6::text[], $7::bytea[], $8::bytea[], $9::bytea[], $10::bigint[], $11::text[], $12::text[], $13::timestamptz[], $14::bytea[])
		e (id, transaction_id, external_id, status, raw, seq, state, last_error, received_at, metadata))
UPDATE {schema}.cases c SET next_seq = u.next_seq, live_job = nullif(u.live_job, 0), live_event = nullif(u.live_event, '')::uuid, updated_at = clock_timestamp()
FROM unnest($1::text[]::uuid[], $2::bigint[], $3::bigint[], $4::text[]) u (transaction_id, next_seq, live_job, live_event)
WHERE c.transaction_id = u.transaction_id`,
		attempt: `
SELECT ` + whole + `,
	coalesce((SELECT p.status FROM {schema}.events p WHERE p.transaction_id = e.transaction_id AND p.external_id = e.external_id
		AND p.state = 'done' AND p.id <> e.id ORDER BY p.done_at DESC, p.seq DESC LIMIT 1), ''),
	(SELECT max(p.done_at) FROM {schema}.events p WHERE p.transaction_id = e.transaction_id AND p.external_id = e.external_id
		AND p.state = 'done' AND p.id <> e.id AND p.status = e.status)
FROM {schema}.events e
WHERE e.id = $1::text::uuid AND e.state = 'pending'
	AND EXISTS (SELECT FROM {schema}.cases c WHERE c.transaction_id = e.transaction_id AND c.live_job = $2)`,
		broken: `
SELECT c.transaction_id::text FROM {schema}.cases c LEFT JOIN {schema}.river_job j ON j.id = c.live_job
WHERE c.live_job IS NOT NULL AND ` + job + ` <> 'alive'
UNION
SELECT e.transaction_id::text FROM {schema}.events e JOIN {schema}.cases c USING (transaction_id) WHERE e.state = 'pending' AND c.live_job IS NULL`,
		event:   `SELECT ` + whole + ` FROM {schema}.events e WHERE e.id = $1::text::uuid`,
		list:    `SELECT ` + whole + ` FROM {schema}.events e WHERE true`,
		history: `SELECT ` + whole + ` FROM {schema}.events e WHERE e.transaction_id = $1::text::uuid ORDER BY e.seq`,
		stats: `
SELECT (SELECT count(*) FROM {schema}.events), count(*),
	(SELECT count(*) FROM {schema}.events WHERE state = 'dead'), (SELECT count(*) FROM {schema}.events WHERE state = 'quarantined'),
	coalesce(extract(epoch FROM clock_timestamp() - min(received_at)), 0)::float8
FROM {schema}.events WHERE state = 'pending'`,
		listCases:   `SELECT c.transaction_id::text, c.updated_at FROM {schema}.cases c WHERE true`,
		casePending: `EXISTS (SELECT FROM {schema}.events e WHERE e.transaction_id = c.transaction_id AND e.state = 'pending')`,
		caseDead:    `EXISTS (SELECT FROM {schema}.events e WHERE e.transaction_id = c.transaction_id AND e.state IN ('dead', 'quarantined') AND e.state = 'dead')`,
		// Not with OR, for which all events would be read for each case.
		caseSearch: `c.transaction_id IN (SELECT nullif($1::text, '')::uuid UNION
	SELECT e.transaction_id FROM {schema}.events e WHERE e.external_id = $2::bytea OR position($2::bytea IN e.raw) > 0)`,
		histories: `SELECT ` + whole + ` FROM {schema}.events e WHERE e.transaction_id = ANY ($1::text[]::uuid[]) ORDER BY e.transaction_id, e.seq`,
		received: `
SELECT floor(extract(epoch FROM received_at - $3::timestamptz) * 1000000 / $4::bigint)::bigint, state, count(*)
FROM {schema}.events WHERE id >= $1::text::uuid AND id < $2::text::uuid GROUP BY 1, 2`,
		// A case that an accept holds is left for the next time.
		purgeCases: `
WITH old AS (
	SELECT transaction_id FROM {schema}.cases c
	WHERE transaction_id > $1::text::uuid AND updated_at <= clock_timestamp() - $2 * interval '1 microsecond' AND live_job IS NULL
		AND NOT EXISTS (SELECT FROM {schema}.events e WHERE e.transaction_id = c.transaction_id AND e.state = ANY ($3::text[]))
	ORDER BY transaction_id LIMIT $4 FOR UPDATE SKIP LOCKED)
DELETE FROM {schema}.cases c USING old WHERE c.transaction_id = old.transaction_id RETURNING c.transaction_id::text`,
		purgeQuarantined: `DELETE FROM {schema}.events WHERE state = 'quarantined' AND received_at <= clock_timestamp() - $1 * interval '1 microsecond'`,
	}
	for _, s := range []*string{
		&q.lockCases, &q.lockCase, &q.events, &q.known, &q.all, &q.byID, &q.job, &q.updateEvent, &q.write,
		&q.attempt, &q.broken, &q.event, &q.list, &q.history, &q.stats, &q.purgeCases, &q.purgeQuarantined,
		&q.listCases, &q.casePending, &q.caseDead, &q.caseSearch, &q.histories, &q.received,
	} {
		*s = strings.ReplaceAll(*s, "{schema}", schema)
	}
	return q
}

// migrate brings the tables up to date, one process at a time.
func (s *store) migrate(ctx context.Context) error {
	var encoding string
	if err := s.pool.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s, and the inbox needs UTF8", encoding)
	}
	river, err := rivermigrate.New(riverpgxv5.New(s.pool), &rivermigrate.Config{Schema: s.config.Schema, Logger: queue.Warnings(s.log)})
	if err != nil {
		return err
	}
	if current, err := s.current(ctx, river); err != nil || current {
		return err
	}

	// The lock is the transaction's, so that it works through a pooler, and goes
	// with the connection if this process is killed.
	lock, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := lock.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "pixmed inbox "+s.config.Schema); err != nil {
		return fmt.Errorf("wait for the migration lock: %w", err)
	}
	var exists bool
	if err := s.pool.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL", s.sql.schema).Scan(&exists); err != nil {
		return err
	}
	if !exists { // or it would take the right to make one, even if there is one
		if _, err := s.pool.Exec(ctx, "CREATE SCHEMA "+s.sql.schema); err != nil {
			return fmt.Errorf("create the schema: %w", err)
		}
	}
	if _, err := river.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate river: %w", err)
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+s.sql.schema+".inbox_migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"); err != nil {
			return err
		}
		var version int
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM "+s.sql.schema+".inbox_migrations").Scan(&version); err != nil {
			return err
		}
		for ; version < len(migrations); version++ {
			// Several statements at once take the simple protocol.
			if _, err := tx.Exec(ctx, strings.ReplaceAll(migrations[version], "{schema}", s.sql.schema), pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("migrate to version %d: %w", version+1, err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO "+s.sql.schema+".inbox_migrations (version) VALUES ($1)", version+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// current reports whether there is nothing to migrate. It takes no more than the
// right to read.
func (s *store) current(ctx context.Context, river *rivermigrate.Migrator[pgx.Tx]) (bool, error) {
	var exists bool
	if err := s.pool.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", s.sql.schema+".inbox_migrations").Scan(&exists); err != nil || !exists {
		return false, err
	}
	var version int
	if err := s.pool.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM "+s.sql.schema+".inbox_migrations").Scan(&version); err != nil {
		return false, err
	}
	if version > len(migrations) {
		return false, fmt.Errorf("the schema %s has version %d, and this program knows %d: update the program", s.config.Schema, version, len(migrations))
	}
	applied, err := river.ExistingVersions(ctx)
	if err != nil {
		return false, fmt.Errorf("look at river's migrations: %w", err)
	}
	return version == len(migrations) && len(applied) >= len(river.AllVersions()), nil
}
