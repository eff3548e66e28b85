package postgres

import (
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	// The time of the first reminder after a given time. When the case opened, and the
	// given time, go between these three.
	plannedOf    = `(SELECT min(p.at) FROM {schema}.settings s, unnest(s.reminders) before, LATERAL (SELECT `
	plannedAfter = ` + (s.defence - before) * interval '1 microsecond' AS at) p WHERE s.one AND p.at > coalesce(`
	plannedEnd   = `, '-infinity'))`

	// The run_at of a case that is not held is the earlier of two times, which go between
	// these two, but never before now: claims do not look further back.
	runOf  = `(SELECT x.at + greatest(clock_timestamp() - x.at, interval '0') FROM (SELECT least(`
	runEnd = `) AS at) x)`

	// sqlFirst stores the first events of new cases, and returns their transactions. The
	// others have a case already.
	sqlFirst = `
WITH c AS (
	INSERT INTO {schema}.cases (transaction_id, next_seq, pending, head, event_at, remind_at, run_at, open, status_seq, value, opened_at, ended_at)
	SELECT t.id, 2, 1, 1, clock_timestamp(), r.at, clock_timestamp(), t.open, 1, t.value, CASE WHEN t.open THEN t.at END, CASE WHEN NOT t.open THEN t.at END
	FROM unnest($2::text[]::uuid[], $6::bigint[], $9::timestamptz[], $12::boolean[]) t (id, value, at, open),
		LATERAL (SELECT CASE WHEN t.open THEN ` + plannedOf + `t.at` + plannedAfter + `NULL::timestamptz` + plannedEnd + ` END AS at) r ORDER BY t.id ON CONFLICT DO NOTHING RETURNING transaction_id),
i AS (
	INSERT INTO {schema}.ids (transaction_id, external_key, e2e_key)
	SELECT transaction_id, k.external_key, k.e2e_key FROM unnest($2::text[]::uuid[], $13::bytea[], $14::bytea[]) k (transaction_id, external_key, e2e_key) JOIN c USING (transaction_id))
INSERT INTO {schema}.events (id, transaction_id, external_id, external_digest, status, value, raw, digest, seq, state, received_at, metadata, standing)
SELECT e.id, c.transaction_id, e.external_id, e.external_digest, e.status, e.value, e.raw, e.digest, 1, 'pending', e.received_at, e.metadata, e.standing
FROM unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bytea[], $8::bytea[], $9::timestamptz[], $10::bytea[], $11::smallint[])
	e (id, transaction_id, external_id, external_digest, status, value, raw, digest, received_at, metadata, standing) JOIN c USING (transaction_id)
RETURNING transaction_id::text`

	// sqlSettle ends attempts whose event is the only pending one of its case, and returns
	// their transactions. The others were overtaken, or are no longer alone, or somebody
	// else has locked their case. Every condition is about the row that is locked, so
	// PostgreSQL checks it again if the row has changed by the time it gets the lock.
	sqlSettle = `
WITH mine AS (
	SELECT u.*, CASE WHEN u.state = 'pending' THEN clock_timestamp() + u.delay * interval '1 microsecond' END AS at
	FROM unnest($1::text[]::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::int[], $6::int[], $7::boolean[], $8::text[], $9::bigint[], $10::bigint[])
		u (transaction_id, lease, seq, state, attempts, failures, discarded, last_error, delay, dead) JOIN {schema}.cases c USING (transaction_id)
	WHERE c.held AND c.lease = u.lease AND c.pending = 1 FOR NO KEY UPDATE OF c SKIP LOCKED),
changed AS (
	UPDATE {schema}.events e SET state = m.state, attempts = m.attempts, failures = m.failures, discarded = m.discarded, last_error = m.last_error,
		done_at = CASE WHEN m.state = 'done' THEN clock_timestamp() END
	FROM mine m WHERE e.transaction_id = m.transaction_id AND e.seq = m.seq)
UPDATE {schema}.cases c SET updated_at = clock_timestamp(), dead = c.dead + m.dead, pending = CASE WHEN m.at IS NULL THEN 0 ELSE 1 END, head = CASE WHEN m.at IS NULL THEN 0 ELSE m.seq END,
	held = false, running = 0, event_at = m.at, run_at = ` + runOf + `m.at, c.remind_at` + runEnd + `
FROM mine m WHERE c.transaction_id = m.transaction_id RETURNING c.transaction_id::text`

	// sqlIDs stores the ids by which a search finds cases. Most are stored already.
	sqlIDs = `
INSERT INTO {schema}.ids (transaction_id, external_key, e2e_key) SELECT * FROM unnest($1::text[]::uuid[], $2::bytea[], $3::bytea[]) ON CONFLICT DO NOTHING`

	// sqlSummary writes the summaries of cases. sqlWrite, which follows, sets their run_at.
	sqlSummary = `
UPDATE {schema}.cases c SET open = u.open, status_seq = u.status_seq, value = u.value, opened_at = u.opened_at, answered_at = u.answered_at, answered_by = u.answered_by,
	ended_at = u.ended_at, ended_by = u.ended_by, reminded_at = u.reminded_at, tried_at = u.tried_at, remind_failures = u.failures, given_up = u.given_up,
	remind_at = CASE u.remind WHEN 0 THEN c.remind_at WHEN 2 THEN ` + plannedOf + `u.opened_at` + plannedAfter + `u.reminded_at` + plannedEnd + ` WHEN 3 THEN least(clock_timestamp() + u.delay * interval '1 microsecond', ` + plannedOf + `u.opened_at` + plannedAfter + `u.tried_at` + plannedEnd + `) END
FROM unnest($1::text[]::uuid[], $2::boolean[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::timestamptz[], $9::text[],
	$10::timestamptz[], $11::timestamptz[], $12::int[], $13::int[], $14::int[], $15::bigint[])
	u (transaction_id, open, status_seq, value, opened_at, answered_at, answered_by, ended_at, ended_by, reminded_at, tried_at, failures, given_up, remind, delay)
WHERE c.transaction_id = u.transaction_id`

	// sqlWrite is one statement, since each costs time of its own.
	sqlWrite = `
WITH added AS (
	INSERT INTO {schema}.events (id, transaction_id, external_id, external_digest, status, value, raw, digest, seq, state, received_at, metadata, standing)
	SELECT id, transaction_id, external_id, external_digest, status, value, raw, digest, seq, 'pending', received_at, metadata, standing
	FROM unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bytea[], $8::bytea[], $9::timestamptz[], $10::bytea[], $11::smallint[], $12::bigint[])
		e (id, transaction_id, external_id, external_digest, status, value, raw, digest, received_at, metadata, standing, seq)),
changed AS (
	UPDATE {schema}.events e SET transaction_id = u.transaction_id, external_id = u.external_id, external_digest = u.external_digest, status = u.status, value = u.value,
		seq = u.seq, state = u.state, attempts = u.attempts, failures = u.failures, discarded = u.discarded, last_error = u.last_error, standing = u.standing,
		done_at = CASE WHEN u.state = 'done' THEN coalesce(e.done_at, clock_timestamp()) END
	FROM unnest($13::text[]::uuid[], $14::text[]::uuid[], $15::bytea[], $16::bigint[], $17::bytea[], $18::bigint[], $19::bigint[], $20::text[], $21::int[], $22::int[], $23::boolean[], $24::text[], $25::smallint[])
		u (id, transaction_id, external_id, external_digest, status, value, seq, state, attempts, failures, discarded, last_error, standing)
	WHERE e.id = u.id)
UPDATE {schema}.cases c SET next_seq = u.next_seq, pending = u.pending, head = u.head, updated_at = clock_timestamp(), dead = c.dead + u.dead,
	held = c.held AND NOT u.released, running = CASE WHEN u.released THEN 0 ELSE c.running END,
	event_at = CASE u.due WHEN 0 THEN c.event_at WHEN 2 THEN u.at END,
	run_at = CASE WHEN c.held AND NOT u.released THEN c.run_at ELSE ` + runOf + `CASE u.due WHEN 0 THEN c.event_at WHEN 2 THEN u.at END, c.remind_at` + runEnd + ` END
FROM (SELECT transaction_id, next_seq, pending, head, due, clock_timestamp() + delay * interval '1 microsecond' AS at, released, dead
	FROM unnest($26::text[]::uuid[], $27::bigint[], $28::bigint[], $29::bigint[], $30::int[], $31::bigint[], $32::boolean[], $33::bigint[]) u (transaction_id, next_seq, pending, head, due, delay, released, dead)) u
WHERE c.transaction_id = u.transaction_id`

	sqlQuarantine = `
INSERT INTO {schema}.events AS e (id, external_id, external_digest, status, value, raw, digest, state, last_error, received_at, last_at, metadata)
VALUES ($1::text::uuid, '', 0, '', 0, $2, $3, 'quarantined', $4, $5, $5, $6)
ON CONFLICT (digest) WHERE transaction_id IS NULL DO UPDATE SET
	deliveries = e.deliveries + 1, last_at = greatest(e.last_at, excluded.last_at), last_error = excluded.last_error`

	sqlTrim = `
DELETE FROM {schema}.events e WHERE transaction_id = $1::text::uuid AND seq >= $2 AND seq < $3 AND state = 'done' AND EXISTS (
	SELECT FROM {schema}.events l WHERE l.transaction_id = e.transaction_id AND l.external_digest = e.external_digest AND l.external_id = e.external_id AND l.seq > e.seq)`

	sqlNote = `INSERT INTO {schema}.notes (transaction_id, event_id, action, by, note) VALUES (nullif($1::text, '')::uuid, nullif($2::text, '')::uuid, $3, $4, $5)`

	sqlDelete = `
WITH e AS (DELETE FROM {schema}.events WHERE transaction_id = $1::text::uuid), n AS (DELETE FROM {schema}.notes WHERE transaction_id = $1::text::uuid),
i AS (DELETE FROM {schema}.ids WHERE transaction_id = $1::text::uuid)
DELETE FROM {schema}.cases WHERE transaction_id = $1::text::uuid`

	sqlProbe = `UPDATE {schema}.settings SET probed_at = clock_timestamp() RETURNING (SELECT max(version) FROM {schema}.inbox_migrations)`
)

