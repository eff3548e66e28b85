package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/pixmed-go/pixmed"
)

// attemptTimeout is how long a callback, which downloads a receipt, may take.
const attemptTimeout = 2 * time.Minute

// receipts saves receipts in a folder.
type receipts struct {
	client  *pixmed.Client
	dir     string
	log     *slog.Logger
	metrics *metrics
	tracer  trace.Tracer
}

// callbacks returns what the inbox calls, again and again until it is done. Your own
// work belongs here: block the value, release it, write it off.
func (r *receipts) callbacks() pixmed.Receiver {
	callbacks := pixmed.Callbacks{
		Acknowledged: r.save,
		Cancelled:    r.note("the value is released"),
		Debited:      r.note("the value is gone"),
		Other:        r.note("a status to look into"),
	}
	return pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
		ctx, span := r.tracer.Start(ctx, "infraction callback", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			attribute.String("pixmed.transaction_id", n.Key().TransactionID),
			attribute.String("pixmed.med_status", string(n.MEDStatus)),
			attribute.Int("pixmed.attempt", n.Attempt)))
		defer span.End()
		err := callbacks.Receive(ctx, n)
		if err != nil {
			span.SetStatus(codes.Error, "the callback failed")
		}
		return err
	})
}

func (r *receipts) note(what string) func(context.Context, *pixmed.Notification) error {
	return func(ctx context.Context, n *pixmed.Notification) error {
		r.log.InfoContext(ctx, "a case has ended or is new to us", "notification", n, "meaning", what)
		return nil
	}
}

// save downloads the receipt. It may be called again after it has succeeded, and
// then replaces the file by the same one.
func (r *receipts) save(ctx context.Context, n *pixmed.Notification) error {
	if n.MaybeReopened() {
		r.log.WarnContext(ctx, "the case had ended: it may be open again", "notification", n, "previous", n.Previous)
	}
	start := time.Now()
	receipt, err := r.client.SaveReceipt(ctx, n.TransactionID, r.path(&n.Infraction))
	r.metrics.download(time.Since(start), err)
	if err != nil {
		return err
	}
	r.log.InfoContext(ctx, "receipt saved", "notification", n, "bytes", receipt.Size, "sha256", receipt.SHA256)
	return nil
}

// path returns where a transaction's receipt is: under its end-to-end id, by which
// banks know it, or its transaction id where that is absent or malformed. Both are
// letters, digits and hyphens only.
func (r *receipts) path(i *pixmed.Infraction) string {
	name := i.Key().TransactionID
	if i.EndToEndID.Valid() {
		name = string(i.EndToEndID)
	}
	return filepath.Join(r.dir, name+".pdf")
}

// open opens a transaction's receipt, for the operations page. It is nil if there
// is none yet.
func (r *receipts) open(_ context.Context, i *pixmed.Infraction) (io.ReadCloser, error) {
	f, err := os.Open(r.path(i))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // none is an answer
	}
	return f, err
}
