package pixmed_test

import (
	"bytes"
	"context"
	"encoding/hex"
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

// A middleware that reads the body and keeps it to itself, with and without
// closing it.
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

// An error of the body is not the verifier's verdict, unless the verifier does
// without the body.
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

// What is announced is not reserved.
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

// A body that stops arriving, on a server without a limit of its own.
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

// Which limit ends a slow body, to the second.
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

// What is answered without the body does not wait for it forever either: the
// server reads the rest of a body before it sends the answer.
func TestAnswersWithoutTheBody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, head  string
		readTimeout time.Duration
		status      int
		answered    time.Duration
	}{
		{"refused", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n", 0, 401, 10 * time.Second},
		{"refused, chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 401, 10 * time.Second},
		{"refused, the server's limit", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n", time.Minute, 401, time.Minute},
		{"refused, client waits to be asked", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\nExpect: 100-continue\r\n\r\n", 0, 401, 0},
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
					// Nothing of it is left behind.
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

// A verifier that takes its time does not take the body's, nor does the body's
// limit end the verifier's context where there is no body.
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

// A body that trickles does not push the limit back.
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

// The limit is for the body alone: neither a callback that takes longer nor the
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

// A middleware's ResponseWriter that cannot set deadlines is no obstacle.
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
