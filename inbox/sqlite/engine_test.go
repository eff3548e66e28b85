package sqlite_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/modeltest"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// openEngine opens the engine alone.
func openEngine(t *testing.T, s *enginetest.Database) ledger.Engine {
	t.Helper()
	engine, err := sqlite.OpenEngine(t.Context(), s.Path)
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
	s := enginetest.SQLite(t)
	engine := openEngine(t, s)
	db := s.DB(t)
	e := modeltest.Engine{
		Engine: engine,
		Rows: func(ctx context.Context) (all map[string]modeltest.Row, err error) {
			when := func(column string) string {
				return "CASE WHEN " + column + " IS NULL THEN 'never' WHEN " + column + " <= ?1 THEN 'past' ELSE 'future' END"
			}
			rows, err := db.QueryContext(ctx, "SELECT transaction_id, next_seq, pending, head, running, dead, held, "+when("event_at")+", "+when("remind_at")+", "+when("run_at")+" FROM cases", time.Now().UnixMicro())
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, rows.Close()) }()
			all = make(map[string]modeltest.Row)
			for rows.Next() {
				var id string
				var r modeltest.Row
				if err := rows.Scan(&id, &r.NextSeq, &r.Pending, &r.Head, &r.Running, &r.Dead, &r.Held, &r.Event, &r.Reminder, &r.Run); err != nil {
					return nil, err
				}
				all[id] = r
			}
			return all, rows.Err()
		},
		Pass: func(ctx context.Context) error {
			now := time.Now().UnixMicro()
			_, err := db.ExecContext(ctx, "UPDATE cases SET event_at = min(event_at, ?1), remind_at = min(remind_at, ?1), run_at = ?1 WHERE run_at IS NOT NULL", now)
			return err
		},
	}
	runs := 15
	if testing.Short() {
		runs = 3
	}
	for range runs {
		for _, table := range []string{"cases", "events", "notes"} {
			if _, err := db.ExecContext(t.Context(), "DELETE FROM "+table); err != nil {
				t.Fatal(err)
			}
		}
		if err := modeltest.Run(t.Context(), e, rand.Uint64(), 60); err != nil {
			t.Fatal(err)
		}
	}
}