// write adds the statements that write the changes of cases.
func (r *round) write(cases map[string]*ledger.Case, quarantined []*ledger.Event) {
	for _, e := range quarantined {
		r.exec(r.s.sql.quarantine, e.ID, nonNil(e.Raw), e.Digest, e.LastError, e.ReceivedAt, e.Metadata)
	}
	var added newRows
	var changed changedRows
	var entered idRows
	var rows caseRows
	var summaries summaryRows
	for id, c := range cases {
		ch := c.Changes()
		if ch.Deleted {
			r.exec(r.s.sql.delete, id)
			continue
		}
		for _, e := range ch.Added {
			added.add(e)
		}
		for _, e := range ch.Changed {
			changed.add(e)
		}
		for _, e := range ch.Entered {
			entered.add(e)
		}
		if ch.RowChanged {
			rows.add(id, ch)
		}
		if ch.SummaryChanged {
			summaries.add(id, ch)
		}
		for _, n := range ch.Notes {
			r.note(n)
		}
	}
	if len(summaries.ids) > 0 {
		r.exec(r.s.sql.shareDefence)
		r.exec(r.s.sql.summary, summaries.arguments()...)
	}
	if len(rows.ids)+len(added.ids)+len(changed.ids) > 0 {
		args := append(added.arguments(), added.seqs)
		args = append(args, changed.arguments()...)
		r.exec(r.s.sql.write, append(args, rows.arguments()...)...)
	}
	if len(entered.transactions) > 0 {
		r.exec(r.s.sql.ids, entered.transactions, entered.externals, entered.e2es)
	}
	for id, c := range cases {
		if ch := c.Changes(); ch.TrimTo > 0 {
			r.exec(r.s.sql.trim, id, ch.TrimFrom, ch.TrimTo)
		}
	}
}

