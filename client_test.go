package pixmed_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
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

// receiptPDF returns size bytes, 5 at least, that start as a PDF does and, where
// there is room, end as one does.
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

// roundTripFunc is a transport in one function.
type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// mustClient returns a client that logs nothing and waits for a nanosecond, unless
// the options say otherwise.
func mustClient(tb testing.TB, baseURL string, opts ...pixmed.ClientOption) *pixmed.Client {
	tb.Helper()
	client, err := pixmed.NewClient(baseURL, append([]pixmed.ClientOption{
		pixmed.WithLogger(slog.New(slog.DiscardHandler)),
		pixmed.WithRetryWait(1, 1),
	}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return client
}

// over makes a client use a transport.
func overTransport(rt http.RoundTripper) pixmed.ClientOption {
	return pixmed.WithHTTPClient(&http.Client{Transport: rt})
}

// answersOf returns a transport that gives one canned answer after the other, the
// last one for ever.
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

// logRecords is a slog handler that keeps what it is given.
type logRecords struct {
	mu    sync.Mutex
	lines []string
}

func (h *logRecords) Enabled(context.Context, slog.Level) bool { return true }
func (h *logRecords) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *logRecords) WithGroup(string) slog.Handler            { return h }

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

// apiError unwraps an error that must be one.
func wantAPIError(tb testing.TB, err error) *pixmed.APIError {
	tb.Helper()
	e, found := errors.AsType[*pixmed.APIError](err)
	if !found {
		tb.Fatalf("got %v, want an *APIError", err)
	}
	return e
}

func TestNewClientArguments(t *testing.T) {
	t.Parallel()
	const good = "https://gateway.example/v1"
	tests := map[string]struct {
		base string
		opts []pixmed.ClientOption
		want string // "" for none
	}{
		"https":               {base: good},
		"127.0.0.1":           {base: "http://127.0.0.1:8080/v1"},
		"127.1.2.3":           {base: "http://127.1.2.3"},
		"[::1]":               {base: "http://[::1]:8080"},
		"::ffff:127.0.0.1":    {base: "http://[::ffff:127.0.0.1]"},
		"localhost":           {base: "http://localhost:8080"},
		"LOCALHOST":           {base: "HTTP://LOCALHOST"},
		"plain http, allowed": {base: "http://10.0.0.1", opts: []pixmed.ClientOption{pixmed.WithPlainHTTP()}},

		"plain http":             {base: "http://10.0.0.1/v1", want: "the base URL is plain http to 10.0.0.1, which would show credentials and receipts to the network: use https, or WithPlainHTTP if you mean it"},
		"almost localhost":       {base: "http://localhost.example", want: "the base URL is plain http to localhost.example, which"},
		"every address":          {base: "http://0.0.0.0", want: "the base URL is plain http to 0.0.0.0, which"},
		"empty":                  {base: "", want: "the base URL has no https:// or no host; it should look like https://gateway.example/v1"},
		"no scheme":              {base: "gateway.example/v1", want: "the base URL has no https:// or no host"},
		"another scheme":         {base: "ftp://gateway.example", want: "the base URL has no https:// or no host"},
		"no host":                {base: "https:///v1", want: "the base URL has no https:// or no host"},
		"port only":              {base: "https://:443/v1", want: "the base URL has no https:// or no host"},
		"opaque":                 {base: "https:gateway.example", want: "the base URL has no https:// or no host"},
		"query":                  {base: good + "?key=1", want: "the base URL has a query or a fragment, where it should end with the path"},
		"empty query":            {base: good + "?", want: "the base URL has a query or a fragment"},
		"fragment":               {base: good + "#x", want: "the base URL has a query or a fragment"},
		"does not parse":         {base: "https://gateway.example:port", want: "the base URL does not parse; it should look like https://gateway.example/v1"},
		"line break":             {base: good + "\n", want: "the base URL does not parse"},
		"credentials in the URL": {base: "https://user:pass@gateway.example", want: "the base URL holds credentials: pass them with WithBasicAuth instead"},

		"nil option":            {base: good, opts: []pixmed.ClientOption{nil}, want: "an option is nil"},
		"nil logger":            {base: good, opts: []pixmed.ClientOption{pixmed.WithLogger(nil)}, want: "WithLogger: the logger is nil"},
		"blank value":           {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", " \t")}, want: "WithHeader: the value of Api_key is empty"},
		"a header twice":        {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("X-Key", "one"), pixmed.WithHeader("x-key", "two")}, want: "the header X-Key is given twice"},
		"two authorizations":    {base: good, opts: []pixmed.ClientOption{pixmed.WithBearerToken("token"), pixmed.WithBasicAuth("user", "pass")}, want: "the header Authorization is given twice"},
		"nil client":            {base: good, opts: []pixmed.ClientOption{pixmed.WithHTTPClient(nil)}, want: "WithHTTPClient: the client is nil"},
		"retries":               {base: good, opts: []pixmed.ClientOption{pixmed.WithRetries(-1)}, want: "WithRetries: -1 is negative"},
		"no retries":            {base: good, opts: []pixmed.ClientOption{pixmed.WithRetries(0)}},
		"wait of 0":             {base: good, opts: []pixmed.ClientOption{pixmed.WithRetryWait(0, time.Second)}, want: "WithRetryWait: want 0 < shortest <= longest, got 0s and 1s"},
		"negative wait":         {base: good, opts: []pixmed.ClientOption{pixmed.WithRetryWait(-1, 1)}, want: "WithRetryWait: want 0 < shortest <= longest"},
		"waits swapped":         {base: good, opts: []pixmed.ClientOption{pixmed.WithRetryWait(2, 1)}, want: "WithRetryWait: want 0 < shortest <= longest"},
		"one wait":              {base: good, opts: []pixmed.ClientOption{pixmed.WithRetryWait(1, 1)}},
		"stall of 0":            {base: good, opts: []pixmed.ClientOption{pixmed.WithStallTimeout(0)}, want: "WithStallTimeout: 0s is not a positive duration"},
		"negative stall":        {base: good, opts: []pixmed.ClientOption{pixmed.WithStallTimeout(-time.Second)}, want: "WithStallTimeout: -1s is not a positive duration"},
		"size of 0":             {base: good, opts: []pixmed.ClientOption{pixmed.WithMaxReceiptSize(0)}, want: "WithMaxReceiptSize: 0 is not a positive number of bytes"},
		"negative size":         {base: good, opts: []pixmed.ClientOption{pixmed.WithMaxReceiptSize(-1)}, want: "WithMaxReceiptSize: -1 is not a positive number of bytes"},
		"size of 1":             {base: good, opts: []pixmed.ClientOption{pixmed.WithMaxReceiptSize(1)}},
		"empty token":           {base: good, opts: []pixmed.ClientOption{pixmed.WithBearerToken("")}, want: "WithBearerToken: the token is empty"},
		"blank token":           {base: good, opts: []pixmed.ClientOption{pixmed.WithBearerToken(" ")}, want: "WithBearerToken: the token is empty"},
		"line break in a token": {base: good, opts: []pixmed.ClientOption{pixmed.WithBearerToken("token\n")}, want: "WithBearerToken: the token has a line break or another control character in it"},
		"no user":               {base: good, opts: []pixmed.ClientOption{pixmed.WithBasicAuth("", "password")}, want: "WithBasicAuth: the user name is empty or has a colon in it"},
		"colon in the user":     {base: good, opts: []pixmed.ClientOption{pixmed.WithBasicAuth("a:b", "password")}, want: "WithBasicAuth: the user name is empty or has a colon in it"},
		"no password":           {base: good, opts: []pixmed.ClientOption{pixmed.WithBasicAuth("key", "")}},
		"line break in basic":   {base: good, opts: []pixmed.ClientOption{pixmed.WithBasicAuth("user", "password\n")}, want: "WithBasicAuth: the user name or the password has a line break or another control character in it"},

		"no header name":       {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("", "v")}, want: `WithHeader: "" is not a header's name`},
		"space in a name":      {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api key", "v")}, want: `WithHeader: "api key" is not a header's name`},
		"colon in a name":      {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api_key:", "v")}, want: `WithHeader: "api_key:" is not a header's name`},
		"CR LF in a name":      {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("a\r\nb", "v")}, want: `WithHeader: "a\r\nb" is not a header's name`},
		"accent in a name":     {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("clé", "v")}, want: `WithHeader: "clé" is not a header's name`},
		"endless name":         {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader(strings.Repeat("n ", 500), "v")}, want: `WithHeader: "` + strings.Repeat("n ", 32) + `…" is not a header's name`},
		"empty value":          {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "")}, want: "WithHeader: the value of Api_key is empty"},
		"CR in a value":        {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\rb")}, want: "WithHeader: the value of Api_key has a line break or another control character in it"},
		"LF in a value":        {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\nb")}, want: "WithHeader: the value of Api_key has a line break"},
		"NUL in a value":       {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\x00b")}, want: "WithHeader: the value of Api_key has a line break"},
		"DEL in a value":       {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\x7f")}, want: "WithHeader: the value of Api_key has a line break"},
		"tab in a value":       {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\tb")}},
		"dollars in a value":   {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "$2a$10$x")}},
		"Host":                 {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("host", "x")}, want: "WithHeader: Host is not the caller's to set"},
		"Content-Length":       {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("content-length", "0")}, want: "WithHeader: Content-Length is not the caller's to set"},
		"Transfer-Encoding":    {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("TRANSFER-ENCODING", "chunked")}, want: "WithHeader: Transfer-Encoding is not the caller's to set"},
		"Connection":           {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("Connection", "close")}, want: "WithHeader: Connection is not the caller's to set"},
		"Accept-Encoding":      {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("accept-encoding", "br")}, want: "WithHeader: Accept-Encoding is the transport's: setting it would hand compressed receipts to the decoder"},
		"User-Agent and so on": {base: good, opts: []pixmed.ClientOption{pixmed.WithHeader("User-Agent", "shop/1"), pixmed.WithHeader("Accept", "*/*")}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := pixmed.NewClient(test.base, test.opts...)
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

func TestNewClientNamesEverythingWrong(t *testing.T) {
	t.Parallel()
	_, err := pixmed.NewClient("http://gateway.example",
		pixmed.WithRetries(-1), nil, pixmed.WithHTTPClient(nil), pixmed.WithBearerToken(""), pixmed.WithLogger(nil))
	want := `WithRetries: -1 is negative
an option is nil
WithHTTPClient: the client is nil
WithBearerToken: the token is empty
WithLogger: the logger is nil
the base URL is plain http to gateway.example, which would show credentials and receipts to the network: use https, or WithPlainHTTP if you mean it`
	if diff := gocmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

// What NewClient refuses may hold a secret at the wrong place.
func TestNewClientErrorsShowNoSecret(t *testing.T) {
	t.Parallel()
	const canary = "hunter2hunter2"
	for name, newClient := range map[string]func() (*pixmed.Client, error){
		"password in the URL": func() (*pixmed.Client, error) { return pixmed.NewClient("https://u:" + canary + "@gateway.example") },
		"bad URL with password": func() (*pixmed.Client, error) {
			return pixmed.NewClient("https://u:" + canary + "@gateway.example:%zz")
		},
		"plain http": func() (*pixmed.Client, error) { return pixmed.NewClient("http://u:" + canary + "@gateway.example") },
		"control character": func() (*pixmed.Client, error) {
			return pixmed.NewClient("https://u:" + canary + "@gateway.example/\x01")
		},
		"no scheme": func() (*pixmed.Client, error) { return pixmed.NewClient("u:" + canary + "@gateway.example") },
		"query":     func() (*pixmed.Client, error) { return pixmed.NewClient("https://gateway.example?key=" + canary) },
		"header": func() (*pixmed.Client, error) {
			return pixmed.NewClient(mockBase, pixmed.WithHeader("api_key", canary+"\r\n"))
		},
		"reserved header": func() (*pixmed.Client, error) { return pixmed.NewClient(mockBase, pixmed.WithHeader("Host", canary)) },
		"token":           func() (*pixmed.Client, error) { return pixmed.NewClient(mockBase, pixmed.WithBearerToken(canary+"\n")) },
		"basic": func() (*pixmed.Client, error) {
			return pixmed.NewClient(mockBase, pixmed.WithBasicAuth("u:u", canary))
		},
		"basic with control": func() (*pixmed.Client, error) {
			return pixmed.NewClient(mockBase, pixmed.WithBasicAuth(canary, canary+"\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newClient()
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want an error without the secret", err)
			}
		})
	}
}

func TestRequestShape(t *testing.T) {
	t.Parallel()
	const agent = "pixmed-go (+https://github.com/pixmed-go/pixmed)"
	base := http.Header{"Accept": {"application/json, application/pdf"}, "User-Agent": {agent}}
	with := func(headers ...string) http.Header {
		h := base.Clone()
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return h
	}
	path := "/transaction/" + receiptID + "/receipt"
	tests := map[string]struct {
		base string
		id   string
		opts []pixmed.ClientOption
		url  string
		want http.Header
	}{
		"host only":       {base: "https://g.example", url: "https://g.example" + path, want: base},
		"slash":           {base: "https://g.example/", url: "https://g.example" + path, want: base},
		"path":            {base: "https://g.example/api/v1", url: "https://g.example/api/v1" + path, want: base},
		"path and slash":  {base: "https://g.example/api/v1/", url: "https://g.example/api/v1" + path, want: base},
		"escaped path":    {base: "https://g.example/a%2Fb", url: "https://g.example/a%2Fb" + path, want: base},
		"port":            {base: "https://g.example:8443/v1", url: "https://g.example:8443/v1" + path, want: base},
		"upper-case UUID": {base: "https://g.example", id: strings.ToUpper(receiptID), url: "https://g.example/transaction/" + strings.ToUpper(receiptID) + "/receipt", want: base},
		"the gateway's headers": {
			base: mockBase, url: receiptURL,
			opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "$key"), pixmed.WithHeader("api_secret", "$secret")},
			want: with("api_key", "$key", "api_secret", "$secret"),
		},
		"bearer":   {base: mockBase, url: receiptURL, opts: []pixmed.ClientOption{pixmed.WithBearerToken("token")}, want: with("Authorization", "Bearer token")},
		"basic":    {base: mockBase, url: receiptURL, opts: []pixmed.ClientOption{pixmed.WithBasicAuth("user", "pass:word")}, want: with("Authorization", "Basic dXNlcjpwYXNzOndvcmQ=")},
		"override": {base: mockBase, url: receiptURL, opts: []pixmed.ClientOption{pixmed.WithHeader("user-agent", "shop/1"), pixmed.WithHeader("accept", "*/*")}, want: with("User-Agent", "shop/1", "Accept", "*/*")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen []*http.Request
			client := mustClient(t, test.base, append(test.opts, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
				seen = append(seen, r)
				return httpmock.NewStringResponse(http.StatusOK, receiptJSON(receiptPDF(20))), nil
			})))...)
			if _, err := client.Receipt(t.Context(), cmp.Or(test.id, receiptID)); err != nil {
				t.Fatal(err)
			}
			if len(seen) != 1 {
				t.Fatalf("%d requests", len(seen))
			}
			r := seen[0]
			if r.Method != http.MethodGet || r.URL.String() != test.url || r.Body != nil && r.Body != http.NoBody {
				t.Errorf("got %s %s with body %v, want GET %s without", r.Method, r.URL, r.Body, test.url)
			}
			if diff := gocmp.Diff(test.want, r.Header); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A transport that meddles with the headers must not reach the next request's.
