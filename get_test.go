package pixmed_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

// jsonAnswer answers 200 with a body.
func jsonAnswer(body string) httpmock.Responder {
	return httpmock.NewStringResponder(http.StatusOK, body)
}

// anyPath is answersOf for any URL, and keeps the URLs that were requested.
func anyPath(responders ...httpmock.Responder) (http.RoundTripper, *[]string) {
	var requested []string
	return roundTripFunc(func(r *http.Request) (*http.Response, error) {
		requested = append(requested, r.URL.String())
		return responders[min(len(requested), len(responders))-1](r)
	}), &requested
}

type transactionAnswer struct {
	Status string        `json:"status"`
	Value  pixmed.Amount `json:"value"`
}

func TestGet(t *testing.T) {
	t.Parallel()
	const body = `{"status":"PAID","value":18.5,"unknown":{}}`
	want := transactionAnswer{"PAID", 1850}
	for name, test := range map[string]struct{ base, path, url string }{
		"plain":              {mockBase, "transaction/1", mockBase + "/transaction/1"},
		"base with a slash":  {mockBase + "/", "transaction/1", mockBase + "/transaction/1"},
		"host only":          {"https://g.example", "transaction", "https://g.example/transaction"},
		"escaped base":       {"https://g.example/a%2Fb", "c", "https://g.example/a%2Fb/c"},
		"slash at the end":   {mockBase, "transactions/", mockBase + "/transactions/"},
		"empty segment":      {mockBase, "a//b", mockBase + "/a//b"},
		"query":              {mockBase, "transactions?from=2026-01-01&page=2", mockBase + "/transactions?from=2026-01-01&page=2"},
		"odd query":          {mockBase, "t?next=/../?%00%0a", mockBase + "/t?next=/../?%00%0a"},
		"slash in a segment": {mockBase, "transaction/a%2Fb", mockBase + "/transaction/a%2Fb"},
		"blank":              {mockBase, "a b", mockBase + "/a%20b"},
		"dots in a segment":  {mockBase, "a/..b/c.../.d", mockBase + "/a/..b/c.../.d"},
		"escaped twice":      {mockBase, "a/%252e%252e/b", mockBase + "/a/%252e%252e/b"},
		"colon":              {mockBase, "https:evil.example", mockBase + "/https:evil.example"},
		"at sign":            {mockBase, "@evil.example/x", mockBase + "/@evil.example/x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var key string
			client := mustClient(t, test.base, pixmed.WithHeader("api_key", "the key"), overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
				if r.Method != http.MethodGet || r.URL.String() != test.url {
					t.Errorf("got %s %s, want GET %s", r.Method, r.URL, test.url)
				}
				key = r.Header.Get("Api_key")
				return jsonAnswer(body)(r)
			})))
			var got transactionAnswer
			if err := client.Get(t.Context(), test.path, &got); err != nil || key != "the key" {
				t.Fatalf("got %v, with the key %q", err, key)
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			var raw []byte
			if err := client.Get(t.Context(), test.path, &raw); err != nil || string(raw) != body {
				t.Errorf("got %q, %v", raw, err)
			}
			var members map[string]any
			if err := client.Get(t.Context(), test.path, &members); err != nil || len(members) != 3 {
				t.Errorf("got %v, %v", members, err)
			}
		})
	}
}

// No request is sent for what could lead elsewhere.
func TestGetInvalidPath(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"", "/", "/transaction/1", "//evil.example/x", `\evil`, `\\evil.example`, "%2Fevil", "%5cevil", "?page=1",
		".", "..", "./a", "../a", "a/..", "a/.", "a/../b", "a/./b", `a\..\b`, "%2e%2e/a", "a/%2E", "a/.%2e/b", "a%2f..%2fb", `a%5c..%5cb`, "../a?b=c",
		"a\nb", "a\x00", "a\x7fb", "a\u0085b", "a%0ab", "a%00", "a%c2%85", "a\tb", "a?b=\r\nX-Header: y", "a?b=\x1b", "a?b c", "..;/a", "a/..;x=1/b", "a/.;b", "a%2f..;",
		"a#b", "#", "a?b#c", "a%zz", "a%", "a%2",
	} {
		transport, requested := anyPath(jsonAnswer(`{}`))
		var got any
		err := mustClient(t, mockBase, overTransport(transport)).Get(t.Context(), path, &got)
		if !errors.Is(err, pixmed.ErrInvalidPath) || len(*requested) != 0 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q: got %v and the requests %q", path, err, *requested)
		}
	}
}

