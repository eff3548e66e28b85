package pixmed_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

func TestBodyAnswers(t *testing.T) {
	t.Parallel()
	const (
		tooLarge = "http: request body too large"
		empty    = "malformed JSON at byte 0: the body is empty"
	)
	padded := func(n int) string { return specPayload + strings.Repeat(" ", n-len(specPayload)) }
	breaks := func(err error) func(*http.Request) {
		return func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(err)), 245 }
	}
	limit := func(n int64) []pixmed.HandlerOption {
		return []pixmed.HandlerOption{invalidResult(nil), pixmed.WithBodyLimit(n)}
	}
	kept := []pixmed.HandlerOption{invalidResult(nil)} // what must not be kept
	invalid := pixmed.Outcome{Result: pixmed.ResultInvalid}
	testAnswers(t, []answerTest{
		{
			name: "over the limit, announced", opts: kept, unread: true, change: withLength(pixmed.DefaultBodyLimit + 1),
			status: 413, detail: "The body is larger than 65536 bytes.", outcome: invalid, err: tooLarge,
		},
		{
			name: "over the limit, not announced", opts: kept, body: padded(pixmed.DefaultBodyLimit + 1), change: withLength(-1),
			status: 413, detail: "The body is larger than 65536 bytes.", outcome: invalid, err: tooLarge,
		},
		{
			name: "over a limit that was set", opts: limit(300), body: padded(301),
			status: 413, detail: "The body is larger than 300 bytes.", outcome: invalid, err: tooLarge,
		},
		{
			name: "over the limit, noticed by the verifier", verifier: pixmed.HMACSHA256("X-Signature", "", "s"), opts: limit(300), body: padded(301),
			change: withHeader("X-Signature", hex.EncodeToString(signed("s", padded(301)))),
			status: 413, detail: "The body is larger than 300 bytes.", outcome: invalid, err: tooLarge,
		},
		{
			name: "at the limit, announced", receiver: answer(nil), body: padded(pixmed.DefaultBodyLimit),
			status: 200, outcome: about(pixmed.ResultAccepted),
		},
		{
			name: "at the limit, not announced", receiver: answer(nil), opts: limit(300), body: padded(300), change: withLength(-1),
			status: 200, outcome: about(pixmed.ResultAccepted),
		},
		{
			name: "over the default, under a limit that was set", receiver: answer(nil), opts: limit(1 << 20), body: padded(1 << 20),
			status: 200, outcome: about(pixmed.ResultAccepted),
		},

		{name: "empty", opts: kept, status: 400, detail: "The body is empty.", outcome: invalid, err: empty},
		{name: "no body at all", opts: kept, change: func(r *http.Request) { r.Body = nil }, status: 400, detail: "The body is empty.", outcome: invalid, err: empty},
		{name: "white space", opts: kept, body: " \r\n\t", status: 400, detail: "The body is empty.", outcome: invalid, err: empty},
		{name: "empty, though a length was announced", opts: kept, change: withLength(245), status: 400, detail: detailEmpty, outcome: invalid, err: empty},
		{
			name: "cut off", opts: kept, change: breaks(io.ErrUnexpectedEOF),
			status: 400, detail: "The body was cut off.", outcome: invalid, err: "unexpected EOF",
		},
		{
			name: "too slow", opts: kept, change: breaks(fmt.Errorf("read: %w", os.ErrDeadlineExceeded)),
			status: 408, detail: "The body took too long to arrive.", outcome: invalid, err: "read: i/o timeout",
		},
		{
			name: "too slow, in the words of another package", opts: kept, change: breaks(timeoutError{}),
			status: 408, detail: "The body took too long to arrive.", outcome: invalid, err: "slow",
		},
	})
}

type timeoutError struct{}

func (timeoutError) Error() string { return "slow" }

func (timeoutError) Timeout() bool { return true }

