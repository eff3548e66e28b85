package pixmed_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

func TestNewClientBaseURL(t *testing.T) {
	t.Parallel()
	if _, err := pixmed.NewClient(""); err == nil {
		t.Error("no base URL is no error")
	}
	const good = "https://gateway.example/v1"
	wantNewClient(t, map[string]newClientTest{
		"https":                  {base: good},
		"127.0.0.1":              {base: "http://127.0.0.1:8080/v1"},
		"127.1.2.3":              {base: "http://127.1.2.3"},
		"[::1]":                  {base: "http://[::1]:8080"},
		"::ffff:127.0.0.1":       {base: "http://[::ffff:127.0.0.1]"},
		"localhost":              {base: "http://localhost:8080"},
		"LOCALHOST":              {base: "HTTP://LOCALHOST"},
		"plain http, allowed":    {base: "http://10.0.0.1", opts: []pixmed.ClientOption{pixmed.WithPlainHTTP()}},
		"plain http":             {base: "http://10.0.0.1/v1", want: "the base URL is plain http to 10.0.0.1, which would show credentials and receipts to the network: use https, or WithPlainHTTP if you mean it"},
		"almost localhost":       {base: "http://localhost.example", want: "the base URL is plain http to localhost.example, which"},
		"every address":          {base: "http://0.0.0.0", want: "the base URL is plain http to 0.0.0.0, which"},
		"empty":                  {base: " ", want: "the base URL has no https:// or no host; it should look like https://gateway.example/v1"},
		"no scheme":              {base: "gateway.example/v1", want: "the base URL has no https:// or no host"},
		"another scheme":         {base: "ftp://gateway.example", want: "the base URL has no https:// or no host"},
		"no host":                {base: "https:///v1", want: "the base URL has no https:// or no host"},
		"port only":              {base: "https://:443/v1", want: "the base URL has no https:// or no host"},
		"opaque":                 {base: "https:gateway.example", want: "the base URL has no https:// or no host"},
		"query":                  {base: good + "?key=1", want: "the base URL has a query or a fragment: it should end with the path"},
		"empty query":            {base: good + "?", want: "the base URL has a query or a fragment"},
		"fragment":               {base: good + "#x", want: "the base URL has a query or a fragment"},
		"does not parse":         {base: "https://gateway.example:port", want: "the base URL does not parse; it should look like https://gateway.example/v1"},
		"line break":             {base: good + "\n", want: "the base URL does not parse"},
		"credentials in the URL": {base: "https://user:pass@gateway.example", want: "the base URL contains credentials: pass them with WithBasicAuth instead"},
	})
}

// What NewClient rejects may hold a secret in the wrong place.
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

// A transport that changes a request's headers does not change the next request's.
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

// Nothing is logged unless something is retried, not even at debug level.
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

// Standard error is shared by the whole process, so this test starts another.
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
			// Other calls may take the good answers until this one has no retries left.
			receipt, err := client.Receipt(t.Context(), receiptID)
			if err == nil && !bytes.Equal(receipt.PDF, pdf) {
				t.Error("another PDF")
			}
		})
	}
	wg.Wait()
}

// The default transport limits headers; a user's own client sets its own limits.
func TestResponseHeadersAreLimited(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(100)
	for size, limited := range map[int]bool{32 << 10: false, 100 << 10: true} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Request-Id", strings.Repeat("x", size))
			_, _ = io.WriteString(w, receiptJSON(pdf))
		}))
		t.Cleanup(srv.Close)
		_, err := mustClient(t, srv.URL, pixmed.WithRetries(0)).Receipt(t.Context(), receiptID)
		if (err != nil) != limited || limited && !strings.Contains(err.Error(), "response headers exceeded") {
			t.Errorf("%d bytes: got %v", size, err)
		}
		if _, err := mustClient(t, srv.URL, overTransport(freshTransport(t))).Receipt(t.Context(), receiptID); err != nil {
			t.Errorf("%d bytes, with a client of one's own: got %v", size, err)
		}
	}
}
