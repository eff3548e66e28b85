package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pixmed-go/pixmed"
)

// evidence saves receipts in a folder, each under its transaction id. Nothing that
// lies there is ever replaced.
type evidence struct {
	client  *pixmed.Client
	dir     string
	log     *slog.Logger
	metrics *metrics
	tracer  trace.Tracer
}

// newEvidence returns what saves the receipts of a gateway.
func newEvidence(c *config, log *slog.Logger, m *metrics, traces trace.TracerProvider) (*evidence, error) {
	if err := os.MkdirAll(c.receipts, 0o700); err != nil {
		return nil, err
	}
	client, err := c.gateway.client(traced(c.gateway.transport, traces, false),
		pixmed.WithRetries(1), // the inbox tries again, and needs no worker while it waits
		pixmed.WithLogger(log))
	if err != nil {
		return nil, err
	}
	return &evidence{client: client, dir: c.receipts, log: log, metrics: m, tracer: traces.Tracer("pixmed")}, nil
}

// Receive implements [pixmed.Receiver], for the inbox of receipts: it saves one while
// the case is open.
func (e *evidence) Receive(ctx context.Context, n *pixmed.Notification) (err error) {
	if n.MEDStatus.Final() {
		return nil
	}
	ctx, end := startSpan(ctx, e.tracer, "receipt", ofNotification(n)...)
	defer func() { end(err) }()
	return e.save(ctx, n)
}

// save downloads a transaction's receipt, unless it is there. It may be called again
// after it has succeeded.
func (e *evidence) save(ctx context.Context, n *pixmed.Notification) error {
	id := n.Key().TransactionID
	path := filepath.Join(e.dir, id+".pdf")
	if isPDF(path) {
		return nil
	}
	start := time.Now()
	// One name for each transaction, so that what a killed process leaves is used up
	// by the next.
	part := filepath.Join(e.dir, "."+id+".part")
	receipt, err := e.client.SaveReceipt(ctx, id, part)
	if err == nil {
		err = e.keep(part, path, receipt.SHA256)
	}
	e.metrics.download(time.Since(start), err)
	if err != nil {
		return fmt.Errorf("the receipt was not saved: %s", explain(err))
	}
	e.log.InfoContext(ctx, "pixmed: receipt saved", "transaction_id", id, "bytes", receipt.Size, "sha256", receipt.SHA256)
	return nil
}

// keep gives a download its name. If there is a file of this name already, another
// one that is no PDF, it is left alone, and the receipt's sum becomes part of the
// name.
func (e *evidence) keep(part, path, sum string) error {
	defer func() { _ = os.Remove(part) }()
	err := os.Link(part, path) // which replaces nothing
	if errors.Is(err, fs.ErrExist) && !isPDF(path) {
		err = os.Link(part, path[:len(path)-len("pdf")]+sum[:16]+".pdf")
	}
	switch {
	case errors.Is(err, fs.ErrExist): // by another process, or by this one the last time
	case errors.Is(err, fs.ErrNotExist) && isPDF(path): // another process was faster all along
	case err != nil:
		return err
	}
	return syncFolder(e.dir)
}

// open opens a transaction's receipt, for the operations page. It is nil if there is
// none yet.
func (e *evidence) open(_ context.Context, i *pixmed.Infraction) (io.ReadCloser, error) {
	path := filepath.Join(e.dir, i.Key().TransactionID+".pdf")
	if !isPDF(path) {
		others, err := filepath.Glob(path[:len(path)-len("pdf")] + "????????????????.pdf")
		if err != nil || len(others) == 0 {
			return nil, err
		}
		path = others[0]
	}
	return openRegular(path)
}

// isPDF reports whether a file is there and is a PDF. Receipts get their names when
// they are whole.
func isPDF(path string) bool {
	f, err := openRegular(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return beginsPDF(bufio.NewReaderSize(f, 1024))
}

// syncFolder has the names in a folder survive a power cut.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" { // where a folder cannot be opened
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
