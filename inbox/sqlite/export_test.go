package sqlite

import (
	"context"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// OpenStore returns the engine alone.
func OpenStore(ctx context.Context, path string) (ledger.Store, error) {
	c := config.Default()
	c.PollInterval, c.Overdue = time.Second, time.Minute
	return open(ctx, path, c)
}

// Queries are the statements that run often.
func Queries() map[string]string {
	return map[string]string{
		"cases": sqlCases, "pending": sqlPending, "last": sqlLast, "due": sqlDue, "claim": sqlClaim, "heads": sqlHeads, "next": sqlNext, "held": sqlHeld,
		"stats": sqlStats, "old cases": sqlOldCases, "trim": sqlTrim, "purge events": sqlPurgeEvents, "purge cases": sqlPurgeCases,
	}
}