func TestGetInto(t *testing.T) {
	t.Parallel()
	transport, requested := anyPath(jsonAnswer(`{}`))
	client := mustClient(t, mockBase, overTransport(transport))
	for _, into := range []any{nil, transactionAnswer{}, []byte{}, (*transactionAnswer)(nil), map[string]any{}} {
		if err := client.Get(t.Context(), "transaction/1", into); err == nil || len(*requested) != 0 {
			t.Errorf("%T: got %v and %d requests", into, err, len(*requested))
		}
	}
}

// Whatever comes back, the error says what it was.
func TestGetErrors(t *testing.T) {
	t.Parallel()
	const prefix = "get transaction/1: "
	const notJSON = prefix + "unexpected JSON: "
	tests := map[string]struct {
		answers  []httpmock.Responder
		want     string // "" for none
		code     int    // of the APIError, 0 for none
		is       error
		requests int // unless 1
	}{
		"401":             {[]httpmock.Responder{httpmock.NewStringResponder(401, `{"message":"who?"}`)}, prefix + `the gateway answered 401 Unauthorized: "who?"; check the credentials given to NewClient`, 401, pixmed.ErrUnauthorized, 0},
		"404":             {[]httpmock.Responder{codeAnswer(404)}, prefix + "the gateway answered 404 Not Found; check ", 404, pixmed.ErrNotFound, 0},
		"204":             {[]httpmock.Responder{codeAnswer(204)}, prefix + "the gateway answered 204 No Content", 204, nil, 0},
		"503, then well":  {[]httpmock.Responder{codeAnswer(503), jsonAnswer(`{}`)}, "", 0, nil, 2},
		"503 forever":     {[]httpmock.Responder{codeAnswer(503)}, prefix + "the gateway answered 503 Service Unavailable, after 3 attempts", 503, pixmed.ErrUnavailable, 3},
		"202, then well":  {[]httpmock.Responder{codeAnswer(202), jsonAnswer(`{}`)}, "", 0, nil, 2},
		"202 forever":     {[]httpmock.Responder{httpmock.NewStringResponder(202, `{"message":"soon"}`)}, prefix + `the gateway answered 202 Accepted: "soon", after 3 attempts; it is not ready yet, so try again later`, 202, pixmed.ErrNotReady, 3},
		"refused forever": {[]httpmock.Responder{refusedAnswer()}, prefix + `Get "` + mockBase + `/transaction/1": dial tcp 192.0.2.1:443: connect: connection refused, after 3 attempts`, 0, nil, 3},
		"redirect":        {[]httpmock.Responder{codeAnswer(302, "Location", "https://evil.example/?q=1")}, prefix + "the gateway redirects to another origin: https://evil.example", 0, pixmed.ErrRedirect, 0},

		"statusCode":               {[]httpmock.Responder{jsonAnswer(`{"message":"Transação não encontrada","statusCode":404}`)}, prefix + `the gateway answered 404 Not Found: "Transação não encontrada"; check `, 404, pixmed.ErrNotFound, 0},
		"statusCode as a string":   {[]httpmock.Responder{jsonAnswer(`{"statusCode":"500"}`)}, prefix + "the gateway answered 500 Internal Server Error", 500, pixmed.ErrUnavailable, 0},
		"statusCode beside data":   {[]httpmock.Responder{jsonAnswer(`{"statusCode":400,"data":{"x":1}}`)}, prefix + "the gateway answered 400 Bad Request", 400, nil, 0},
		"statusCode of 399":        {[]httpmock.Responder{jsonAnswer(`{"statusCode":399}`)}, "", 0, nil, 0},
		"statusCode of 200":        {[]httpmock.Responder{jsonAnswer(`{"statusCode":200,"data":{}}`)}, "", 0, nil, 0},
		"error":                    {[]httpmock.Responder{jsonAnswer(`{"error":{"message":"not generated yet"}}`)}, prefix + `the gateway answered 200 OK: "not generated yet"`, 200, nil, 0},
		"error, and data of null":  {[]httpmock.Responder{jsonAnswer(`{"data":null,"error":"oops"}`)}, prefix + `the gateway answered 200 OK: "oops"`, 200, nil, 0},
		"error of true":            {[]httpmock.Responder{jsonAnswer(`{"error":true,"message":"oops"}`)}, prefix + `the gateway answered 200 OK: "oops"`, 200, nil, 0},
		"error beside data":        {[]httpmock.Responder{jsonAnswer(`{"error":"a warning","data":{"x":1}}`)}, "", 0, nil, 0},
		"error of null":            {[]httpmock.Responder{jsonAnswer(`{"error":null}`)}, "", 0, nil, 0},
		"error of nothing":         {[]httpmock.Responder{jsonAnswer(`{"error":"","message":"x"}`)}, "", 0, nil, 0},
		"statusCode as 4e2":        {[]httpmock.Responder{jsonAnswer(`{"statusCode":4e2,"data":1}`)}, prefix + "the gateway answered 400 Bad Request", 400, nil, 0},
		"statusCode with a blank":  {[]httpmock.Responder{jsonAnswer(`{"statusCode":"401 ","data":1}`)}, prefix + "the gateway answered 401 Unauthorized", 401, pixmed.ErrUnauthorized, 0},
		"error, and spread data":   {[]httpmock.Responder{jsonAnswer("{\"error\":\"oops\",\"data\":{\n }}")}, prefix + `the gateway answered 200 OK: "oops"`, 200, nil, 0},
		"error, and a spread list": {[]httpmock.Responder{jsonAnswer(`{"error":"oops","data":[ ]}`)}, prefix + `the gateway answered 200 OK: "oops"`, 200, nil, 0},
		"error of a spread object": {[]httpmock.Responder{jsonAnswer(`{"error":{ },"x":1}`)}, "", 0, nil, 0},
		"error of 0.0":             {[]httpmock.Responder{jsonAnswer(`{"error":0.0}`)}, "", 0, nil, 0},
		"a byte order mark":        {[]httpmock.Responder{jsonAnswer("\ufeff{}")}, "", 0, nil, 0},
		"an error after one":       {[]httpmock.Responder{jsonAnswer("\ufeff" + `{"error":"no","statusCode":404}`)}, prefix + `the gateway answered 404 Not Found: "no"`, 404, pixmed.ErrNotFound, 0},
		"no compression":           {[]httpmock.Responder{jsonAnswer(`{}`).HeaderSet(http.Header{"Content-Encoding": {"UTF-8"}})}, "", 0, nil, 0},
		"error, nested deeper":     {[]httpmock.Responder{jsonAnswer(`{"x":{"error":"y","statusCode":500}}`)}, "", 0, nil, 0},
		"an array":                 {[]httpmock.Responder{jsonAnswer(`[{"error":"x"}]`)}, "", 0, nil, 0},
		"HTML":                     {[]httpmock.Responder{jsonAnswer("<html>")}, notJSON, 0, nil, 0},
		"empty":                    {[]httpmock.Responder{jsonAnswer("")}, notJSON, 0, nil, 0},
		"cut":                      {[]httpmock.Responder{jsonAnswer(`{"a":1`)}, notJSON, 0, nil, 0},
		"two documents":            {[]httpmock.Responder{jsonAnswer(`{}{}`)}, notJSON, 0, nil, 0},
		"a name twice":             {[]httpmock.Responder{jsonAnswer(`{"a":1,"a":2}`)}, notJSON, 0, nil, 0},
		"invalid UTF-8":            {[]httpmock.Responder{jsonAnswer("{\"a\":\"\xff\"}")}, notJSON, 0, nil, 0},
		"control characters in it": {[]httpmock.Responder{jsonAnswer("\x1b[2J")}, notJSON, 0, nil, 0},
		"compressed":               {[]httpmock.Responder{codeAnswer(200, "Content-Encoding", "br, \x1b")}, prefix + `the answer cannot be read: it has the Content-Encoding "br, \x1b", which the transport does not undo`, 0, nil, 0},
		"4 MiB":                    {[]httpmock.Responder{jsonAnswer(`"` + strings.Repeat("x", 4<<20-2) + `"`)}, "", 0, nil, 0},
		"4 MiB and a byte":         {[]httpmock.Responder{jsonAnswer(`"` + strings.Repeat("x", 4<<20-1) + `"`)}, prefix + "the answer has more than 4194304 bytes", 0, nil, 0},
		"broken, then well":        {[]httpmock.Responder{brokenAfter(`{"a`), jsonAnswer(`{}`)}, "", 0, nil, 2},
		"503, broken, then well":   {[]httpmock.Responder{codeAnswer(503), brokenAfter(`{"a`), jsonAnswer(`{}`)}, "", 0, nil, 3},
		"broken forever":           {[]httpmock.Responder{brokenAfter(`{"a`)}, prefix + "the answer broke off at byte 3: connection reset by peer, after 3 attempts", 0, nil, 3},
		"503, then broken forever": {[]httpmock.Responder{codeAnswer(503), brokenAfter(`{"a`)}, prefix + "the answer broke off at byte 3: connection reset by peer, after 3 attempts", 0, nil, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport, requested := anyPath(test.answers...)
			client := mustClient(t, mockBase, overTransport(closing(t, transport)), pixmed.WithRetries(2))
			var got any
			err := client.Get(t.Context(), "transaction/1?token=secret", &got)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
				t.Fatalf("got %v, want %s", err, test.want)
			}
			if n := len(*requested); n != cmp.Or(test.requests, 1) {
				t.Errorf("%d requests, want %d", n, cmp.Or(test.requests, 1))
			}
			if err == nil {
				return
			}
			if test.code != 0 && wantAPIError(t, err).StatusCode != test.code || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v, want %d and %v", err, test.code, test.is)
			}
			if strings.Contains(err.Error(), "secret") || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("shows the query or a control character: %q", err)
			}
		})
	}
}

