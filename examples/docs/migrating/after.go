package migrating

import (
	"context"
	"errors"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// newAfter returns the handler with pixmed, and the inbox behind it.
func newAfter(ctx context.Context, file string, b books, secrets []string, opts ...inbox.Option) (*pixmed.Handler, *inbox.Inbox, error) {
	in, err := sqlite.Open(ctx, file, pixmed.Callbacks{
		Acknowledged: func(ctx context.Context, n *pixmed.Notification) error {
			return b.Block(ctx, n.Key().TransactionID, n.Value)
		},
		Cancelled: func(ctx context.Context, n *pixmed.Notification) error {
			return b.Release(ctx, n.Key().TransactionID)
		},
		Debited: func(ctx context.Context, n *pixmed.Notification) error {
			return b.WriteOff(ctx, n.Key().TransactionID)
		},
		Other: func(context.Context, *pixmed.Notification) error {
			return inbox.Discard(errors.New("a status to look into"))
		},
	}, opts...)
	if err != nil {
		return nil, nil, err
	}
	handler, err := pixmed.NewHandler(in,
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)),
		pixmed.WithInvalid(in.Quarantine))
	if err != nil {
		return nil, nil, errors.Join(err, in.Stop(ctx))
	}
	return handler, in, nil
}
