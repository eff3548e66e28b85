package ops

import (
	"context"

	"github.com/pixmed-go/pixmed/inbox"
)

// wholeCases is how many cases are read at a time with all their notifications, of which
// one may have thousands.
const wholeCases = 2

// turn lets through as many at a time as it has room for.
type turn chan struct{}

// wait waits for room, and returns the function to call at the end.
func (t turn) wait(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// wholeCase returns a case with its notifications, without their bodies.
func (h *Handler) wholeCase(ctx context.Context, id string) (*inbox.Case, error) {
	done, err := h.whole.wait(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return h.in.Case(ctx, id)
}
