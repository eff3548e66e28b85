package pixmed_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pixmed-go/pixmed"
)

// dripping writes a text at one byte a second.
func dripping(text string) func(int, net.Conn) {
	return func(_ int, c net.Conn) {
		for i := range len(text) {
			time.Sleep(time.Second)
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return
			}
		}
		drain(c)
	}
}

// endless writes a head, and then the same text again and again.
func endless(head, again string, pause time.Duration) func(int, net.Conn) {
	return func(_ int, c net.Conn) {
		_, err := io.WriteString(c, head)
		for err == nil {
			time.Sleep(pause)
			_, err = io.WriteString(c, again)
		}
	}
}

// saying writes a text and waits until the client hangs up; saysAndCloses does not
// wait.
func saying(text string) func(int, net.Conn) {
	return func(_ int, c net.Conn) {
		_, _ = io.WriteString(c, text)
		drain(c)
	}
}

func saysAndCloses(text string) func(int, net.Conn) {
	return func(_ int, c net.Conn) { _, _ = io.WriteString(c, text) }
}

// TestHostileGateways checks that the caller gets the whole right receipt or an
// error before the deadline, whatever a gateway does, and that nothing is left
// running: a bubble panics if goroutines are left at its end.
func TestHostileGateways(t *testing.T) {
	t.Parallel()
	const (
		ok       = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		deadline = 20 * time.Minute
	)
	pdf := receiptPDF(300)
	body := receiptJSON(pdf)
	length := func(n any) string { return fmt.Sprintf("%sContent-Length: %v\r\n\r\n", ok, n) }
	chunked := ok + "Transfer-Encoding: chunked\r\n\r\n"
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	const anything = "anything" // an error of the transport
	tests := map[string]struct {
		serve func(n int, c net.Conn)
		want  any // an error, a part of its text, or nil for the receipt
	}{
		// Headers.
		"nothing":                         {saysAndCloses(""), "EOF"},
		"not HTTP":                        {saying("SSH-2.0-OpenSSH_9.2p1\r\n"), anything},
		"a status line without an end":    {endless("HTTP/1.1 200 ", strings.Repeat("O", 4096), 0), anything},
		"headers without an end":          {endless("HTTP/1.1 200 OK\r\n", "X-Filler: "+strings.Repeat("a", 4096)+"\r\n", 0), anything},
		"a header line a second":          {endless("HTTP/1.1 200 OK\r\n", "X-Filler: a\r\n", time.Second), pixmed.ErrStalled},
		"a header without an end":         {endless("HTTP/1.1 200 OK\r\nX-Filler: ", strings.Repeat("a", 4096), 0), anything},
		"to be continued, forever":        {endless("", "HTTP/1.1 100 Continue\r\n\r\n", 0), anything},
		"early hints forever":             {endless("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", time.Second), pixmed.ErrStalled},
		"a header in bytes by the second": {dripping(length(len(body)) + body), pixmed.ErrStalled},
		"switching protocols":             {saying("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), anything},

		// False lengths.
		"a length above the truth, and the end": {saysAndCloses(length(len(body)+1000) + body), anything},
		"a length above the truth, and silence": {saying(length(len(body)+1000) + body), anything},
		"a length below the truth":              {saying(length(len(body)-10) + body), pixmed.ErrReceiptTruncated},
		"a length of nothing":                   {saying(length(0) + body), pixmed.ErrReceiptTruncated},
		"a negative length":                     {saying(length(-1) + body), anything},
		"a length that is no number":            {saying(length("many") + body), anything},
		"a length of a petabyte":                {saysAndCloses(length(int64(1)<<50) + body), anything},
		"two lengths":                           {saying(strings.Replace(length(len(body)), "\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n", 1) + body), anything},
		"a length and chunks":                   {saying(strings.Replace(length(3), "\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n", 1) + chunk(body) + "0\r\n\r\n"), nil},
		"a chunk that is not":                   {saying(chunked + "zz\r\n" + body), anything},
		"a chunk of more than there can be":     {saysAndCloses(chunked + "ffffffffffffffff\r\n" + body), anything},
		"a negative chunk":                      {saying(chunked + "-5\r\n" + body), anything},
		"a chunk size without an end":           {endless(chunked, "0", 0), anything},
		"a chunk extension without an end":      {endless(chunked+"5;", strings.Repeat("a", 4096), 0), anything},
		"chunks of a byte each": {saying(chunked + func() (all string) {
			for i := range len(body) {
				all += chunk(body[i : i+1])
			}
			return all + "0\r\n\r\n"
		}()), nil},
		"trailers without an end": {endless(chunked+chunk(body)+"0\r\n", "X-Filler: a\r\n", 0), anything},

		// Bodies.
		"a byte a second":               {func(n int, c net.Conn) { _, _ = io.WriteString(c, length(len(body))); dripping(body)(n, c) }, nil},
		"a byte a second, for too long": {endless(ok+"\r\n", " ", time.Second), context.DeadlineExceeded},
		"white space forever":           {endless(ok+"\r\n", strings.Repeat(" ", 4096), 0), pixmed.ErrReceiptTooLarge},
		"white space after, forever":    {endless(ok+"\r\n"+body, strings.Repeat(" ", 4096), 0), pixmed.ErrReceiptTooLarge},
		"brackets forever":              {endless(ok+"\r\n"+`{"data":{"x":`, strings.Repeat("[", 4096), 0), pixmed.ErrReceiptMalformed},
		"a name forever":                {endless(ok+"\r\n"+`{"`, strings.Repeat("a", 4096), 0), pixmed.ErrReceiptTooLarge},
		"a message forever":             {endless(ok+"\r\n"+`{"message":"`, strings.Repeat("a", 4096), 0), pixmed.ErrReceiptTooLarge},
		"a number forever":              {endless(ok+"\r\n"+`{"x":`, strings.Repeat("1", 4096), 0), pixmed.ErrReceiptTooLarge},
		"members forever":               {endless(ok+"\r\n"+`{`, strings.Repeat(`"x":0,`, 1000), 0), pixmed.ErrReceiptTooLarge},
		"a receipt forever":             {endless(ok+"\r\n"+`{"data":{"receipt":"JVBERi0xLjcK`, strings.Repeat("AAAA", 1024), 0), pixmed.ErrReceiptTooLarge},
		"a second document":             {saying(length(2*len(body)) + body + body), pixmed.ErrReceiptTrailing},
		"gzip without being asked":      {saying(strings.Replace(length(3), "\r\n\r\n", "\r\nContent-Encoding: br\r\n\r\n", 1) + "abc"), pixmed.ErrReceiptMalformed},

		// Statuses.
		"nothing to say":                          {saying("HTTP/1.1 204 No Content\r\n\r\n"), anything},
		"not modified":                            {saying("HTTP/1.1 304 Not Modified\r\n\r\n"), anything},
		"a part":                                  {saying(strings.Replace(length(len(body)), "200 OK", "206 Partial Content", 1) + body), anything},
		"a status of zero":                        {saying("HTTP/1.1 000 Zero\r\n\r\n"), anything},
		"a status of 999":                         {saying("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"), anything},
		"an error forever":                        {endless("HTTP/1.1 500 Oops\r\n\r\n", strings.Repeat("a", 4096), 0), pixmed.ErrUnavailable},
		"busy forever":                            {saying("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"), pixmed.ErrUnavailable},
		"busy for a year":                         {saying("HTTP/1.1 503 Busy\r\nRetry-After: 31536000\r\nContent-Length: 0\r\n\r\n"), pixmed.ErrUnavailable},
		"a redirect to itself":                    {saying("HTTP/1.1 302 Found\r\nLocation: /v1/transaction/" + receiptID + "/receipt\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), "stopped after 10 redirects"},
		"a redirect with a body forever":          {endless("HTTP/1.1 302 Found\r\nLocation: /v1/transaction/"+receiptID+"/receipt\r\n\r\n", strings.Repeat("a", 4096), 0), "stopped after 10 redirects"},
		"a redirect with a body that never comes": {saying("HTTP/1.1 302 Found\r\nLocation: /v1/transaction/" + receiptID + "/receipt\r\nContent-Length: 10\r\n\r\n"), "stopped after 10 redirects"},
		"a redirect elsewhere":                    {saying("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"), pixmed.ErrRedirect},
	}
	for name, test := range tests {
		for _, retries := range []int{0, 2} {
			for entry, get := range fetchers {
				t.Run(fmt.Sprintf("%s/%d retries/%s", name, retries, entry), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						client := mustClient(t, wireBase, pixmed.WithRetries(retries), pixmed.WithMaxReceiptSize(64<<10),
							pixmed.WithHeader("X-Api-Key", canary), overTransport(wire(t, test.serve)))
						err := fetch(t, client, get, deadline, pdf)
						switch want := test.want.(type) {
						case nil:
							if err != nil {
								t.Errorf("got %v, want the receipt", err)
							}
						case error:
							if !errors.Is(err, want) {
								t.Errorf("got %v, want %v", err, want)
							}
						case string:
							if err == nil || want != anything && !strings.Contains(err.Error(), want) {
								t.Errorf("got %v, want %s", err, want)
							}
						}
					})
				})
			}
		}
	}
}

// TestCompressedAnswerCutAtEveryByte is TestAnswerCutAtEveryByte for a body that
// the transport decompresses.
func TestCompressedAnswerCutAtEveryByte(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(40)
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	_, _ = io.WriteString(w, receiptJSON(pdf))
	_ = w.Close()
	for mode, raw := range rawAnswers(compressed.String()) {
		raw = strings.Replace(raw, "\r\n", "\r\nContent-Encoding: gzip\r\n", 1)
		for entry, get := range fetchers {
			t.Run(mode+"/"+entry, func(t *testing.T) {
				t.Parallel()
				for cut := range len(raw) {
					for retries := range 2 {
						client := mustClient(t, wireBase, pixmed.WithRetries(retries), pixmed.WithHeader("X-Api-Key", canary),
							overTransport(wire(t, func(n int, c net.Conn) {
								if n == 0 {
									_, _ = io.WriteString(c, raw[:cut])
								} else {
									_, _ = io.WriteString(c, raw)
								}
							})))
						err := fetch(t, client, get, time.Minute, pdf)
						if t.Failed() || retries == 1 && err != nil {
							t.Fatalf("cut at byte %d of %d with %d retries: %v", cut, len(raw), retries, err)
						}
					}
				}
			})
		}
	}
}

// tlsBase is a base URL for [wireTLS].
const tlsBase = "https://example.com/v1"

// certificate returns a server whose certificate, for example.com, wireTLS trusts.
var certificate = sync.OnceValue(func() *httptest.Server {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	srv.Close()
	return srv
})

// wireTLS is rawWire for clients that trust the certificate.
func wireTLS(tb testing.TB, serve func(n int, c net.Conn)) *http.Transport {
	tb.Helper()
	transport := rawWire(tb, serve)
	transport.TLSClientConfig = &tls.Config{RootCAs: certificate().Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	return transport
}

// answerTLS does the handshake, reads a request and answers.
func answerTLS(c net.Conn, raw string) {
	server := tls.Server(c, certificate().TLS)
	if _, err := http.ReadRequest(bufio.NewReader(server)); err != nil {
		return
	}
	_, _ = io.WriteString(server, raw)
}

// cutConn breaks after a number of written bytes.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	written, err := c.Conn.Write(p[:n])
	if err == nil && n < len(p) {
		_ = c.Close()
		err = io.ErrClosedPipe
	}
	return written, err
}

// slowConn writes one byte a second.
type slowConn struct{ net.Conn }

func (c slowConn) Write(p []byte) (int, error) {
	for i := range p {
		time.Sleep(time.Second)
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// TestHostileTLS is TestHostileGateways for what happens below HTTP.
func TestHostileTLS(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(300)
	raw := rawAnswers(receiptJSON(pdf))["length"]
	hello := func(c net.Conn) { // reads some of the client's hello
		_, _ = io.ReadAtLeast(c, make([]byte, 64<<10), 100)
	}
	tests := map[string]struct {
		serve func(n int, c net.Conn)
		want  error // nil for any
	}{
		"closed at once":          {func(int, net.Conn) {}, nil},
		"closed after the hello":  {func(_ int, c net.Conn) { hello(c) }, nil},
		"silence":                 {func(_ int, c net.Conn) { drain(c) }, pixmed.ErrStalled},
		"plain HTTP":              {func(_ int, c net.Conn) { hello(c); saying(raw)(0, c) }, nil},
		"noise":                   {func(_ int, c net.Conn) { hello(c); saying(strings.Repeat("\x16\x03\x03\x00\x05noise", 100))(0, c) }, nil},
		"noise forever":           {func(_ int, c net.Conn) { hello(c); endless("", "\x15\x03\x03\x00\x02\x01\x00", 0)(0, c) }, nil},
		"an alert":                {func(_ int, c net.Conn) { hello(c); saying("\x15\x03\x03\x00\x02\x02\x28")(0, c) }, nil},
		"a handshake by the byte": {func(_ int, c net.Conn) { answerTLS(slowConn{c}, raw) }, pixmed.ErrStalled},
		"no answer after the handshake": {func(_ int, c net.Conn) {
			server := tls.Server(c, certificate().TLS)
			_, _ = io.Copy(io.Discard, server)
		}, pixmed.ErrStalled},
	}
	for name, test := range tests {
		for _, retries := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s/%d retries", name, retries), func(t *testing.T) {
				t.Parallel()
				certificate() // outside the bubble, since it has a socket
				synctest.Test(t, func(t *testing.T) {
					client := mustClient(t, tlsBase, pixmed.WithRetries(retries), pixmed.WithHeader("X-Api-Key", canary), overTransport(wireTLS(t, test.serve)))
					if err := fetch(t, client, fetchers["Receipt"], 20*time.Minute, pdf); err == nil || test.want != nil && !errors.Is(err, test.want) {
						t.Errorf("got %v, want %v", err, test.want)
					}
				})
			})
		}
	}
}

