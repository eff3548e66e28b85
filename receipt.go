package pixmed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

// ReceiptInfo describes a receipt (spec: Consulta de Comprovante).
type ReceiptInfo struct {
	TransactionID string // empty from DecodeReceipt
	MIMEType      string // as the gateway says, unchecked; "application/pdf" if it does not
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
	return fmt.Sprintf("receipt%s (%s, %d bytes, SHA-256 %s)", of, i.MIMEType, i.Size, i.SHA256)
}

// LogValue groups the fields for log/slog.
func (i ReceiptInfo) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("transaction_id", i.TransactionID),
		slog.String("mime_type", i.MIMEType),
		slog.Int64("size", i.Size),
		slog.String("sha256", i.SHA256),
	)
}

// Receipt is a receipt in memory.
type Receipt struct {
	ReceiptInfo
	PDF []byte // whole
}

// Receipt fetches the receipt of a transaction into memory. To a broken
// download it does what [Client.OpenReceipt] does, and where the gateway has
// made another PDF in the meantime it starts over.
//
// Errors are [ErrInvalidTransactionID], an [*APIError], one of the ErrReceipt…
// errors, [ErrRedirect], [ErrStalled], or those of ctx and of the connection.
func (c *Client) Receipt(ctx context.Context, transactionID string) (*Receipt, error) {
	receipt := &Receipt{}
	err := c.fetch(ctx, transactionID, func(r *ReceiptReader) error {
		// The base64 text is a third longer than the PDF, so this is a little
		// more than will be needed, where the length is known at all.
		pdf := newPieces(min(r.contentLength/4*3, c.maxReceipt))
		defer pdf.release()
		for {
			n, err := r.Read(pdf.next())
			pdf.add(n)
			if err == io.EOF {
				receipt.ReceiptInfo, receipt.PDF = r.Info(), pdf.join()
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return receipt, nil
}

// pieces collects bytes of which is not known for sure how many they will be. What
// is small is copied once, into a slice of its size. For what is larger the sender
// is believed to send as much as it says; but a length far out of the ordinary only
// once a sixteenth of it has come. Without any, twice the size is allocated and a
// little, where a slice that append makes longer would take five times the size.
type pieces struct {
	likely int         // size of it all, 0 if nothing is known
	first  *firstPiece // nil if there is none
	full   [][]byte
	size   int    // of those
	room   []byte // to be filled next
	used   int    // of that
}

// firstPiece has room for most receipts, and is used again.
type firstPiece [96 << 10]byte

var firstPieces = sync.Pool{New: func() any { return new(firstPiece) }}

func newPieces(likely int64) *pieces {
	p := &pieces{likely: int(min(max(likely, 0), math.MaxInt/2))}
	if p.likely > len(p.first) && p.likely <= DefaultMaxReceiptSize {
		p.whole()
		return p
	}
	p.first = firstPieces.Get().(*firstPiece)
	p.room = p.first[:]
	return p
}

// release gives back what was borrowed.
func (p *pieces) release() {
	if p.first != nil {
		firstPieces.Put(p.first)
		p.first = nil
	}
}

// whole makes room for all that is likely to come, and puts what has come there.
func (p *pieces) whole() {
	room := make([]byte, 0, p.likely+bytes.MinRead)
	for _, piece := range p.full {
		room = append(room, piece...)
	}
	p.full, p.size, p.used = nil, 0, len(room)
	p.room = room[:cap(room)]
	p.release()
}

// next returns where there is room for more.
func (p *pieces) next() []byte {
	if p.used == len(p.room) {
		p.full, p.size = append(p.full, p.room), p.size+p.used
		if p.likely > p.size && p.size >= p.likely/16 {
			p.whole()
		} else {
			p.room, p.used = make([]byte, max(8<<10, min(p.size/8, 1<<20))), 0
		}
	}
	return p.room[p.used:]
}

// add counts what was written there.
func (p *pieces) add(n int) { p.used += n }

func (p *pieces) join() []byte {
	if p.full == nil && p.first == nil {
		return p.room[:p.used]
	}
	return slices.Concat(append(p.full, p.room[:p.used])...)
}

// SaveReceipt fetches the receipt of a transaction into the file at path: it
// writes a temporary file in the same directory, syncs it and renames it, so
// that path holds the whole PDF or what it held before, a symbolic link
// included. The file is readable by its owner only (0600). The directory must
// exist. Broken downloads are treated as in [Client.Receipt], and so are errors;
// those of the file system are its own.
func (c *Client) SaveReceipt(ctx context.Context, transactionID, path string) (*ReceiptInfo, error) {
	if err := checkTransactionID(transactionID); err != nil {
		return nil, err
	}
	switch stat, err := os.Stat(path); {
	case err == nil && !stat.Mode().IsRegular():
		return nil, fmt.Errorf("cannot save the receipt: %s exists and is not a regular file", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist): // it could not be renamed to that either
		return nil, fmt.Errorf("cannot save the receipt: %w", err)
	}
	dir, name := filepath.Split(path)
	if name == "" {
		return nil, fmt.Errorf("cannot save the receipt: the path %q does not name a file", path)
	}
	file, err := os.CreateTemp(filepath.Clean(dir), ".receipt-*.tmp") // fails before any request is sent
	if err != nil {
		return nil, fmt.Errorf("cannot save the receipt: %w", err)
	}
	defer os.Remove(file.Name()) // gone already, once renamed
	defer file.Close()           // closed already, once written

	var info ReceiptInfo
	err = c.fetch(ctx, transactionID, func(r *ReceiptReader) error {
		_, err := file.Seek(0, io.SeekStart) // there may have been an attempt before
		if err := errors.Join(err, file.Truncate(0)); err != nil {
			return fmt.Errorf("cannot save the receipt: %w", err)
		}
		if _, err := r.WriteTo(file); err != nil {
			return err
		}
		info = r.Info()
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.sync(file), file.Close()); err != nil {
		return nil, fmt.Errorf("cannot save the receipt: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return nil, fmt.Errorf("cannot save the receipt: %w", err)
	}
	if err := c.syncDir(filepath.Clean(dir)); err != nil {
		return nil, fmt.Errorf("the receipt is saved, but may not outlast a crash: %w", err)
	}
	return &info, nil
}

// syncDir makes a rename in a directory durable, where the system has that.
func (c *Client) syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path) //nolint:gosec // the caller's own path
	if err != nil {
		return err
	}
	err = c.sync(dir)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) { // some file systems do not
		err = nil
	}
	return errors.Join(err, dir.Close())
}

func checkTransactionID(id string) error {
	if !validUUID(id) {
		return fmt.Errorf("%w: %q", ErrInvalidTransactionID, clip(id, maxFound))
	}
	return nil
}

// OpenReceipt fetches the receipt of a transaction as a stream, in constant
// memory. When it returns, the gateway has answered and the content starts as a
// PDF does; ctx holds for reading, too.
//
// A connection that breaks is resumed: the receipt is fetched again, the bytes
// that were delivered already are compared by their SHA-256, and the stream goes
// on where it broke, for as long as retries are left and each resumption gets
// further than the last. Where the bytes differ, reading fails with
// [ErrReceiptChanged].
//
// The caller must close the reader. Errors, of reading too, are those of
// [Client.Receipt].
func (c *Client) OpenReceipt(ctx context.Context, transactionID string) (*ReceiptReader, error) {
	if err := checkTransactionID(transactionID); err != nil {
		return nil, err
	}
	return c.open(ctx, c.newCall(transactionID))
}

// fetch opens a receipt and hands it to a function that reads all of it, again
// from the start if the receipt changes on the way.
func (c *Client) fetch(ctx context.Context, transactionID string, into func(*ReceiptReader) error) error {
	if err := checkTransactionID(transactionID); err != nil {
		return err
	}
	for call := c.newCall(transactionID); ; {
		r, err := c.open(ctx, call)
		if err != nil {
			return err
		}
		err = into(r)
		_ = r.Close() // all was read, or else there is an error already
		if !errors.Is(err, ErrReceiptChanged) || !call.retry() {
			return err
		}
		c.logger.LogAttrs(ctx, slog.LevelInfo, "pixmed: the receipt changed during its download, starting over",
			slog.String("transaction_id", transactionID),
			slog.Int("attempt", call.requests))
	}
}

// open sends the request and reads the PDF's first bytes.
func (c *Client) open(ctx context.Context, call *call) (*ReceiptReader, error) {
	r := &ReceiptReader{
		info: ReceiptInfo{TransactionID: call.transactionID},
		what: "receipt of transaction " + call.transactionID,
		hash: sha256.New(),
	}
	d := &download{client: c, ctx: ctx, call: call}
	r.download = d
	if err := d.start(r); err != nil {
		return nil, r.fail(err)
	}
	n, err := r.Read(r.headBytes[:])
	r.head = r.headBytes[:n]
	if err != nil { // not io.EOF: that comes alone, behind the bytes
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// DecodeReceipt reads the receipt envelope from r, wherever it comes from, and
// gives the PDF in it as a stream, in constant memory. Closing the ReceiptReader
// does not close r. The options are those that say so in their type, such as
// [WithMaxReceiptSize].
//
// It is liberal in how the base64 is written: escaped, wrapped in lines, in the
// URL-safe alphabet, without padding, behind a data: prefix; and a PDF without
// any envelope is accepted if it ends with %%EOF. It is strict in that only a
// whole receipt ends with io.EOF.
func DecodeReceipt(r io.Reader, opts ...ReceiptOption) (*ReceiptReader, error) {
	cfg := receiptConfig{maxReceipt: DefaultMaxReceiptSize}
	errs := make([]error, 0, len(opts)+1)
	if r == nil {
		errs = append(errs, errors.New("DecodeReceipt: the reader is nil"))
	}
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("an option is nil"))
			continue
		}
		errs = append(errs, o.applyReceipt(&cfg))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &ReceiptReader{
		what:    "receipt",
		hash:    sha256.New(),
		decoder: envelope.NewDecoder(r, envelope.Options{MaxBytes: cfg.maxReceipt}),
	}, nil
}

// ReceiptOption configures [DecodeReceipt], and [NewClient] too.
type ReceiptOption interface {
	ClientOption
	applyReceipt(*receiptConfig) error
}

type receiptConfig struct{ maxReceipt int64 }

type maxReceiptSize int64

// WithMaxReceiptSize sets the largest PDF that is accepted, in bytes;
// [DefaultMaxReceiptSize] unless set. It bounds the JSON around it, too, to twice
// that and 64 KiB.
func WithMaxReceiptSize(bytes int64) ReceiptOption { return maxReceiptSize(bytes) }

func (m maxReceiptSize) applyReceipt(c *receiptConfig) error {
	c.maxReceipt = int64(m)
	if m < 1 {
		return fmt.Errorf("WithMaxReceiptSize: %d is not a positive number of bytes", m)
	}
	return nil
}

func (m maxReceiptSize) applyClient(c *clientConfig) error {
	var cfg receiptConfig
	err := m.applyReceipt(&cfg)
	c.maxReceipt = cfg.maxReceipt
	return err
}

// ReceiptReader is a receipt's PDF as a stream. It returns io.EOF, or from
// WriteTo no error, only for a PDF that is whole: after any other error, what
// was delivered is a part at best. It is not safe for concurrent use.
type ReceiptReader struct {
	info          ReceiptInfo
	what          string // for errors
	hash          hash.Hash
	decoder       *envelope.Decoder
	download      *download // nil from DecodeReceipt
	contentLength int64     // of the response; 0 when unknown

	head      []byte // read but not delivered
	headBytes [64]byte
	err       error // why there is nothing more
}

// Info describes the receipt. It is complete after io.EOF only: the gateway may
// send the MIME type behind the PDF. Who has to state a Content-Type before can
// rely on application/pdf, since content that does not start as a PDF is an
// error.
func (r *ReceiptReader) Info() ReceiptInfo { return r.info }

// Read reads the next bytes of the PDF.
func (r *ReceiptReader) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	for r.err == nil {
		n, err := r.decoder.Read(p)
		r.count(p[:n])
		if err != nil {
			r.settle(err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// WriteTo writes the rest of the PDF to w.
func (r *ReceiptReader) WriteTo(w io.Writer) (int64, error) {
	to := &countingWriter{w: w, count: func([]byte) {}}
	if len(r.head) > 0 {
		_, _ = to.Write(r.head) // counted when it was read
		r.head = nil
	}
	to.count = r.count
	for r.err == nil && to.err == nil {
		if _, err := r.decoder.WriteTo(to); err == nil {
			r.settle(io.EOF)
		} else if to.err == nil {
			r.settle(err)
		}
	}
	if to.err != nil {
		r.err = r.fail(fmt.Errorf("writing it: %w", to.err))
		_ = r.release()
	}
	if r.err == io.EOF {
		return to.written, nil
	}
	return to.written, r.err
}

// countingWriter tells the writer's errors from the reader's.
type countingWriter struct {
	w       io.Writer
	count   func([]byte)
	written int64
	err     error
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	w.written += int64(n)
	w.count(p[:n])
	w.err = err
	return n, err
}

// Close ends the download. It does not close the reader that was given to
// [DecodeReceipt].
func (r *ReceiptReader) Close() error {
	if r.err == nil {
		r.err = r.fail(errors.New("read after Close"))
	}
	r.head = nil
	return r.release()
}

func (r *ReceiptReader) release() error {
	r.decoder.Release()
	if r.download == nil {
		return nil
	}
	return r.download.stop()
}

// count takes note of bytes that the decoder has delivered.
func (r *ReceiptReader) count(p []byte) {
	r.hash.Write(p)
	r.info.Size += int64(len(p))
}

// settle deals with the end of the decoder's bytes: it ends the stream, or
// leaves it where reading can go on.
func (r *ReceiptReader) settle(err error) {
	if err != io.EOF && r.download != nil {
		err = r.download.resume(r, err)
	}
	if err == nil {
		return
	}
	r.err = io.EOF
	if err == io.EOF {
		if r.info.MIMEType = r.decoder.MIMEType(); r.info.MIMEType == "" {
			r.info.MIMEType = "application/pdf"
		}
		r.info.SHA256 = hex.EncodeToString(r.hash.Sum(nil))
	} else {
		r.err = r.fail(err)
	}
	_ = r.release() // the connection is free again, even if nobody calls Close
}

// fail says what an error is about. What it quotes of the gateway's answer holds
// no credential any more: see [credentials].
func (r *ReceiptReader) fail(err error) error { return fmt.Errorf("%s: %w", r.what, err) }

// download is where a [Client]'s ReceiptReader gets its bytes from.
type download struct {
	client *Client
	ctx    context.Context //nolint:containedctx // of the user's call; it holds as long as the reader is read
	call   *call
	body   *tracedBody // nil when stopped
	broke  int64       // how far it had got when it last broke
}

// start sends a request and gives r a decoder of the response.
func (d *download) start(r *ReceiptReader) error {
	resp, err := d.client.get(d.ctx, d.call) //nolint:bodyclose // stop does
	if err != nil {
		return err
	}
	d.body = &tracedBody{ReadCloser: resp.Body, ended: func() error { return context.Cause(d.ctx) }}
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		_ = d.stop()
		return fmt.Errorf("%w: it has the Content-Encoding %q, which the transport does not undo", ErrReceiptMalformed, clip(d.client.credentials.redact(e), maxFound))
	}
	r.contentLength = max(0, resp.ContentLength)
	if r.decoder != nil {
		r.decoder.Release()
	}
	r.decoder = envelope.NewDecoder(d.body, envelope.Options{
		MaxBytes:    d.client.maxReceipt,
		KnownLength: resp.ContentLength >= 0,
		Redact:      d.client.credentials.redact,
	})
	return nil
}

func (d *download) stop() error {
	if d.body == nil {
		return nil
	}
	err := d.body.Close()
	d.body = nil
	return err
}

// resume fetches the receipt again and brings r to where it broke. It returns
// the error that ends the stream if that cannot be.
func (d *download) resume(r *ReceiptReader, cause error) error {
	for d.broken(cause) {
		delivered := r.info.Size
		if delivered > 0 && delivered <= d.broke {
			return fmt.Errorf("the download broke off again without getting beyond byte %d of the PDF: %w", delivered, cause)
		}
		if !d.call.retry() {
			return fmt.Errorf("the download broke off at byte %d of the PDF, after %s: %w", delivered, attempts(d.call.requests), cause)
		}
		_ = d.stop()
		d.broke = delivered
		d.client.logger.LogAttrs(d.ctx, slog.LevelInfo, "pixmed: receipt download broke, resuming",
			slog.String("transaction_id", d.call.transactionID),
			slog.Int("attempt", d.call.requests),
			slog.Int64("delivered", delivered),
			slog.String("error", d.client.credentials.redact(cause.Error())))
		if err := d.wait(); err != nil {
			return fmt.Errorf("%w; before that: %w", err, cause)
		}
		if err := d.start(r); err != nil {
			return fmt.Errorf("fetching it again after the download broke off at byte %d of the PDF: %w", delivered, err)
		}
		prefix := sha256.New()
		n, err := io.CopyN(prefix, r.decoder, delivered)
		switch {
		case n == delivered && bytes.Equal(prefix.Sum(nil), r.hash.Sum(nil)):
			return nil
		case n == delivered, err == io.EOF: // other bytes, or fewer
			return ErrReceiptChanged
		}
		if cause = err; d.ctx.Err() == nil && !d.broken(err) {
			return fmt.Errorf("fetching it again after the download broke off at byte %d of the PDF: %w", delivered, err)
		}
	}
	if ended := d.ctx.Err(); ended != nil && !errors.Is(cause, ended) { // the transport may see it as another error
		return fmt.Errorf("%w: %w", ended, cause)
	}
	return cause
}

// broken reports whether an error means that the same receipt could arrive
// whole the next time: the connection's, not the content's.
func (d *download) broken(err error) bool {
	if d.ctx.Err() != nil || d.body == nil {
		return false
	}
	return d.body.broke || errors.Is(err, ErrReceiptTruncated)
}

// wait waits as before the first retry: the gateway did answer.
func (d *download) wait() error {
	timer := time.NewTimer(backoff(d.client.http.RetryWaitMin, d.client.http.RetryWaitMax, 0, nil))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
}

// tracedBody remembers whether reading it failed. It ends with the context at
// once, where a transport may take its time.
type tracedBody struct {
	io.ReadCloser
	ended func() error
	broke bool
}

func (b *tracedBody) Read(p []byte) (int, error) {
	if err := b.ended(); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	b.broke = b.broke || err != nil && err != io.EOF
	return n, err
}