func TestContentEncodings(t *testing.T) {
	t.Parallel()
	accepted, invalid := about(pixmed.ResultAccepted), pixmed.Outcome{Result: pixmed.ResultInvalid}
	zipped := gzipOf(specPayload)
	var tests []answerTest
	for _, tt := range []struct {
		name, body string
		encodings  []string // the header's values, nil for none
	}{
		{"gzip", zipped, []string{"gzip"}},
		{"GZIP", zipped, []string{"", "GZIP"}},
		{"x-gzip", zipped, []string{"identity, x-gzip"}},
		{"gzip, not announced", zipped, nil},
		{"gzip, announced as utf-8", zipped, []string{"utf-8"}},
		{"gzip in several members", gzipOf(specPayload[:1]) + gzipOf(specPayload[1:100]) + gzipOf("") + gzipOf(specPayload[100:]), []string{"gzip"}},
		{"gzip of JSON with a byte order mark", gzipOf(bom + specPayload), []string{"gzip"}},
		{"decompressed by a middleware that left the header", specPayload, []string{"gzip"}},
		{"the same after a byte order mark and white space", bom + " \t\r\n" + specPayload, []string{"gzip"}},
		{"a charset", specPayload, []string{"utf-8"}},
		{"an unknown coding", specPayload, []string{"x"}},
		{"identity", specPayload, []string{"identity"}},
		{"identity twice", specPayload, []string{"IDENTITY, identity"}},
		{"empty", specPayload, []string{""}},
		{"blank", specPayload, []string{" "}},
		{"a comma", specPayload, []string{","}},
		{"br and plain JSON", specPayload, []string{"br"}},
		{"br and plain JSON after a byte order mark and white space", bom + " \t\r\n" + specPayload, []string{"br"}},
		{"deflate, zstd and plain JSON", specPayload, []string{"deflate", "zstd"}},
	} {
		for _, signature := range []string{"", hex.EncodeToString(signed("s", tt.body))} { // of the bytes as they are sent
			test := answerTest{name: tt.name, receiver: answer(nil), body: tt.body, status: 200, outcome: accepted}
			if signature != "" {
				test.name += ", signed"
				test.verifier = pixmed.HMACSHA256("X-Signature", "", "s")
			}
			test.change = func(r *http.Request) {
				r.Header.Set("X-Signature", signature)
				if tt.encodings != nil {
					r.Header["Content-Encoding"] = tt.encodings
				}
			}
			tests = append(tests, test)
		}
	}
	for _, tt := range []struct{ name, encoding, body, coding string }{
		{"br", "br", "\x0b\x02\x80", "br"},
		{"BR in a list", "identity, BR ,x", "\x0b\x02\x80", "br"},
		{"deflate", "deflate", "\x78\x9c", "deflate"},
		{"zstd", "zstd", "\x28\xb5\x2f\xfd", "zstd"},
		{"compress", "compress", "\x1f\x9d", "compress"},
		{"x-compress", "x-compress", "\x1f\x9d", "x-compress"},
		{"deflate, but it looks like gzip", "deflate", zipped, "deflate"},
		{"gzip, then br", "gzip, br", zipped, "br"},
		{"br and a JSON array", "br", "[" + specPayload + "]", "br"},
	} {
		test := answerTest{
			name: tt.name, body: tt.body, change: withHeader("Content-Encoding", tt.encoding),
			status: 415, detail: "Unsupported content encoding " + tt.coding + ": send the body uncompressed or as gzip.",
			outcome: invalid, err: "unsupported content encoding " + tt.coding + ": send the body uncompressed or as gzip",
		}
		tests = append(tests, test)
		test.name, test.opts, test.status, test.detail = tt.name+", kept", []pixmed.HandlerOption{invalidResult(nil)}, 200, ""
		tests = append(tests, test)
	}
	const (
		early   = "alformed JSON at byte %d: the gzip body ends too early"
		corrupt = "alformed JSON at byte 0: the gzip body is corrupt"
	)
	flipped := []byte(zipped)
	flipped[len(flipped)-5]++ // the checksum
	for _, tt := range []struct{ name, body, text string }{
		{"gzip with data after it", zipped + "x", fmt.Sprintf(early, len(zipped)+1)}, // "x" may begin a member's header
		{"gzip with much data after it", zipped + specPayload, corrupt},
		{"gzip with zeros after it", zipped + strings.Repeat("\x00", 20), corrupt},
		{"gzip with a wrong checksum", string(flipped), corrupt},
		{"gzip's first bytes alone", "\x1f\x8b", fmt.Sprintf(early, 2)},
		{"gzip's first bytes, then JSON", "\x1f\x8b" + specPayload, corrupt},
		{"gzip of nothing", gzipOf(""), "alformed JSON at byte 0: the body is empty"},
		{"gzip of white space", gzipOf(" \n"), "alformed JSON at byte 0: the body is empty"},
		{"gzip of gzip", gzipOf(zipped), "alformed JSON at byte 0: invalid character at start of value"},
	} {
		tests = append(tests, answerTest{
			name: tt.name, body: tt.body, change: withHeader("Content-Encoding", "gzip"),
			status: 400, detail: "M" + tt.text + ".", outcome: invalid, err: "m" + tt.text,
		}, answerTest{
			name: tt.name + ", kept", body: tt.body, opts: []pixmed.HandlerOption{invalidResult(nil)},
			status: 200, outcome: invalid, err: "m" + tt.text,
		})
	}
	testAnswers(t, tests)
}

