package pixmed_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

const (
	receiptID  = "b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5"
	receiptURL = mockBase + "/transaction/" + receiptID + "/receipt"
	mockBase   = "https://gateway.example/v1"
)

// receiptPDF returns size bytes, at least 5, that begin like a PDF and, if there is
// room, end like one.
func receiptPDF(size int) []byte {
	pdf := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = random.Read(pdf)
	if end := "\n%%EOF\n"; size > len(end)+5 {
		copy(pdf[size-len(end):], end)
	}
	copy(pdf, "%PDF-")
	return pdf
}

// receiptJSON is the gateway's envelope around a PDF.
func receiptJSON(pdf []byte) string {
	return `{"status":"SUCCESS","data":{"receipt":"` + base64.StdEncoding.EncodeToString(pdf) + `","mimeType":"application/pdf"}}`
}

// roundTripFunc is a transport made of one function.
type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// mustClient returns a client that logs nothing and waits for a nanosecond, unless
// the options say otherwise.
func mustClient(tb testing.TB, baseURL string, opts ...pixmed.ClientOption) *pixmed.Client {
	tb.Helper()
	for _, fallback := range []pixmed.ClientOption{
		pixmed.WithLogger(slog.New(slog.DiscardHandler)),
		pixmed.WithRetryWait(1, 1),
	} {
		with := append(slices.Clip(opts), fallback)
		if _, err := pixmed.NewClient(baseURL, with...); err == nil || !strings.Contains(err.Error(), "given twice") {
			opts = with
		}
	}
	client, err := pixmed.NewClient(baseURL, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	return client
}

// overTransport makes a client use a transport.
func overTransport(rt http.RoundTripper) pixmed.ClientOption {
	return pixmed.WithHTTPClient(&http.Client{Transport: rt})
}

// answersOf returns a transport that gives one canned answer after the other, and
// repeats the last one.
func answersOf(responders ...httpmock.Responder) *httpmock.MockTransport {
	mock := httpmock.NewMockTransport()
	var n atomic.Int32
	mock.RegisterResponder(http.MethodGet, receiptURL, func(r *http.Request) (*http.Response, error) {
		i := min(int(n.Add(1)), len(responders)) - 1
		return responders[i](r)
	})
	return mock
}

// codeAnswer answers with a code and, in pairs, headers.
func codeAnswer(code int, headers ...string) httpmock.Responder {
	h := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return httpmock.NewStringResponder(code, "").HeaderSet(h)
}

func goodAnswer(pdf []byte) httpmock.Responder {
	return httpmock.NewStringResponder(http.StatusOK, receiptJSON(pdf))
}

func refusedAnswer() httpmock.Responder {
	return httpmock.NewErrorResponder(errors.New("dial tcp 192.0.2.1:443: connect: connection refused"))
}

// logRecords is a slog handler that keeps its records.
type logRecords struct {
	mu    sync.Mutex
	lines []string
}

func (h *logRecords) Enabled(context.Context, slog.Level) bool { return true }

func (h *logRecords) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h *logRecords) WithGroup(string) slog.Handler { return h }

func (h *logRecords) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, line)
	return nil
}

func (h *logRecords) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.lines...)
}

// wantAPIError returns the *APIError in err, which must have one.
func wantAPIError(tb testing.TB, err error) *pixmed.APIError {
	tb.Helper()
	e, found := errors.AsType[*pixmed.APIError](err)
	if !found {
		tb.Fatalf("got %v, want an *APIError", err)
	}
	return e
}

// trackedTransport counts the calls of a method that net/http looks for.
type trackedTransport struct {
	http.RoundTripper
	closed atomic.Int32
}

func (t *trackedTransport) CloseIdleConnections() { t.closed.Add(1) }