func TestRequestsShareNoHeaders(t *testing.T) {
	t.Parallel()
	client := mustClient(t, mockBase, pixmed.WithRetries(0), pixmed.WithHeader("api_key", "the key"), overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
		if got := r.Header["Api_key"]; len(got) != 1 || got[0] != "the key" {
			t.Errorf("api_key is %q", got)
		}
		r.Header["Api_key"][0] = "changed"
		return httpmock.NewStringResponse(http.StatusServiceUnavailable, ""), nil
	})))
	for range 2 {
		_, _ = client.Receipt(t.Context(), receiptID)
	}
}

func TestInvalidTransactionIDs(t *testing.T) {
	t.Parallel()
	mock := httpmock.NewMockTransport()
	client := mustClient(t, mockBase, overTransport(mock))
	for name, id := range map[string]string{
		"empty":       "",
		"traversal":   "../x",
		"slash":       "a/b",
		"line break":  receiptID + "\n",
		"break first": "\n" + receiptID[1:],
		"braces":      "{" + receiptID + "}",
		"urn":         "urn:uuid:" + receiptID,
		"no hyphens":  strings.ReplaceAll(receiptID, "-", ""),
		"space":       " " + receiptID,
		"not hex":     "g" + receiptID[1:],
		"36 of path":  "../../../../../../../../../../../../",
		"too long":    strings.Repeat(receiptID, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "receipt.pdf")
			for entry, call := range map[string]func() (any, error){
				"Receipt":     func() (any, error) { r, err := client.Receipt(t.Context(), id); return r == nil, err },
				"OpenReceipt": func() (any, error) { r, err := client.OpenReceipt(t.Context(), id); return r == nil, err },
				"SaveReceipt": func() (any, error) { r, err := client.SaveReceipt(t.Context(), id, path); return r == nil, err },
				"SaveReceipt where nothing can be": func() (any, error) {
					r, err := client.SaveReceipt(t.Context(), id, filepath.Join(path, "below", "x.pdf"))
					return r == nil, err
				},
			} {
				isNil, err := call()
				if isNil != true || !errors.Is(err, pixmed.ErrInvalidTransactionID) || len(err.Error()) > 400 {
					t.Errorf("%s: got %v, %v", entry, isNil, err)
				}
			}
			wantOnly(t, filepath.Dir(path))
		})
	}
	t.Cleanup(func() {
		if n := mock.GetTotalCallCount(); n != 0 {
			t.Errorf("%d requests were sent", n)
		}
	})
	_, err := client.Receipt(t.Context(), "../x")
	if want := `the transaction id is not a UUID: "../x"`; fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// trackedTransport is a transport with the method that net/http looks for.