// The limit holds for a compressed body as it comes and for what is in it.
func TestGzipLimits(t *testing.T) {
	t.Parallel()
	const limit = 1000
	padded := func(n int) string { return specPayload + strings.Repeat(" ", n-len(specPayload)) }
	stored := func(text string) string { // not compressed, so that it is longer than its text
		var b strings.Builder
		z, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(z, text)
		_ = z.Close()
		return b.String()
	}
	opts := []pixmed.HandlerOption{pixmed.WithBodyLimit(limit), pixmed.WithInvalid(func(context.Context, []byte, error) error {
		t.Error("a body over the limit reached WithInvalid")
		return nil
	})}
	unlimited := []pixmed.HandlerOption{pixmed.WithBodyLimit(math.MaxInt64)}
	bomb := gzipOf(strings.Repeat(" ", 900<<10)) // 900 bytes
	long := answerTest{
		opts: opts, status: 413, detail: "The body is larger than 1000 bytes.",
		outcome: pixmed.Outcome{Result: pixmed.ResultInvalid}, err: "http: request body too large",
	}
	fits := answerTest{receiver: answer(nil), opts: opts, status: 200, outcome: about(pixmed.ResultAccepted)}
	row := func(test answerTest, name, body string) answerTest {
		test.name, test.body = name, body
		return test
	}
	largest := row(fits, "under the largest limit that there is", gzipOf(specPayload))
	largest.opts = unlimited
	if len(bomb) > limit || len(stored(padded(limit-10))) <= limit {
		t.Fatalf("the bomb has %d bytes, the stored body %d", len(bomb), len(stored(padded(limit-10))))
	}
	testAnswers(t, []answerTest{
		row(fits, "at the limit", gzipOf(padded(limit))),
		row(long, "one over", gzipOf(padded(limit+1))),
		row(fits, "at the limit in members", gzipOf(padded(limit-10))+gzipOf(strings.Repeat(" ", 10))),
		row(long, "one over in members", gzipOf(padded(limit-10))+gzipOf(strings.Repeat(" ", 11))),
		row(long, "a bomb", bomb),
		row(long, "a bomb whose end is missing, which is not read", bomb[:len(bomb)-100]),
		row(long, "over the limit as it comes, though not decompressed", stored(padded(limit-10))),
		largest,
	})
}

