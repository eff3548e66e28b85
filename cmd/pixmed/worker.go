package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/pixmed-go/pixmed"
)

// worker does what has to be done about a notification. The inbox calls it, again and
// again until it returns nil.
type worker struct {
	forwarder *forwarder // nil without an application
	evidence  *evidence  // nil without a gateway
	log       *slog.Logger
	metrics   *metrics
	tracer    trace.Tracer

	mu        sync.Mutex
	forwarded map[string]bool // by message id: what is done, while the receipt is not
}

// Receive implements [pixmed.Receiver].
func (w *worker) Receive(ctx context.Context, n *pixmed.Notification) error {
	id := n.Key().TransactionID
	ctx, span := w.tracer.Start(ctx, "infraction callback", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("pixmed.transaction_id", id),
		attribute.String("pixmed.med_status", string(n.MEDStatus)),
		attribute.Int("pixmed.attempt", n.Attempt)))
	defer span.End()
	if n.Attempt == 1 {
		w.log.InfoContext(ctx, "pixmed: notification", "transaction_id", id, "med_status", n.MEDStatus, "previous", n.Previous, "maybe_reopened", n.MaybeReopened())
	}
	// Money is more urgent than evidence, and neither waits for the other's success.
	err := w.forward(ctx, n)
	if w.evidence != nil && !n.MEDStatus.Final() {
		err = errors.Join(err, w.evidence.save(ctx, n))
	}
	w.remember(n, err)
	if err != nil {
		span.SetStatus(codes.Error, "the callback failed")
	}
	return err
}

// forward posts a notification, unless only its receipt is missing.
func (w *worker) forward(ctx context.Context, n *pixmed.Notification) error {
	if w.forwarder == nil {
		return nil
	}
	id := messageID(n)
	w.mu.Lock()
	done := w.forwarded[id]
	w.mu.Unlock()
	if done {
		return nil
	}
	start := time.Now()
	err := w.forwarder.notification(ctx, n)
	w.metrics.forward(time.Since(start), err)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.forwarded) >= maxForwarded { // the application is told twice, as it may be
			clear(w.forwarded)
		}
		if w.forwarded == nil {
			w.forwarded = map[string]bool{}
		}
		w.forwarded[id] = true
	}
	return err
}

const maxForwarded = 10_000

// remember forgets what is done altogether.
func (w *worker) remember(n *pixmed.Notification, err error) {
	if w.forwarder == nil || err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.forwarded, messageID(n))
}
