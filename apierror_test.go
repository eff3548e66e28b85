package pixmed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

// What users read, and what programs find.
func TestAPIErrors(t *testing.T) {
	t.Parallel()
	const nginx = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
	tests := map[string]struct {
		code    int
		body    string
		headers []string
		text    string
		want    pixmed.APIError // without StatusCode, Attempts and Body
	}{
		"the gateway's form": {
			code: 401, body: `{"message":"Invalid credentials","statusCode":401}`,
			text: `the gateway answered 401 Unauthorized: "Invalid credentials"; check the credentials given to NewClient`,
			want: pixmed.APIError{Message: "Invalid credentials"},
		},
		"in Portuguese": {
			code: 404, body: `{"message":"Transação não encontrada","statusCode":404}`,
			text: `the gateway answered 404 Not Found: "Transação não encontrada"; check the transaction id and the base URL`,
			want: pixmed.APIError{Message: "Transação não encontrada"},
		},
		"forbidden": {
			code: 403, body: `{"message":"Forbidden resource","error":"Forbidden","statusCode":403}`,
			text: `the gateway answered 403 Forbidden: "Forbidden resource"; these credentials do not give access to it`,
			want: pixmed.APIError{Message: "Forbidden resource"},
		},
		"messages": {
			code: 400, body: `{"message":["id must be a UUID","id should not be empty"],"error":"Bad Request","statusCode":400}`,
			text: `the gateway answered 400 Bad Request: "id must be a UUID; id should not be empty"`,
			want: pixmed.APIError{Message: "id must be a UUID; id should not be empty"},
		},
		"messages of many kinds": {
			code: 400, body: `{"message":["a",1,{"message":"b"},["c"],null,{"x":1},"d"]}`,
			text: `the gateway answered 400 Bad Request: "a; 1; b; c; d"`,
			want: pixmed.APIError{Message: "a; 1; b; c; d"},
		},
		"no messages": {
			code: 400, body: `{"message":[],"error":"Bad Request"}`,
			text: `the gateway answered 400 Bad Request: "Bad Request"`,
			want: pixmed.APIError{Message: "Bad Request"},
		},
		"object": {
			code: 422, body: `{"error":{"message":"no receipt for MED","code":"R-17"}}`,
			text: `the gateway answered 422 Unprocessable Entity: "no receipt for MED"`,
			want: pixmed.APIError{Message: "no receipt for MED"},
		},
		"object without a message": {
			code: 422, body: `{"error":{"reason":1}}`,
			text: `the gateway answered 422 Unprocessable Entity: "{\"error\":{\"reason\":1}}"`,
			want: pixmed.APIError{Message: `{"error":{"reason":1}}`},
		},
		"error": {
			code: 409, body: `{"error":"conflict"}`,
			text: `the gateway answered 409 Conflict: "conflict"`,
			want: pixmed.APIError{Message: "conflict"},
		},
		"RFC 9457": {
			code: 410, body: `{"type":"about:blank","title":"Gone","status":410,"detail":"kept for 90 days only"}`,
			text: `the gateway answered 410 Gone: "kept for 90 days only"`,
			want: pixmed.APIError{Message: "kept for 90 days only"},
		},
		"code": {
			code: 400, body: `{"message":"bad","code":"E1001"}`,
			text: `the gateway answered 400 Bad Request: "bad", code "E1001"`,
			want: pixmed.APIError{Message: "bad", Code: "E1001"},
		},
		"code, a number, alone": {
			code: 400, body: `{"code":1001}`,
			text: `the gateway answered 400 Bad Request, code "1001"`,
			want: pixmed.APIError{Code: "1001"},
		},
		"numeric message": {
			code: 400, body: `{"message":17}`,
			text: `the gateway answered 400 Bad Request: "17"`,
			want: pixmed.APIError{Message: "17"},
		},
		"null message": {
			code: 400, body: `{"message":null,"error":null,"detail":"really"}`,
			text: `the gateway answered 400 Bad Request: "really"`,
			want: pixmed.APIError{Message: "really"},
		},
		"twice the same member": {
			code: 400, body: `{"message":"one","message":"two"}`,
			text: `the gateway answered 400 Bad Request: "two"`,
			want: pixmed.APIError{Message: "two"},
		},
		"other JSON object": {
			code: 400, body: `{"errors":[{"field":"id"}]}`,
			text: `the gateway answered 400 Bad Request: "{\"errors\":[{\"field\":\"id\"}]}"`,
			want: pixmed.APIError{Message: `{"errors":[{"field":"id"}]}`},
		},
		"empty JSON object": {code: 400, body: ` {} `, text: `the gateway answered 400 Bad Request`},
		"empty JSON array": {
			code: 400, body: `[]`,
			text: `the gateway answered 400 Bad Request: "[]"`,
			want: pixmed.APIError{Message: `[]`},
		},
		"JSON string": {
			code: 400, body: `"just \"words\""`,
			text: `the gateway answered 400 Bad Request: "just \"words\""`,
			want: pixmed.APIError{Message: `just "words"`},
		},
		"JSON array": {
			code: 400, body: `[1]`,
			text: `the gateway answered 400 Bad Request: "1"`,
			want: pixmed.APIError{Message: `1`},
		},
		"proxy": {
			code: 502, body: nginx,
			text: `the gateway answered 502 Bad Gateway: "an HTML page"`,
			want: pixmed.APIError{Message: "an HTML page"},
		},
		"proxy, short": {
			code: 503, body: "\n<p>Sorry",
			text: `the gateway answered 503 Service Unavailable: "an HTML page"`,
			want: pixmed.APIError{Message: "an HTML page"},
		},
		"plain text": {
			code: 400, body: "  no such thing\r\n",
			text: `the gateway answered 400 Bad Request: "no such thing"`,
			want: pixmed.APIError{Message: "no such thing"},
		},
		"long text": {
			code: 400, body: strings.Repeat("é", 5000),
			text: `the gateway answered 400 Bad Request: "` + strings.Repeat("é", 100) + `…"`,
			want: pixmed.APIError{Message: strings.Repeat("é", 100) + "…"},
		},
		"long message": {
			code: 400, body: `{"message":"` + strings.Repeat("m", 5000) + `"}`,
			text: `the gateway answered 400 Bad Request: "` + strings.Repeat("m", 200) + `…"`,
			want: pixmed.APIError{Message: strings.Repeat("m", 200) + "…"},
		},
		"empty":       {code: 500, text: `the gateway answered 500 Internal Server Error`},
		"white space": {code: 500, body: " \n", text: `the gateway answered 500 Internal Server Error`},
		"invalid UTF-8": {
			code: 500, body: "caf\xe9",
			text: `the gateway answered 500 Internal Server Error: "caf` + "\ufffd" + `"`,
			want: pixmed.APIError{Message: "caf\ufffd"},
		},
		"invalid UTF-8 in JSON": {
			code: 500, body: "{\"message\":\"caf\xe9\"}",
			text: `the gateway answered 500 Internal Server Error: "caf` + "\ufffd" + `"`,
			want: pixmed.APIError{Message: "caf\ufffd"},
		},
		"invalid UTF-8 in messages": {
			code: 500, body: "{\"message\":[\"caf\xe9\",\"x\"]}",
			text: `the gateway answered 500 Internal Server Error: "caf` + "\ufffd" + `; x"`,
			want: pixmed.APIError{Message: "caf\ufffd; x"},
		},
		"control characters": {
			code: 500, body: "a\x1b[31m\nb",
			text: `the gateway answered 500 Internal Server Error: "a\x1b[31m\nb"`,
			want: pixmed.APIError{Message: `a\x1b[31m\nb`},
		},
		"unknown code": {
			code: 599, body: "odd",
			text: `the gateway answered 599: "odd"`,
			want: pixmed.APIError{Message: "odd"},
		},
		"not a 200":   {code: 204, text: `the gateway answered 204 No Content`},
		"not changed": {code: 304, text: `the gateway answered 304 Not Modified`},
		"request id": {
			code: 500, headers: []string{"X-Request-ID", "req-1", "CF-Ray", "ray"},
			text: `the gateway answered 500 Internal Server Error, request id "req-1"`,
			want: pixmed.APIError{RequestID: "req-1"},
		},
		"correlation id": {
			code: 500, headers: []string{"x-correlation-id", "c-1"},
			text: `the gateway answered 500 Internal Server Error, request id "c-1"`,
			want: pixmed.APIError{RequestID: "c-1"},
		},
		"ray": {
			code: 500, headers: []string{"CF-Ray", "8f-GRU"}, body: `{"message":"oops","code":"X"}`,
			text: `the gateway answered 500 Internal Server Error: "oops", code "X", request id "8f-GRU"`,
			want: pixmed.APIError{Message: "oops", Code: "X", RequestID: "8f-GRU"},
		},
		"endless ids": {
			code: 500, headers: []string{"X-Request-ID", strings.Repeat("r", 5000)}, body: `{"code":"` + strings.Repeat("c", 5000) + `"}`,
			text: `the gateway answered 500 Internal Server Error, code "` + strings.Repeat("c", 64) + `…", request id "` + strings.Repeat("r", 64) + `…"`,
			want: pixmed.APIError{Code: strings.Repeat("c", 64) + "…", RequestID: strings.Repeat("r", 64) + "…"},
		},
		"not ready": {
			code: 202, body: `{"message":"Comprovante em processamento"}`,
			text: `the gateway answered 202 Accepted: "Comprovante em processamento"; it is not ready yet, so try again later`,
			want: pixmed.APIError{Message: "Comprovante em processamento"},
		},
		"not ready, without a word": {code: 202, text: `the gateway answered 202 Accepted; it is not ready yet, so try again later`},
		"asked to wait": {
			code: 429, headers: []string{"Retry-After", "20"}, body: `{"message":"Too many requests"}`,
			text: `the gateway answered 429 Too Many Requests: "Too many requests"; it asks to wait 20s, so try again then`,
			want: pixmed.APIError{Message: "Too many requests", RetryAfter: 20 * time.Second},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := http.Header{}
			for i := 0; i < len(test.headers); i += 2 {
				header.Set(test.headers[i], test.headers[i+1])
			}
			client := mustClient(t, mockBase, pixmed.WithRetries(0), pixmed.WithRetryWait(1, time.Minute),
				overTransport(answersOf(httpmock.NewStringResponder(test.code, test.body).HeaderSet(header))))
			_, err := client.Receipt(t.Context(), receiptID)
			if diff := gocmp.Diff("receipt of transaction "+receiptID+": "+test.text, fmt.Sprint(err)); diff != "" {
				t.Error(diff)
			}
			got := *wantAPIError(t, err)
			if got.Error() != test.text {
				t.Errorf("alone, it reads %s", got.Error())
			}
			test.want.StatusCode, test.want.Attempts, test.want.Body = test.code, 1, []byte(test.body)
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAPIErrorBodyIsBounded(t *testing.T) {
	t.Parallel()
	const kept = 16 << 10
	for name, test := range map[string]struct{ body, want string }{
		"at the limit":       {strings.Repeat("x", kept), strings.Repeat("x", kept)},
		"one over":           {strings.Repeat("x", kept+1), strings.Repeat("x", kept)},
		"1 MiB":              {strings.Repeat("x", 1<<20), strings.Repeat("x", kept)},
		"JSON, cut":          {`{"message":"` + strings.Repeat("x", 1<<20) + `"}`, (`{"message":"` + strings.Repeat("x", 1<<20))[:kept]},
		"a credential":       {strings.Repeat("x", 5000) + "k3y!", ""},
		"one beyond the cut": {strings.Repeat("x", kept) + "k3y!", strings.Repeat("x", kept)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := mustClient(t, mockBase, pixmed.WithRetries(1), pixmed.WithHeader("api_key", "k3y!"),
				overTransport(answersOf(httpmock.NewStringResponder(500, test.body))))
			_, err := client.Receipt(t.Context(), receiptID)
			e := wantAPIError(t, err)
			if !bytes.Equal(e.Body, []byte(test.want)) {
				t.Errorf("%d bytes that start with %.20q, want %d that start with %.20q", len(e.Body), e.Body, len(test.want), test.want)
			}
			if n := len(err.Error()); n > 600 {
				t.Errorf("the error has %d bytes", n)
			}
		})
	}
}

// Of an endless error body, only a little more is read than is kept, so that the
// connection can be reused.
func TestEndlessErrorIsNotRead(t *testing.T) {
	t.Parallel()
	for _, code := range []int{404, 503} {
		var read int
		var closed atomic.Int32
		client := mustClient(t, mockBase, pixmed.WithRetries(1), overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
			read = 0
			return &http.Response{StatusCode: code, Body: &countedCloser{readFunc(func(p []byte) (int, error) {
				read += len(p)
				return letters{}.Read(p)
			}), &closed}}, nil
		})))
		_, err := client.Receipt(t.Context(), receiptID)
		if e := wantAPIError(t, err); read > 32<<10 || int(closed.Load()) != e.Attempts {
			t.Errorf("%d: read %d bytes, closed %d bodies of %d", code, read, closed.Load(), e.Attempts)
		}
	}
}

