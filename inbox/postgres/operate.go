package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	sqlResolveOne = `UPDATE {schema}.events SET state = 'resolved' WHERE id = $1::text::uuid AND transaction_id IS NULL AND state = 'quarantined'`
	sqlDeleteOne  = `
WITH n AS (DELETE FROM {schema}.notes WHERE transaction_id IS NULL AND event_id = $1::text::uuid)
DELETE FROM {schema}.events WHERE id = $1::text::uuid AND transaction_id IS NULL`

	sqlSetDefence = `
UPDATE {schema}.settings SET defence = nullif($1::bigint, 0), reminders = $2::bigint[] WHERE one AND (defence, reminders) IS DISTINCT FROM (nullif($1::bigint, 0), $2::bigint[])`
	// sqlShareDefence comes before what plans reminders, in the same transaction: a
	// change of the settings waits for it, and readers wait for neither.
	sqlShareDefence = `LOCK TABLE {schema}.settings IN ROW SHARE MODE`
	sqlLockDefence  = `LOCK TABLE {schema}.settings IN EXCLUSIVE MODE`

	// When the next reminder of an open case is called, as the settings are now: at the
	// first planned time. If that reminder was tried and waits for its retry: at the
	// retry, or at the planned time after it if that is earlier.
	sqlFirstPlanned = plannedOf + `c.opened_at` + plannedAfter + `c.reminded_at` + plannedEnd
	sqlTried        = `coalesce(` + sqlFirstPlanned + ` <= c.tried_at, false)`
	sqlReplanned    = `CASE WHEN ` + sqlTried + `
		THEN least(c.remind_at, ` + plannedOf + `c.opened_at` + plannedAfter + `c.tried_at` + plannedEnd + `) ELSE ` + sqlFirstPlanned + ` END`
	sqlMustMove = `c.open AND c.answered_at IS NULL AND c.remind_at IS DISTINCT FROM ` + sqlReplanned

	// sqlOpenCases finds what must move. It locks nothing.
	sqlOpenCases = `
SELECT c.transaction_id::text, c.opened_at, ` + sqlMustMove + `
FROM {schema}.cases c WHERE open AND (opened_at, transaction_id) > ($1, $2::text::uuid) ORDER BY opened_at, transaction_id LIMIT $3`

	// sqlReplan skips the cases that somebody else holds.
	sqlReplan = `
WITH n AS (
	SELECT c.transaction_id, ` + sqlReplanned + ` AS at, ` + sqlTried + ` AS tried
	FROM {schema}.cases c WHERE c.transaction_id = ANY ($1::text[]::uuid[]) AND ` + sqlMustMove + ` ORDER BY c.transaction_id FOR NO KEY UPDATE SKIP LOCKED)
UPDATE {schema}.cases c SET remind_at = n.at, tried_at = CASE WHEN n.tried THEN c.tried_at END, remind_failures = CASE WHEN n.tried THEN c.remind_failures ELSE 0 END,
	run_at = CASE WHEN c.held THEN c.run_at ELSE ` + runOf + `c.event_at, n.at` + runEnd + ` END
FROM n WHERE c.transaction_id = n.transaction_id`
)

// Dismiss implements [ledger.Engine].
func (s *engine) Dismiss(ctx context.Context, id string, note *ledger.Note) error {
	return pgx.BeginTxFunc(ctx, s.pool, txOptions, func(tx pgx.Tx) error {
		sql := s.sql.resolveOne
		if note == nil {
			sql = s.sql.deleteOne
		}
		tag, err := tx.Exec(ctx, sql, id)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return ledger.ErrNone
		case note == nil:
			return nil
		}
		_, err = tx.Exec(ctx, s.sql.note, note.TransactionID, note.EventID, note.Action, note.By, note.Text)
		return err
	})
}

// SetDefence implements [ledger.Engine]. If it is cut off, the next call moves the
// rest of the cases.
func (s *engine) SetDefence(ctx context.Context, d ledger.Defence) error {
	ctx, cancel := context.WithTimeout(ctx, defenceTimeout)
	defer cancel()
	before := make([]int64, len(d.Before))
	for i, b := range d.Before {
		before[i] = b.Microseconds()
	}
	var same bool
	if err := s.pool.QueryRow(ctx, s.in("SELECT (defence, reminders) IS NOT DISTINCT FROM (nullif($1::bigint, 0), $2::bigint[]) FROM {schema}.settings WHERE one"),
		d.Window.Microseconds(), before).Scan(&same); err != nil {
		return err
	}
	if !same {
		change := func() error {
			_, err := s.alone(ctx, s.sql.lockDefence, s.sql.setWindow, d.Window.Microseconds(), before)
			return err
		}
		if err := s.untilFree(ctx, change); err != nil {
			return fmt.Errorf("change the window and the times: %w", err)
		}
	}
	if err := s.untilFree(ctx, func() error { return s.replan(ctx) }); err != nil {
		return fmt.Errorf("move the reminders of the open cases: open the inbox again to move the rest: %w", err)
	}
	return nil
}

const (
	// defenceTimeout is how long a change of the settings may take.
	defenceTimeout = 5 * time.Minute

	// defenceLockTimeout is how long it waits at a time for transactions that plan
	// reminders. Those that come after it wait too, and must not give up.
	defenceLockTimeout = commitLockTimeout / 2
	defenceRetryPause  = 50 * time.Millisecond

	// replanBatch is how many cases are looked at, and moved, in one transaction; accepts
	// of the same cases wait for it.
	replanBatch = 500
)

// untilFree calls do until nobody else holds what it needs.
func (s *engine) untilFree(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !isLockError(err) && !errors.Is(err, errHeld) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("transactions of others have not ended in time (pg_stat_activity shows them): %w", errors.Join(ctx.Err(), err))
		case <-time.After(defenceRetryPause):
		}
	}
}

// errHeld means that others hold some of the cases.
var errHeld = errors.New("another transaction holds a case")

// replan moves the reminders of the open cases to where the settings plan them.
func (s *engine) replan(ctx context.Context) error {
	var openedAt time.Time
	id, held := uuid.Nil.String(), false
	for looked := replanBatch; looked == replanBatch; {
		looked = 0
		var move []string
		var must bool
		rows, _ := s.pool.Query(ctx, s.sql.openCases, openedAt, id, replanBatch)
		if _, err := pgx.ForEachRow(rows, []any{&id, &openedAt, &must}, func() error {
			if looked++; must {
				move = append(move, id)
			}
			return nil
		}); err != nil {
			return err
		}
		if len(move) == 0 {
			continue
		}
		moved, err := s.alone(ctx, s.sql.shareDefence, s.sql.replan, move)
		if err != nil {
			return err
		}
		held = held || moved < int64(len(move)) // or it has changed meanwhile
	}
	if held {
		return errHeld
	}
	return nil
}

// alone runs a statement in a transaction that holds a lock on the settings, and
// returns how many rows it changed.
func (s *engine) alone(ctx context.Context, lock, sql string, args ...any) (changed int64, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, txOptions, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true)", millis(defenceLockTimeout)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lock); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sql, args...)
		changed = tag.RowsAffected()
		return err
	})
	return changed, err
}
