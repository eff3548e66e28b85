package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Everybody creates and locks cases in the order of their ids. A case that somebody
// else has locked is skipped, and tried again by a later transaction, so that nobody
// waits for it. The events of a case are read by a later statement than the one that
// locks it, so that everything committed before the lock is seen.
const (
	sqlCreateCases = `INSERT INTO {schema}.cases (transaction_id) SELECT unnest($1::text[]::uuid[]) ON CONFLICT DO NOTHING`
	sqlLockCases   = `
SELECT ` + row + ` FROM {schema}.cases c
WHERE transaction_id = ANY ($1::text[]::uuid[]) ORDER BY c.transaction_id FOR NO KEY UPDATE SKIP LOCKED`
	sqlLockCase = `
SELECT ` + row + ` FROM {schema}.cases c
WHERE transaction_id = ANY ($1::text[]::uuid[]) FOR NO KEY UPDATE`
	sqlExists = `SELECT transaction_id::text FROM {schema}.cases WHERE transaction_id = ANY ($1::text[]::uuid[])`

	sqlEvents = `
SELECT ` + bare + ` FROM {schema}.events e WHERE e.transaction_id = ANY ($1::text[]::uuid[]) AND e.state = 'pending'
UNION ALL
SELECT l.* FROM unnest($2::text[]::uuid[], $3::bigint[], $4::bytea[]) k (transaction_id, external_digest, external_id), LATERAL (
	SELECT ` + bare + ` FROM {schema}.events e
	WHERE e.transaction_id = k.transaction_id AND e.external_digest = k.external_digest AND e.external_id = k.external_id
	ORDER BY e.seq DESC LIMIT 1) l`
	// sqlStanding reads the events that may become the status or the value of each case:
	// one more than the operations can supersede.
	sqlStanding = `
SELECT l.* FROM unnest($1::text[]::uuid[]) k (transaction_id), LATERAL (
	(SELECT ` + bare + ` FROM {schema}.events e WHERE e.transaction_id = k.transaction_id AND e.seq = 1 AND e.standing > 0)
	UNION ALL
	(SELECT ` + bare + ` FROM {schema}.events e WHERE e.transaction_id = k.transaction_id AND e.standing = 2 AND e.seq > 1 ORDER BY e.seq DESC LIMIT $2)
	UNION ALL
	(SELECT ` + bare + ` FROM {schema}.events e WHERE e.transaction_id = k.transaction_id AND e.standing > 0 AND e.standing = 2 AND e.seq > 1 ORDER BY e.value DESC LIMIT $2)
	UNION ALL
	(SELECT ` + bare + ` FROM {schema}.events e WHERE e.transaction_id = k.transaction_id AND e.standing > 0 AND e.standing = 1 AND e.seq > 1 ORDER BY e.value DESC LIMIT $2)) l`
	sqlKnown = `SELECT id::text FROM {schema}.events WHERE id = ANY ($1::text[]::uuid[])`
	sqlAll   = `SELECT ` + bare + ` FROM {schema}.events e WHERE e.transaction_id = $1::text::uuid`
	sqlByID  = `SELECT ` + bare + ` FROM {schema}.events e WHERE e.id = $1::text::uuid`
)

// row are the columns of a case.
const row = `transaction_id::text, next_seq, lease, held, running, event_at IS NOT NULL, remind_at, clock_timestamp(), ` + summary

// summary are the columns that describe a case as a whole.
const summary = `c.open, c.status_seq, c.value, c.opened_at, c.answered_at, c.answered_by, c.ended_at, c.ended_by, c.reminded_at, c.tried_at, c.remind_failures, c.given_up`

// The columns of an event, without its body and with it.
const (
	columns = `e.id::text, coalesce(e.transaction_id::text, ''), e.external_id, e.status, e.value, e.digest, coalesce(e.seq, 0), e.state, e.standing, e.attempts, e.failures, e.discarded, e.last_error, e.received_at, e.done_at, e.deliveries, e.last_at, e.metadata`
	bare    = columns + `, NULL::bytea`
	whole   = columns + `, e.raw`
)

// load locks cases and reads what operations need.
type load struct {
	round
	found  map[string]*ledger.Case // that are locked
	locked map[string]bool         // by somebody else
	known  map[string]bool         // events that are stored already
}

func (s *engine) newLoad() *load {
	return &load{
		round: round{s: s},
		found: make(map[string]*ledger.Case), locked: make(map[string]bool), known: make(map[string]bool),
	}
}

// cases locks the cases of the operations and reads what these need.
func (l *load) cases(ops []*ledger.Op) {
	if created := ids(ops, func(op *ledger.Op) bool { return op.New != nil || op.Create }); len(created) > 0 {
		l.exec(l.s.sql.createCases, created)
	}
	if cases := ids(ops, all); len(cases) > 0 {
		l.lock(l.s.sql.lockCases, cases, ops)
	}
	var tried []string
	for _, op := range ops {
		if op.All {
			l.query(l.addEvents, l.s.sql.all, op.TransactionID)
		}
		if op.Event != "" {
			l.query(l.addTo(op.TransactionID), l.s.sql.byID, op.Event)
		}
		for _, e := range []*ledger.Event{op.New, op.Quarantine} {
			if op.Tried && e != nil {
				tried = append(tried, e.ID)
			}
		}
	}
	if len(tried) > 0 {
		l.query(func(rows pgx.Rows) error {
			known, err := pgx.CollectRows(rows, pgx.RowTo[string])
			for _, id := range known {
				l.known[id] = true
			}
			return err
		}, l.s.sql.known, tried)
	}
}

