package pixmed

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"sync"

	"github.com/pixmed-go/pixmed/internal/envelope"
	"github.com/pixmed-go/pixmed/internal/text"
)

// ReceiptInfo describes a receipt (spec: Consulta de Comprovante).
type ReceiptInfo struct {
	TransactionID string // empty from DecodeReceipt
	MIMEType      string // as the gateway says, unchecked but printable; "application/pdf" if it does not
	Size          int64  // of the PDF, in bytes
	SHA256        string // of the PDF, in lower-case hex
}

// String describes the receipt in a short line.
func (i ReceiptInfo) String() string {
	of := ""
	if i.TransactionID != "" {
		of = " of transaction " + i.TransactionID
	}
	if i.SHA256 == "" {
		return fmt.Sprintf("receipt%s (%d bytes so far)", of, i.Size)
	}
	return fmt.Sprintf("receipt%s (%s, %d bytes, SHA-256 %s)", of, text.Escape(i.MIMEType), i.Size, i.SHA256)
}

// LogValue groups the fields for log/slog.
func (i ReceiptInfo) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("transaction_id", i.TransactionID),
		slog.String("mime_type", text.Escape(i.MIMEType)),
		slog.Int64("size", i.Size),
		slog.String("sha256", i.SHA256),
	)
}

// Receipt is a receipt in memory.
type Receipt struct {
	ReceiptInfo
	PDF []byte // whole
}

// Receipt fetches the receipt of a transaction into memory. It resumes broken
// downloads as [Client.OpenReceipt] does, and starts over if the gateway has made
// another PDF in the meantime.
//
// Errors are [ErrInvalidTransactionID], an [*APIError], one of the ErrReceipt…
// errors, [ErrRedirect], [ErrStalled], or those of ctx and of the connection.
func (c *Client) Receipt(ctx context.Context, transactionID string) (*Receipt, error) {
	receipt := &Receipt{}
	err := c.fetch(ctx, transactionID, func(r *ReceiptReader) (err error) {
		receipt.PDF, err = r.readAll()
		receipt.ReceiptInfo = r.Info()
		return err
	})
	if err != nil {
		return nil, err
	}
	return receipt, nil
}

// readAll reads the whole PDF. Base64 is a third longer than what it encodes, so
// a Content-Length says how much room the PDF needs at most. An unusually
// large one is trusted only up to sixteen times what has arrived.
func (r *ReceiptReader) readAll() ([]byte, error) {
	likely := min(r.download.contentLength/4*3, r.download.client.maxReceipt)
	if likely <= 0 {
		return io.ReadAll(r)
	}
	room := likely
	if likely > DefaultMaxReceiptSize {
		room = min(likely/16, DefaultMaxReceiptSize)
	}
	pdf := bytes.NewBuffer(make([]byte, 0, room+bytes.MinRead))
	if room < likely {
		if n, err := pdf.ReadFrom(io.LimitReader(r, room)); err != nil || n < room {
			return pdf.Bytes(), err
		}
		pdf.Grow(int(min(likely, 16*room)-room) + bytes.MinRead)
	}
	_, err := pdf.ReadFrom(r)
	return pdf.Bytes(), err
}

// DecodeReceipt reads the receipt envelope from r, wherever it comes from, and
// returns the PDF in it as a stream, in constant memory. Closing the ReceiptReader
// does not close r. The options are those of type [ReceiptOption], such as
// [WithMaxReceiptSize].
//
// It is liberal in how the base64 is written: escaped, wrapped in lines, with blanks
// around it, in the URL-safe alphabet, without padding, after a data: prefix. The
// PDF may have other bytes before %PDF-, which must end within its first 1,024
// bytes. A PDF without an envelope is accepted if it ends with %%EOF. It is strict
// in that only a whole receipt ends with io.EOF.
func DecodeReceipt(r io.Reader, opts ...ReceiptOption) (*ReceiptReader, error) {
	cfg := receiptConfig{given: given{}, maxReceipt: DefaultMaxReceiptSize}
	err := applyEach(opts, func(o ReceiptOption) error { return o.applyReceipt(&cfg) })
	if r == nil {
		err = errors.Join(errors.New("DecodeReceipt: the reader is nil"), err)
	}
	if err != nil {
		return nil, err
	}
	//nolint:forbidigo // no caller's context is cut off: reading r cannot be cancelled
	reader := newReceiptReader(context.Background(), "receipt")
	reader.decoder = envelope.NewDecoder(&source{Reader: r, ctx: reader.ctx}, envelope.Options{MaxBytes: cfg.maxReceipt})
	return reader, nil
}