// note adds a statement that stores a note.
func (r *round) note(n ledger.Note) {
	r.exec(r.s.sql.note, n.TransactionID, n.EventID, n.Action, n.By, n.Text)
}

// probe adds a statement that shows whether the database accepts writes.
func (r *round) probe() {
	r.query(r.version, r.s.sql.probe)
}

// newRows are the columns of events to insert.
type newRows struct {
	ids, transactions                           []string
	externalIDs, statuses, raws, sums, metadata [][]byte
	digests, values, seqs                       []int64
	receivedAt                                  []time.Time
	standings                                   []int16
}

func (r *newRows) add(e *ledger.Event) {
	r.ids, r.transactions = append(r.ids, e.ID), append(r.transactions, e.TransactionID)
	r.externalIDs, r.digests = append(r.externalIDs, []byte(e.ExternalID)), append(r.digests, ledger.ExternalDigest(e.ExternalID))
	r.statuses, r.values = append(r.statuses, []byte(e.Status)), append(r.values, e.Value)
	r.raws, r.sums = append(r.raws, nonNil(e.Raw)), append(r.sums, e.Digest)
	r.receivedAt, r.metadata = append(r.receivedAt, e.ReceivedAt), append(r.metadata, e.Metadata)
	r.seqs, r.standings = append(r.seqs, e.Seq), append(r.standings, int16(e.Standing))
}

