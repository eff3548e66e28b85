package pixmed

import (
	"context"
	"errors"
)

// Receiver takes care of notifications. It is to them what http.Handler is to
// requests: [Callbacks] are one, [Deduplicate] wraps one, and the durable
// inbox of module github.com/pixmed-go/pixmed/inbox is one, which returns nil once
// it has stored the notification.
//
// A nil error says that the notification is taken care of, and only then does
// the [Handler] answer 200. The notification belongs to the receiver; the context
// ends when Receive returns, so that no work may be left behind that needs it.
type Receiver interface {
	// Receive takes care of one notification.
	Receive(ctx context.Context, n *Notification) error
}

// ReceiverFunc is a function that is a [Receiver].
type ReceiverFunc func(ctx context.Context, n *Notification) error

// Receive calls f.
func (f ReceiverFunc) Receive(ctx context.Context, n *Notification) error { return f(ctx, n) }

// Callbacks is a [Receiver] with one function for each status.
type Callbacks struct {
	// Acknowledged is called when a MED request was received: treat the value
	// as blocked and gather evidence.
	Acknowledged func(ctx context.Context, n *Notification) error
	// Cancelled is called when the request was withdrawn: the value is free.
	Cancelled func(ctx context.Context, n *Notification) error
	// Debited is called when the request was upheld: the value is gone.
	Debited func(ctx context.Context, n *Notification) error
	// Other is called for every status whose own field is nil, and for those
	// that this package does not know. It is required, so that no status is
	// swallowed by accident; [Ignore] says that one does not matter.
	Other func(ctx context.Context, n *Notification) error
}

// Ignore is a callback that does nothing: it says that a status does not
// matter. The gateway gets its 200.
func Ignore(context.Context, *Notification) error { return nil }

// Validate reports a missing Other. [NewHandler] calls it.
func (c Callbacks) Validate() error {
	if c.Other == nil {
		return errors.New("Callbacks.Other is nil: set it, or set it to pixmed.Ignore if no other status matters")
	}
	return nil
}

// Receive calls the function for the notification's status.
func (c Callbacks) Receive(ctx context.Context, n *Notification) error {
	callback := c.Other
	for _, known := range []struct {
		status   MEDStatus
		callback func(context.Context, *Notification) error
	}{{Acknowledged, c.Acknowledged}, {Cancelled, c.Cancelled}, {Debited, c.Debited}} {
		if n.MEDStatus == known.status && known.callback != nil {
			callback = known.callback
		}
	}
	if callback == nil {
		return c.Validate()
	}
	return callback(ctx, n)
}