// A gzip body that is cut, or has a wrong byte, reaches WithInvalid as it came; or
// the Receiver, whole, if the byte does not matter.
func TestDamagedGzip(t *testing.T) {
	t.Parallel()
	whole := gzipOf(specPayload[:90]) + gzipOf(specPayload[90:])
	var received, kept []string
	h := newHook(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		received = append(received, string(n.Raw))
		return nil
	}), pixmed.WithoutVerification(), pixmed.WithInvalid(func(_ context.Context, body []byte, cause error) error {
		if _, ok := errors.AsType[*pixmed.SyntaxError](cause); !ok {
			t.Errorf("%q: the cause is %v", body, cause)
		}
		kept = append(kept, string(body))
		return nil
	}))
	send := func(body string) {
		received, kept = nil, nil
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Encoding", "gzip")
		if w := h.serve(r); w.Code != 200 {
			t.Errorf("%q: status %d", body, w.Code)
		}
	}
	for n := 1; n < len(whole); n++ {
		if send(whole[:n]); received != nil || len(kept) != 1 || kept[0] != whole[:n] {
			t.Errorf("cut after %d of %d bytes: received %q, kept %q", n, len(whole), received, kept)
		}
	}
	harmless := 0 // such as the time in a member's header
	for i := range len(whole) {
		damaged := []byte(whole)
		damaged[i] ^= 0x55
		send(string(damaged))
		switch {
		case len(received) == 1 && kept == nil && received[0] == specPayload:
			harmless++
		case received == nil && len(kept) == 1 && kept[0] == string(damaged):
		default:
			t.Errorf("byte %d damaged: received %q, kept %q", i, received, kept)
		}
	}
	if send(whole); len(received) != 1 || harmless > 2*10 {
		t.Errorf("received %q; %d bytes do not matter", received, harmless)
	}
}

// The signature is that of the bytes on the wire; the Receiver gets the text.
func TestSignedGzip(t *testing.T) {
	t.Parallel()
	zipped := gzipOf(specPayload)
	for name, tt := range map[string]struct {
		over string
		want int
	}{
		"over the compressed body": {zipped, 200},
		"over the text":            {specPayload, 401},
	} {
		var got *pixmed.Notification
		h := newHook(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			got = n
			return nil
		}), pixmed.WithVerifier(pixmed.HMACSHA256("X-Signature", "", "s")))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(zipped))
		r.Header.Set("X-Signature", hex.EncodeToString(signed("s", tt.over)))
		r.Header.Set("Content-Encoding", "gzip")
		if w := h.serve(r); w.Code != tt.want {
			t.Errorf("%s: status %d, want %d", name, w.Code, tt.want)
		}
		if tt.want == 200 && (got == nil || string(got.Raw) != specPayload) {
			t.Errorf("%s: the Receiver got %v", name, got)
		}
	}
}

