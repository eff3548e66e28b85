package postgres

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	// sqlClaim claims the cases that are due: for the first pending event, if its time
	// has come; otherwise for the reminder. It waits for no lock, so it may follow
	// statements that hold some. With clock_timestamp() it could not use the index.
	sqlClaim = `
WITH due AS (
	SELECT transaction_id, held, run_at FROM {schema}.cases WHERE run_at <= statement_timestamp() AND run_at > $4 ORDER BY run_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
UPDATE {schema}.cases c SET lease = $1, held = true, run_at = now() + $2::bigint * interval '1 microsecond', running = CASE
	WHEN c.held THEN c.running
	WHEN c.remind_at <= statement_timestamp() AND coalesce(c.event_at > statement_timestamp(), true) THEN -1
	ELSE c.head END
FROM due WHERE c.transaction_id = due.transaction_id
RETURNING c.transaction_id::text, c.running = -1, due.held, c.opened_at, now(), CASE
	WHEN c.running = -1 AND ` + plannedOf + `c.opened_at` + plannedAfter + `c.tried_at` + plannedEnd + ` <= now() THEN 0 -- it is another reminder
	ELSE c.remind_failures END, due.run_at`

	// sqlHeads reads the events that were claimed. It is a separate statement, so that it
	// sees everything that was committed before the claim locked the rows. It finds them
	// by the exact end of their leases, since now() is the same throughout a transaction.
	// A case of one event has no previous one.
	sqlHeads = `
SELECT ` + whole + `, c.pending = 1, p.status, coalesce(p.value, 0), p.done_at, CASE WHEN c.next_seq > 2 THEN
	(SELECT max(s.done_at) FROM {schema}.events s WHERE s.transaction_id = e.transaction_id AND s.external_digest = e.external_digest AND s.external_id = e.external_id
		AND s.state = 'done' AND s.id <> e.id AND s.status = e.status) END
FROM {schema}.cases c JOIN {schema}.events e ON e.transaction_id = c.transaction_id AND e.seq = c.running LEFT JOIN LATERAL (
	SELECT p.status, p.value, p.done_at FROM {schema}.events p WHERE p.transaction_id = e.transaction_id AND p.external_digest = e.external_digest AND p.external_id = e.external_id
		AND p.state = 'done' AND p.id <> e.id AND c.next_seq > 2 ORDER BY p.done_at DESC, p.seq DESC LIMIT 1) p ON true
WHERE c.run_at = now() + $2::bigint * interval '1 microsecond' AND c.lease = $1`

	// sqlNext does not use min(), which reads every entry under a generic plan.
	sqlNext = `SELECT coalesce((extract(epoch FROM (SELECT run_at FROM {schema}.cases WHERE run_at > statement_timestamp() ORDER BY run_at LIMIT 1) - clock_timestamp()) * 1000000)::bigint, -1)`

	sqlLowest = `
SELECT least(statement_timestamp(), (SELECT run_at FROM {schema}.cases WHERE run_at IS NOT NULL ORDER BY run_at LIMIT 1)) - interval '1 second',
	(SELECT max(version) FROM {schema}.inbox_migrations)`

	// sqlRelease makes cases due at once that are held by claims whose COMMIT was never
	// answered.
	sqlRelease = `
UPDATE {schema}.cases SET held = false, running = 0, run_at = ` + runOf + `event_at, remind_at` + runEnd + ` WHERE transaction_id IN (
	SELECT transaction_id FROM {schema}.cases WHERE run_at > statement_timestamp() AND held AND lease = ANY ($1::bigint[]) FOR NO KEY UPDATE SKIP LOCKED)`
)

// lostClaim is a claim whose COMMIT was never answered. Nobody runs what it holds.
type lostClaim struct {
	lease int64
	until time.Time
}

// floor is a time before which no case is due, as far as is known. While somebody
// holds a snapshot open for long, the index keeps the entries of everything that has
// been due since then; the floor keeps claims from walking through them. Claims take
// the earliest first, so the floor follows them. Once a second a claim ignores it, to
// find what was locked or not yet committed when others passed.
type floor struct {
	below pgtype.Timestamptz
	found time.Time // when a claim last ignored it
}

// floorMargin is how long after its run_at a case is usually committed.
const floorMargin = 100 * time.Millisecond

// raise raises the floor to what was claimed.
func (f *floor) raise(claimed time.Time) {
	if at := claimed.Add(-floorMargin); !claimed.IsZero() && (f.below.InfinityModifier == pgtype.NegativeInfinity || at.After(f.below.Time)) {
		f.below = pgtype.Timestamptz{Time: at, Valid: true}
	}
}

