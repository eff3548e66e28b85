package ops

import "context"

// turn lets one at a time through.
type turn chan struct{}

// wait waits for it, and returns what to call at the end.
func (t turn) wait(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