// ReceiptReader is a receipt's PDF as a stream. It returns io.EOF, or from WriteTo
// no error, only for a PDF that is whole: after any other error, what was
// delivered is a part at best. It must not be used concurrently, except for Close.
type ReceiptReader struct {
	info    ReceiptInfo
	what    string // for errors
	secrets text.Secrets
	hash    hash.Hash

	// ctx ends when the user's does, with Close, and when there is nothing more to
	// read.
	ctx      context.Context //nolint:containedctx // the reader is the rest of the call
	cancel   context.CancelCauseFunc
	decoder  *envelope.Decoder
	download *download // nil from DecodeReceipt

	head      []byte // read but not delivered
	headBytes [64]byte
	err       error // why there is nothing more
}

func newReceiptReader(ctx context.Context, what string) *ReceiptReader {
	ctx, cancel := context.WithCancelCause(ctx)
	return &ReceiptReader{what: what, hash: sha256.New(), ctx: ctx, cancel: cancel}
}

// Info describes the receipt. It is complete only after io.EOF: the gateway may
// send the MIME type after the PDF. Callers that must send a Content-Type first
// can use application/pdf, since content that does not begin as a PDF is an error.
func (r *ReceiptReader) Info() ReceiptInfo { return r.info }

// Read reads the next bytes of the PDF.
func (r *ReceiptReader) Read(p []byte) (int, error) {
	for {
		if err := ended(r.ctx); err != nil && r.err == nil {
			r.end(err)
		}
		if r.err != nil {
			return 0, r.err
		}
		if len(r.head) > 0 {
			n := copy(p, r.head)
			r.head = r.head[n:]
			return n, nil
		}
		n, err := r.decoder.Read(p)
		r.hash.Write(p[:n])
		r.info.Size += int64(n)
		if err != nil {
			r.settle(err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
}

// chunks are what WriteTo writes from.
var chunks = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// WriteTo writes the rest of the PDF to w.
func (r *ReceiptReader) WriteTo(w io.Writer) (written int64, err error) {
	chunk := chunks.Get().(*[32 << 10]byte)
	defer chunks.Put(chunk)
	written, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, chunk[:])
	if err != nil && err != r.err { //nolint:errorlint // the writer's, not what Read has returned
		r.end(fmt.Errorf("writing the PDF: %w", err))
		err = r.err
	}
	return written, err
}

// Close ends the download. It may be called while another goroutine is in Read or
// WriteTo: that call returns [ErrClosed], and so does each one after it unless
// the stream had ended. A [Client] sends no request after it.
//
// Close does not close the reader that was given to [DecodeReceipt]. It returns at
// once even there, and a Read under way ends when that reader's Read does.
func (r *ReceiptReader) Close() error {
	r.cancel(ErrClosed)
	return r.download.stop()
}

// settle handles the end of the decoder's bytes: it ends the stream, or leaves it
// where reading can go on.
func (r *ReceiptReader) settle(err error) {
	if err != io.EOF && r.download != nil {
		err = r.download.resume(r, err)
	}
	if err == io.EOF {
		r.info.MIMEType = cmp.Or(r.secrets.Show(r.decoder.MIMEType(), 255), "application/pdf")
		r.info.SHA256 = hex.EncodeToString(r.hash.Sum(nil))
	}
	if err != nil {
		r.end(err)
	}
}

// end ends the stream and frees what it used, even if nobody calls Close. Reading
// ends it, never Close: the decoder's memory goes to the next receipt, and must not
// be in use.
func (r *ReceiptReader) end(err error) {
	r.err = err
	if err != io.EOF {
		r.err = fmt.Errorf("%s: %w", r.what, err)
	}
	r.head = nil
	if r.decoder != nil {
		r.decoder.Release()
	}
	_ = r.download.stop()
	r.cancel(nil)
}
