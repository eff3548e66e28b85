package pixmed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

func TestOutcomeDurations(t *testing.T) {
	t.Parallel()
	wait := func(d time.Duration) error {
		time.Sleep(d) // on the bubble's clock
		return nil
	}
	receiver := pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error { return wait(3 * time.Second) })
	invalid := pixmed.WithInvalid(func(context.Context, []byte, error) error { return wait(2 * time.Second) })
	fallback := pixmed.WithFallback(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { _ = wait(5 * time.Second) }))
	verifier := pixmed.WithVerifier(pixmed.VerifierFunc(func(*http.Request, func() ([]byte, error)) error { return wait(7 * time.Second) }))
	for _, tt := range []struct {
		name, body         string
		duration, callback time.Duration
	}{
		{"handled", specPayload, 12 * time.Second, 3 * time.Second},
		{"not valid", `{"medStatus":"X"}`, 11 * time.Second, 2 * time.Second},
		{"other", `{"transactionStatus":"PAID"}`, 14 * time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHook(t, receiver, invalid, fallback, verifier)
				// Two reads of a second each: the text, and its end.
				h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", slowReader{time.Second, strings.NewReader(tt.body)}))
				if o := h.outcome(t); o.Duration != tt.duration || o.Callback != tt.callback {
					t.Errorf("Duration %v, Callback %v; want %v, %v", o.Duration, o.Callback, tt.duration, tt.callback)
				}
			})
		})
	}
}

func TestObserverSeesTheRequestAfterTheAnswer(t *testing.T) {
	t.Parallel()
	type key struct{}
	w := httptest.NewRecorder()
	calls := 0
	h, err := pixmed.NewHandler(answer(errors.New("no")), pixmed.WithoutVerification(), pixmed.WithLogger(slog.New(slog.DiscardHandler)),
		pixmed.WithObserver(func(ctx context.Context, o pixmed.Outcome) {
			calls++
			if ctx.Value(key{}) != "value" {
				t.Error("the context is not the request's")
			}
			if w.Code != 500 || w.Body.Len() == 0 {
				t.Error("the observer was called before the answer")
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	h.ServeHTTP(w, webhookRequest(t).WithContext(context.WithValue(t.Context(), key{}, "value")))
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

func TestObserverPanics(t *testing.T) {
	t.Parallel()
	var log hookLog
	h, err := pixmed.NewHandler(answer(nil), pixmed.WithoutVerification(), pixmed.WithLogger(log.logger()),
		pixmed.WithObserver(func(context.Context, pixmed.Outcome) { panic("observer's own") }))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, webhookRequest(t))
	if w.Code != 200 {
		t.Errorf("status %d", w.Code)
	}
	lines := log.lines(t)
	stack, _ := lines[len(lines)-1]["stack"].(string)
	if len(lines) != 2 || lines[1]["error"] != "the observer panicked: observer's own" || !strings.Contains(stack, "outcome_test.go") {
		t.Errorf("log %v", lines)
	}
}

// A panic with an error is logged without what the error quotes of the body.
func TestPanicWithAnErrorOfTheBody(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithoutVerification(),
		pixmed.WithInvalid(func(_ context.Context, _ []byte, cause error) error { panic(cause) }))
	w := h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(payloadWith(t, `"transactionStatus": "MEDPAYLOAD"`))))
	lines := h.log.lines(t)
	if text := fmt.Sprint(lines); len(lines) != 2 || strings.Contains(text, "MEDPAYLOAD") || !strings.Contains(text, "the WithInvalid callback panicked: invalid infraction: transactionStatus") {
		t.Errorf("the log has %v, and the answer is %v", lines, w)
	}
}

// The values are labels of metrics: changing one breaks dashboards.
func TestResultValues(t *testing.T) {
	t.Parallel()
	got := []pixmed.Result{
		pixmed.ResultAccepted, pixmed.ResultDuplicate, pixmed.ResultInvalid, pixmed.ResultRefused,
		pixmed.ResultOther, pixmed.ResultFailed, pixmed.ResultBusy,
	}
	want := []pixmed.Result{"accepted", "duplicate", "invalid", "refused", "other", "failed", "busy"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The text of a Receiver's error is logged as it is, except for what a
// ValidationError in it quotes of the body.
func TestReceiverErrorsAreLoggedWhole(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"ledger: not an infraction: transactionStatus names another kind of event": fmt.Errorf("ledger: %w", pixmed.ErrNotInfraction),
		"ledger: malformed JSON at byte 0: no":                                     fmt.Errorf("ledger: %w", &pixmed.SyntaxError{Reason: "no", Pointer: "/a"}),
		"ledger: invalid infraction: a (down)":                                     fmt.Errorf("ledger: %w (down)", &pixmed.ValidationError{Fields: []pixmed.FieldError{{Field: "a", Detail: "b"}}}),
		"two\ninvalid infraction: a\ninvalid infraction: c": errors.Join(errors.New("two"),
			&pixmed.ValidationError{Fields: []pixmed.FieldError{{Field: "a", Detail: "b"}}},
			fmt.Errorf("%w", &pixmed.ValidationError{Fields: []pixmed.FieldError{{Field: "c", Detail: "d"}}})),
	} {
		h := newHook(t, answer(err), pixmed.WithoutVerification())
		h.serve(webhookRequest(t))
		lines := h.log.lines(t)
		if got := lines[len(lines)-1]["error"]; got != want {
			t.Errorf("the log has %v, want %v", got, want)
		}
	}
}

// The log shows the transaction id and the status of a valid body, and nothing
// else of any body.
func TestNoLogLineQuotesTheBody(t *testing.T) {
	t.Parallel()
	malformed, invalid, other := canaryBodies()
	valid := []string{strings.Replace(payloadWith(t, `"externalId": "`+canaryText+`"`), "{", `{"`+canaryText+`":"`+canaryText+`",`, 1)}
	// The ids of an event are logged by AcknowledgeEvent, on purpose; not by a Handler.
	ids := []string{fmt.Sprintf(`{"transactionStatus":%[1]q,"transactionId":%[1]q,"transactionType":%[1]q,"externalId":%[1]q,"e2e_id":%[1]q}`, canaryText)}
	for _, body := range slices.Concat(malformed, invalid, other, valid, ids) {
		for _, encoding := range []string{"", "br"} {
			var log hookLog
			for _, logger := range bothLogs(&log) {
				for _, opts := range [][]pixmed.HandlerOption{
					nil,
					{invalidResult(nil)},
					{invalidResult(errBoom)},
					{pixmed.WithFallback(http.NotFoundHandler())},
				} {
					for _, result := range []error{nil, pixmed.ErrDuplicate, errBoom} {
						h, err := pixmed.NewHandler(answer(result), append(opts, pixmed.WithoutVerification(), pixmed.WithLogger(logger))...)
						if err != nil {
							t.Fatal(err)
						}
						serveCanary(t, h, body, encoding)
					}
				}
				if !slices.Contains(ids, body) {
					serveCanary(t, pixmed.AcknowledgeEvent(logger), body, encoding)
				}
			}
			if text := log.String(); showsCanary(text) || strings.Count(text, "\n") < 20 {
				t.Errorf("%.200q, encoding %q: the log is\n%s", body, encoding, text)
			}
		}
	}
}

func serveCanary(t *testing.T, h http.Handler, body, encoding string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	h.ServeHTTP(httptest.NewRecorder(), r)
}
