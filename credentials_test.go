package pixmed_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
	"unicode"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

func TestCredentialOptions(t *testing.T) {
	t.Parallel()
	wantNewClient(t, map[string]newClientTest{
		"blank value":           {opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", " \t")}, want: "WithHeader: the value of Api_key is empty"},
		"a header twice":        {opts: []pixmed.ClientOption{pixmed.WithHeader("X-Key", "one"), pixmed.WithHeader("x-key", "two")}, want: "the header X-Key is given twice"},
		"two authorizations":    {opts: []pixmed.ClientOption{pixmed.WithBearerToken("token"), pixmed.WithBasicAuth("user", "pass")}, want: "the header Authorization is given twice"},
		"empty token":           {opts: []pixmed.ClientOption{pixmed.WithBearerToken("")}, want: "WithBearerToken: the token is empty"},
		"blank token":           {opts: []pixmed.ClientOption{pixmed.WithBearerToken(" ")}, want: "WithBearerToken: the token is empty"},
		"line break in a token": {opts: []pixmed.ClientOption{pixmed.WithBearerToken("token\n")}, want: "WithBearerToken: the token contains a line break or another control character"},
		"no user":               {opts: []pixmed.ClientOption{pixmed.WithBasicAuth("", "password")}, want: "WithBasicAuth: the user name is empty or has a colon in it"},
		"colon in the user":     {opts: []pixmed.ClientOption{pixmed.WithBasicAuth("a:b", "password")}, want: "WithBasicAuth: the user name is empty or has a colon in it"},
		"no password":           {opts: []pixmed.ClientOption{pixmed.WithBasicAuth("key", "")}},
		"line break in basic":   {opts: []pixmed.ClientOption{pixmed.WithBasicAuth("user", "password\n")}, want: "WithBasicAuth: the user name or the password contains a line break or another control character"},
		"no header name":        {opts: []pixmed.ClientOption{pixmed.WithHeader("", "v")}, want: `WithHeader: "" is not a header's name`},
		"space in a name":       {opts: []pixmed.ClientOption{pixmed.WithHeader("api key", "v")}, want: `WithHeader: "api key" is not a header's name`},
		"colon in a name":       {opts: []pixmed.ClientOption{pixmed.WithHeader("api_key:", "v")}, want: `WithHeader: "api_key:" is not a header's name`},
		"CR LF in a name":       {opts: []pixmed.ClientOption{pixmed.WithHeader("a\r\nb", "v")}, want: `WithHeader: "a\r\nb" is not a header's name`},
		"accent in a name":      {opts: []pixmed.ClientOption{pixmed.WithHeader("clé", "v")}, want: `WithHeader: "clé" is not a header's name`},
		"endless name":          {opts: []pixmed.ClientOption{pixmed.WithHeader(strings.Repeat("n ", 500), "v")}, want: `WithHeader: "` + strings.Repeat("n ", 32) + `…" is not a header's name`},
		"empty value":           {opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "")}, want: "WithHeader: the value of Api_key is empty"},
		"CR in a value":         {opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\rb")}, want: "WithHeader: the value of Api_key contains a line break or another control character"},
		"LF in a value":         {opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\nb")}, want: "WithHeader: the value of Api_key contains a line break"},
		"NUL in a value":        {opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\x00b")}, want: "WithHeader: the value of Api_key contains a line break"},
		"DEL in a value":        {opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\x7f")}, want: "WithHeader: the value of Api_key contains a line break"},
		"tab in a value":        {opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "a\tb")}},
		"dollars in a value":    {opts: []pixmed.ClientOption{pixmed.WithHeader("api_key", "$2a$10$x")}},
		"Host":                  {opts: []pixmed.ClientOption{pixmed.WithHeader("host", "x")}, want: "WithHeader: Host is set by net/http"},
		"Content-Length":        {opts: []pixmed.ClientOption{pixmed.WithHeader("content-length", "0")}, want: "WithHeader: Content-Length is set by net/http"},
		"Transfer-Encoding":     {opts: []pixmed.ClientOption{pixmed.WithHeader("TRANSFER-ENCODING", "chunked")}, want: "WithHeader: Transfer-Encoding is set by net/http"},
		"Connection":            {opts: []pixmed.ClientOption{pixmed.WithHeader("Connection", "close")}, want: "WithHeader: Connection is set by net/http"},
		"Accept-Encoding":       {opts: []pixmed.ClientOption{pixmed.WithHeader("accept-encoding", "br")}, want: "WithHeader: Accept-Encoding is set by the transport, which would otherwise leave receipts compressed"},
		"User-Agent and so on":  {opts: []pixmed.ClientOption{pixmed.WithHeader("User-Agent", "shop/1"), pixmed.WithHeader("Accept", "*/*")}},
	})
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
		"a credential as host":    {base, 302, "https://the-token.evil.example/", false, "the gateway redirects to another origin: [redacted]"},
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

// With real servers, the second one gets no request.
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

// The query of a redirect's target may be a secret, also when the request to it
// fails.
func TestFailureAfterARedirectHidesItsQuery(t *testing.T) {
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

// A gateway echoes every credential, everywhere and in every form.
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
		"far into the body": func(s string) httpmock.Responder {
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

// A text that shows a secret or its first 8 bytes, however escaped, is replaced as a
// whole, and its body is dropped. Other texts stay as they are.
func TestRedaction(t *testing.T) {
	t.Parallel()
	const key = "0123456789abcdef"
	user := func(name string) pixmed.ClientOption { return pixmed.WithBasicAuth(name, "some password") }
	header := func(value string) pixmed.ClientOption { return pixmed.WithHeader("api_key", value) }
	tests := map[string]struct {
		secret  pixmed.ClientOption
		body    string
		message string
		hidden  bool // the body is nil
	}{
		"all of it":             {header(key), `{"message":"the key 0123456789abcdef is unknown"}`, "[redacted]", true},
		"twice":                 {header(key), key + key, "[redacted]", true},
		"10 bytes of it":        {header(key), `{"message":"the key 0123456789 is too short"}`, "[redacted]", true},
		"8 bytes of it":         {header(key), `{"message":"the key 01234567 is too short"}`, "[redacted]", true},
		"7 bytes of it":         {header(key), `{"message":"the key 0123456 is too short"}`, "the key 0123456 is too short", false},
		"elsewhere in the body": {header(key), `{"message":"who are you?","got":"0123456789abcdef"}`, "who are you?", true},
		"after the cut":         {header(key), `{"message":"` + strings.Repeat("x", 200) + key + `"}`, strings.Repeat("x", 200) + "…", true},
		"across the cut":        {header(key), `{"message":"` + strings.Repeat("x", 192) + key + `"}`, "[redacted]", true},

		"escaped as JSON":             {header(key), `{"got":"\u0030\u0031234\u0035\u0036\u0037"}`, "[redacted]", true},
		"escaped as a URL":            {header("a/b c%d+e"), "a%2fb+c%25d%2Be", "[redacted]", true},
		"escaped as HTML":             {header("$2a$10$secret"), "<p>&dollar;2a&#36;10&#x24;secret", "an HTML page", true},
		"escaped by %q":               {header(`pass"\word`), `got "pass\"\\word"`, "[redacted]", true},
		"a tab in it":                 {header("pass\tword"), `{"got":"pass\tword"}`, "[redacted]", true},
		"bytes that are no UTF-8":     {header("pass\xffword"), `got "pass\xffword"`, "[redacted]", true},
		"surrogates":                  {user("😀password"), `{"got":"\ud83d\ude00password"}`, "[redacted]", true},
		"what looks like an escape":   {header(`%41%42%43`), "got %41%42%43", "[redacted]", true},
		"blanks around it":            {header("  padded-secret "), "got padded-secret", "[redacted]", true},
		"a short one":                 {header("xq7z"), "got xq7z", "[redacted]", true},
		"one too short to be noticed": {header("the"), "the end", "the end", false},
		"what is no secret":           {pixmed.WithHeader("Accept", "application/json"), "want application/xml", "want application/xml", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := mustClient(t, mockBase, test.secret, overTransport(answersOf(httpmock.NewStringResponder(400, test.body))))
			_, err := client.Receipt(t.Context(), receiptID)
			if e := wantAPIError(t, err); e.Message != test.message || (e.Body == nil) != test.hidden {
				t.Errorf("got %q and the body %q, want %q", e.Message, e.Body, test.message)
			}
		})
	}
}

// So is a code.
func TestRedactedCode(t *testing.T) {
	t.Parallel()
	client := mustClient(t, mockBase, pixmed.WithBearerToken("the-token"),
		overTransport(answersOf(httpmock.NewStringResponder(400, `{"message":"no","code":"the-token"}`))))
	_, err := client.Receipt(t.Context(), receiptID)
	if e := wantAPIError(t, err); e.Message != "no" || e.Code != "[redacted]" || e.Body != nil {
		t.Errorf("got %+v", e)
	}
}

// No text from outside reaches a terminal or a log with a credential or a control
// character in it.
func TestStrangersTextsAreMadePrintable(t *testing.T) {
	t.Parallel()
	const escape = "\x1b[2J\n\r\x00\u202e\u009b"
	quoted := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	overWire := func(raw string) func(*testing.T) http.RoundTripper {
		return func(t *testing.T) http.RoundTripper {
			t.Helper()
			transport := rawWire(t, func(_ int, c net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, raw)
				}
			})
			transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.example"}) // which speaks plain http
			return transport
		}
	}
	answer := func(responder httpmock.Responder) func(*testing.T) http.RoundTripper {
		return func(*testing.T) http.RoundTripper { return answersOf(responder) }
	}
	strangers := map[string]func(text string) func(*testing.T) http.RoundTripper{
		"message": func(s string) func(*testing.T) http.RoundTripper {
			return answer(httpmock.NewStringResponder(503, `{"message":`+quoted(s)+`,"code":`+quoted(s)+`}`))
		},
		"body":       func(s string) func(*testing.T) http.RoundTripper { return answer(httpmock.NewStringResponder(400, s)) },
		"request id": func(s string) func(*testing.T) http.RoundTripper { return answer(codeAnswer(503, "X-Request-Id", s)) },
		"encoding": func(s string) func(*testing.T) http.RoundTripper {
			return answer(codeAnswer(200, "Content-Encoding", s))
		},
		"redirect": func(s string) func(*testing.T) http.RoundTripper {
			return answer(codeAnswer(302, "Location", "https://"+url.PathEscape(s)+".example"))
		},
		"bad redirect": func(s string) func(*testing.T) http.RoundTripper { return answer(codeAnswer(302, "Location", ":"+s)) },
		"status": func(s string) func(*testing.T) http.RoundTripper {
			return answer(jsonAnswer(`{"status":` + quoted(s) + `}`))
		},
		"failed": func(s string) func(*testing.T) http.RoundTripper {
			return answer(jsonAnswer(`{"status":"FAILED","message":` + quoted(s) + `}`))
		},
		"no envelope": func(s string) func(*testing.T) http.RoundTripper { return answer(jsonAnswer(s)) },
		"no PDF": func(s string) func(*testing.T) http.RoundTripper {
			return answer(jsonAnswer(receiptJSON([]byte(s + "nothing but text"))))
		},
		"connection": func(s string) func(*testing.T) http.RoundTripper {
			return answer(httpmock.NewErrorResponder(errors.New("broken: " + s)))
		},
		"name": func(s string) func(*testing.T) http.RoundTripper {
			return answer(httpmock.NewErrorResponder(&net.DNSError{Err: "no such host", Name: s, IsNotFound: true}))
		},
		"certificate": func(s string) func(*testing.T) http.RoundTripper {
			return answer(httpmock.NewErrorResponder(&tls.CertificateVerificationError{Err: x509.HostnameError{Host: "gateway.example", Certificate: &x509.Certificate{DNSNames: []string{s}}}}))
		},
		"broken body": func(s string) func(*testing.T) http.RoundTripper {
			return answer(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(iotest.ErrReader(errors.New("malformed chunk " + s)))}, nil
			})
		},
		"proxy": func(s string) func(*testing.T) http.RoundTripper {
			return overWire("HTTP/1.1 407 " + strings.NewReplacer("\n", "", "\r", "").Replace(s) + "\r\n\r\n")
		},
		"status line": func(s string) func(*testing.T) http.RoundTripper { return overWire(s + "\r\n\r\n") },
		"header line": func(s string) func(*testing.T) http.RoundTripper {
			return overWire("HTTP/1.1 200 OK\r\n" + s + ": x\r\n\r\n")
		},
	}
	for name, stranger := range strangers {
		for kind, text := range map[string]string{"escapes": escape, "a credential": canary, "both": canary + escape, "at length": strings.Repeat("a", 1000) + escape} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				logged := &logRecords{}
				client := mustClient(t, mockBase, pixmed.WithHeader("X-Api-Key", canary), pixmed.WithRetries(1), pixmed.WithLogger(slog.New(logged)), overTransport(stranger(text)(t)))
				_, err := client.Receipt(t.Context(), receiptID)
				if err == nil {
					t.Fatal("no error")
				}
				shown := append(chainOf(err), logged.all()...)
				if e, found := errors.AsType[*pixmed.APIError](err); found {
					if strings.Contains(string(e.Body), canary) {
						t.Errorf("the body shows the credential: %q", e.Body)
					}
					careless := *e
					careless.Body = nil // it stays as it came
					shown = append(shown, fmt.Sprintf("%+v", careless))
				}
				for _, text := range shown {
					if strings.Contains(text, canary) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) || len(text) > 2000 {
						t.Errorf("shown: %q", text)
					}
				}
			})
		}
	}
}

// So is the name in the certificate of a real server.
func TestCertificateOfAStranger(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"evil\x1b[2J.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int32
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.Config.ConnState = countNew(&connections)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	transport := freshTransport(t)
	transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "gateway.example"}
	transport.TLSClientConfig.RootCAs.AddCert(leaf)

	_, err = mustClient(t, srv.URL, overTransport(transport)).Receipt(t.Context(), receiptID)
	if want := `valid for evil\x1b[2J.example`; err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, isHostname := errors.AsType[x509.HostnameError](err); !isHostname || connections.Load() != 1 {
		t.Errorf("got %v after %d connections, want a HostnameError after 1", err, connections.Load())
	}
}