// chainOf returns the texts of an error and of all errors that it wraps.
func chainOf(err error) []string {
	texts := []string{err.Error()}
	switch e := err.(type) { //nolint:errorlint // it walks the chain
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			texts = append(texts, chainOf(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			texts = append(texts, chainOf(inner)...)
		}
	}
	return texts
}

// infoOf returns the complete ReceiptInfo of a PDF.
func infoOf(pdf []byte) pixmed.ReceiptInfo {
	sum := sha256.Sum256(pdf)
	return pixmed.ReceiptInfo{
		TransactionID: receiptID,
		MIMEType:      "application/pdf",
		Size:          int64(len(pdf)),
		SHA256:        hex.EncodeToString(sum[:]),
	}
}

// wantOnly checks that a directory has these files and no others.
func wantOnly(tb testing.TB, dir string, names ...string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := gocmp.Diff(names, got); diff != "" {
		tb.Errorf("files in the directory: %s", diff)
	}
}

// entryPoints are the ways to get a receipt. Each returns the PDF, or the part of
// it that came before the error, and its info.
var entryPoints = map[string]func(*testing.T, *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error){
	"Receipt": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		receipt, err := c.Receipt(t.Context(), receiptID)
		if err != nil {
			if receipt != nil {
				t.Errorf("a receipt beside %v", err)
			}
			return nil, pixmed.ReceiptInfo{}, err
		}
		return receipt.PDF, receipt.ReceiptInfo, nil
	},
	"SaveReceipt": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		dir := t.TempDir()
		path := filepath.Join(dir, "receipt.pdf")
		info, err := c.SaveReceipt(t.Context(), receiptID, path)
		if err != nil {
			if info != nil {
				t.Errorf("info beside %v", err)
			}
			wantOnly(t, dir)
			return nil, pixmed.ReceiptInfo{}, err
		}
		wantOnly(t, dir, "receipt.pdf")
		pdf, err := os.ReadFile(path)
		return pdf, *info, err
	},
	"Read": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		return readAll(t, c, func(r *pixmed.ReceiptReader) io.Reader { return struct{ io.Reader }{r} })
	},
	"Read by bytes": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		return readAll(t, c, func(r *pixmed.ReceiptReader) io.Reader { return iotest.OneByteReader(r) })
	},
	"WriteTo": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		return readAll(t, c, func(r *pixmed.ReceiptReader) io.Reader { return r })
	},
	"Read, then WriteTo": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		return readAll(t, c, func(r *pixmed.ReceiptReader) io.Reader {
			head := make([]byte, 4) // of those that OpenReceipt has read
			n, err := io.ReadFull(r, head)
			if err != nil {
				t.Error(err)
			}
			return io.MultiReader(bytes.NewReader(head[:n]), r)
		})
	},
}

func readAll(t *testing.T, c *pixmed.Client, through func(*pixmed.ReceiptReader) io.Reader) ([]byte, pixmed.ReceiptInfo, error) {
	t.Helper()
	receipt, err := c.OpenReceipt(t.Context(), receiptID)
	if err != nil {
		if receipt != nil {
			t.Errorf("a reader beside %v", err)
		}
		return nil, pixmed.ReceiptInfo{}, err
	}
	defer receipt.Close()
	if info := receipt.Info(); info.SHA256 != "" || info.MIMEType != "" {
		t.Errorf("complete before the end: %+v", info)
	}
	var pdf bytes.Buffer
	n, err := io.Copy(&pdf, through(receipt))
	if n != int64(pdf.Len()) {
		t.Errorf("says that it wrote %d bytes, not %d", n, pdf.Len())
	}
	if err != nil {
		// It must keep failing in the same way.
		_, again := receipt.Read(make([]byte, 1))
		_, andAgain := receipt.WriteTo(io.Discard)
		if !errors.Is(again, err) || !errors.Is(andAgain, err) {
			t.Errorf("%v was followed by %v and %v", err, again, andAgain)
		}
		if info := receipt.Info(); info.SHA256 != "" || info.MIMEType != "" {
			t.Errorf("complete in spite of %v: %+v", err, info)
		}
		return pdf.Bytes(), receipt.Info(), err
	}
	for range 2 { // io.EOF is sticky
		if n, err := receipt.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("got %d, %v after the end", n, err)
		}
		if n, err := receipt.WriteTo(&fullWriter{}); n != 0 || err != nil {
			t.Errorf("wrote %d, %v after the end", n, err)
		}
	}
	return pdf.Bytes(), receipt.Info(), nil
}

