package postgres_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/storetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// TestStore compares the engine with a model.
func TestStore(t *testing.T) {
	t.Parallel()
	pool := enginetest.Postgres(t).Pool(t)
	store, err := postgres.OpenStore(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	e := storetest.Engine{
		Store: store,
		Rows: func(ctx context.Context) (map[string]storetest.Row, error) {
			rows, _ := pool.Query(ctx, `SELECT transaction_id::text, next_seq, running, held,
				CASE WHEN run_at IS NULL THEN 'never' WHEN run_at <= clock_timestamp() THEN 'past' ELSE 'future' END FROM pixmed_inbox.cases`)
			all := make(map[string]storetest.Row)
			var id string
			var r storetest.Row
			_, err := pgx.ForEachRow(rows, []any{&id, &r.NextSeq, &r.Running, &r.Held, &r.Due}, func() error { all[id] = r; return nil })
			return all, err
		},
		Pass: func(ctx context.Context) error {
			_, err := pool.Exec(ctx, "UPDATE pixmed_inbox.cases SET run_at = clock_timestamp() WHERE run_at > clock_timestamp()")
			return err
		},
	}
	for range runs() {
		mustExec(t, pool, "TRUNCATE pixmed_inbox.cases, pixmed_inbox.events")
		storetest.Run(t, e, rand.Uint64(), 60)
	}
}

func runs() int {
	if testing.Short() {
		return 3
	}
	return 6
}
