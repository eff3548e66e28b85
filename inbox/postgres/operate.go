package postgres

import (
	"context"
	"time"

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
	// sqlReplan leaves out what waits for a retry, unless there are no reminders any
	// more, and what is as it should be. Its
	// expressions are those of the row as it is when it is locked.
	sqlReplan = `
UPDATE {schema}.cases c SET tried_at = NULL, remind_failures = 0, remind_at = ` + plannedOf + `c.opened_at` + plannedAfter + `c.reminded_at` + plannedEnd + `,
	run_at = CASE WHEN held THEN run_at ELSE ` + runOf + `event_at, ` + plannedOf + `c.opened_at` + plannedAfter + `c.reminded_at` + plannedEnd + runEnd + ` END
WHERE c.open AND c.answered_at IS NULL AND (c.tried_at IS NULL OR (SELECT reminders = '{}' FROM {schema}.settings WHERE one)) AND c.remind_at IS DISTINCT FROM ` + plannedOf + `c.opened_at` + plannedAfter + `c.reminded_at` + plannedEnd + ``
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

// SetDefence implements [ledger.Engine]. Whoever plans a reminder reads the settings
// in its transaction. The lock waits for all of those that have read the old ones
// to end, so that the second transaction misses none of what they have planned.
func (s *engine) SetDefence(ctx context.Context, d ledger.Defence) error {
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
		if err := pgx.BeginTxFunc(ctx, s.pool, txOptions, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true)", millis(defenceLockTimeout)); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, s.in("LOCK TABLE {schema}.settings IN ACCESS EXCLUSIVE MODE")); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, s.sql.setWindow, d.Window.Microseconds(), before)
			return err
		}); err != nil {
			return err
		}
	}
	_, err := s.pool.Exec(ctx, s.sql.replan)
	return err
}

// defenceLockTimeout is how long a change of the settings waits for transactions
// that have read them.
const defenceLockTimeout = 10 * time.Second