func (r *newRows) arguments() []any {
	return []any{r.ids, r.transactions, r.externalIDs, r.digests, r.statuses, r.values, r.raws, r.sums, r.receivedAt, r.metadata, r.standings}
}

// idRows are the columns of ids to insert.
type idRows struct {
	transactions    []string
	externals, e2es [][]byte
}

func (r *idRows) add(e *ledger.Event) {
	r.transactions = append(r.transactions, e.TransactionID)
	r.externals, r.e2es = append(r.externals, ledger.Key(e.ExternalID)), append(r.e2es, ledger.Key(e.EndToEndID))
}

// changedRows are the columns of events to update.
type changedRows struct {
	ids, transactions, states, errors []string
	externalIDs, statuses             [][]byte
	digests, values, seqs             []int64
	attempts, failures                []int32
	discarded                         []bool
	standings                         []int16
}

func (r *changedRows) add(e *ledger.Event) {
	r.ids, r.transactions = append(r.ids, e.ID), append(r.transactions, e.TransactionID)
	r.externalIDs, r.digests = append(r.externalIDs, []byte(e.ExternalID)), append(r.digests, ledger.ExternalDigest(e.ExternalID))
	r.statuses, r.values = append(r.statuses, []byte(e.Status)), append(r.values, e.Value)
	r.seqs, r.states = append(r.seqs, e.Seq), append(r.states, string(e.State))
	r.attempts, r.failures = append(r.attempts, int32(e.Attempts)), append(r.failures, int32(e.Failures)) //nolint:gosec // WithMaxAttempts bounds them
	r.discarded, r.errors = append(r.discarded, e.Discarded), append(r.errors, e.LastError)
	r.standings = append(r.standings, int16(e.Standing))
}

func (r *changedRows) arguments() []any {
	return []any{r.ids, r.transactions, r.externalIDs, r.digests, r.statuses, r.values, r.seqs, r.states, r.attempts, r.failures, r.discarded, r.errors, r.standings}
}

// caseRows are the columns of cases to update.
type caseRows struct {
	ids                      []string
	nextSeqs, pending, heads []int64
	delays, dead             []int64
	dues                     []int32
	released                 []bool
}

func (r *caseRows) add(id string, ch *ledger.Changes) {
	r.ids, r.nextSeqs, r.pending = append(r.ids, id), append(r.nextSeqs, ch.NextSeq), append(r.pending, ch.Pending)
	r.heads = append(r.heads, ch.Head)
	r.dues, r.delays = append(r.dues, int32(ch.Due)), append(r.delays, ch.Delay.Microseconds()) //nolint:gosec // there are three
	r.released, r.dead = append(r.released, ch.Released), append(r.dead, ch.Dead)
}

func (r *caseRows) arguments() []any {
	return []any{r.ids, r.nextSeqs, r.pending, r.heads, r.dues, r.delays, r.released, r.dead}
}

// summaryRows are the columns of the summaries of cases to update.
type summaryRows struct {
	ids, answeredBy, endedBy                 []string
	open                                     []bool
	statusSeqs, values, delays               []int64
	opened, answered, ended, reminded, tried []*time.Time
	failures, givenUp, reminds               []int32
}

func (r *summaryRows) add(id string, ch *ledger.Changes) {
	s := &ch.Summary
	r.ids, r.open = append(r.ids, id), append(r.open, s.Open)
	r.statusSeqs, r.values = append(r.statusSeqs, s.StatusSeq), append(r.values, s.Value)
	r.opened, r.ended, r.endedBy = append(r.opened, toNull(s.OpenedAt)), append(r.ended, toNull(s.EndedAt)), append(r.endedBy, s.EndedBy)
	r.answered, r.answeredBy = append(r.answered, toNull(s.AnsweredAt)), append(r.answeredBy, s.AnsweredBy)
	r.reminded, r.tried = append(r.reminded, toNull(s.RemindedAt)), append(r.tried, toNull(s.TriedAt))
	r.failures, r.givenUp = append(r.failures, int32(s.Failures)), append(r.givenUp, int32(s.GivenUp))         //nolint:gosec // WithMaxAttempts bounds them
	r.reminds, r.delays = append(r.reminds, int32(ch.Remind)), append(r.delays, ch.RemindDelay.Microseconds()) //nolint:gosec // there are four
}

func (r *summaryRows) arguments() []any {
	return []any{
		r.ids, r.open, r.statusSeqs, r.values, r.opened, r.answered, r.answeredBy, r.ended, r.endedBy, r.reminded, r.tried,
		r.failures, r.givenUp, r.reminds, r.delays,
	}
}

func toNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