type trackedTransport struct {
	http.RoundTripper
	closed atomic.Int32
}

func (t *trackedTransport) CloseIdleConnections() { t.closed.Add(1) }

func TestUsersHTTPClientStaysAsItIs(t *testing.T) {
	t.Parallel()
	for name, responder := range map[string]httpmock.Responder{
		"good":      goodAnswer(receiptPDF(20)),
		"not found": codeAnswer(404),
		"down":      codeAnswer(503),
		"refused":   refusedAnswer(),
		"redirect":  codeAnswer(302, "Location", "https://elsewhere.example"),
		"broken":    httpmock.NewStringResponder(200, receiptJSON(receiptPDF(20))[:40]),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport := &trackedTransport{RoundTripper: answersOf(responder)}
			user := &http.Client{Transport: transport, Timeout: time.Hour}
			client := mustClient(t, mockBase, pixmed.WithHTTPClient(user), pixmed.WithRetries(1))
			_, _ = client.Receipt(t.Context(), receiptID)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, _ = client.Receipt(ctx, receiptID)

			if user.Transport != http.RoundTripper(transport) || user.CheckRedirect != nil || user.Jar != nil || user.Timeout != time.Hour {
				t.Errorf("the user's client was changed: %+v", user)
			}
			if n := transport.closed.Load(); n != 0 {
				t.Errorf("CloseIdleConnections was called %d times", n)
			}
		})
	}
}

func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	reset := httpmock.NewErrorResponder(errors.New("read: connection reset by peer"))
	tests := map[string]struct {
		first   httpmock.Responder
		retried bool
		is      error
	}{
		"429":     {codeAnswer(429), true, pixmed.ErrRateLimited},
		"500":     {codeAnswer(500), true, pixmed.ErrUnavailable},
		"502":     {codeAnswer(502), true, pixmed.ErrUnavailable},
		"503":     {codeAnswer(503), true, pixmed.ErrUnavailable},
		"504":     {codeAnswer(504), true, pixmed.ErrUnavailable},
		"599":     {codeAnswer(599), true, pixmed.ErrUnavailable},
		"refused": {refusedAnswer(), true, nil},
		"reset":   {reset, true, nil},
		"EOF":     {httpmock.NewErrorResponder(io.EOF), true, io.EOF},
		"nothing": {func(*http.Request) (*http.Response, error) { return nil, nil }, true, nil}, //nolint:nilnil // a broken transport

		"501":      {codeAnswer(501), false, pixmed.ErrUnavailable},
		"201":      {codeAnswer(201), false, nil},
		"204":      {codeAnswer(204), false, nil},
		"206":      {codeAnswer(206), false, nil},
		"304":      {codeAnswer(304), false, nil},
		"302 bare": {codeAnswer(302), false, nil},
		"400":      {codeAnswer(400), false, nil},
		"401":      {codeAnswer(401), false, pixmed.ErrUnauthorized},
		"403":      {codeAnswer(403), false, pixmed.ErrForbidden},
		"404":      {codeAnswer(404), false, pixmed.ErrNotFound},
		"408":      {codeAnswer(408), false, nil},
		"409":      {codeAnswer(409), false, nil},
		"410":      {codeAnswer(410), false, nil},
		"422":      {codeAnswer(422), false, nil},
	}
	sentinels := []error{pixmed.ErrUnauthorized, pixmed.ErrForbidden, pixmed.ErrNotFound, pixmed.ErrRateLimited, pixmed.ErrUnavailable}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pdf := receiptPDF(100)
			mock := answersOf(test.first, goodAnswer(pdf))
			receipt, err := mustClient(t, mockBase, overTransport(closing(t, mock))).Receipt(t.Context(), receiptID)
			want := 1
			if test.retried {
				want = 2
				if err != nil || !bytes.Equal(receipt.PDF, pdf) {
					t.Errorf("got %v, want the receipt at the second attempt", err)
				}
			} else if code, _ := strconv.Atoi(name[:3]); wantAPIError(t, err).StatusCode != code {
				t.Errorf("got %v", err)
			}
			if n := mock.GetTotalCallCount(); n != want {
				t.Errorf("%d requests, want %d", n, want)
			}

			// And what is left when nothing helps.
			for _, retries := range []int{0, 1, 5} {
				mock := answersOf(test.first)
				_, err := mustClient(t, mockBase, overTransport(mock), pixmed.WithRetries(retries)).Receipt(t.Context(), receiptID)
				want := 1
				if test.retried {
					want += retries
				}
				if n := mock.GetTotalCallCount(); n != want {
					t.Errorf("WithRetries(%d): %d requests, want %d", retries, n, want)
				}
				if e, found := errors.AsType[*pixmed.APIError](err); found && e.Attempts != want {
					t.Errorf("WithRetries(%d): Attempts is %d, want %d", retries, e.Attempts, want)
				}
				if test.is != nil && !errors.Is(err, test.is) || err == nil {
					t.Errorf("WithRetries(%d): got %v, want %v", retries, err, test.is)
				}
				for _, other := range sentinels {
					if !errors.Is(test.is, other) && errors.Is(err, other) {
						t.Errorf("%v is also %v", err, other)
					}
				}
			}
		})
	}
}

