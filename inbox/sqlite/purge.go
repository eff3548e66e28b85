package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	purgeLook  = 1000 // how many cases are looked at, by a reader
	purgeBatch = 50   // how many are deleted in one transaction, for which accepts wait
)

const (
	sqlOldCases = `
SELECT transaction_id, updated_at, NOT EXISTS (
	SELECT 1 FROM events e WHERE e.case_id = c.id AND e.state <> 'done' AND (e.state = 'pending' OR (e.state = 'dead' AND NOT ?4)))
FROM cases c INDEXED BY cases_idle WHERE run_at IS NULL AND updated_at <= ?3 AND (updated_at, transaction_id) > (?1, ?2)
ORDER BY updated_at, transaction_id LIMIT ?5`
	sqlPurgeEvents = `
DELETE FROM events WHERE case_id IN (SELECT id FROM cases WHERE transaction_id IN (SELECT value FROM json_each(?1)) AND run_at IS NULL AND updated_at <= ?2)`
	sqlPurgeCases       = `DELETE FROM cases WHERE transaction_id IN (SELECT value FROM json_each(?1)) AND run_at IS NULL AND updated_at <= ?2`
	sqlPurgeQuarantined = `DELETE FROM events WHERE id IN (SELECT id FROM events WHERE state = 'quarantined' AND last_at <= ? LIMIT ?)`
)

// Purge implements [ledger.Store].
func (s *store) Purge(ctx context.Context, after ledger.Cursor, age time.Duration, includeDead bool) (deleted int64, next ledger.Cursor, err error) {
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
	for more := includeDead && next == (ledger.Cursor{}); more && err == nil && ctx.Err() == nil; {
		var gone int64
		err = s.transact(func(t *txn) (err error) {
			gone, err = t.remove(sqlPurgeQuarantined, before, purgeBatch)
			return err
		})
		deleted, more = deleted+gone, gone == purgeBatch
	}
	return deleted, next, errors.Join(err, ctx.Err())
}

// oldCases finds what may be deleted, without the writer.
func (s *store) oldCases(ctx context.Context, after ledger.Cursor, before int64, includeDead bool) (old []string, next ledger.Cursor, err error) {
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

// purgeCases deletes those of the cases to which nothing has happened meanwhile.
func (s *store) purgeCases(ids []string, before int64) (deleted int64, err error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, err
	}
	err = s.transact(func(t *txn) (err error) {
		if deleted, err = t.remove(sqlPurgeEvents, string(list), before); err != nil {
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
