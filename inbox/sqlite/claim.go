package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	// sqlDue finds the cases that are due, each with the place of what is to be run or
	// settled: what the row names, if its attempt did not end in time; otherwise the
	// first pending event, if its time has come; otherwise the reminder.
	sqlDue = `
SELECT c.id, c.transaction_id, c.held, CASE WHEN c.held THEN c.running WHEN c.remind_at <= ?1 AND coalesce(c.event_at > ?1, 1) THEN -1 ELSE c.head END,
	coalesce(c.opened_at, 0), CASE WHEN c.remind_at <= ?1 AND ` + plannedOf + `c.opened_at` + plannedAfter + `c.tried_at` + plannedEnd + ` <= ?1 THEN 0 -- it is another reminder
	ELSE c.remind_failures END
FROM cases c WHERE c.run_at <= ?1 ORDER BY c.run_at LIMIT ?2`

	sqlClaim = `UPDATE cases SET lease = ?1, held = 1, run_at = ?2, running = j.value FROM json_each(?3) j WHERE cases.id = CAST(j.key AS integer)`

	sqlHeads = `
WITH mine AS (
	SELECT e.id, c.id AS number, (
		SELECT p.id FROM events p WHERE p.case_id = e.case_id AND p.external_digest = e.external_digest AND p.external_id = e.external_id
			AND p.state = 'done' AND p.id <> e.id ORDER BY p.done_at DESC, p.seq DESC LIMIT 1) AS previous
	FROM json_each(?1) j CROSS JOIN cases c ON c.id = CAST(j.key AS integer) CROSS JOIN events e ON e.case_id = c.id AND e.seq = c.running)
SELECT ` + whole + `, m.number, coalesce(p.status, ''), coalesce(p.value, 0), coalesce(p.done_at, 0),
	coalesce((SELECT max(s.done_at) FROM events s WHERE s.case_id = e.case_id AND s.external_digest = e.external_digest AND s.external_id = e.external_id
		AND s.state = 'done' AND s.id <> e.id AND s.status = e.status), 0)
FROM mine m CROSS JOIN events e ON e.id = m.id LEFT JOIN events p ON p.id = m.previous`

	sqlNext          = `SELECT coalesce((SELECT min(run_at) FROM cases WHERE run_at > ?1), -1)`
	sqlHeldReminders = `SELECT transaction_id, lease, opened_at, remind_failures FROM cases c WHERE c.held AND c.running = -1`
	sqlHeld          = `SELECT ` + bare + `, c.lease FROM cases c JOIN events e ON e.case_id = c.id AND e.seq = c.running WHERE c.held`
)

// due is a case that is claimed.
type due struct {
	transactionID string
	lost          bool // the claim before this one ran out
	openedAt      int64
	failures      int
}

// claim takes cases that are due.
func (t *txn) claim(c *ledger.Claim, since time.Time) (*ledger.Claim, error) {
	made := &ledger.Claim{Max: c.Max, Lease: c.Lease, Look: c.Look, Made: true, Next: -1}
	cases, places, err := t.due(c.Max)
	if err != nil {
		return nil, err
	}
	if len(cases) > 0 {
		list, err := json.Marshal(places)
		if err != nil {
			return nil, err
		}
		lease := rand.Int64N(math.MaxInt64) + 1 //nolint:gosec // nobody gains by guessing it
		if err := t.exec(t.engine.stmts.claim, lease, t.now+c.Lease.Microseconds(), string(list)); err != nil {
			return nil, err
		}
		if err := t.heads(made, lease, since, cases, places, string(list)); err != nil {
			return nil, err
		}
	}
	if !c.Look || len(cases) == c.Max {
		return made, nil
	}
	var next int64
	if err := t.row(t.engine.stmts.next, t.now).Scan(&next); err != nil {
		return nil, err
	}
	if next >= 0 {
		made.Next = time.Duration(next-t.now) * time.Microsecond
	}
	return made, nil
}

// due returns cases that are due, and the place in each of what is leased, by the
// case's number.
func (t *txn) due(most int) (cases map[int64]due, places map[int64]int64, err error) {
	rows, err := t.query(t.engine.stmts.due, t.now, most)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	cases, places = make(map[int64]due), make(map[int64]int64)
	for rows.Next() {
		var number, place int64
		var d due
		if err := rows.Scan(&number, &d.transactionID, &d.lost, &place, &d.openedAt, &d.failures); err != nil {
			return nil, nil, err
		}
		cases[number], places[number] = d, place
	}
	return cases, places, rows.Err()
}

// reminder returns the attempt at a case's reminder.
func (d *due) reminder(lease int64, since time.Time, now int64) *ledger.Attempt {
	a := &ledger.Attempt{Lease: lease, Since: since, Lost: d.lost, Reminder: true}
	a.TransactionID, a.Failures, a.Reminded.OpenedAt = d.transactionID, d.failures, fromMicro(d.openedAt)
	if !d.lost {
		a.Reminded.ClaimedAt = fromMicro(now)
	}
	return a
}

// heads reads the events that are leased. A case that then remains in cases has none.
func (t *txn) heads(made *ledger.Claim, lease int64, since time.Time, cases map[int64]due, places map[int64]int64, list string) (err error) {
	rows, err := t.query(t.engine.stmts.heads, list)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		a := &ledger.Attempt{Lease: lease, Since: since}
		var number, previousAt, seenAt int64
		if err := scanEvent(rows, &a.Event, &number, &a.Previous, &a.PreviousValue, &previousAt, &seenAt); err != nil {
			return err
		}
		a.Lost, a.PreviousAt, a.SeenAt = cases[number].lost, fromMicro(previousAt), fromMicro(seenAt)
		made.Attempts = append(made.Attempts, a)
		delete(cases, number)
	}
	for number, d := range cases {
		if places[number] == ledger.TheReminder {
			made.Attempts = append(made.Attempts, d.reminder(lease, since, t.now))
			continue
		}
		made.Headless = append(made.Headless, ledger.Headless{TransactionID: d.transactionID, Lease: lease})
	}
	return rows.Err()
}

// Start implements [ledger.Engine]: there are no other processes.
func (s *engine) Start(func()) {}

// Held implements [ledger.Engine].
func (s *engine) Held(ctx context.Context) (attempts []*ledger.Attempt, err error) {
	rows, err := s.read.QueryContext(ctx, sqlHeld)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		a := new(ledger.Attempt)
		if err := scanEvent(rows, &a.Event, &a.Lease); err != nil {
			return nil, err
		}
		attempts = append(attempts, a)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	reminders, err := s.read.QueryContext(ctx, sqlHeldReminders)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reminders.Close()) }()
	for reminders.Next() {
		a := &ledger.Attempt{Reminder: true, Lost: true}
		var openedAt int64
		if err := reminders.Scan(&a.TransactionID, &a.Lease, &openedAt, &a.Failures); err != nil {
			return nil, err
		}
		a.Reminded.OpenedAt = fromMicro(openedAt)
		attempts = append(attempts, a)
	}
	return attempts, reminders.Err()
}