func TestWire(t *testing.T) {
	t.Parallel()
	n := len(specPayload)
	head := func(headers ...string) string {
		return "POST /hook HTTP/1.1\r\nHost: x\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	}
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for _, tt := range []struct {
		name   string
		opts   []pixmed.HandlerOption
		text   string
		closed bool // the client says that it will send no more
		status int
		detail string
	}{
		{name: "with a length", text: head(fmt.Sprint("Content-Length: ", n)) + specPayload, status: 200},
		{
			name: "in chunks", text: head("Transfer-Encoding: chunked") + chunk(specPayload[:100]) + chunk(specPayload[100:]) + "0\r\n\r\n",
			status: 200,
		},
		{
			name: "gzip", text: head("Content-Encoding: gzip", fmt.Sprint("Content-Length: ", len(gzipOf(specPayload)))) + gzipOf(specPayload),
			status: 200,
		},
		{
			name: "gzip in chunks", text: head("Content-Encoding: gzip", "Transfer-Encoding: chunked") + chunk(gzipOf(specPayload)[:50]) + chunk(gzipOf(specPayload)[50:]) + "0\r\n\r\n",
			status: 200,
		},
		{name: "HTTP/1.0", text: fmt.Sprintf("POST /hook HTTP/1.0\r\nContent-Length: %d\r\n\r\n", n) + specPayload, status: 200},
		{name: "HTTP/1.0 without a length", text: "POST /hook HTTP/1.0\r\n\r\n", status: 400, detail: "The body is empty."},
		{name: "empty", text: head("Content-Length: 0"), status: 400, detail: "The body is empty."},
		{name: "without a length", text: head(), status: 400, detail: "The body is empty."},
		{
			name: "cut off, with a length", text: head("Content-Length: 1000") + specPayload, closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "cut off before its first byte", text: head("Content-Length: 1000"), closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "cut off between chunks", text: head("Transfer-Encoding: chunked") + chunk(specPayload), closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "cut off in a chunk", text: head("Transfer-Encoding: chunked") + "ffff\r\n" + specPayload, closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "malformed chunk", text: head("Transfer-Encoding: chunked") + "zz\r\n", closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "over the limit, announced and never sent", text: head("Content-Length: 301"), opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(300)},
			status: 413, detail: "The body is larger than 300 bytes.",
		},
		{
			name: "over the limit, in chunks, no end in sight", text: head("Transfer-Encoding: chunked") + chunk(strings.Repeat("x", 301)),
			opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(300)}, status: 413, detail: "The body is larger than 300 bytes.",
		},
		{
			name: "at the limit, in chunks", text: head("Transfer-Encoding: chunked") + chunk(specPayload) + "0\r\n\r\n",
			opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(int64(n))}, status: 200,
		},
		{
			name: "at the limit, announced", text: head(fmt.Sprint("Content-Length: ", n)) + specPayload,
			opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(int64(n))}, status: 200,
		},
		{
			name: "over the limit by one, announced", text: head(fmt.Sprint("Content-Length: ", n)) + specPayload,
			opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(int64(n - 1))}, status: 413, detail: "The body is larger than 244 bytes.",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, answer(nil), append(tt.opts, pixmed.WithoutVerification())...)
			c := dialHook(t, serverOf(t, h))
			c.send(t, tt.text)
			if tt.closed {
				tcp, ok := c.Conn.(*net.TCPConn)
				if !ok {
					t.Fatalf("a %T", c.Conn)
				}
				if err := tcp.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.answer(t); got.status != tt.status || got.Detail != tt.detail {
				t.Errorf("%d: %s; want %d: %s", got.status, got.Detail, tt.status, tt.detail)
			}
		})
	}
}

// A middleware has read the body and not put it back.
func TestConsumedBody(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		closes bool
		detail string
	}{
		"read":            {false, detailEmpty},
		"read and closed": {true, "The body was closed before this handler could read it: a middleware in front of it may have consumed it."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, answer(nil), pixmed.WithoutVerification())
			s := serverOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Error(err)
				}
				if tt.closes {
					_ = r.Body.Close()
				}
				h.ServeHTTP(w, r)
			}))
			for _, text := range []string{
				fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload),
				fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(specPayload), specPayload),
			} {
				c := dialHook(t, s)
				c.send(t, text)
				if got := c.answer(t); got.status != 400 || got.Detail != tt.detail {
					t.Errorf("%d: %s", got.status, got.Detail)
				}
			}
		})
	}
}

// countingBody counts how often it is read to its end.
type countingBody struct {
	*strings.Reader
	ends int
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.ends++
	}
	return n, err
}

func (b *countingBody) Close() error { return nil }

