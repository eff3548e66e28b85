package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

// books record what is blocked. The inbox calls at least once, so each method must be
// idempotent: it may be called again with the same arguments.
type books interface {
	Block(ctx context.Context, k pixmed.Key, value pixmed.Amount) error
	Release(ctx context.Context, k pixmed.Key) error
	WriteOff(ctx context.Context, k pixmed.Key) error
}

// desk does what a merchant does about a case.
type desk struct {
	books    books
	receipts *pixmed.Client
	evidence string // the folder for receipts
	log      *slog.Logger
}

func (d *desk) callbacks() pixmed.Callbacks {
	return pixmed.Callbacks{
		Acknowledged: d.open,
		Cancelled:    func(ctx context.Context, n *pixmed.Notification) error { return d.books.Release(ctx, n.Key()) },
		Debited:      func(ctx context.Context, n *pixmed.Notification) error { return d.books.WriteOff(ctx, n.Key()) },
		Other: func(_ context.Context, n *pixmed.Notification) error {
			return inbox.Discard(errors.New("a status that this program does not know")) // kept as dead for a person
		},
	}
}

// open blocks the value. The receipt is another step, so that none keeps the value
// from being blocked.
func (d *desk) open(ctx context.Context, n *pixmed.Notification) error {
	if n.MaybeReopened() {
		d.log.WarnContext(ctx, "the case had ended: look it up at the gateway",
			"transaction_id", n.TransactionID, "previous", n.Previous)
	}
	return d.books.Block(ctx, n.Key(), n.Value)
}

// evidenceCallbacks are the second step, with attempts of its own.
func (d *desk) evidenceCallbacks() pixmed.Callbacks {
	return pixmed.Callbacks{
		Acknowledged: d.saveReceipt,
		Cancelled:    pixmed.Ignore,
		Debited:      pixmed.Ignore,
		Other:        pixmed.Ignore,
	}
}

func (d *desk) saveReceipt(ctx context.Context, n *pixmed.Notification) error {
	file := filepath.Join(d.evidence, n.Key().TransactionID+".pdf")
	receipt, err := d.receipts.SaveReceipt(ctx, n.TransactionID, file)
	if err != nil {
		return err // the inbox of this step calls again
	}
	d.log.InfoContext(ctx, "saved the receipt", "transaction_id", n.TransactionID, "bytes", receipt.Size)
	return nil
}