// wantWhole checks that the whole PDF was delivered.
func wantWhole(t *testing.T, pdf, got []byte, info pixmed.ReceiptInfo, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("got %v, want the receipt", err)
		return
	}
	if !bytes.Equal(got, pdf) {
		t.Errorf("got another PDF, of %d bytes instead of %d", len(got), len(pdf))
	}
	if diff := gocmp.Diff(infoOf(pdf), info); diff != "" {
		t.Error(diff)
	}
}

type countedCloser struct {
	io.Reader
	closed *atomic.Int32
}

func (c *countedCloser) Close() error {
	c.closed.Add(1)
	if inner, ok := c.Reader.(io.Closer); ok {
		return inner.Close()
	}
	return nil
}

// broken sends the first bytes of an envelope, and then the connection breaks.
func broken(pdf []byte, sent int) httpmock.Responder {
	return func(*http.Request) (*http.Response, error) {
		body := receiptJSON(pdf)
		return &http.Response{
			StatusCode: http.StatusOK, ContentLength: int64(len(body)),
			Body: io.NopCloser(io.MultiReader(strings.NewReader(body[:sent]), iotest.ErrReader(errors.New("connection reset by peer")))),
		}, nil
	}
}

// delivered returns how many bytes of the PDF are in the first bytes of an envelope.
func delivered(sent int) int { return (sent - len(`{"status":"SUCCESS","data":{"receipt":"`)) / 4 * 3 }

// untilDone is a body that sends nothing until its request is cancelled.
type untilDone struct{ ctx context.Context } //nolint:containedctx // as in a response's body

func (b untilDone) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// generated returns an envelope around a PDF of size bytes, or up to 5 fewer, that
// is made while it is read.
func generated(size int) io.Reader {
	return io.MultiReader(
		strings.NewReader(`{"status":"SUCCESS","data":{"receipt":"JVBERi0x`),
		io.LimitReader(letters{}, int64(size-6)/3*4),
		strings.NewReader(`","mimeType":"application/pdf"}}`),
	)
}

type letters struct{}

var manyLetters = strings.Repeat("A", 64<<10)

// wireBase is a base URL for [wire], which dials nothing.
const wireBase = "http://127.0.0.1/v1"

// freshTransport returns a transport that shares no connections.
func freshTransport(tb testing.TB) *http.Transport {
	tb.Helper()
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	return transport
}

// countNew counts a server's connections.
func countNew(n *atomic.Int32) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			n.Add(1)
		}
	}
}

// wire returns a transport whose connections are pipes in memory, so that it
// works in a bubble too. serve is called for each connection, numbered from 0,
// when a request has been read; the connection is closed when it returns.
func wire(tb testing.TB, serve func(n int, c net.Conn)) *http.Transport {
	tb.Helper()
	return rawWire(tb, func(n int, c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		if r.Method != http.MethodGet || r.URL.Path != "/v1/transaction/"+receiptID+"/receipt" {
			tb.Errorf("got %s %s", r.Method, r.URL)
		}
		serve(n, c)
	})
}

// rawWire is wire without reading a request first.
func rawWire(tb testing.TB, serve func(n int, c net.Conn)) *http.Transport {
	tb.Helper()
	var wg sync.WaitGroup
	var dials atomic.Int32
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		n := int(dials.Add(1)) - 1
		wg.Go(func() {
			defer server.Close()
			serve(n, server)
		})
		return client, nil
	}}
	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		wg.Wait()
	})
	return transport
}

