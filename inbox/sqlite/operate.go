package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	sqlResolveOne = `UPDATE events SET state = 'resolved' WHERE id = ? AND transaction_id IS NULL AND state = 'quarantined'`
	sqlDeleteOne  = `DELETE FROM events WHERE id = ? AND transaction_id IS NULL`
	sqlDeleteNote = `DELETE FROM notes WHERE event_id = ? AND transaction_id IS NULL`

	sqlSetDefence = `UPDATE settings SET defence = ?1, reminders = ?2 WHERE defence <> ?1 OR reminders <> ?2`
	// When the next reminder of an open case is called, as the settings are now: at the
	// first planned time. If that reminder was tried and waits for its retry: at the
	// retry, or at the planned time after it if that is earlier.
	sqlFirstPlanned = plannedOf + `c.opened_at` + plannedAfter + `c.reminded_at` + plannedEnd
	sqlTried        = `coalesce(` + sqlFirstPlanned + ` <= c.tried_at, 0)`
	sqlReplanned    = `CASE WHEN ` + sqlTried + `
		THEN min(c.remind_at, coalesce(` + plannedOf + `c.opened_at` + plannedAfter + `c.tried_at` + plannedEnd + `, c.remind_at)) ELSE ` + sqlFirstPlanned + ` END`

	sqlReplan = `
UPDATE cases AS c SET remind_at = ` + sqlReplanned + `,
	tried_at = CASE WHEN ` + sqlTried + ` THEN tried_at END, remind_failures = CASE WHEN ` + sqlTried + ` THEN remind_failures ELSE 0 END,
	run_at = CASE WHEN held THEN run_at ELSE ` + lesserOf + `event_at` + lesserAnd + sqlReplanned + lesserEnd + ` END
WHERE open AND answered_at IS NULL AND remind_at IS NOT ` + sqlReplanned
)

// Dismiss implements [ledger.Engine].
func (s *engine) Dismiss(_ context.Context, id string, note *ledger.Note) error {
	return s.transact(func(t *txn) error {
		query := sqlResolveOne
		if note == nil {
			query = sqlDeleteOne
			if _, err := t.remove(sqlDeleteNote, id); err != nil {
				return err
			}
		}
		n, err := t.remove(query, id)
		switch {
		case err != nil:
			return err
		case n == 0:
			return ledger.ErrNone
		case note == nil:
			return nil
		}
		return t.note(*note)
	})
}

// SetDefence implements [ledger.Engine].
func (s *engine) SetDefence(_ context.Context, d ledger.Defence) error {
	before := make([]int64, len(d.Before))
	for i, b := range d.Before {
		before[i] = b.Microseconds()
	}
	list, err := json.Marshal(before)
	if err != nil {
		return err
	}
	if err := s.transact(func(t *txn) error {
		if _, err := t.remove(sqlSetDefence, d.Window.Microseconds(), string(list)); err != nil {
			return err
		}
		_, err := t.remove(sqlReplan)
		return err
	}); err != nil {
		return err
	}
	s.defence = d
	return nil
}

func readDefence(ctx context.Context, db *sql.DB) (d ledger.Defence, err error) {
	var window int64
	var list []byte
	if err := db.QueryRowContext(ctx, "SELECT defence, reminders FROM settings").Scan(&window, &list); err != nil {
		return d, err
	}
	var before []int64
	if err := json.Unmarshal(list, &before); err != nil {
		return d, err
	}
	d.Window = time.Duration(window) * time.Microsecond
	for _, b := range before {
		d.Before = append(d.Before, time.Duration(b)*time.Microsecond)
	}
	return d, nil
}
