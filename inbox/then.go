package inbox

import (
	"context"
	"errors"

	"github.com/pixmed-go/pixmed"
)

// Then returns a receiver of two steps that fail apart: it calls first and, once
// that has succeeded, hands the notification to next, another inbox with attempts
// of its own, which has stored it before Then returns. Give it to the engine's Open
// in place of first.
//
// What must happen soon, and what money hangs on, is the first step; what waits for
// others, such as to download a receipt, is the second. In one callback a receipt
// that is not there yet would hold up, or through postgres.Tx roll back, what came
// before it, at each attempt until the notification is dead. What first writes
// through postgres.Tx commits after next has stored the notification; if it fails
// nevertheless, next knows the notification as a duplicate the next time, so that a
// second step may run before its first is committed, and never instead of it.
//
// Both inboxes get all notifications in the order of their transaction, so that both
// know when a case ends; a receiver ignores those that it has nothing to do for. Let
// each have a file or a schema of its own. Stop the first one first.
func Then(first pixmed.Receiver, next *Inbox) pixmed.Receiver { return &then{first, next} }

type then struct {
	first pixmed.Receiver
	next  *Inbox
}

// Validate reports what is missing.
func (t *then) Validate() error {
	if t.next == nil {
		return errors.New("Then: the next inbox is nil")
	}
	return checkReceiver(t.first)
}

// Receive implements [pixmed.Receiver].
func (t *then) Receive(ctx context.Context, n *pixmed.Notification) error {
	handed := *n // whatever the first step does to it
	if err := t.first.Receive(ctx, n); err != nil && !isDuplicate(err) {
		return err
	}
	if err := t.next.Receive(ctx, &handed); err != nil && !isDuplicate(err) {
		return err
	}
	return nil
}

// isDuplicate reports whether a receiver has handled a notification before.
func isDuplicate(err error) bool {
	return found(err, func(err error) bool { return err == pixmed.ErrDuplicate }) //nolint:errorlint // found unwraps
}
