package pixmed_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

func TestOtherEventAnswers(t *testing.T) {
	t.Parallel()
	const paid = `{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"PAID","value":"100.00"}`
	other := pixmed.Outcome{Result: pixmed.ResultOther}
	unkept := pixmed.WithInvalid(func(context.Context, []byte, error) error {
		t.Error("another event reached WithInvalid")
		return nil
	})
	testAnswers(t, []answerTest{
		{
			name: "no fallback", opts: []pixmed.HandlerOption{unkept}, body: paid,
			status: 422, detail: `Not an infraction: transactionStatus names another kind of event.`,
			outcome: other, err: "not an infraction: transactionStatus names another kind of event", logged: "not an infraction: transactionStatus names another kind of event",
		},
		{
			name: "acknowledged", body: paid,
			opts:   []pixmed.HandlerOption{unkept, pixmed.WithFallback(pixmed.AcknowledgeEvent(slog.New(slog.DiscardHandler)))},
			status: 200, outcome: other, err: "not an infraction: transactionStatus names another kind of event", logged: "not an infraction: transactionStatus names another kind of event",
		},
	})
}

func TestFallback(t *testing.T) {
	t.Parallel()
	const body = " {\"transactionStatus\":\"PAID\", \"x\": [1]}\n"
	type key struct{}
	for _, length := range []int64{int64(len(body)), -1} { // announced, or chunked
		var got, query, header string
		var announced int64
		var value any
		h := newHook(t, answer(errors.New("not for the Receiver")), pixmed.WithVerifier(pixmed.HMACSHA256("X-Signature", "", "s")),
			pixmed.WithFallback(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil {
					t.Errorf("the body: %v", err)
				}
				if err := r.Body.Close(); err != nil {
					t.Errorf("closing the body: %v", err)
				}
				got, announced, query, header, value = string(b), r.ContentLength, r.URL.RawQuery, r.Header.Get("X-Signature"), r.Context().Value(key{})
				w.Header().Set("X-Fallback", "yes")
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "short and stout")
			})))
		ctx := context.WithValue(t.Context(), key{}, "value")
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/hook?a=b", strings.NewReader(body))
		r.ContentLength = length
		signature := hex.EncodeToString(signed("s", body))
		r.Header.Set("X-Signature", signature)
		w := h.serve(r)

		if got != body || announced != int64(len(body)) || query != "a=b" || header != signature || value != "value" {
			t.Errorf("the fallback got %q of %d bytes, query %q, header %q, value %v", got, announced, query, header, value)
		}
		if w.Code != http.StatusTeapot || w.Body.String() != "short and stout" || w.Header().Get("X-Fallback") != "yes" {
			t.Errorf("the answer is %d %q", w.Code, w.Body)
		}
		if r.ContentLength != length {
			t.Error("the caller's request was changed")
		}
		if o := h.outcome(t); o.Result != pixmed.ResultOther || o.StatusCode != 0 || !errors.Is(o.Err, pixmed.ErrNotInfraction) {
			t.Errorf("outcome %+v", o)
		}
	}
}

// The fallback gets the body decompressed, in a copy of the request.
func TestFallbackAndGzip(t *testing.T) {
	t.Parallel()
	const body = " {\"transactionStatus\":\"PAID\", \"x\": [1]}\n"
	for _, tt := range []struct {
		name, sent string
		encodings  []string
	}{
		{"gzip", gzipOf(body), []string{"gzip"}},
		{"gzip, not announced", gzipOf(body), nil},
		{"gzip in two members, identity", gzipOf(body[:9]) + gzipOf(body[9:]), []string{"gzip", "identity"}},
		{"not compressed, though announced", body, []string{"br"}},
		{"a charset", body, []string{"utf-8"}},
		{"neither", body, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(tt.sent))
			r.Header.Set("X-Other", "kept")
			r.Header.Set("Content-Length", strconv.Itoa(len(tt.sent)))
			if tt.encodings != nil {
				r.Header["Content-Encoding"] = tt.encodings
			}
			r.TransferEncoding = []string{"chunked"}
			before, sentBody := r.Header.Clone(), r.Body
			h := newHook(t, answer(errBoom), pixmed.WithoutVerification(), invalidResult(errBoom),
				pixmed.WithFallback(http.HandlerFunc(func(w http.ResponseWriter, got *http.Request) {
					calls++
					text, err := io.ReadAll(got.Body)
					if string(text) != body || err != nil {
						t.Errorf("the body is %q, %v", text, err)
					}
					want := http.Header{"X-Other": {"kept"}, "Content-Length": {strconv.Itoa(len(body))}}
					if diff := cmp.Diff(want, got.Header); diff != "" {
						t.Errorf("header (-want +got):\n%s", diff)
					}
					if got.ContentLength != int64(len(body)) || got.TransferEncoding != nil {
						t.Errorf("ContentLength %d, TransferEncoding %v", got.ContentLength, got.TransferEncoding)
					}
					got.Header.Set("X-Other", "changed") // it is the fallback's own
				})))
			if w := h.serve(r); w.Code != 200 || calls != 1 {
				t.Errorf("status %d after %d calls", w.Code, calls)
			}
			if diff := cmp.Diff(before, r.Header); diff != "" {
				t.Errorf("the caller's header (-before +after):\n%s", diff)
			}
			if r.Body != sentBody || r.ContentLength != int64(len(tt.sent)) || len(r.TransferEncoding) != 1 {
				t.Errorf("the caller's request changed: %+v", r)
			}
		})
	}
}

