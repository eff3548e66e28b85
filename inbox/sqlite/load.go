package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	sqlCases   = `SELECT id, transaction_id, next_seq, lease, held, running, event_at IS NOT NULL, coalesce(remind_at, 0), ` + summary + ` FROM cases c WHERE transaction_id IN (SELECT value FROM json_each(?))`
	sqlPending = `SELECT ` + bare + ` FROM events e INDEXED BY events_pending WHERE case_id = ? AND state = 'pending'`
	sqlLast    = `SELECT ` + bare + ` FROM events e WHERE case_id = ? AND external_digest = ? AND external_id = ? ORDER BY seq DESC LIMIT 1`
	sqlAll     = `SELECT ` + bare + ` FROM events e WHERE case_id = ?`
	sqlByID    = `SELECT ` + bare + ` FROM events e WHERE id = ?`
	// sqlStanding reads more events that may become the status or the value of a case
	// than the operations can use up.
	sqlStanding = `
SELECT ` + bare + ` FROM events e WHERE case_id = ?1 AND seq = 1 AND standing > 0
UNION ALL
SELECT * FROM (SELECT ` + bare + ` FROM events e INDEXED BY events_open WHERE case_id = ?1 AND standing = 2 AND seq > 1 ORDER BY seq DESC LIMIT ?2)
UNION ALL
SELECT * FROM (SELECT ` + bare + ` FROM events e INDEXED BY events_value WHERE case_id = ?1 AND standing > 0 AND standing = 2 AND seq > 1 ORDER BY value DESC LIMIT ?2)
UNION ALL
SELECT * FROM (SELECT ` + bare + ` FROM events e INDEXED BY events_value WHERE case_id = ?1 AND standing > 0 AND standing = 1 AND seq > 1 ORDER BY value DESC LIMIT ?2)`
)

// summary are the columns that say what a case is as a whole.
const summary = `c.open, c.status_seq, c.value, coalesce(c.opened_at, 0), coalesce(c.answered_at, 0), c.answered_by, coalesce(c.ended_at, 0), c.ended_by, coalesce(c.reminded_at, 0), coalesce(c.tried_at, 0), c.remind_failures, c.given_up`

// The columns of an event, without its body and with it.
const (
	columns = `e.id, coalesce(e.transaction_id, ''), e.external_id, e.status, e.value, e.digest, coalesce(e.seq, 0), e.state, e.standing, e.attempts, e.failures, e.discarded, e.last_error, e.received_at, coalesce(e.done_at, 0), e.deliveries, coalesce(e.last_at, 0), e.metadata`
	bare    = columns + `, NULL`
	whole   = columns + `, e.raw`
)

// load holds the cases of a transaction's operations.
type load struct {
	*txn
	cases map[string]*ledger.Case
	ids   map[string]int64 // of the cases that exist

	accepts map[string]int // how many operations accept something, by case; 0 once what they need is loaded
}

// load reads the cases and what is pending in them.
func (l *load) load(ops []*ledger.Op) error {
	for _, op := range ops {
		if op.TransactionID != "" {
			l.cases[op.TransactionID] = ledger.NewCase(op.TransactionID, ledger.Row{NextSeq: 1, Now: fromMicro(l.now)}) // unless it exists
		}
		if op.ExternalID != nil {
			l.accepts[op.TransactionID]++
		}
	}
	ids, err := json.Marshal(slices.Collect(maps.Keys(l.cases)))
	if err != nil {
		return err
	}
	rows, err := l.query(l.engine.stmts.cases, string(ids))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		var number int64
		r := ledger.Row{Now: fromMicro(l.now)}
		var remindAt int64
		s := summaryScan{s: &r.Summary}
		if err := rows.Scan(append([]any{&number, &id, &r.NextSeq, &r.Lease, &r.Held, &r.Running, &r.Due, &remindAt}, s.into()...)...); err != nil {
			return err
		}
		s.done()
		r.RemindAt = fromMicro(remindAt)
		l.cases[id], l.ids[id] = ledger.NewCase(id, r), number
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for id, number := range l.ids {
		if err := addEvents(l.cases[id])(l.query(l.engine.stmts.pending, number)); err != nil {
			return err
		}
	}
	return nil
}

// loadFor reads what else an operation needs.
func (l *load) loadFor(op *ledger.Op) error {
	c, number := l.cases[op.TransactionID], l.ids[op.TransactionID]
	if op.ExternalID != nil && !c.Empty() {
		if err := addEvents(c)(l.query(l.engine.stmts.last, number, ledger.ExternalDigest(*op.ExternalID), *op.ExternalID)); err != nil {
			return err
		}
	}
	if n := l.accepts[op.TransactionID]; op.ExternalID != nil && n > 0 {
		l.accepts[op.TransactionID] = 0
		if number != 0 {
			if err := addEvents(c)(l.query(l.engine.stmts.standing, number, n+1)); err != nil {
				return err
			}
		}
	}
	if op.All {
		if err := addEvents(c)(l.tx.QueryContext(context.Background(), sqlAll, number)); err != nil {
			return err
		}
	}
	if op.Event != "" {
		return addEvents(c)(l.tx.QueryContext(context.Background(), sqlByID, op.Event))
	}
	return nil
}

// addEvents returns a function that adds a query's rows to a case.
func addEvents(c *ledger.Case) func(*sql.Rows, error) error {
	return func(rows *sql.Rows, err error) error {
		events, err := scanEvents(rows, err)
		for _, e := range events {
			c.Add(e)
		}
		return err
	}
}

func scanEvents(rows *sql.Rows, err error) ([]*ledger.Event, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var events []*ledger.Event
	for rows.Next() {
		e := new(ledger.Event)
		if err := scanEvent(rows, e); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

func scanEvent(row interface{ Scan(...any) error }, e *ledger.Event, more ...any) error {
	var receivedAt, doneAt, lastAt int64
	err := row.Scan(append([]any{
		&e.ID, &e.TransactionID, &e.ExternalID, &e.Status, &e.Value, &e.Digest, &e.Seq, &e.State, &e.Standing, &e.Attempts, &e.Failures,
		&e.Discarded, &e.LastError, &receivedAt, &doneAt, &e.Deliveries, &lastAt, &e.Metadata, &e.Raw,
	}, more...)...)
	e.ReceivedAt, e.DoneAt, e.LastAt = fromMicro(receivedAt), fromMicro(doneAt), fromMicro(lastAt)
	return err
}

// summaryScan reads the columns of a summary.
type summaryScan struct {
	s                                        *ledger.Summary
	opened, answered, ended, reminded, tried int64
}

func (x *summaryScan) into() []any {
	return []any{
		&x.s.Open, &x.s.StatusSeq, &x.s.Value, &x.opened, &x.answered, &x.s.AnsweredBy, &x.ended, &x.s.EndedBy,
		&x.reminded, &x.tried, &x.s.Failures, &x.s.GivenUp,
	}
}

// done must be called when a row was read.
func (x *summaryScan) done() {
	x.s.OpenedAt, x.s.AnsweredAt, x.s.EndedAt = fromMicro(x.opened), fromMicro(x.answered), fromMicro(x.ended)
	x.s.RemindedAt, x.s.TriedAt = fromMicro(x.reminded), fromMicro(x.tried)
}

func toNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func fromMicro(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