// TestTLSCutAnywhere cuts the connection after any byte that the gateway sends,
// from the first of its handshake on, without a TLS alert.
func TestTLSCutAnywhere(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(40)
	raw := rawAnswers(receiptJSON(pdf))["close"] // which ends with the connection
	counting := &cutConn{left: 1 << 20}
	client := mustClient(t, tlsBase, overTransport(wireTLS(t, func(_ int, c net.Conn) {
		counting.Conn = c
		answerTLS(counting, raw)
	})))
	if err := fetch(t, client, fetchers["Receipt"], time.Minute, pdf); err != nil {
		t.Fatal(err)
	}
	const step = 11 // handshakes are slow; other runs cut elsewhere
	whole := 1<<20 - counting.left
	if whole < 1000 {
		t.Fatalf("the gateway sent %d bytes", whole)
	}
	for cut := rand.N(step); cut < whole-1; cut += step {
		for retries := range 2 {
			client := mustClient(t, tlsBase, pixmed.WithRetries(retries), pixmed.WithHeader("X-Api-Key", canary),
				overTransport(wireTLS(t, func(n int, c net.Conn) {
					if n == 0 {
						c = &cutConn{c, cut}
					}
					answerTLS(c, raw)
				})))
			err := fetch(t, client, fetchers["OpenReceipt"], time.Minute, pdf)
			if t.Failed() || retries == 1 && err != nil {
				t.Fatalf("cut at byte %d of %d with %d retries: %v", cut, whole, retries, err)
			}
		}
	}
}