func TestBodyIsReadOnce(t *testing.T) {
	t.Parallel()
	signature := func(name, secret string) pixmed.Verifier { return pixmed.HMACSHA256(name, "", secret) }
	for name, v := range map[string]pixmed.Verifier{
		"no verifier asks": pixmed.HeaderSecret("X-Secret", "s"),
		"one asks":         signature("X-A", "a"),
		"two ask":          pixmed.All(signature("X-A", "a"), signature("X-B", "b")),
		"one of two":       pixmed.Any(signature("X-A", "wrong"), signature("X-B", "b")),
		"one asks twice": pixmed.VerifierFunc(func(_ *http.Request, body func() ([]byte, error)) error {
			for range 2 {
				if b, err := body(); string(b) != specPayload || err != nil {
					return fmt.Errorf("body %q, %w", b, err)
				}
			}
			return nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, answer(nil), pixmed.WithVerifier(v))
			r := webhookRequest(t)
			r.Header.Set("X-Secret", "s")
			r.Header.Set("X-A", hex.EncodeToString(signed("a", specPayload)))
			r.Header.Set("X-B", hex.EncodeToString(signed("b", specPayload)))
			body := &countingBody{Reader: strings.NewReader(specPayload)}
			r.Body = body
			if w := h.serve(r); w.Code != 200 || body.ends != 1 {
				t.Errorf("status %d, the body was read to its end %d times", w.Code, body.ends)
			}
		})
	}
}

// A body that cannot be read is 400, not 401, if the verifier needs it.
func TestVerifierAndABodyThatIsCutOff(t *testing.T) {
	t.Parallel()
	sum := hex.EncodeToString(signed("s", specPayload))
	hmac, header := pixmed.HMACSHA256("X-Signature", "", "s"), pixmed.HeaderSecret("X-Secret", "s")
	for name, tt := range map[string]struct {
		v    pixmed.Verifier
		want int
	}{
		"signature":                 {hmac, 400},
		"signature, and the secret": {pixmed.All(header, hmac), 400},
		"signature, or the secret":  {pixmed.Any(hmac, header), 400},
		"secret, or the signature":  {pixmed.Any(header, hmac), 400},
		"the secret alone":          {header, 400},
		"a wrong secret alone":      {pixmed.HeaderSecret("X-Secret", "other"), 401},
	} {
		h := newHook(t, answer(nil), pixmed.WithVerifier(tt.v))
		r := webhookRequest(t)
		r.Header.Set("X-Signature", sum)
		r.Header.Set("X-Secret", "s")
		r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
		w := h.serve(r)
		if w.Code != tt.want {
			t.Errorf("%s: status %d, want %d", name, w.Code, tt.want)
		}
	}
}

// The announced length is not allocated.
func TestAnnouncedLengthIsNotReserved(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithoutVerification(), pixmed.WithBodyLimit(math.MaxInt64))
	r := webhookRequest(t)
	r.ContentLength = math.MaxInt64
	if w := h.serve(r); w.Code != 200 {
		t.Errorf("status %d", w.Code)
	}
}

// A body that is too large costs an HTTP/2 client its stream, not its connection.
func TestTooLargeOverHTTP2(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(newHook(t, answer(nil), pixmed.WithoutVerification()))
	s.EnableHTTP2 = true
	s.Config.ConnState = countNew(&connections)
	s.StartTLS()
	t.Cleanup(s.Close)
	for range 3 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader(strings.Repeat(" ", pixmed.DefaultBodyLimit+1)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge || resp.ProtoMajor != 2 {
			t.Errorf("%s %s", resp.Proto, resp.Status)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// A body stops arriving, on a server without a ReadTimeout.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"with a length": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n{",
		"in chunks":     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"HTTP/1.0":      "POST / HTTP/1.0\r\nContent-Length: 245\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, answer(nil), pixmed.WithoutVerification())
			h.SetBodyTimeout(20 * time.Millisecond)
			c := dialHook(t, serverOf(t, h))
			c.send(t, text)
			if got := c.answer(t); got.status != 408 || got.Detail != "The body took too long to arrive." {
				t.Errorf("%d: %s", got.status, got.Detail)
			}
		})
	}
}

