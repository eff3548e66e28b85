package postgres

import (
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	// sqlFirst stores the first events of new cases. What it does not return belongs
	// to a case that exists.
	sqlFirst = `
WITH c AS (
	INSERT INTO {schema}.cases (transaction_id, next_seq, run_at)
	SELECT t, 2, clock_timestamp() FROM unnest($2::text[]::uuid[]) t ORDER BY t ON CONFLICT DO NOTHING RETURNING transaction_id)
INSERT INTO {schema}.events (id, transaction_id, external_id, external_digest, status, value, raw, digest, seq, state, received_at, metadata)
SELECT e.id, c.transaction_id, e.external_id, e.external_digest, e.status, e.value, e.raw, e.digest, 1, 'pending', e.received_at, e.metadata
FROM unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bytea[], $8::bytea[], $9::timestamptz[], $10::bytea[])
	e (id, transaction_id, external_id, external_digest, status, value, raw, digest, received_at, metadata) JOIN c USING (transaction_id)
RETURNING id::text`

	// sqlWrite is one statement, since each takes its time.
	sqlWrite = `
WITH added AS (
	INSERT INTO {schema}.events (id, transaction_id, external_id, external_digest, status, value, raw, digest, seq, state, received_at, metadata)
	SELECT id, transaction_id, external_id, external_digest, status, value, raw, digest, seq, 'pending', received_at, metadata
	FROM unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bytea[], $8::bytea[], $9::timestamptz[], $10::bytea[], $11::bigint[])
		e (id, transaction_id, external_id, external_digest, status, value, raw, digest, received_at, metadata, seq)),
changed AS (
	UPDATE {schema}.events e SET transaction_id = u.transaction_id, external_id = u.external_id, external_digest = u.external_digest, status = u.status, value = u.value,
		seq = u.seq, state = u.state, attempts = u.attempts, failures = u.failures, discarded = u.discarded, last_error = u.last_error,
		done_at = CASE WHEN u.state = 'done' THEN clock_timestamp() END
	FROM unnest($12::text[]::uuid[], $13::text[]::uuid[], $14::bytea[], $15::bigint[], $16::bytea[], $17::bigint[], $18::bigint[], $19::text[], $20::int[], $21::int[], $22::boolean[], $23::text[])
		u (id, transaction_id, external_id, external_digest, status, value, seq, state, attempts, failures, discarded, last_error)
	WHERE e.id = u.id)
UPDATE {schema}.cases c SET next_seq = u.next_seq, updated_at = clock_timestamp(),
	held = c.held AND u.due = 0, running = CASE u.due WHEN 0 THEN c.running ELSE 0 END,
	run_at = CASE u.due WHEN 0 THEN c.run_at WHEN 1 THEN NULL ELSE clock_timestamp() + u.delay * interval '1 microsecond' END
FROM unnest($24::text[]::uuid[], $25::bigint[], $26::int[], $27::bigint[]) u (transaction_id, next_seq, due, delay)
WHERE c.transaction_id = u.transaction_id`

	sqlQuarantine = `
INSERT INTO {schema}.events AS e (id, external_id, external_digest, status, value, raw, digest, state, last_error, received_at, last_at, metadata)
VALUES ($1::text::uuid, '', 0, '', 0, $2, $3, 'quarantined', $4, $5, $5, $6)
ON CONFLICT (digest) WHERE state = 'quarantined' DO UPDATE SET
	deliveries = e.deliveries + 1, last_at = greatest(e.last_at, excluded.last_at), last_error = excluded.last_error`

	sqlTrim = `
DELETE FROM {schema}.events e WHERE transaction_id = $1::text::uuid AND seq >= $2 AND seq < $3 AND state = 'done' AND EXISTS (
	SELECT FROM {schema}.events l WHERE l.transaction_id = e.transaction_id AND l.external_digest = e.external_digest AND l.external_id = e.external_id AND l.seq > e.seq)`

	sqlProbe = `UPDATE {schema}.settings SET probed_at = clock_timestamp() RETURNING (SELECT max(version) FROM {schema}.inbox_migrations)`
)

