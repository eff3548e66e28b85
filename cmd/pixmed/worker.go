package main

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/trace"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

// worker does what has to be done about a notification. The inbox calls it, again and
// again until it returns nil.
type worker struct {
	forwarder *forwarder      // nil without an application
	receipts  pixmed.Receiver // nil without a gateway
	log       *slog.Logger
	tracer    trace.Tracer
}

// Receive implements [pixmed.Receiver]. Receipts have an inbox of their own, which
// gets every notification, since it has to know when a case ends. To hand one on
// takes no time and comes first, so that neither the receipt waits for the
// application, nor the application for the receipt.
func (w *worker) Receive(ctx context.Context, n *pixmed.Notification) (err error) {
	ctx, end := startSpan(ctx, w.tracer, "infraction callback", ofNotification(n)...)
	defer func() { end(err) }()
	if n.Attempt == 1 {
		w.log.InfoContext(ctx, "pixmed: notification", "transaction_id", n.Key().TransactionID, "med_status", n.MEDStatus,
			"previous", n.Previous, "maybe_reopened", n.MaybeReopened())
	}
	if w.receipts != nil {
		if err = w.receipts.Receive(ctx, n); errors.Is(err, pixmed.ErrDuplicate) { // it was handed on before
			err = nil
		}
	}
	if w.forwarder != nil {
		forwardErr := w.forwarder.notification(ctx, n)
		if err == nil { // what is put off must not be joined
			return forwardErr
		}
		err = errors.Join(err, forwardErr)
	}
	return err
}

// remind tells the application that a case is due soon.
func (w *worker) remind(ctx context.Context, c *inbox.Case) (err error) {
	ctx, end := startSpan(ctx, w.tracer, "case reminder", ofTransaction(c.TransactionID))
	defer func() { end(err) }()
	w.log.InfoContext(ctx, "pixmed: reminder", "transaction_id", c.TransactionID, "due_at", c.DueAt)
	return w.forwarder.reminder(ctx, c)
}