func TestRetriesUnlessSet(t *testing.T) {
	t.Parallel()
	mock := answersOf(codeAnswer(503))
	_, err := mustClient(t, mockBase, overTransport(mock)).Receipt(t.Context(), receiptID)
	if n := mock.GetTotalCallCount(); n != 1+pixmed.DefaultRetries {
		t.Errorf("%d requests, want %d: %v", n, 1+pixmed.DefaultRetries, err)
	}
}

func TestCertificateErrorsAreNotRetried(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.Config.ConnState = countNew(&connections)
	srv.StartTLS()
	t.Cleanup(srv.Close)

	_, err := mustClient(t, srv.URL, overTransport(freshTransport(t))).Receipt(t.Context(), receiptID)
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v, want a certificate error", err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// Each wait lies between a half and the whole of what doubles from the shortest
// to the longest, and not all are alike.
func TestBackoff(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		shortest, longest time.Duration
		first             httpmock.Responder
		want              []time.Duration
	}{
		"doubling":           {time.Second, 10 * time.Second, codeAnswer(503), []time.Duration{1e9, 2e9, 4e9, 8e9, 10e9, 10e9}},
		"connection errors":  {time.Second, 10 * time.Second, refusedAnswer(), []time.Duration{1e9, 2e9, 4e9, 8e9, 10e9, 10e9}},
		"constant":           {time.Minute, time.Minute, codeAnswer(429), []time.Duration{60e9, 60e9, 60e9}},
		"defaults":           {pixmed.DefaultRetryWaitMin, pixmed.DefaultRetryWaitMax, codeAnswer(500), []time.Duration{5e8, 1e9, 2e9, 4e9, 8e9, 16e9, 30e9, 30e9}},
		"Retry-After of 0":   {time.Second, 10 * time.Second, codeAnswer(503, "Retry-After", "0"), []time.Duration{1e9, 2e9, 4e9}},
		"negative":           {time.Second, 10 * time.Second, codeAnswer(503, "Retry-After", "-5"), []time.Duration{1e9, 2e9, 4e9}},
		"garbage":            {time.Second, 10 * time.Second, codeAnswer(503, "Retry-After", "soon"), []time.Duration{1e9, 2e9, 4e9}},
		"a date long past":   {time.Second, 10 * time.Second, codeAnswer(503, "Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"), []time.Duration{1e9, 2e9}},
		"more than 62 waits": {1, time.Hour, refusedAnswer(), append(doubling(1, time.Hour), make3600(30)...)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var times []time.Time
				client := mustClient(t, mockBase, pixmed.WithRetryWait(test.shortest, test.longest), pixmed.WithRetries(len(test.want)),
					overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
						times = append(times, time.Now())
						return test.first(r)
					})))
				if _, err := client.Receipt(t.Context(), receiptID); err == nil {
					t.Error("no error")
				}
				if len(times) != len(test.want)+1 {
					t.Fatalf("%d requests, want %d", len(times), len(test.want)+1)
				}
				jitter := false
				for i, want := range test.want {
					got := times[i+1].Sub(times[i])
					if got < want/2 || got > want {
						t.Errorf("wait %d took %v, want %v to %v", i, got, want/2, want)
					}
					jitter = jitter || got != want && want > time.Second/2
				}
				if !jitter {
					t.Error("no jitter")
				}
			})
		})
	}
}

func doubling(from, to time.Duration) (waits []time.Duration) {
	for ; from < to; from *= 2 {
		waits = append(waits, from)
	}
	return waits
}

func make3600(n int) (waits []time.Duration) {
	for range n {
		waits = append(waits, time.Hour)
	}
	return waits
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const longest = 30 * time.Second
	in := func(d time.Duration) func() string {
		return func() string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	}
	is := func(s string) func() string { return func() string { return s } }
	tests := map[string]struct {
		code  int
		value func() string
		asked time.Duration // 0 where the ordinary wait follows
		ends  bool
	}{
		"seconds":               {503, is("7"), 7 * time.Second, false},
		"seconds of a 429":      {429, is("7"), 7 * time.Second, false},
		"seconds of a 500":      {500, is("7"), 7 * time.Second, false},
		"white space":           {503, is(" 7 "), 7 * time.Second, false},
		"date":                  {503, in(9 * time.Second), 9 * time.Second, false},
		"past date":             {503, in(-9 * time.Second), 0, false},
		"now":                   {503, in(0), 0, false},
		"negative":              {503, is("-1"), 0, false},
		"garbage":               {503, is("a while"), 0, false},
		"fraction":              {503, is("1.5"), 0, false},
		"zero":                  {503, is("0"), 0, false},
		"exactly the longest":   {503, is("30"), longest, false},
		"date at the longest":   {503, in(longest), longest, false},
		"one over":              {503, is("31"), 31 * time.Second, true},
		"one over, 429":         {429, is("31"), 31 * time.Second, true},
		"date one over":         {503, in(31 * time.Second), 31 * time.Second, true},
		"a year":                {503, is("31536000"), 8760 * time.Hour, true},
		"more than fits":        {503, is("9223372037"), 9223372036 * time.Second, true},
		"more than an int64":    {503, is("99999999999999999999999"), 9223372036 * time.Second, true},
		"a date in a far year":  {503, is("Fri, 31 Dec 9999 23:59:59 GMT"), 1<<63 - 1, true},
		"on what is not tried":  {404, is("31"), 31 * time.Second, true},
		"on what is not there":  {403, is("7"), 7 * time.Second, true},
		"of a gone transaction": {410, is(""), 0, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var times []time.Duration
				client := mustClient(t, mockBase, pixmed.WithRetryWait(time.Second, longest), pixmed.WithRetries(1),
					overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
						times = append(times, time.Since(start))
						if len(times) > 1 {
							return goodAnswer(receiptPDF(20))(r)
						}
						return codeAnswer(test.code, "Retry-After", test.value())(r)
					})))
				_, err := client.Receipt(t.Context(), receiptID)
				if test.ends {
					e := wantAPIError(t, err)
					if e.RetryAfter != test.asked || len(times) != 1 || e.Attempts != 1 {
						t.Errorf("RetryAfter %v, %d requests, want %v and 1", e.RetryAfter, len(times), test.asked)
					}
					retriable := test.code == 429 || test.code == 503
					if says := strings.Contains(err.Error(), "it asks to wait "+e.RetryAfter.String()+", longer than the longest wait of 30s (see WithRetryWait)"); says != retriable {
						t.Errorf("got %v", err)
					}
					return
				}
				if err != nil || len(times) != 2 {
					t.Fatalf("got %v after %d requests, want the receipt after 2", err, len(times))
				}
				switch waited := times[1]; {
				case test.asked > 0 && waited != test.asked:
					t.Errorf("waited %v, want %v", waited, test.asked)
				case test.asked == 0 && (waited < time.Second/2 || waited > time.Second):
					t.Errorf("waited %v, want the ordinary wait", waited)
				}
			})
		})
	}
}