// write adds what writes the changes of cases.
func (r *round) write(cases map[string]*ledger.Case, quarantined []*ledger.Event) {
	for _, e := range quarantined {
		r.exec(r.s.sql.quarantine, e.ID, nonNil(e.Raw), e.Digest, e.LastError, e.ReceivedAt, e.Metadata)
	}
	var added newRows
	var changed changedRows
	var rows caseRows
	for id, c := range cases {
		ch := c.Changes()
		for _, e := range ch.Added {
			added.add(e)
		}
		for _, e := range ch.Changed {
			changed.add(e)
		}
		if ch.RowChanged {
			rows.add(id, ch)
		}
	}
	if len(rows.ids)+len(added.ids)+len(changed.ids) > 0 {
		args := append(added.arguments(), added.seqs)
		args = append(args, changed.arguments()...)
		r.exec(r.s.sql.write, append(args, rows.ids, rows.nextSeqs, rows.dues, rows.delays)...)
	}
	for id, c := range cases {
		if ch := c.Changes(); ch.TrimTo > 0 {
			r.exec(r.s.sql.trim, id, ch.TrimFrom, ch.TrimTo)
		}
	}
}

// probe adds what shows whether the database can be written.
func (r *round) probe() {
	r.query(r.version, r.s.sql.probe)
}

// newRows are the columns of events to insert.
type newRows struct {
	ids, transactions                           []string
	externalIDs, statuses, raws, sums, metadata [][]byte
	digests, values, seqs                       []int64
	receivedAt                                  []time.Time
}

func (r *newRows) add(e *ledger.Event) {
	r.ids, r.transactions = append(r.ids, e.ID), append(r.transactions, e.TransactionID)
	r.externalIDs, r.digests = append(r.externalIDs, []byte(e.ExternalID)), append(r.digests, ledger.ExternalDigest(e.ExternalID))
	r.statuses, r.values = append(r.statuses, []byte(e.Status)), append(r.values, e.Value)
	r.raws, r.sums = append(r.raws, nonNil(e.Raw)), append(r.sums, e.Digest)
	r.receivedAt, r.metadata = append(r.receivedAt, e.ReceivedAt), append(r.metadata, e.Metadata)
	r.seqs = append(r.seqs, e.Seq)
}

func (r *newRows) arguments() []any {
	return []any{r.ids, r.transactions, r.externalIDs, r.digests, r.statuses, r.values, r.raws, r.sums, r.receivedAt, r.metadata}
}

// changedRows are the columns of events to update.
type changedRows struct {
	ids, transactions, states, errors []string
	externalIDs, statuses             [][]byte
	digests, values, seqs             []int64
	attempts, failures                []int32
	discarded                         []bool
}

func (r *changedRows) add(e *ledger.Event) {
	r.ids, r.transactions = append(r.ids, e.ID), append(r.transactions, e.TransactionID)
	r.externalIDs, r.digests = append(r.externalIDs, []byte(e.ExternalID)), append(r.digests, ledger.ExternalDigest(e.ExternalID))
	r.statuses, r.values = append(r.statuses, []byte(e.Status)), append(r.values, e.Value)
	r.seqs, r.states = append(r.seqs, e.Seq), append(r.states, string(e.State))
	r.attempts, r.failures = append(r.attempts, int32(e.Attempts)), append(r.failures, int32(e.Failures)) //nolint:gosec // WithMaxAttempts bounds them
	r.discarded, r.errors = append(r.discarded, e.Discarded), append(r.errors, e.LastError)
}

func (r *changedRows) arguments() []any {
	return []any{r.ids, r.transactions, r.externalIDs, r.digests, r.statuses, r.values, r.seqs, r.states, r.attempts, r.failures, r.discarded, r.errors}
}

// caseRows are the columns of cases to update.
type caseRows struct {
	ids              []string
	nextSeqs, delays []int64
	dues             []int32
}

func (r *caseRows) add(id string, ch *ledger.Changes) {
	r.ids, r.nextSeqs = append(r.ids, id), append(r.nextSeqs, ch.NextSeq)
	r.dues, r.delays = append(r.dues, int32(ch.Due)), append(r.delays, ch.Delay.Microseconds()) //nolint:gosec // there are three
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