// brokenAfter answers 200, and the connection breaks after a text.
func brokenAfter(text string) httpmock.Responder {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(io.MultiReader(
			strings.NewReader(text), iotest.ErrReader(errors.New("connection reset by peer"))))}, nil
	}
}

func TestGetIsCaseSensitive(t *testing.T) {
	t.Parallel()
	transport, _ := anyPath(jsonAnswer(`{"Status":"PAID","VALUE":1}`))
	var got transactionAnswer
	if err := mustClient(t, mockBase, overTransport(transport)).Get(t.Context(), "transaction/1", &got); err != nil || got != (transactionAnswer{}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestGetRetriesAreLogged(t *testing.T) {
	t.Parallel()
	logged := &logRecords{}
	transport, _ := anyPath(codeAnswer(503), brokenAfter("{"), jsonAnswer("{}"))
	var got any
	if err := mustClient(t, mockBase, overTransport(transport), pixmed.WithLogger(slog.New(logged))).Get(t.Context(), "transaction/1?token=secret", &got); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"INFO pixmed: request failed, trying again path=transaction/1 attempt=1 error=the gateway answered 503 Service Unavailable",
		"INFO pixmed: answer broke off, trying again path=transaction/1 attempt=2 error=the answer broke off at byte 1: connection reset by peer",
	}
	if diff := gocmp.Diff(want, logged.all()); diff != "" {
		t.Error(diff)
	}
}

func TestGetEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string][]httpmock.Responder{
		"during the answer": {func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(untilDone{r.Context()})}, nil
		}},
		"during the wait":                  {codeAnswer(503)},
		"during the wait after a break":    {brokenAfter("{")},
		"before the answer":                {hangingAnswer},
		"after an answer, before the next": {codeAnswer(503), hangingAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cause := errors.New("the server is shutting down")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Minute+time.Second, func() { cancel(cause) })
				transport, _ := anyPath(answers...)
				client := mustClient(t, mockBase, overTransport(closing(t, transport)), pixmed.WithRetryWait(2*time.Minute, 2*time.Minute), pixmed.WithStallTimeout(time.Hour))
				var got any
				start := time.Now()
				err := client.Get(ctx, "transaction/1", &got)
				if took := time.Since(start); took != time.Minute+time.Second || !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
					t.Errorf("got %v after %v, want a context error and its cause", err, took)
				}
			})
		})
	}
}

