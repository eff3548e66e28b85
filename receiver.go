package pixmed

import (
	"context"
	"errors"
)

// Receiver handles notifications, as an http.Handler handles requests:
// [Callbacks] are one, [Deduplicate] wraps one, and the durable inbox of module
// github.com/pixmed-go/pixmed/inbox is one, which returns nil once it has stored
// the notification.
//
// A nil error means that the notification is handled, and only then does the
// [Handler] answer 200. The notification belongs to the Receiver. The context
// ends when Receive returns, so work left behind must not need it.
type Receiver interface {
	// Receive handles one notification.
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
	// Debited is called when the request was upheld: the value, or a part of
	// it, is gone.
	Debited func(ctx context.Context, n *Notification) error
	// Other is called for every status whose own field is nil, for those that
	// this package does not know, and for none at all. It is required, so that
	// no status is swallowed by accident; set it to [Ignore] if no other status
	// matters.
	Other func(ctx context.Context, n *Notification) error
}

// Ignore is a callback that does nothing, for a status that does not matter. The
// gateway gets its 200.
func Ignore(context.Context, *Notification) error { return nil }

// Validate returns an error if Other is nil. [NewHandler] calls it.
func (c Callbacks) Validate() error {
	if c.Other == nil {
		return errors.New("Callbacks.Other is nil: set it, or set it to pixmed.Ignore if no other status matters")
	}
	return nil
}

// Receive calls the function for the notification's status.
func (c Callbacks) Receive(ctx context.Context, n *Notification) error {
	var callback func(context.Context, *Notification) error
	switch n.MEDStatus {
	case Acknowledged:
		callback = c.Acknowledged
	case Cancelled:
		callback = c.Cancelled
	case Debited:
		callback = c.Debited
	}
	if callback == nil {
		callback = c.Other
	}
	if callback == nil {
		return c.Validate()
	}
	return callback(ctx, n)
}
