package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// OpenStore returns the engine alone.
func OpenStore(ctx context.Context, pool *pgxpool.Pool) (ledger.Store, error) {
	c := config.Default()
	c.Schema, c.PollInterval, c.Overdue = DefaultSchema, time.Second, time.Minute
	return newStore(ctx, pool, c)
}

// Queries are the statements of the default schema that run often.
func Queries() map[string]string {
	s := &store{schema: DefaultSchema}
	q := newQueries(s.in)
	return map[string]string{
		"lock": q.lockCases, "events": q.events, "claim": q.claim, "heads": q.heads, "next": q.next, "lowest": q.lowest, "release": q.release,
		"stats": q.stats, "old cases": q.oldCases, "trim": q.trim,
	}
}
