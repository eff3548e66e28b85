package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// purgeBatch is how many cases are looked at, and deleted, in one transaction.
const purgeBatch = 500

const (
	// sqlOldCases finds candidates. It locks nothing.
	sqlOldCases = `
SELECT c.transaction_id::text, c.updated_at, run_at IS NULL AND (dead = 0 OR $4)
FROM {schema}.cases c WHERE NOT open AND updated_at <= clock_timestamp() - $3 * interval '1 microsecond' AND (updated_at, transaction_id) > ($1, $2::text::uuid)
ORDER BY updated_at, transaction_id LIMIT $5`

	// sqlPurgeCases deletes them. It leaves a case that somebody holds for the next
	// time, and one to which something has happened meanwhile.
	sqlPurgeCases = `
WITH old AS (
	SELECT transaction_id FROM {schema}.cases c
	WHERE transaction_id = ANY ($1::text[]::uuid[]) AND NOT open AND run_at IS NULL AND updated_at <= clock_timestamp() - $2 * interval '1 microsecond'
	ORDER BY transaction_id FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM {schema}.cases c USING old WHERE c.transaction_id = old.transaction_id RETURNING c.transaction_id),
notes AS (DELETE FROM {schema}.notes n USING gone WHERE n.transaction_id = gone.transaction_id),
ids AS (DELETE FROM {schema}.ids i USING gone WHERE i.transaction_id = gone.transaction_id)
DELETE FROM {schema}.events e USING gone WHERE e.transaction_id = gone.transaction_id`

	sqlPurgeQuarantined = `
WITH old AS (
	SELECT id FROM {schema}.events WHERE transaction_id IS NULL AND (state = 'resolved' OR $3) AND last_at <= clock_timestamp() - $1 * interval '1 microsecond' LIMIT $2),
notes AS (DELETE FROM {schema}.notes n USING old WHERE n.transaction_id IS NULL AND n.event_id = old.id)
DELETE FROM {schema}.events e USING old WHERE e.id = old.id`
)

// Purge implements [ledger.Engine].
func (s *engine) Purge(ctx context.Context, after ledger.Cursor, age time.Duration, includeDead bool) (deleted int64, next ledger.Cursor, err error) {
	var old []string
	if after.ID == "" {
		after.ID = uuid.Nil.String()
	}
	candidates := 0
	err = s.query(ctx, func(rows pgx.Rows) error {
		var is bool
		_, err := pgx.ForEachRow(rows, []any{&next.ID, &next.At, &is}, func() error {
			if candidates++; is {
				old = append(old, next.ID)
			}
			return nil
		})
		return err
	}, s.sql.oldCases, after.At, after.ID, age.Microseconds(), includeDead, purgeBatch)
	if err == nil && len(old) > 0 {
		deleted, err = s.purge(ctx, s.sql.purgeCases, old, age.Microseconds())
	}
	if candidates < purgeBatch {
		next = ledger.Cursor{}
	}
	for more := next == (ledger.Cursor{}); more && err == nil; {
		var n int64
		n, err = s.purge(ctx, s.sql.purgeQuarantined, age.Microseconds(), purgeBatch, includeDead)
		deleted, more = deleted+n, n == purgeBatch
	}
	return deleted, next, err
}

func (s *engine) purge(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := s.pool.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}
