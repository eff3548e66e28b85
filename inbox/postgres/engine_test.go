package postgres_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/modeltest"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// openEngine opens the engine alone.
func openEngine(t *testing.T, pool *pgxpool.Pool) ledger.Engine {
	t.Helper()
	engine, err := postgres.OpenEngine(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine
}

// TestEngine compares the engine with a model.
func TestEngine(t *testing.T) {
	t.Parallel()
	pool := enginetest.Postgres(t).Pool(t)
	e := subject(openEngine(t, pool), pool)
	for range runs() {
		mustExec(t, pool, "TRUNCATE pixmed_inbox.cases, pixmed_inbox.events, pixmed_inbox.notes, pixmed_inbox.ids")
		if err := modeltest.Run(t.Context(), e, rand.Uint64(), 60); err != nil {
			t.Fatal(err)
		}
	}
}

func runs() int {
	if testing.Short() {
		return 3
	}
	return 6
}

func subject(engine ledger.Engine, pool *pgxpool.Pool) modeltest.Engine {
	return modeltest.Engine{
		Engine: engine,
		Rows: func(ctx context.Context) (map[string]modeltest.Row, error) {
			when := func(column string) string {
				return "CASE WHEN " + column + " IS NULL THEN 'never' WHEN " + column + " <= clock_timestamp() THEN 'past' ELSE 'future' END"
			}
			rows, _ := pool.Query(ctx, "SELECT transaction_id::text, next_seq, pending, head, running, dead, held, "+when("event_at")+", "+when("remind_at")+", "+when("run_at")+" FROM pixmed_inbox.cases")
			all := make(map[string]modeltest.Row)
			var id string
			var r modeltest.Row
			_, err := pgx.ForEachRow(rows, []any{&id, &r.NextSeq, &r.Pending, &r.Head, &r.Running, &r.Dead, &r.Held, &r.Event, &r.Reminder, &r.Run}, func() error { all[id] = r; return nil })
			return all, err
		},
		Pass: func(ctx context.Context) error {
			_, err := pool.Exec(ctx, `UPDATE pixmed_inbox.cases SET event_at = CASE WHEN event_at IS NOT NULL THEN least(event_at, clock_timestamp()) END,
				remind_at = CASE WHEN remind_at IS NOT NULL THEN least(remind_at, clock_timestamp()) END, run_at = clock_timestamp() WHERE run_at IS NOT NULL`)
			return err
		},
	}
}
