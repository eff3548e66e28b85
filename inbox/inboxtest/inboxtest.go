// Package inboxtest helps to test the receiver of an inbox.
package inboxtest

import (
	"context"
	"fmt"
	"time"

	"github.com/pixmed-go/pixmed/inbox"
)

// Stater is an inbox, or a reader of one.
type Stater interface {
	// Stats counts what is in it.
	Stats(ctx context.Context) (inbox.Stats, error)
}

// look is how often an inbox is looked at.
const look = 5 * time.Millisecond

// Idle waits until nothing is pending in an inbox: all that was accepted is done or
// dead, retries included. It returns what the inbox holds then, or an error when ctx
// ends first. Give it a context that ends: a callback that always fails keeps an
// inbox from being idle for a day, unless the test sets inbox.WithBackoff or
// inbox.WithMaxAttempts.
//
//	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
//	defer cancel()
//	stats, err := inboxtest.Idle(ctx, in)
//
// Reminders that are due do not count, since each leads to the next.
func Idle(ctx context.Context, in Stater) (inbox.Stats, error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var stats inbox.Stats
	state := "it was not counted in time"
	for {
		now, err := in.Stats(ctx)
		switch {
		case err == nil && now.Pending == 0:
			return now, nil
		case err == nil:
			stats = now
			state = fmt.Sprintf("%d notifications are pending, the oldest for %v", now.Pending, now.OldestPending.Round(time.Millisecond))
		case ctx.Err() == nil:
			return now, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return stats, fmt.Errorf("wait until the inbox is idle: %s: %w", state, context.Cause(ctx))
		}
	}
}
