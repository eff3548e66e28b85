package sqlite_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/storetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// TestStore compares the engine with a model.
func TestStore(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	store, err := sqlite.OpenStore(t.Context(), s.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	db := s.DB(t)
	e := storetest.Engine{
		Store: store,
		Rows: func(ctx context.Context) (all map[string]storetest.Row, err error) {
			rows, err := db.QueryContext(ctx, `SELECT transaction_id, next_seq, running, held,
				CASE WHEN run_at IS NULL THEN 'never' WHEN run_at <= ? THEN 'past' ELSE 'future' END FROM cases`, time.Now().UnixMicro())
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, rows.Close()) }()
			all = make(map[string]storetest.Row)
			for rows.Next() {
				var id string
				var r storetest.Row
				if err := rows.Scan(&id, &r.NextSeq, &r.Running, &r.Held, &r.Due); err != nil {
					return nil, err
				}
				all[id] = r
			}
			return all, rows.Err()
		},
		Pass: func(ctx context.Context) error {
			now := time.Now().UnixMicro()
			_, err := db.ExecContext(ctx, "UPDATE cases SET run_at = ? WHERE run_at > ?", now, now)
			return err
		},
	}
	runs := 15
	if testing.Short() {
		runs = 3
	}
	for range runs {
		for _, table := range []string{"cases", "events"} {
			if _, err := db.ExecContext(t.Context(), "DELETE FROM "+table); err != nil {
				t.Fatal(err)
			}
		}
		storetest.Run(t, e, rand.Uint64(), 60)
	}
}