func TestAPIErrorIs(t *testing.T) {
	t.Parallel()
	sentinels := map[string]error{
		"unauthorized": pixmed.ErrUnauthorized, "forbidden": pixmed.ErrForbidden, "not found": pixmed.ErrNotFound,
		"not ready": pixmed.ErrNotReady, "rate limited": pixmed.ErrRateLimited, "unavailable": pixmed.ErrUnavailable,
	}
	for code, want := range map[int]string{
		200: "", 202: "not ready", 302: "", 400: "", 401: "unauthorized", 402: "", 403: "forbidden", 404: "not found", 405: "", 410: "",
		429: "rate limited", 499: "", 500: "unavailable", 501: "unavailable", 503: "unavailable", 599: "unavailable",
	} {
		err := fmt.Errorf("wrapped: %w", &pixmed.APIError{StatusCode: code})
		for name, sentinel := range sentinels {
			if got := errors.Is(err, sentinel); got != (name == want) {
				t.Errorf("%d is %s: %v", code, name, got)
			}
		}
		if errors.Is(err, context.Canceled) {
			t.Errorf("%d is %v", code, context.Canceled)
		}
	}
	if err := error(&pixmed.APIError{StatusCode: 503, Err: context.Canceled}); !errors.Is(err, context.Canceled) || !errors.Is(err, pixmed.ErrUnavailable) {
		t.Errorf("%v does not unwrap", err)
	}
}