// A deadline or a cancellation must not hide what the gateway said before.
func TestContextEndsDuringBackoff(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		deadline bool
		answers  []httpmock.Responder
		want     string
		attempts int // of the APIError, 0 for none
	}{
		"deadline": {
			true,
			[]httpmock.Responder{httpmock.NewStringResponder(503, `{"message":"closed for lunch","statusCode":503}`)},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: the gateway answered 503 Service Unavailable: "closed for lunch", after 2 attempts; no further attempt: context deadline exceeded`, 2,
		},
		"cancel": {
			false,
			[]httpmock.Responder{codeAnswer(500)},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: the gateway answered 500 Internal Server Error, after 2 attempts; no further attempt: context canceled`, 2,
		},
		"deadline after a connection error": {
			true,
			[]httpmock.Responder{refusedAnswer()},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: context deadline exceeded after 2 attempts; before that, Get "https://gateway.example/v1/transaction/b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5/receipt": dial tcp 192.0.2.1:443: connect: connection refused`, 0,
		},
		"deadline after an answer and a connection error": {
			true,
			[]httpmock.Responder{codeAnswer(502), refusedAnswer()},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: context deadline exceeded after 2 attempts; before that, Get "https://gateway.example/v1/transaction/b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5/receipt": dial tcp 192.0.2.1:443: connect: connection refused; before that, the gateway answered 502 Bad Gateway`, 1,
		},
		"deadline after a connection error and an answer": {
			true,
			[]httpmock.Responder{refusedAnswer(), codeAnswer(502)},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: the gateway answered 502 Bad Gateway, after 2 attempts; no further attempt: context deadline exceeded`, 2,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := mustClient(t, mockBase, pixmed.WithRetryWait(4*time.Second, 4*time.Second), overTransport(answersOf(test.answers...)))
				ctx, cancel := context.WithCancel(t.Context())
				want := context.Canceled
				if test.deadline {
					ctx, cancel = context.WithTimeout(t.Context(), 4*time.Second)
					want = context.DeadlineExceeded
				} else {
					time.AfterFunc(4*time.Second, cancel)
				}
				defer cancel()
				start := time.Now()
				_, err := client.Receipt(ctx, receiptID)
				if waited := time.Since(start); waited != 4*time.Second {
					t.Errorf("returned after %v, want 4s", waited)
				}
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				if diff := gocmp.Diff(test.want, fmt.Sprint(err)); diff != "" {
					t.Error(diff)
				}
				if test.attempts > 0 {
					e := wantAPIError(t, err)
					if e.Attempts != test.attempts || !errors.Is(err, pixmed.ErrUnavailable) {
						t.Errorf("%d attempts, want %d: %v", e.Attempts, test.attempts, err)
					}
				}
			})
		})
	}
}

// The context ends while a request is under way.
func TestContextEndsDuringRequest(t *testing.T) {
	t.Parallel()
	hang := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	late := func(code int) httpmock.Responder { // answers, but when nobody wants to know any more
		return func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return httpmock.NewStringResponse(code, `{"message":"too late"}`), nil
		}
	}
	tests := map[string]struct {
		answers  []httpmock.Responder
		want     string
		attempts int
	}{
		"the first":         {[]httpmock.Responder{hang}, "context deadline exceeded", 0},
		"after an answer":   {[]httpmock.Responder{codeAnswer(503), hang}, "the gateway answered 503 Service Unavailable, after 2 attempts; no further attempt: context deadline exceeded", 2},
		"after an error":    {[]httpmock.Responder{refusedAnswer(), hang}, `context deadline exceeded after 2 attempts; before that, Get "` + receiptURL + `": dial tcp 192.0.2.1:443: connect: connection refused`, 0},
		"with a late error": {[]httpmock.Responder{late(503)}, `the gateway answered 503 Service Unavailable: "too late"; no further attempt: context deadline exceeded`, 1},
		"with a late 404":   {[]httpmock.Responder{late(404)}, `the gateway answered 404 Not Found: "too late"; no further attempt: context deadline exceeded`, 1},
		"with a late 200":   {[]httpmock.Responder{late(200)}, "context deadline exceeded", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				var n atomic.Int32
				client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
					return test.answers[n.Add(1)-1](r)
				})))
				_, err := client.Receipt(ctx, receiptID)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want a deadline error", err)
				}
				if diff := gocmp.Diff("receipt of transaction "+receiptID+": "+test.want, fmt.Sprint(err)); diff != "" {
					t.Error(diff)
				}
				if test.attempts > 0 {
					if e := wantAPIError(t, err); e.Attempts != test.attempts {
						t.Errorf("%d attempts, want %d", e.Attempts, test.attempts)
					}
				}
			})
		})
	}
}

func TestCancelledBeforeTheCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1) }))
	t.Cleanup(srv.Close)
	_, err := mustClient(t, srv.URL, overTransport(freshTransport(t))).Receipt(ctx, receiptID)
	if !errors.Is(err, context.Canceled) || n.Load() != 0 {
		t.Errorf("got %v and %d requests, want a context error and none", err, n.Load())
	}
}

// Whatever ends a call, the last answer is in its error.
func TestLastAnswerIsNeverLost(t *testing.T) {
	t.Parallel()
	const prefix = "receipt of transaction " + receiptID + ": "
	get := `Get "` + receiptURL + `": `
	tests := map[string]struct {
		retries int
		answers []httpmock.Responder
		want    string
		is      error
	}{
		"one refused connection":     {0, []httpmock.Responder{refusedAnswer()}, get + "dial tcp 192.0.2.1:443: connect: connection refused", nil},
		"some refused connections":   {2, []httpmock.Responder{refusedAnswer()}, get + "dial tcp 192.0.2.1:443: connect: connection refused, after 3 attempts", nil},
		"answer, refused":            {1, []httpmock.Responder{codeAnswer(503), refusedAnswer()}, get + "dial tcp 192.0.2.1:443: connect: connection refused, after 2 attempts; before that, the gateway answered 503 Service Unavailable", pixmed.ErrUnavailable},
		"answers, refused twice":     {3, []httpmock.Responder{codeAnswer(500), codeAnswer(429), refusedAnswer()}, get + "dial tcp 192.0.2.1:443: connect: connection refused, after 4 attempts; before that, the gateway answered 429 Too Many Requests, after 2 attempts", pixmed.ErrRateLimited},
		"refused, answer":            {1, []httpmock.Responder{refusedAnswer(), codeAnswer(503)}, "the gateway answered 503 Service Unavailable, after 2 attempts", pixmed.ErrUnavailable},
		"answer, not found":          {5, []httpmock.Responder{codeAnswer(503), codeAnswer(404)}, "the gateway answered 404 Not Found, after 2 attempts; check the transaction id and the base URL", pixmed.ErrNotFound},
		"answer, redirect elsewhere": {5, []httpmock.Responder{codeAnswer(503), codeAnswer(302, "Location", "https://else.example/?token=x")}, "the gateway redirects to another origin: https://else.example; before that, the gateway answered 503 Service Unavailable", pixmed.ErrRedirect},
		"answer, asked to wait":      {5, []httpmock.Responder{codeAnswer(503), codeAnswer(429, "Retry-After", "3600")}, "the gateway answered 429 Too Many Requests, after 2 attempts; no further attempt: it asks to wait 1h0m0s, longer than the longest wait of 1ns (see WithRetryWait)", pixmed.ErrRateLimited},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := mustClient(t, mockBase, overTransport(answersOf(test.answers...)), pixmed.WithRetries(test.retries)).Receipt(t.Context(), receiptID)
			if diff := gocmp.Diff(prefix+test.want, fmt.Sprint(err)); diff != "" {
				t.Error(diff)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	const base = "https://gateway.example"
	tests := map[string]struct {
		base     string
		code     int
		location string
		followed bool
		want     string
	}{
		"same origin, path":       {base, 302, "/elsewhere?token=canary", true, ""},
		"same origin, whole":      {base, 301, base + "/elsewhere", true, ""},
		"same origin, 307":        {base, 307, "/elsewhere", true, ""},
		"same origin, 308":        {base, 308, "/elsewhere", true, ""},
		"same origin, 303":        {base, 303, "/elsewhere", true, ""},
		"the port spelt out":      {base, 302, "https://gateway.example:443/elsewhere", true, ""},
		"host in capitals":        {base, 302, "https://GATEWAY.example/elsewhere", true, ""},
		"http, the port spelt":    {"http://127.0.0.1:80", 302, "http://127.0.0.1/elsewhere", true, ""},
		"other host":              {base, 302, "https://evil.example/elsewhere?token=canary", false, "the gateway redirects to another origin: https://evil.example"},
		"other host, 308":         {base, 308, "//evil.example/", false, "the gateway redirects to another origin: https://evil.example"},
		"subdomain":               {base, 302, "https://a.gateway.example/?token=canary", false, "the gateway redirects to another origin: https://a.gateway.example"},
		"other port":              {base, 302, "https://gateway.example:8443/?token=canary", false, "the gateway redirects to another origin: https://gateway.example:8443"},
		"https to http":           {base, 302, "http://gateway.example/?token=canary", false, "the gateway redirects to another origin: http://gateway.example"},
		"https to http, port 443": {base, 302, "http://gateway.example:443/?token=canary", false, "the gateway redirects to another origin: http://gateway.example:443"},
		"http to https":           {"http://127.0.0.1", 302, "https://127.0.0.1/?token=canary", false, "the gateway redirects to another origin: https://127.0.0.1"},
		"a credential as host":    {base, 302, "https://the-token.evil.example/", false, "the gateway redirects to another origin: https://[redacted].evil.example"},
		"credentials in it":       {base, 302, "https://u:canary@evil.example/", false, "the gateway redirects to another origin: https://evil.example"},
		"other scheme":            {base, 302, "ftp://gateway.example/canary", false, "the gateway redirects to another origin: ftp://gateway.example"},
		"does not parse":          {base, 302, "https://evil.example:port/?token=canary", false, "the gateway redirects to another origin: its Location is not a URL"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pdf := receiptPDF(100)
			var got []string
			client := mustClient(t, test.base, pixmed.WithHeader("api_key", "the key"), pixmed.WithBearerToken("the-token"),
				overTransport(closing(t, roundTripFunc(func(r *http.Request) (*http.Response, error) {
					got = append(got, r.URL.Path+" "+r.Header.Get("Api_key")+" "+r.Header.Get("Authorization"))
					if len(got) == 1 {
						return codeAnswer(test.code, "Location", test.location)(r)
					}
					return goodAnswer(pdf)(r)
				}))))
			receipt, err := client.Receipt(t.Context(), receiptID)
			want := []string{"/transaction/" + receiptID + "/receipt the key Bearer the-token"}
			if test.followed {
				want = append(want, "/elsewhere the key Bearer the-token")
				if err != nil || !bytes.Equal(receipt.PDF, pdf) {
					t.Errorf("got %v, want the receipt", err)
				}
			} else {
				if !errors.Is(err, pixmed.ErrRedirect) {
					t.Errorf("got %v, want ErrRedirect", err)
				}
				if diff := gocmp.Diff("receipt of transaction "+receiptID+": "+test.want, fmt.Sprint(err)); diff != "" {
					t.Error(diff)
				}
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Two real servers, of which the second must not see a single request.
func TestRedirectToAnotherServer(t *testing.T) {
	t.Parallel()
	var requests, strangers atomic.Int32
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strangers.Add(1) }))
	t.Cleanup(stranger.Close)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.Redirect(w, r, stranger.URL+"/?token=canary", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(srv.Close)

	_, err := mustClient(t, srv.URL, pixmed.WithHeader("api_key", "the key"), overTransport(freshTransport(t))).Receipt(t.Context(), receiptID)
	if !errors.Is(err, pixmed.ErrRedirect) || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v, want ErrRedirect without the query", err)
	}
	if requests.Load() != 1 || strangers.Load() != 0 {
		t.Errorf("%d requests and %d to the stranger, want 1 and 0", requests.Load(), strangers.Load())
	}
}

func TestRedirectLoopEnds(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
		n.Add(1)
		return codeAnswer(302, "Location", "/loop?token=canary")(r)
	})))
	_, err := client.Receipt(t.Context(), receiptID)
	want := "receipt of transaction " + receiptID + `: Get "` + receiptURL + `": stopped after 10 redirects`
	if diff := gocmp.Diff(want, fmt.Sprint(err)); diff != "" || n.Load() != 10 {
		t.Errorf("%d requests, want 10: %s", n.Load(), diff)
	}
}

// A Location means a redirect in a redirect only.
func TestLocationElsewhere(t *testing.T) {
	t.Parallel()
	client := mustClient(t, mockBase, overTransport(answersOf(codeAnswer(404, "Location", "https://gateway.example:port"))))
	if _, err := client.Receipt(t.Context(), receiptID); !errors.Is(err, pixmed.ErrNotFound) || errors.Is(err, pixmed.ErrRedirect) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

// The query that a redirect leads to may be a secret as well where the request
// fails there.
func TestFailureBehindARedirectHidesItsQuery(t *testing.T) {
	t.Parallel()
	logged := &logRecords{}
	client := mustClient(t, mockBase, pixmed.WithRetries(1), pixmed.WithLogger(slog.New(logged)),
		overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
			if r.URL.RawQuery != "" {
				return nil, io.ErrUnexpectedEOF
			}
			return codeAnswer(302, "Location", "/elsewhere?token=canary")(r)
		})))
	_, err := client.Receipt(t.Context(), receiptID)
	want := "receipt of transaction " + receiptID + `: Get "` + receiptURL + `": unexpected EOF, after 2 attempts`
	if diff := gocmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
	if lines := fmt.Sprint(logged.all()); strings.Contains(lines, "canary") {
		t.Error(lines)
	}
}

func TestUsersCheckRedirect(t *testing.T) {
	t.Parallel()
	refusal := errors.New("no redirects, please")
	tests := map[string]struct {
		location string
		check    func(*http.Request, []*http.Request) error
		is       error
		calls    int32
		requests int32
	}{
		"refuses":        {"/elsewhere", func(*http.Request, []*http.Request) error { return refusal }, refusal, 1, 1},
		"allows":         {"/elsewhere", func(*http.Request, []*http.Request) error { return nil }, nil, 1, 2},
		"uses the last":  {"/elsewhere", func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, nil, 1, 1},
		"is not asked":   {"https://evil.example", func(*http.Request, []*http.Request) error { return nil }, pixmed.ErrRedirect, 0, 1},
		"nor for a port": {"https://gateway.example:1", func(*http.Request, []*http.Request) error { return nil }, pixmed.ErrRedirect, 0, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls, requests atomic.Int32
			client := mustClient(t, mockBase, pixmed.WithHTTPClient(&http.Client{
				Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					if requests.Add(1) == 1 {
						return codeAnswer(302, "Location", test.location)(r)
					}
					return goodAnswer(receiptPDF(20))(r)
				}),
				CheckRedirect: func(r *http.Request, via []*http.Request) error {
					calls.Add(1)
					return test.check(r, via)
				},
			}))
			_, err := client.Receipt(t.Context(), receiptID)
			switch {
			case test.is != nil:
				if !errors.Is(err, test.is) {
					t.Errorf("got %v, want %v", err, test.is)
				}
			case test.requests == 1:
				if e := wantAPIError(t, err); e.StatusCode != http.StatusFound || e.Attempts != 1 {
					t.Errorf("got %v, want the 302", err)
				}
			case err != nil:
				t.Error(err)
			}
			if calls.Load() != test.calls || requests.Load() != test.requests {
				t.Errorf("asked %d times and sent %d requests, want %d and %d", calls.Load(), requests.Load(), test.calls, test.requests)
			}
		})
	}
}

func TestRetriesAreLogged(t *testing.T) {
	t.Parallel()
	logged := &logRecords{}
	pdf := receiptPDF(3000)
	cut := httpmock.NewStringResponder(200, receiptJSON(pdf)[:1000])
	client := mustClient(t, mockBase, pixmed.WithLogger(slog.New(logged)),
		overTransport(answersOf(httpmock.NewStringResponder(503, `{"message":"try later"}`), refusedAnswer(), cut, goodAnswer(pdf))))
	if _, err := client.Receipt(t.Context(), receiptID); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`INFO pixmed: receipt request failed, trying again transaction_id=` + receiptID + ` attempt=1 error=the gateway answered 503 Service Unavailable: "try later"`,
		`INFO pixmed: receipt request failed, trying again transaction_id=` + receiptID + ` attempt=2 error=Get "` + receiptURL + `": dial tcp 192.0.2.1:443: connect: connection refused`,
		`INFO pixmed: receipt download broke, resuming transaction_id=` + receiptID + ` attempt=3 delivered=720 error=truncated receipt envelope at byte 1000`,
	}
	if diff := gocmp.Diff(want, logged.all()); diff != "" {
		t.Error(diff)
	}
}

// Nothing is logged where nothing is retried, not even at debug level.
func TestNothingElseIsLogged(t *testing.T) {
	t.Parallel()
	for name, responder := range map[string]httpmock.Responder{"good": goodAnswer(receiptPDF(20)), "bad": codeAnswer(401)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logged := &logRecords{}
			_, _ = mustClient(t, mockBase, pixmed.WithLogger(slog.New(logged)), overTransport(answersOf(responder))).Receipt(t.Context(), receiptID)
			if lines := logged.all(); len(lines) != 0 {
				t.Error(lines)
			}
		})
	}
}

// Standard error belongs to the process, so this takes a process of its own.
func TestNothingOnStandardError(t *testing.T) {
	t.Parallel()
	if os.Getenv("PIXMED_TEST_SILENCE") != "" {
		client := mustClient(t, mockBase, overTransport(answersOf(codeAnswer(503), refusedAnswer())), pixmed.WithRetries(3))
		if _, err := client.Receipt(t.Context(), receiptID); err == nil {
			t.Error("no error")
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestNothingOnStandardError$", "-test.v")
	cmd.Env = append(os.Environ(), "PIXMED_TEST_SILENCE=1", "GOCOVERDIR="+t.TempDir())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || !strings.Contains(stdout.String(), "--- PASS: TestNothingOnStandardError") {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	if stderr.Len() > 0 || strings.Contains(stdout.String(), "gateway.example") {
		t.Errorf("standard error has %q, standard output %q", stderr.String(), stdout.String())
	}
}

// A gateway that echoes every credential, at every place and in every form.
func TestCredentialsAreNeverShown(t *testing.T) {
	t.Parallel()
	const (
		key    = `$2a$10$Key/with"odd&<chars>+\=% and-a-plain-tail`
		long   = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0LXBheWxvYWQtdGhhdC1pcy1sb25nLWVub3VnaC10by1iZS1jdXQtaW4tdHdvLWFuZC10aGVuLXNvbWUtbW9yZS1ieXRlcw.sig"
		user   = "merchant-user-name"
		passwd = "päss wörd/123456"
	)
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + passwd))
	auths := map[string]struct {
		opts    []pixmed.ClientOption
		secrets []string
	}{
		"header":       {[]pixmed.ClientOption{pixmed.WithHeader("api_key", key)}, []string{key}},
		"header, long": {[]pixmed.ClientOption{pixmed.WithHeader("api_key", long)}, []string{long}},
		"headers, one the start of the other": {
			[]pixmed.ClientOption{pixmed.WithHeader("api_key", "abcdefgh"), pixmed.WithHeader("api_secret", "abcdefgh-and-the-rest")},
			[]string{"abcdefgh", "abcdefgh-and-the-rest"},
		},
		"short header":         {[]pixmed.ClientOption{pixmed.WithHeader("api_key", "xq7z")}, []string{"xq7z"}},
		"padded":               {[]pixmed.ClientOption{pixmed.WithHeader("api_key", "  padded-secret ")}, []string{"padded-secret"}},
		"bearer":               {[]pixmed.ClientOption{pixmed.WithBearerToken(long)}, []string{long}},
		"basic":                {[]pixmed.ClientOption{pixmed.WithBasicAuth(user, passwd)}, []string{passwd, user, basic}},
		"header with a scheme": {[]pixmed.ClientOption{pixmed.WithHeader("Authorization", "Token token="+long)}, []string{long}},
		"cookie":               {[]pixmed.ClientOption{pixmed.WithHeader("Cookie", "session=0123456789abcdef; theme=dark")}, []string{"0123456789abcdef"}},
		"basic, key":           {[]pixmed.ClientOption{pixmed.WithBasicAuth("sk_live_0123456789", "")}, []string{"sk_live_0123456789"}},
	}
	quoted := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	slashed := func(s string) string { return strings.ReplaceAll(quoted(s), "/", `\/`) }
	everyRune := func(s string) string { // as JSON allows
		var b strings.Builder
		for _, r := range s {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		return `"` + b.String() + `"`
	}
	gateways := map[string]func(secret string) httpmock.Responder{
		"message": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(401, `{"message":`+quoted(s)+`}`)
		},
		"message, \\/": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(401, `{"message":`+slashed(s)+`}`)
		},
		"message, \\u": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(401, `{"message":`+everyRune(s)+`}`)
		},
		"message, array": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(401, `{"message":["a",`+quoted(s)+`]}`)
		},
		"code": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(503, `{"code":`+everyRune(s)+`}`)
		},
		"plain":      func(s string) httpmock.Responder { return httpmock.NewStringResponder(503, "bad key "+s) },
		"HTML":       func(s string) httpmock.Responder { return httpmock.NewStringResponder(502, "<title>"+s+"</title>"+s) },
		"request id": func(s string) httpmock.Responder { return codeAnswer(503, "X-Request-Id", s) },
		"far behind": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(500, strings.Repeat("x", 5000)+s)
		},
		"elsewhere": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(400, `{"message":"no","echo":`+slashed(s)+`}`)
		},
		"elsewhere, as a URL": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(400, url.QueryEscape(s)+" "+url.PathEscape(s)+" "+html.EscapeString(s))
		},
		"cut at the end": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(500, strings.Repeat("x", 16<<10-len(s)/2)+s)
		},
		"200, FAILED": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(200, `{"status":"FAILED","message":`+quoted("bad key "+s)+`}`)
		},
		"200, FAILED, cut": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(200, `{"status":"FAILED","message":`+quoted(strings.Repeat("x", 150)+s)+`}`)
		},
		"200, odd status": func(s string) httpmock.Responder { return httpmock.NewStringResponder(200, `{"status":`+quoted(s)+`}`) },
		"200, plain":      func(s string) httpmock.Responder { return httpmock.NewStringResponder(200, s) },
		"200, encoding":   func(s string) httpmock.Responder { return codeAnswer(200, "Content-Encoding", s) },
		"redirect":        func(s string) httpmock.Responder { return codeAnswer(302, "Location", "https://evil.example/?key="+s) },
		"connection error": func(s string) httpmock.Responder {
			return httpmock.NewErrorResponder(fmt.Errorf("malformed HTTP response %q", s))
		},
		"broken with words": func(s string) httpmock.Responder {
			return func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(iotest.ErrReader(fmt.Errorf("malformed chunk %q", s)))}, nil
			}
		},
		"broken, then fail": func(s string) httpmock.Responder {
			return httpmock.NewStringResponder(200, `{"status":"SUCCESS","message":`+quoted(s))
		},
	}
	for authName, auth := range auths {
		for gatewayName, gateway := range gateways {
			t.Run(authName+"/"+gatewayName, func(t *testing.T) {
				t.Parallel()
				for _, secret := range auth.secrets {
					logged := &logRecords{}
					client := mustClient(t, mockBase, append([]pixmed.ClientOption{
						pixmed.WithLogger(slog.New(logged)), overTransport(answersOf(gateway(secret))), pixmed.WithRetries(1),
					}, auth.opts...)...)
					_, err := client.Receipt(t.Context(), receiptID)
					if err == nil {
						t.Fatal("no error")
					}
					shown := map[string]string{
						"the error":   err.Error() + fmt.Sprintf("%v %+v %#v %q", err, err, err, err),
						"its chain":   strings.Join(chainOf(err), "\n"),
						"the log":     strings.Join(logged.all(), "\n"),
						"the client":  fmt.Sprintf("%v %+v %#v", client, client, client),
						"its content": fmt.Sprintf("%+v %#v", *client, *client), // what a careless user prints
					}
					if e, found := errors.AsType[*pixmed.APIError](err); found {
						shown["APIError"] = fmt.Sprintf("%s %+v %s", e.Error(), *e, e.Body)
					}
					for _, s := range append([]string{"-and-the-rest", "and-a-plain-tail"}, auth.secrets...) {
						for where, text := range shown {
							for _, form := range []string{s, strings.Trim(quoted(s), `"`), strings.Trim(slashed(s), `"`), strings.Trim(everyRune(s), `"`), url.QueryEscape(s), url.PathEscape(s), html.EscapeString(s), s[:min(len(s), 12)]} {
								if strings.Contains(text, form) {
									t.Fatalf("%s shows %q: %.300s", where, form, text)
								}
							}
						}
					}
				}
			})
		}
	}
}

