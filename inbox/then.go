package inbox

import (
	"context"
	"errors"

	"github.com/pixmed-go/pixmed"
)

// Then returns a receiver with two steps that fail independently: it calls first and,
// once that has succeeded or returned [Discard], hands the notification to next,
// another inbox with attempts of its own, which stores it before the receiver returns.
// Pass it to the engine's Open in place of first.
//
// The first step is what must happen soon and protects money; the second is what
// depends on others, such as downloading a receipt. In a single callback, a receipt
// that does not exist yet would hold up what came before it, or through postgres.Tx
// roll it back, at each attempt until the notification is dead. What first writes
// through postgres.Tx commits after next has stored the notification. If that commit
// fails, next recognises the notification as a duplicate at the next attempt: a second
// step may run before its first step is committed, but never instead of it.
//
// Both inboxes get the notifications in the order of their transaction, so both know
// when a case ends; a receiver ignores those that it has nothing to do for. A
// notification that uses up its attempts in the first inbox, or that a person discards
// or resolves there, reaches next only when it is replayed. A case that a person ends
// in the first inbox stays open in next, and is not purged, until [Inbox.End] is called
// there too. Give each inbox its own file or schema. Stop the first one first.
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
	err := t.first.Receive(ctx, n)
	if isDuplicate(err) {
		err = nil
	}
	if err != nil && !found(err, isDiscard) {
		return err
	}
	if err := t.next.Receive(ctx, &handed); err != nil && !isDuplicate(err) {
		return err
	}
	return err
}

// isDuplicate reports whether a receiver has handled a notification before.
func isDuplicate(err error) bool {
	return found(err, func(err error) bool { return err == pixmed.ErrDuplicate }) //nolint:errorlint // found unwraps
}
