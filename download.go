package pixmed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

// OpenReceipt fetches the receipt of a transaction as a stream, in constant
// memory. When it returns, the gateway has answered and the content begins as a
// PDF does. ctx also governs reads from the returned reader.
//
// A connection that breaks is resumed: the receipt is fetched again, the bytes
// that were already delivered are compared by their SHA-256, and the stream goes
// on where it broke, as long as retries are left. If the bytes differ, reading
// fails with [ErrReceiptChanged].
//
// The caller must close the reader. Errors, of reading too, are those of
// [Client.Receipt].
func (c *Client) OpenReceipt(ctx context.Context, transactionID string) (*ReceiptReader, error) {
	call, err := c.newReceiptCall(transactionID)
	if err != nil {
		return nil, err
	}
	return c.open(ctx, call)
}

// newReceiptCall returns a call for a transaction's receipt.
func (c *Client) newReceiptCall(transactionID string) (*call, error) {
	if !validUUID(transactionID) {
		return nil, fmt.Errorf("%w: %q", ErrInvalidTransactionID, clip(transactionID))
	}
	return c.newCall("transaction/"+transactionID+"/receipt", "", slog.String("transaction_id", transactionID)), nil
}

// fetch opens a receipt and hands it to a function that reads all of it, again
// from the start if the receipt changes on the way.
func (c *Client) fetch(ctx context.Context, transactionID string, into func(*ReceiptReader) error) error {
	call, err := c.newReceiptCall(transactionID)
	if err != nil {
		return err
	}
	for {
		r, err := c.open(ctx, call)
		if err != nil {
			return err
		}
		err = into(r)
		_ = r.Close() // all was read, or else there is an error already
		if !errors.Is(err, ErrReceiptChanged) || !call.retry() {
			return err
		}
		c.logRetry(ctx, call, "pixmed: the receipt changed during its download, starting over", err)
	}
}

// open sends the request and reads the PDF's first bytes.
func (c *Client) open(ctx context.Context, call *call) (*ReceiptReader, error) {
	id := call.about.Value.String() // see newReceiptCall
	r := newReceiptReader(ctx, "receipt of transaction "+id)
	r.info.TransactionID = id
	r.secrets = c.credentials.Secrets
	r.download = &download{client: c, call: call}
	if err := r.download.start(r); err != nil {
		r.end(err)
		return nil, r.err
	}
	n, err := r.Read(r.headBytes[:])
	r.head = r.headBytes[:n]
	if err != nil { // not io.EOF: that comes by itself, after the bytes
		return nil, err
	}
	return r, nil
}

// download is where a [Client]'s ReceiptReader gets its bytes from.
type download struct {
	client        *Client
	call          *call
	source        *source // of the last response
	contentLength int64   // of the last response, -1 if unknown

	mu   sync.Mutex
	body io.Closer // of the response under way, if any
}

// start sends a request and gives r a decoder of the response.
func (d *download) start(r *ReceiptReader) error {
	d.source = nil
	resp, err := d.client.send(r.ctx, d.call) //nolint:bodyclose // stop does
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.body = resp.Body
	d.mu.Unlock()
	if err := ended(r.ctx); err != nil { // Close may have come before there was a body to close
		return err
	}
	if err := d.client.checkEncoding(resp); err != nil {
		return fmt.Errorf("%w: %w", ErrReceiptMalformed, err)
	}
	d.contentLength = resp.ContentLength
	d.source = &source{Reader: resp.Body, ctx: r.ctx}
	if r.decoder != nil {
		r.decoder.Release()
	}
	r.decoder = envelope.NewDecoder(d.source, envelope.Options{
		MaxBytes:    d.client.maxReceipt,
		KnownLength: resp.ContentLength >= 0,
		Redact:      d.client.credentials.Redact,
	})
	return nil
}

// stop closes the body of the response under way. Close may call it during a Read.
func (d *download) stop() error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	body := d.body
	d.body = nil
	d.mu.Unlock()
	if body == nil {
		return nil
	}
	return body.Close()
}

// resume fetches the receipt again and advances r to where it broke. It returns
// the error that ends the stream if it cannot.
func (d *download) resume(r *ReceiptReader, cause error) error {
	at := r.info.Size
	for d.broken(cause) {
		if !d.call.retry() {
			return fmt.Errorf("the download broke off at byte %d of the PDF, after %s: %w", at, attempts(d.call.requests), cause)
		}
		_ = d.stop()
		d.client.logRetry(r.ctx, d.call, "pixmed: receipt download broke, resuming", fmt.Errorf("at byte %d of the PDF: %w", at, cause))
		if err := d.client.pause(r.ctx); err != nil {
			return fmt.Errorf("%w; before that, %w", err, cause)
		}
		err := d.again(r)
		if err == nil || errors.Is(err, ErrReceiptChanged) {
			return err
		}
		if !d.broken(err) {
			return fmt.Errorf("fetching it again after the download broke off at byte %d of the PDF: %w", at, err)
		}
		cause = err
	}
	return cause
}

// again sends another request, and reads and compares what was already delivered.
func (d *download) again(r *ReceiptReader) error {
	if err := d.start(r); err != nil {
		return err
	}
	prefix := sha256.New()
	n, err := io.CopyN(prefix, r.decoder, r.info.Size)
	if n < r.info.Size && err != io.EOF {
		return err
	}
	if n < r.info.Size || !bytes.Equal(prefix.Sum(nil), r.hash.Sum(nil)) {
		return ErrReceiptChanged
	}
	return nil
}

// broken reports whether an error means that the same receipt could arrive whole
// the next time: the connection's, not the content's.
func (d *download) broken(err error) bool {
	return d.source != nil && (d.source.broke || errors.Is(err, ErrReceiptTruncated))
}

// source is the response's body, or the reader given to [DecodeReceipt]. It ends
// with ctx at once, even if the Read under it does not heed ctx, and remembers
// whether reading failed.
type source struct {
	io.Reader
	ctx   context.Context //nolint:containedctx // the ReceiptReader's
	broke bool
}

func (s *source) Read(p []byte) (int, error) {
	if err := ended(s.ctx); err != nil {
		return 0, err
	}
	n, err := s.Reader.Read(p)
	if err := ended(s.ctx); err != nil {
		return 0, err
	}
	s.broke = s.broke || err != nil && err != io.EOF
	return n, err
}