// Which timeout ends a slow body, and exactly when.
func TestBodyTimeouts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		readTimeout time.Duration // the server's
		arrives     time.Duration // when the body is complete
		status      int
		answered    time.Duration
	}{
		{"no limit of the server's: just in time", 0, 10*time.Second - 1, 200, 10*time.Second - 1},
		{"no limit of the server's: too late", 0, time.Hour, 408, 10 * time.Second},
		{"the server's is longer: in time", time.Minute, time.Minute - 1, 200, time.Minute - 1},
		{"the server's is longer: too late", time.Minute, time.Hour, 408, time.Minute},
		{"the server's is shorter: in time", time.Second, time.Second - 1, 200, time.Second - 1},
		{"the server's is shorter: too late", time.Second, time.Hour, 408, time.Second},
		{"negative means none", -1, time.Hour, 408, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHook(t, answer(nil), pixmed.WithoutVerification())
				inBubble(t, h, tt.readTimeout, func(t *testing.T, l *pipeListener) {
					t.Helper()
					c := l.dial()
					start := time.Now()
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload[:100])
						time.Sleep(tt.arrives) // on the bubble's clock
						_, _ = io.WriteString(c, specPayload[100:])
					}()
					got := c.answer(t)
					if took := time.Since(start); got.status != tt.status || took != tt.answered {
						t.Errorf("status %d after %v, want %d after %v", got.status, took, tt.status, tt.answered)
					}
					_ = c.Close()
					<-sent
				})
			})
		})
	}
}

// An answer that does not need the body does not wait for it forever: the server
// reads the rest of a body before it sends the answer.
func TestAnswersWithoutTheBody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, head  string
		readTimeout time.Duration
		status      int
		answered    time.Duration
	}{
		{"rejected", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n", 0, 401, 10 * time.Second},
		{"rejected, chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 401, 10 * time.Second},
		{"rejected, the server's limit", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n", time.Minute, 401, time.Minute},
		{"rejected, the client waits to be asked", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\nExpect: 100-continue\r\n\r\n", 0, 401, 0},
		{"method", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n", 0, 405, 10 * time.Second},
		{"too large", "POST / HTTP/1.1\r\nHost: x\r\nX-Secret: s\r\nContent-Length: 65537\r\n\r\n", 0, 413, 0},
		{"far too large", "POST / HTTP/1.1\r\nHost: x\r\nX-Secret: s\r\nContent-Length: 1000000000\r\n\r\n", 0, 413, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", "s")))
				inBubble(t, h, tt.readTimeout, func(t *testing.T, l *pipeListener) {
					t.Helper()
					c := l.dial()
					c.send(t, tt.head)
					start := time.Now()
					got := c.answer(t)
					if took := time.Since(start); got.status != tt.status || took != tt.answered || !got.closes {
						t.Errorf("status %d after %v, want %d after %v; closes the connection: %v", got.status, took, tt.status, tt.answered, got.closes)
					}
					// The connection is closed.
					if _, err := c.r.ReadByte(); err != io.EOF {
						t.Errorf("the connection ends with %v", err)
					}
					if took := time.Since(start); took > tt.answered+10*time.Second+500*time.Millisecond {
						t.Errorf("the connection was closed only after %v", took)
					}
				})
			})
		})
	}
}

// A slow verifier does not use up the body's time, nor does the body's timeout
// end the context of a request without a body.
func TestBodyTimeoutDoesNotCountTheVerifier(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		body   string
		status int
	}{{specPayload, 200}, {"", 400}} {
		synctest.Test(t, func(t *testing.T) {
			h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.VerifierFunc(func(r *http.Request, _ func() ([]byte, error)) error {
				time.Sleep(time.Minute) // on the bubble's clock
				return r.Context().Err()
			})))
			inBubble(t, h, 0, func(t *testing.T, l *pipeListener) {
				t.Helper()
				c := l.dial()
				go func() {
					_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(tt.body))
					if tt.body != "" {
						_, _ = io.WriteString(c, tt.body) // waits until the server reads on
					}
				}()
				if got := c.answer(t); got.status != tt.status {
					t.Errorf("status %d, want %d", got.status, tt.status)
				}
				_ = c.Close()
			})
		})
	}
}

