package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	purgeLook  = 1000 // how many cases are looked at, on a reading connection
	purgeBatch = 50   // how many are deleted in one transaction; accepts wait for it
)

const (
	sqlOldCases = `
SELECT transaction_id, updated_at, run_at IS NULL AND (dead = 0 OR ?4)
FROM cases c INDEXED BY cases_ended WHERE NOT open AND updated_at <= ?3 AND (updated_at, transaction_id) > (?1, ?2)
ORDER BY updated_at, transaction_id LIMIT ?5`
	sqlPurgeable   = `SELECT transaction_id FROM cases WHERE transaction_id IN (SELECT value FROM json_each(?1)) AND NOT open AND run_at IS NULL AND updated_at <= ?2`
	sqlPurgeNotes  = `DELETE FROM notes WHERE transaction_id IN (` + sqlPurgeable + `)`
	sqlPurgeEvents = `DELETE FROM events WHERE case_id IN (SELECT id FROM cases WHERE transaction_id IN (` + sqlPurgeable + `))`
	sqlPurgeIDs    = `DELETE FROM ids WHERE case_id IN (SELECT id FROM cases WHERE transaction_id IN (` + sqlPurgeable + `))`
	sqlPurgeCases  = `DELETE FROM cases WHERE transaction_id IN (` + sqlPurgeable + `)`

	sqlOldQuarantined       = `SELECT id FROM events WHERE transaction_id IS NULL AND (state = 'resolved' OR ?3) AND last_at <= ?1 LIMIT ?2`
	sqlPurgeQuarantineNotes = `DELETE FROM notes WHERE transaction_id IS NULL AND event_id IN (` + sqlOldQuarantined + `)`
	sqlPurgeQuarantined     = `DELETE FROM events WHERE id IN (` + sqlOldQuarantined + `)`
)

// Purge implements [ledger.Engine].
func (s *engine) Purge(ctx context.Context, after ledger.Cursor, age time.Duration, includeDead bool) (deleted int64, next ledger.Cursor, err error) {
	before := time.Now().Add(-age).UnixMicro()
	old, next, err := s.oldCases(ctx, after, before, includeDead)
	if err != nil {
		return 0, next, err
	}
	for len(old) > 0 && err == nil && ctx.Err() == nil {
		n := min(purgeBatch, len(old))
		var gone int64
		gone, err = s.purgeCases(old[:n], before)
		old, deleted = old[n:], deleted+gone
	}
	for more := next == (ledger.Cursor{}); more && err == nil && ctx.Err() == nil; {
		var gone int64
		err = s.transact(func(t *txn) (err error) {
			if _, err = t.remove(sqlPurgeQuarantineNotes, before, purgeBatch, includeDead); err != nil {
				return err
			}
			gone, err = t.remove(sqlPurgeQuarantined, before, purgeBatch, includeDead)
			return err
		})
		deleted, more = deleted+gone, gone == purgeBatch
	}
	return deleted, next, errors.Join(err, ctx.Err())
}

// oldCases finds what may be deleted, on a reading connection.
func (s *engine) oldCases(ctx context.Context, after ledger.Cursor, before int64, includeDead bool) (old []string, next ledger.Cursor, err error) {
	since := int64(0)
	if !after.At.IsZero() {
		since = after.At.UnixMicro()
	}
	rows, err := s.read.QueryContext(ctx, sqlOldCases, since, after.ID, before, includeDead, purgeLook)
	if err != nil {
		return nil, next, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	n := 0
	for ; rows.Next(); n++ {
		var id string
		var updatedAt int64
		var is bool
		if err := rows.Scan(&id, &updatedAt, &is); err != nil {
			return nil, next, err
		}
		if is {
			old = append(old, id)
		}
		next = ledger.Cursor{At: fromMicro(updatedAt), ID: id}
	}
	if n < purgeLook {
		next = ledger.Cursor{}
	}
	return old, next, rows.Err()
}

// purgeCases deletes the cases to which nothing has happened since they were found.
func (s *engine) purgeCases(ids []string, before int64) (deleted int64, err error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, err
	}
	err = s.transact(func(t *txn) (err error) {
		if _, err = t.remove(sqlPurgeNotes, string(list), before); err != nil {
			return err
		}
		if deleted, err = t.remove(sqlPurgeEvents, string(list), before); err != nil {
			return err
		}
		if _, err = t.remove(sqlPurgeIDs, string(list), before); err != nil {
			return err
		}
		_, err = t.remove(sqlPurgeCases, string(list), before)
		return err
	})
	return deleted, err
}

func (t *txn) remove(query string, args ...any) (int64, error) {
	result, err := t.tx.ExecContext(context.Background(), query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