// claimer makes a claim in a transaction of the committer's.
type claimer struct {
	s        *engine
	claim    *ledger.Claim
	lease    int64
	since    time.Time
	claimed  []string
	lost     map[string]bool // those whose claim before this one ran out
	reminds  []*ledger.Attempt
	last     time.Time // since when the last of them has been due
	attempts []*ledger.Attempt
	next     int64 // in microseconds
}

// newClaimer returns what makes a claim, nil if claim is.
func (s *engine) newClaimer(claim *ledger.Claim) *claimer {
	if claim == nil {
		return nil
	}
	return &claimer{s: s, claim: claim, lease: rand.Int64N(math.MaxInt64) + 1, since: time.Now(), next: -1, lost: make(map[string]bool)} //nolint:gosec // nobody gains by guessing it
}

// queue adds the claim to a round trip.
func (c *claimer) queue(r *round) {
	if c == nil {
		return
	}
	s := c.s
	if s.lost = slices.DeleteFunc(s.lost, func(l lostClaim) bool { return time.Now().After(l.until) }); len(s.lost) > 0 {
		leases := make([]int64, len(s.lost))
		for i, l := range s.lost {
			leases[i] = l.lease
		}
		r.exec(s.sql.release, leases)
	}
	everything := time.Since(s.floor.found) >= time.Second
	if everything {
		s.floor.below = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	micros := c.claim.Lease.Microseconds()
	r.query(c.scanClaimed, s.sql.claim, c.lease, micros, c.claim.Max, s.floor.below)
	r.query(func(rows pgx.Rows) (err error) {
		c.attempts, err = pgx.CollectRows(rows, c.scanAttempt)
		return err
	}, s.sql.heads, c.lease, micros)
	if c.claim.Look {
		r.query(func(rows pgx.Rows) (err error) {
			c.next, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
			return err
		}, s.sql.next)
	}
	if everything {
		r.query(func(rows pgx.Rows) error {
			var version int
			_, err := pgx.ForEachRow(rows, []any{&s.floor.below, &version}, func() error { return nil })
			s.floor.found = time.Now()
			s.noteVersion(version)
			return err
		}, s.sql.lowest)
	}
}

// scanClaimed reads which cases were claimed, and makes the attempts of reminders.
func (c *claimer) scanClaimed(rows pgx.Rows) error {
	var id string
	var reminder, lost bool
	var openedAt *time.Time
	var now, at time.Time
	var failures int
	_, err := pgx.ForEachRow(rows, []any{&id, &reminder, &lost, &openedAt, &now, &failures, &at}, func() error {
		c.claimed, c.lost[id] = append(c.claimed, id), lost
		if at.After(c.last) {
			c.last = at
		}
		if reminder {
			a := &ledger.Attempt{Lease: c.lease, Since: c.since, Lost: lost, Reminder: true}
			a.TransactionID, a.Failures, a.Reminded.OpenedAt = id, failures, fromNull(openedAt)
			if !lost {
				a.Reminded.ClaimedAt = now.UTC()
			}
			c.reminds = append(c.reminds, a)
		}
		return nil
	})
	return err
}

func (c *claimer) scanAttempt(row pgx.CollectableRow) (*ledger.Attempt, error) {
	a := &ledger.Attempt{Lease: c.lease, Since: c.since}
	var previous []byte
	var previousAt, seenAt *time.Time
	err := scanEvent(row, &a.Event, &a.Alone, &previous, &a.PreviousValue, &previousAt, &seenAt)
	a.Lost = c.lost[a.TransactionID]
	a.Previous, a.PreviousAt, a.SeenAt = string(previous), fromNull(previousAt), fromNull(seenAt)
	return a, err
}

// end completes the claim when its transaction has ended.
func (c *claimer) end(err error) {
	switch {
	case c == nil:
	case err == nil:
		c.claim.Made, c.claim.Attempts = true, slices.Concat(c.attempts, c.reminds)
		c.s.floor.raise(c.last)
		c.claim.Next = time.Duration(c.next) * time.Microsecond
		if len(c.claim.Attempts) < len(c.claimed) {
			c.claim.Headless = c.headless()
		}
	case isConnError(err): // it may have been committed
		c.s.floor = floor{}
		c.s.lost = append(c.s.lost, lostClaim{c.lease, time.Now().Add(c.claim.Lease)})
	}
}

func (c *claimer) headless() (cases []ledger.Headless) {
	for _, id := range c.claimed {
		if !slices.ContainsFunc(c.claim.Attempts, func(a *ledger.Attempt) bool { return a.TransactionID == id }) {
			cases = append(cases, ledger.Headless{TransactionID: id, Lease: c.lease})
		}
	}
	return cases
}