// A fallback's panic is left to the server, as any handler's is, but observed.
func TestFallbackPanics(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithoutVerification(),
		pixmed.WithFallback(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })))
	func() {
		defer func() {
			if got := recover(); got != http.ErrAbortHandler {
				t.Errorf("the server sees %v", got)
			}
		}()
		h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(`{"transactionStatus":"PAID"}`)))
	}()
	o := h.outcome(t)
	if o.Result != pixmed.ResultFailed || o.StatusCode != 0 || o.Err == nil {
		t.Errorf("outcome %+v", o)
	}
	if lines := h.log.lines(t); len(lines) != 1 || lines[0]["level"] != "ERROR" {
		t.Errorf("log %v", lines)
	}
}

func TestAcknowledgeEvent(t *testing.T) {
	t.Parallel()
	const cashIn = `{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"PAID","transactionType":"CASH_IN",` +
		`"value":"100.00","externalId":"T&ste378","e2e_id":"E082535392025011818245238600338f","debtorAccount":{"name":"canary"}}`
	line := func(status, kind, id, external, e2e string) []map[string]any {
		return []map[string]any{{
			"level": "INFO", "msg": "pixmed: acknowledged an event that is not an infraction", "transaction_status": status,
			"transaction_type": kind, "transaction_id": id, "external_id": external, "e2e_id": e2e,
		}}
	}
	long := strings.Repeat("x", 300)
	cut := long[:256] + "…"
	const again = "The notification could not be handled. Send it again later."
	for _, tt := range []struct {
		name, body string
		status     int
		detail     string           // where it starts
		log        []map[string]any // at info level and above; nil for one line of a rejection
	}{
		{
			"cash-in", cashIn, 200, "",
			line("PAID", "CASH_IN", "5a94d48d-c9f3-46be-8448-83510ca42bde", "T&ste378", "E082535392025011818245238600338f"),
		},
		{"external id a number", `{"transactionStatus":"PAID","externalId":5}`, 200, "", line("PAID", "", "", "5", "")},
		{"types wrong", `{"transactionStatus":"X","transactionType":[],"transactionId":{},"externalId":true,"e2e_id":null}`, 200, "", line("X", "", "", "", "")},
		{
			"long ids", fmt.Sprintf(`{"transactionStatus":%q,"transactionType":%q,"transactionId":%q,"externalId":%q,"e2e_id":%q}`, long, long, long, long, long),
			200, "", line(cut, cut, cut, cut, cut),
		},
		{"ids that are not graphic", `{"transactionStatus":"\u001b[2J"}`, 200, "", line(`"\x1b[2J"`, "", "", "", "")},
		{"nothing that is known", `{"evento":"teste_webhook"}`, 422, "Invalid infraction: ", nil},
		{"an empty object", `{}`, 422, "Invalid infraction: ", nil},
		{"a wrapping", `{"event":"med","data":` + specPayload + `}`, 422, "Invalid infraction: ", nil},
		{"garbage", "garbage", 400, "Malformed JSON at byte 0: invalid character at start of value.", nil},
		{"an array", "[]", 400, "Malformed JSON at byte 0: the body is not a JSON object.", nil},
		{"empty", "", 400, "The body is empty.", nil},
		{"MED and another status", `{"transactionStatus":"PAID","medStatus":"CANCELLED"}`, 422, "Invalid infraction: ", nil},
		{"a status that is much like MED", `{"transactionStatus":" med"}`, 422, "Invalid infraction: ", nil},
		{"an infraction", specPayload, 500, again, nil},
		{"too large", `{"x":"` + strings.Repeat("x", pixmed.DefaultBodyLimit) + `"}`, 413, "The body is larger than 65536 bytes.", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log hookLog
			w := httptest.NewRecorder()
			pixmed.AcknowledgeEvent(log.logger()).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(tt.body)))
			if w.Code != tt.status {
				t.Errorf("status %d, want %d", w.Code, tt.status)
			}
			if p := checkAnswer(t, w.Code, w.Header(), w.Body.Bytes()); !strings.HasPrefix(p.Detail, tt.detail) {
				t.Errorf("detail %q, want %q", p.Detail, tt.detail)
			}
			lines := slices.DeleteFunc(log.lines(t), func(line map[string]any) bool { return line["level"] == "DEBUG" })
			if tt.log == nil {
				if len(lines) != 1 || lines[0]["level"] == "INFO" {
					t.Errorf("log %v, want one line of a rejection", lines)
				}
				return
			}
			if diff := cmp.Diff(tt.log, lines); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("a body within the Handler's own limit", func(t *testing.T) {
		t.Parallel()
		h := newHook(t, answer(nil), pixmed.WithoutVerification(), pixmed.WithBodyLimit(1<<20),
			pixmed.WithFallback(pixmed.AcknowledgeEvent(slog.New(slog.DiscardHandler))))
		body := `{"transactionStatus":"PAID","x":"` + strings.Repeat("x", 2*pixmed.DefaultBodyLimit) + `"}`
		if w := h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))); w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
	})
	t.Run("without a logger and without a body", func(t *testing.T) {
		t.Parallel()
		w := httptest.NewRecorder()
		r := webhookRequest(t)
		r.Body = nil
		pixmed.AcknowledgeEvent(nil).ServeHTTP(w, r)
		if w.Code != 400 {
			t.Errorf("status %d", w.Code)
		}
	})
}