// lock locks cases, by one of the two statements for that, and reads their pending
// events and the last accepted ones.
func (l *load) lock(sql string, cases []string, ops []*ledger.Op) {
	transactions, digests, externalIDs := []string{}, []int64{}, [][]byte{}
	accepts := 0
	for _, op := range ops {
		if op.ExternalID != nil {
			transactions, externalIDs = append(transactions, op.TransactionID), append(externalIDs, []byte(*op.ExternalID))
			digests = append(digests, ledger.ExternalDigest(*op.ExternalID))
		}
	}
	l.query(func(rows pgx.Rows) error {
		var id string
		var r ledger.Row
		var remindAt *time.Time
		s := newSummaryScan(&r.Summary)
		_, err := pgx.ForEachRow(rows, append([]any{&id, &r.NextSeq, &r.Lease, &r.Held, &r.Running, &r.Due, &remindAt, &r.Now}, s.into()...), func() error {
			s.done()
			r.RemindAt, r.Now = fromNull(remindAt), r.Now.UTC()
			l.found[id] = ledger.NewCase(id, r)
			return nil
		})
		return err
	}, sql, cases)
	l.query(l.addEvents, l.s.sql.events, cases, transactions, digests, externalIDs)
	if len(transactions) > 0 {
		most := make(map[string]int)
		for _, id := range transactions {
			most[id]++
			accepts = max(accepts, most[id])
		}
		l.query(l.addEvents, l.s.sql.standing, slices.Sorted(maps.Keys(most)), accepts+1)
	}
}

// addEvents adds events to their cases.
func (l *load) addEvents(rows pgx.Rows) error {
	events, err := scanEvents(rows)
	for _, e := range events {
		if c := l.found[e.TransactionID]; c != nil {
			c.Add(e)
		}
	}
	return err
}

// addTo returns a function that adds events to a case.
func (l *load) addTo(id string) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		events, err := scanEvents(rows)
		for _, e := range events {
			if c := l.found[id]; c != nil {
				c.Add(e)
			}
		}
		return err
	}
}

// findLocked finds out which cases were skipped because somebody else holds them,
// and not because they are gone.
func (l *load) findLocked(ctx context.Context, conn *pgx.Conn, ops []*ledger.Op) error {
	missing := ids(ops, func(op *ledger.Op) bool { return l.found[op.TransactionID] == nil })
	if len(missing) == 0 {
		return nil
	}
	rows, _ := conn.Query(ctx, l.s.sql.exists, missing)
	locked, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, id := range locked {
		l.locked[id] = true
	}
	for _, op := range ops {
		if l.found[op.TransactionID] == nil && (op.New != nil || op.Create) {
			l.locked[op.TransactionID] = true // it was purged between the two statements
		}
	}
	return err
}

func scanEvents(rows pgx.Rows) ([]*ledger.Event, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*ledger.Event, error) {
		e := new(ledger.Event)
		return e, scanEvent(row, e)
	})
}

func scanEvent(row pgx.Row, e *ledger.Event, more ...any) error {
	var externalID, status []byte
	var doneAt, lastAt *time.Time
	err := row.Scan(append([]any{
		&e.ID, &e.TransactionID, &externalID, &status, &e.Value, &e.Digest, &e.Seq, (*string)(&e.State), &e.Standing, &e.Attempts, &e.Failures,
		&e.Discarded, &e.LastError, &e.ReceivedAt, &doneAt, &e.Deliveries, &lastAt, &e.Metadata, &e.Raw,
	}, more...)...)
	e.ExternalID, e.Status, e.ReceivedAt = string(externalID), string(status), e.ReceivedAt.UTC()
	e.DoneAt, e.LastAt = fromNull(doneAt), fromNull(lastAt)
	return err
}

// summaryScan reads the columns of a summary.
type summaryScan struct {
	s                                        *ledger.Summary
	opened, answered, ended, reminded, tried *time.Time
}

func newSummaryScan(s *ledger.Summary) *summaryScan { return &summaryScan{s: s} }

func (x *summaryScan) into() []any {
	return []any{
		&x.s.Open, &x.s.StatusSeq, &x.s.Value, &x.opened, &x.answered, &x.s.AnsweredBy, &x.ended, &x.s.EndedBy,
		&x.reminded, &x.tried, &x.s.Failures, &x.s.GivenUp,
	}
}

// done must be called when a row was read.
func (x *summaryScan) done() {
	x.s.OpenedAt, x.s.AnsweredAt, x.s.EndedAt = fromNull(x.opened), fromNull(x.answered), fromNull(x.ended)
	x.s.RemindedAt, x.s.TriedAt = fromNull(x.reminded), fromNull(x.tried)
}

func fromNull(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