// hangingAnswer never comes.
func hangingAnswer(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// A request goes below the base URL, whatever the path, or it is not sent.
func FuzzGetPath(f *testing.F) {
	for _, path := range []string{
		"transaction/1", "a//b?c=d", "a b", "..", "a/%2e%2e/b", `a\..\b`, "//evil.example", "https://evil.example/", "@evil.example", ":80", "a%2fb", "a#b", "a?b c", "%",
		"a\nb", "\u202e", "\xff", ";..;/a", "a?/../..", "?", "a?",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		var requested *url.URL
		client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
			requested = r.URL
			return jsonAnswer(`{}`)(r)
		})))
		var raw []byte
		err := client.Get(t.Context(), path, &raw)
		if err != nil {
			if !errors.Is(err, pixmed.ErrInvalidPath) || requested != nil || len(err.Error()) > 1000 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Fatalf("%q: got %q and the request %v", path, err, requested)
			}
			return
		}
		segments := strings.FieldsFunc(requested.Path, func(r rune) bool { return r == '/' || r == '\\' })
		if requested.Scheme != "https" || requested.Host != "gateway.example" || requested.User != nil || requested.Fragment != "" ||
			!strings.HasPrefix(requested.Path, "/v1/") || slices.Contains(segments, ".") || slices.Contains(segments, "..") ||
			strings.ContainsFunc(requested.RequestURI(), func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			t.Fatalf("%q went to %s", path, requested)
		}
	})
}
