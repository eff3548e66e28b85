package migrating

import (
	"context"
	"log/slog"

	"github.com/pixmed-go/pixmed"
)

// watching stands in for the books while the old handler still does the work: it
// says what the new one would have done.
type watching struct{ log *slog.Logger }

// Block implements books.
func (w watching) Block(ctx context.Context, transactionID string, value pixmed.Amount) error {
	w.log.InfoContext(ctx, "would block", "transaction_id", transactionID, "value", value.String())
	return nil
}

// Release implements books.
func (w watching) Release(ctx context.Context, transactionID string) error {
	w.log.InfoContext(ctx, "would release", "transaction_id", transactionID)
	return nil
}

// WriteOff implements books.
func (w watching) WriteOff(ctx context.Context, transactionID string) error {
	w.log.InfoContext(ctx, "would write off", "transaction_id", transactionID)
	return nil
}