// A body that trickles does not extend the timeout.
func TestBodyTimeoutIsForTheWholeBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, answer(nil), pixmed.WithoutVerification())
		inBubble(t, h, 0, func(t *testing.T, l *pipeListener) {
			t.Helper()
			c := l.dial()
			start := time.Now()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(specPayload))
				for i := range len(specPayload) {
					if _, err := io.WriteString(c, specPayload[i:i+1]); err != nil {
						return
					}
					time.Sleep(time.Second) // on the bubble's clock
				}
			}()
			got := c.answer(t)
			if took := time.Since(start); got.status != 408 || took != 10*time.Second {
				t.Errorf("status %d after %v", got.status, took)
			}
			_ = c.Close()
			<-sent
		})
	})
}

// The timeout is for the body alone: neither a callback that takes longer nor the
// next request on the connection runs into it.
func TestBodyTimeoutEndsWithTheBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
			time.Sleep(time.Minute) // on the bubble's clock
			return nil
		}), pixmed.WithoutVerification(), pixmed.WithCallbackTimeout(time.Hour))
		var ended []error
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			ended = append(ended, r.Context().Err())
		})
		inBubble(t, handler, 0, func(t *testing.T, l *pipeListener) {
			t.Helper()
			c := l.dial()
			for i := range 3 {
				c.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload))
				if got := c.answer(t); got.status != 200 || got.closes {
					t.Errorf("request %d: status %d, the connection is closed: %v", i+1, got.status, got.closes)
				}
				time.Sleep(time.Minute) // on the bubble's clock
			}
			_ = c.Close()
		})
		if diff := cmp.Diff([]error{nil, nil, nil}, ended); diff != "" {
			t.Errorf("the requests' contexts ended (-want +got):\n%s", diff)
		}
	})
}

// A middleware has read the body and put it back, so that the server waits for the
// client to hang up: that wait must not run into the body's limit.
func TestBodyTimeoutEndsWithABufferedBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
			time.Sleep(time.Minute) // on the bubble's clock
			return nil
		}), pixmed.WithoutVerification(), pixmed.WithCallbackTimeout(time.Hour))
		var ended error
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			h.ServeHTTP(w, r)
			ended = r.Context().Err()
		})
		inBubble(t, handler, 0, func(t *testing.T, l *pipeListener) {
			t.Helper()
			c := l.dial()
			c.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload))
			if got := c.answer(t); got.status != 200 || got.closes {
				t.Errorf("status %d, the connection is closed: %v", got.status, got.closes)
			}
			_ = c.Close()
		})
		if ended != nil {
			t.Errorf("the request's context ended: %v", ended)
		}
	})
}

// A Handler is the fallback of another: the body has arrived, so no timeout for
// it ends the request's context.
func TestBodyTimeoutAndAHandlerAsFallback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended error
		slow := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute) // on the bubble's clock
			ended = r.Context().Err()
		})
		second := newHook(t, answer(nil), pixmed.WithoutVerification(), pixmed.WithFallback(slow))
		first := newHook(t, answer(nil), pixmed.WithoutVerification(), pixmed.WithFallback(second))
		inBubble(t, first, 0, func(t *testing.T, l *pipeListener) {
			t.Helper()
			const body = `{"transactionStatus":"PAID"}`
			c := l.dial()
			c.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
			if got := c.answer(t); got.status != 200 || got.closes {
				t.Errorf("status %d, the connection is closed: %v", got.status, got.closes)
			}
			_ = c.Close()
		})
		if ended != nil {
			t.Errorf("the request's context ended: %v", ended)
		}
	})
}

// A ResponseWriter that cannot set deadlines does no harm.
func TestWriterWithoutDeadlines(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithoutVerification())
	s := serverOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	}))
	c := dialHook(t, s)
	c.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload))
	if got := c.answer(t); got.status != 200 {
		t.Errorf("status %d", got.status)
	}
}