// chainOf returns the texts of an error and of all that it wraps.
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

// What no escape covers is found once the message is decoded. The body cannot be
// shown then.
func TestBodyThatHidesACredential(t *testing.T) {
	t.Parallel()
	client := mustClient(t, mockBase, pixmed.WithHeader("api_key", "$2a$10$secret"),
		overTransport(answersOf(httpmock.NewStringResponder(400, "<title>&dollar;2a&dollar;10&dollar;secret</title>"))))
	_, err := client.Receipt(t.Context(), receiptID)
	if e := wantAPIError(t, err); e.Message != "an HTML page: [redacted]" || e.Body != nil {
		t.Errorf("got %q and %q", e.Message, e.Body)
	}
}

// Short values would blot out words; they stay.
func TestShortSecretsBlotNothingOut(t *testing.T) {
	t.Parallel()
	client := mustClient(t, mockBase, pixmed.WithHeader("X-Version", "the"), overTransport(answersOf(httpmock.NewStringResponder(400, "the end"))))
	_, err := client.Receipt(t.Context(), receiptID)
	if e := wantAPIError(t, err); e.Message != "the end" {
		t.Errorf("got %q", e.Message)
	}
}

func TestRedactedTextReadsWell(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"message":"the key 0123456789abcdef is unknown"}`: "the key [redacted] is unknown",
		`{"message":"the key 0123456789 is too short"}`:     "the key [redacted] is too short",
		`{"message":"the key 0123456 is too short"}`:        "the key 0123456 is too short",
		`0123456789abcdef0123456789abcdef`:                  "[redacted][redacted]",
	} {
		client := mustClient(t, mockBase, pixmed.WithHeader("api_key", "0123456789abcdef"), overTransport(answersOf(httpmock.NewStringResponder(400, body))))
		_, err := client.Receipt(t.Context(), receiptID)
		if e := wantAPIError(t, err); e.Message != want {
			t.Errorf("got %q, want %q", e.Message, want)
		}
	}
}

func TestClientIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(2000)
	var n atomic.Int32
	client := mustClient(t, mockBase, pixmed.WithRetries(8), overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
		switch n.Add(1) % 4 {
		case 1:
			return codeAnswer(503)(r)
		case 2:
			return httpmock.NewStringResponse(http.StatusOK, receiptJSON(pdf)[:1500]), nil
		}
		return goodAnswer(pdf)(r)
	})))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			// Others may take a call's good answers until its retries are used up.
			receipt, err := client.Receipt(t.Context(), receiptID)
			if err == nil && !bytes.Equal(receipt.PDF, pdf) {
				t.Error("another PDF")
			}
		})
	}
	wg.Wait()
}