// TestResetDuringTLS resets real connections at several points.
func TestResetDuringTLS(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(300_000)
	for _, bytes := range []int{0, 1, 5, 100, 500} {
		t.Run(fmt.Sprintf("after %d bytes", bytes), func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, receiptJSON(pdf))
			}))
			listener := &resetting{Listener: srv.Listener, bytes: bytes}
			srv.Listener = listener
			srv.StartTLS()
			t.Cleanup(srv.Close)
			for retries, ok := range []bool{false, true} {
				client := mustClient(t, srv.URL, pixmed.WithRetries(retries), pixmed.WithHeader("X-Api-Key", canary), pixmed.WithHTTPClient(srv.Client()))
				srv.CloseClientConnections()
				listener.resets.Store(1)
				if err := fetch(t, client, fetchers["Receipt"], time.Minute, pdf); (err == nil) != ok {
					t.Errorf("%d retries: got %v", retries, err)
				}
			}
		})
	}
}

// resetting resets some connections after it has read a number of bytes.
type resetting struct {
	net.Listener
	bytes  int
	resets atomic.Int32
}

func (l *resetting) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.resets.Add(-1) < 0 {
			return c, err
		}
		_, _ = io.ReadFull(c, make([]byte, l.bytes))
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// TestRedirectFromTLS redirects from https to a plain http server, which gets no
// connection.
func TestRedirectFromTLS(t *testing.T) {
	t.Parallel()
	var strangers atomic.Int32
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ConnState = countNew(&strangers)
	stranger.Start()
	t.Cleanup(stranger.Close)
	srv := httptest.NewTLSServer(http.RedirectHandler(stranger.URL, http.StatusPermanentRedirect))
	t.Cleanup(srv.Close)
	client := mustClient(t, srv.URL, pixmed.WithHeader("X-Api-Key", canary), pixmed.WithHTTPClient(srv.Client()))
	if err := fetch(t, client, fetchers["Receipt"], time.Minute, nil); !errors.Is(err, pixmed.ErrRedirect) || strangers.Load() != 0 {
		t.Errorf("got %v and %d connections, want ErrRedirect and none", err, strangers.Load())
	}
}

// TestUnsolicitedAnswer sends a second answer that nobody asked for, which must not
// become the answer to the next request.
func TestUnsolicitedAnswer(t *testing.T) {
	t.Parallel()
	pdf, other := receiptPDF(300), receiptPDF(301)
	client := mustClient(t, wireBase, overTransport(wire(t, func(_ int, c net.Conn) {
		_, _ = io.WriteString(c, rawAnswers(receiptJSON(pdf))["length"]+rawAnswers(receiptJSON(other))["length"])
		drain(c)
	})))
	for range 3 {
		if err := fetch(t, client, fetchers["Receipt"], time.Minute, pdf); err != nil {
			t.Error(err)
		}
	}
}