func FuzzAPIErrorBody(f *testing.F) {
	for _, body := range []string{
		"", "{", `{"message":"x","statusCode":401}`, `{"message":["a",{"message":"b"}],"code":1}`, `{"error":{"message":"x"}}`,
		`"text"`, "[[[[", "<title>x</title>", "<TITLE>\u0130</TITLE>", "<title></title><title>", "\xff\xfe", "<\u212a<title>",
		`{"message":"\ud800"}`, `{"message":"the key"}`,
	} {
		f.Add(body, 500)
	}
	f.Fuzz(func(t *testing.T, body string, code int) {
		if code < 400 || code > 599 {
			code = 400
		}
		client := mustClient(t, mockBase, pixmed.WithRetries(0), pixmed.WithHeader("api_key", "the key"),
			overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
				return httpmock.NewStringResponse(code, body), nil
			})))
		_, err := client.Receipt(t.Context(), receiptID)
		e := wantAPIError(t, err)
		if e.StatusCode != code || len(e.Body) > 16<<10 || len(e.Message) > 64<<10 {
			t.Errorf("got %+v", e)
		}
		text := err.Error()
		// 200 bytes of message and 64 of code, each of which may be escaped as \x00.
		if len(text) > 4*(200+64)+500 || strings.ContainsAny(text, "\n\r\x00\x1b") {
			t.Errorf("%d bytes: %q", len(text), text)
		}
		if strings.Contains(text, "the key") || bytes.Contains(e.Body, []byte("the key")) || strings.Contains(e.Message, "the key") {
			t.Errorf("shows the key: %s", text)
		}
	})
}

// A message is found at most one object deep.
func TestMessageInAnObjectInAnObject(t *testing.T) {
	t.Parallel()
	const body = `{"error":{"message":{"message":"deep"}}}`
	_, err := mustClient(t, mockBase, overTransport(answersOf(httpmock.NewStringResponder(400, body)))).Receipt(t.Context(), receiptID)
	if e := wantAPIError(t, err); e.Message != body {
		t.Errorf("got %q", e.Message)
	}
}