// closing wraps a transport and checks, when the test ends, that every body was closed.
func closing(tb testing.TB, rt http.RoundTripper) http.RoundTripper {
	tb.Helper()
	var mu sync.Mutex
	var closed []*atomic.Int32
	tb.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for i, n := range closed {
			if n.Load() == 0 {
				tb.Errorf("the body of response %d of %d was not closed", i+1, len(closed))
			}
		}
	})
	return roundTripFunc(func(r *http.Request) (*http.Response, error) {
		resp, err := rt.RoundTrip(r)
		if err != nil || resp == nil {
			return resp, err
		}
		n := &atomic.Int32{}
		resp.Body = &countedCloser{resp.Body, n}
		mu.Lock()
		defer mu.Unlock()
		closed = append(closed, n)
		return resp, nil
	})
}

// rawAnswers returns a good answer in each framing of HTTP/1.1.
func rawAnswers(body string) map[string]string {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	half := len(body) / 2
	return map[string]string{
		"length":  head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body,
		"chunked": head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", half, body[:half], len(body)-half, body[half:]),
		"close":   head + "Connection: close\r\n\r\n" + body,
	}
}

// drain reads until the other side hangs up.
func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// fullWriter fails when it is full.
type fullWriter struct {
	room  int
	short bool // without an error
	got   []byte
}

var errFull = errors.New("no space left on device")

func (w *fullWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.room)
	w.room -= n
	w.got = append(w.got, p[:n]...)
	if n < len(p) && !w.short {
		return n, errFull
	}
	return n, nil
}

// canary is a credential that no error may show.
const canary = "canary-6f1d2c"

// fetchers are the two ways to get a receipt: all of it, or as much as comes.
var fetchers = map[string]func(context.Context, *pixmed.Client) ([]byte, error){
	"Receipt": func(ctx context.Context, c *pixmed.Client) ([]byte, error) {
		receipt, err := c.Receipt(ctx, receiptID)
		if err != nil {
			return nil, err
		}
		return receipt.PDF, nil
	},
	"OpenReceipt": func(ctx context.Context, c *pixmed.Client) ([]byte, error) {
		receipt, err := c.OpenReceipt(ctx, receiptID)
		if err != nil {
			return nil, err
		}
		got, err := io.ReadAll(receipt)
		return got, errors.Join(err, receipt.Close())
	},
}

// fetch gets a receipt with a deadline, and checks what must always be true: it is
// the right PDF and whole, or a part of it with an error that names the transaction
// and shows no credential, and the deadline is met.
func fetch(t *testing.T, client *pixmed.Client, get func(context.Context, *pixmed.Client) ([]byte, error), deadline time.Duration, pdf []byte) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	began := time.Now()
	got, err := get(ctx, client)
	if took := time.Since(began); took > deadline {
		t.Errorf("took %v, past the deadline of %v", took, deadline)
	}
	switch {
	case err == nil && !bytes.Equal(got, pdf):
		t.Errorf("another PDF, of %d bytes instead of %d", len(got), len(pdf))
	case !bytes.HasPrefix(pdf, got) && !errors.Is(err, pixmed.ErrReceiptTooLarge):
		t.Errorf("got %d bytes of something else, and %v", len(got), err)
	case err != nil && !strings.HasPrefix(err.Error(), "receipt of transaction "+receiptID+": "):
		t.Errorf("an error that does not say whose it is: %v", err)
	case err != nil && (strings.Contains(err.Error(), canary) || len(err.Error()) > 2000):
		t.Errorf("an error that says too much: %v", err)
	}
	return err
}

// newClientTest is a call of NewClient, and how its error begins.
type newClientTest struct {
	base string // "" for a good one
	opts []pixmed.ClientOption
	want string // "" for no error
}

func wantNewClient(t *testing.T, tests map[string]newClientTest) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := pixmed.NewClient(cmp.Or(test.base, mockBase), test.opts...)
			if test.want == "" {
				if err != nil || client == nil {
					t.Fatalf("got %v, %v, want a client", client, err)
				}
				return
			}
			if client != nil || err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, %v\nwant nil, %s", client, err, test.want)
			}
		})
	}
}
