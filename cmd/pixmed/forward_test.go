package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// application is what notifications are forwarded to. It answers 204, unless it has
// something else to answer first.
type application struct {
	url string

	mu      sync.Mutex
	got     []forwarded
	answers []http.HandlerFunc
}

type forwarded struct {
	header http.Header
	body   []byte
}

func newApplication(t *testing.T, answers ...http.HandlerFunc) *application {
	t.Helper()
	a := &application{answers: answers}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.url = server.URL + "/infractions"
	return a
}

func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.got = append(a.got, forwarded{r.Header, body})
	answer := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	if len(a.answers) > 0 {
		answer, a.answers = a.answers[0], a.answers[1:]
	}
	a.mu.Unlock()
	answer(w, r)
}

func (a *application) requests() []forwarded {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]forwarded(nil), a.got...)
}

func answerWith(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

func notCounted(time.Duration, error) {}

func newTestForwarder(t *testing.T, to string, secrets ...string) *forwarder {
	t.Helper()
	v := newTestValues(t, map[string]string{"PIXMED_FORWARD": to, "PIXMED_FORWARD_SECRETS": strings.Join(secrets, " ")}, nil, forwardTo, forwardPlain, forwardLimit, forwardSecrets)
	c := &config{}
	c.readForward(v)
	if err := v.err(); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return newForwarder(c, transport, notCounted)
}

// What is posted is what the help says, and the library that the authors of Standard
// Webhooks have written verifies it, with the old secret and with the new one.
func TestForwardSigned(t *testing.T) {
	t.Parallel()
	const newer = "whsec_bmV3ZXIuLi5uZXdlci4uLm5ld2VyLi4ubmV3ZXI="
	app := newApplication(t)
	f := newTestForwarder(t, app.url, forwardSecret, newer)
	sample := func(n *pixmed.Notification) {
		n.TransactionID, n.EndToEndID = "5a94d48d-c9f3-46be-8448-83510ca42bde", "E082535392025011818245238600338f"
	}
	n := pixmedtest.NewNotification(sample, func(n *pixmed.Notification) {
		n.MEDStatus, n.Previous, n.PreviousValue = pixmed.Acknowledged, pixmed.Cancelled, 20*pixmed.Real
		n.PreviousAt, n.SeenAt = n.ReceivedAt.Add(-time.Hour), n.ReceivedAt.Add(-2*time.Hour)
	})
	for range 2 {
		if err := f.notification(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	other := pixmedtest.NewNotification(sample, func(n *pixmed.Notification) { n.MEDStatus, n.Raw = "UNHEARD_OF", []byte("\ufeff"+`{"a":1}`) })
	if err := f.notification(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	got := app.requests()
	for _, secret := range []string{forwardSecret, newer} {
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range got {
			if err := verifier.Verify(r.body, r.header); err != nil {
				t.Errorf("request %d: %v", i, err)
			}
			if verifier.Verify(append(r.body, ' '), r.header) == nil {
				t.Error("another body is verified too")
			}
		}
	}
	if a, b, c := got[0].header.Get("webhook-id"), got[1].header.Get("webhook-id"), got[2].header.Get("webhook-id"); a != b || a == c || !strings.HasPrefix(a, "msg_") {
		t.Errorf("ids: %s, the same again %s, another %s", a, b, c)
	}
	for i, want := range []string{
		`{"type":"infraction.acknowledged","timestamp":"2025-01-18T18:25:00Z","data":{
			"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"MED","transactionType":"CASH_IN","value":"18.00",
			"externalId":"T&ste378","e2e_id":"E082535392025011818245238600338f","medStatus":"ACKNOWLEDGED",
			"previous":"CANCELLED","previousValue":"20.00","previousAt":"2025-01-18T17:25:00Z","seenAt":"2025-01-18T16:25:00Z","maybeReopened":true,
			"raw":{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"MED","transactionType":"CASH_IN","value":18,
				"externalId":"T&ste378","e2e_id":"E082535392025011818245238600338f","medStatus":"ACKNOWLEDGED"}}}`,
		"",
		`{"type":"infraction.other","timestamp":"2025-01-18T18:25:00Z","data":{
			"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"MED","transactionType":"CASH_IN","value":"18.00",
			"externalId":"T&ste378","e2e_id":"E082535392025011818245238600338f","medStatus":"UNHEARD_OF","maybeReopened":false,"raw":{"a":1}}}`,
	} {
		if want == "" {
			continue
		}
		if diff := cmp.Diff(decoded(t, want), decoded(t, string(got[i].body))); diff != "" {
			t.Errorf("message %d (-want +got):\n%s", i, diff)
		}
	}
}

// A reminder's id stays the same until it is done or given up, and is another one for
// the next.
func TestForwardReminder(t *testing.T) {
	t.Parallel()
	app := newApplication(t)
	f := newTestForwarder(t, app.url, forwardSecret)
	opened := time.Date(2026, 1, 20, 12, 0, 0, 0, time.UTC)
	body := pixmedtest.Payload(pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.EndToEndID = "E082535392025011818245238600338f" }))
	c := &inbox.Case{
		TransactionID: "5a94d48d-c9f3-46be-8448-83510ca42bde", ExternalID: "T&ste378", Status: pixmed.Acknowledged, Value: 18 * pixmed.Real,
		OpenedAt: opened, DueAt: opened.Add(7 * day),
		Events: []*inbox.Event{{Raw: body, Key: pixmed.Key{ExternalID: "T&ste378"}}, {Raw: pixmedtest.Payload(pixmedtest.NewInfraction()), Key: pixmed.Key{ExternalID: "another"}}, {Raw: []byte("{")}},
	}
	post := func() forwarded {
		t.Helper()
		if err := f.reminder(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		all := app.requests()
		return all[len(all)-1]
	}
	first := post()
	ids := map[string]bool{first.header.Get("webhook-id"): true}
	if again := post(); !ids[again.header.Get("webhook-id")] {
		t.Error("the second attempt has another id")
	}
	for _, note := range []inbox.Note{{Action: inbox.ReminderCalled}, {Action: inbox.ReminderGivenUp}, {Action: inbox.Replayed}} {
		c.Notes = append(c.Notes, note)
		ids[post().header.Get("webhook-id")] = true
	}
	c.OpenedAt = opened.Add(day)
	if ids[post().header.Get("webhook-id")] = true; len(ids) != 4 {
		t.Errorf("%d ids, want one each for three reminders, and one for a case that was opened again", len(ids))
	}
	got, ok := decoded(t, string(first.body)).(map[string]any)
	if !ok {
		t.Fatalf("%s", first.body)
	}
	if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got["timestamp"])); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("%v, %v", at, err)
	}
	delete(got, "timestamp")
	if diff := cmp.Diff(decoded(t, `{"type":"infraction.reminder","data":{
		"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","externalId":"T&ste378","e2e_id":"E082535392025011818245238600338f",
		"medStatus":"ACKNOWLEDGED","value":"18.00","openedAt":"2026-01-20T12:00:00Z","dueAt":"2026-01-27T12:00:00Z"}}`), any(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func decoded(t *testing.T, text string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}

// Everything but 2xx is an error that says why, and shows neither the URL nor what
// the application says.
func TestForwardFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string // empty for none
	}{
		"ok":       {answerWith(200), ""},
		"accepted": {answerWith(202), ""},
		"last 2xx": {answerWith(299), ""},
		"moved":    {answerWith(307, "Location", "/elsewhere"), "not forwarded: the application answered 307 Temporary Redirect, and redirects are not followed: set the URL that it leads to"},
		"gone":     {answerWith(410), "not forwarded: the application answered 410 Gone"},
		"unknown":  {answerWith(599), "not forwarded: the application answered 599"},
		"asks":     {answerWith(503, "Retry-After", "120"), "not forwarded: the application answered 503 Service Unavailable; it asks to wait 2m0s"},
		"nonsense": {answerWith(503, "Retry-After", "soon"), "not forwarded: the application answered 503 Service Unavailable"},
		"cut":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "not forwarded: the application did not answer: "},
		"slow":     {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "not forwarded: the application did not answer: context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newApplication(t, test.answer)
			f := newTestForwarder(t, app.url, forwardSecret)
			if name == "slow" {
				f.timeout = 50 * time.Millisecond
			}
			got := ""
			if err := f.notification(t.Context(), pixmedtest.NewNotification()); err != nil {
				got = err.Error()
			}
			if strings.HasSuffix(test.want, ": ") { // in the words of the system
				got = got[:min(len(test.want), len(got))]
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(app.requests()) != 1 {
				t.Errorf("%d requests", len(app.requests()))
			}
		})
	}
}

// roundTripper answers without a network.
type roundTripper func(*http.Request) *http.Response

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// A Retry-After is honoured, for all notifications: none is posted before its time.
func TestForwardRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var asked []time.Duration
		header := http.Header{"Retry-After": {"30"}}
		to, err := url.Parse("https://app.example/")
		if err != nil {
			t.Fatal(err)
		}
		f := newForwarder(&config{forward: to, forwardKeys: [][]byte{[]byte("key")}, forwardTimeout: 10 * time.Second}, roundTripper(func(*http.Request) *http.Response {
			asked = append(asked, time.Since(start))
			status := http.StatusTooManyRequests
			if len(asked) == 3 {
				status = http.StatusOK
			}
			return &http.Response{StatusCode: status, Header: header, Body: http.NoBody}
		}), notCounted)
		if f.notification(t.Context(), pixmedtest.NewNotification()) == nil {
			t.Error("429 is no error")
		}
		// Nothing is posted before its time.
		if err := f.notification(t.Context(), pixmedtest.NewNotification()); err == nil || !strings.Contains(err.Error(), "asked to wait until 2000-01-01T00:00:30Z (Retry-After)") {
			t.Errorf("%v", err)
		}
		time.Sleep(30 * time.Second) // by the test's own clock
		header.Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		if f.notification(t.Context(), pixmedtest.NewNotification()) == nil {
			t.Error("429 is no error")
		}
		time.Sleep(time.Hour - time.Second)
		if f.notification(t.Context(), pixmedtest.NewNotification()) == nil {
			t.Error("a second too early is no error")
		}
		time.Sleep(time.Second)
		if err := f.notification(t.Context(), pixmedtest.NewNotification()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]time.Duration{0, 30 * time.Second, time.Hour + 30*time.Second}, asked); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
}

// Waiting for an application that asked for it uses up no attempt: of two, the second
// is the one that the application takes.
func TestForwardRetryAfterUsesNoAttempt(t *testing.T) {
	t.Parallel()
	app := newApplication(t, answerWith(503, "Retry-After", "2"))
	ended := make(chan inbox.Attempt, 10)
	w := &worker{forwarder: newTestForwarder(t, app.url, forwardSecret), log: slog.New(slog.DiscardHandler), tracer: noop.NewTracerProvider().Tracer("")}
	var posted []bool
	w.forwarder.posted = func(_ time.Duration, err error) { posted = append(posted, err == nil) }
	in, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inbox.db"), w, inbox.WithMaxAttempts(2), inbox.WithBackoff(time.Millisecond, time.Minute),
		inbox.WithObserver(func(_ context.Context, a inbox.Attempt) { ended <- a }), inbox.WithLogger(w.log))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(in.Start(t.Context()), in.Receive(t.Context(), pixmedtest.NewNotification())); err != nil {
		t.Fatal(err)
	}
	var results []inbox.AttemptResult
	for range 2 {
		results = append(results, (<-ended).Result)
	}
	if err := in.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]inbox.AttemptResult{inbox.AttemptFailed, inbox.AttemptDone}, results); diff != "" || len(app.requests()) != 2 {
		t.Errorf("%d requests; attempts (-want +got):\n%s", len(app.requests()), diff)
	}
	if diff := cmp.Diff([]bool{false, true}, posted); diff != "" { // what was put off is no failed POST
		t.Errorf("POSTs that went well (-want +got):\n%s", diff)
	}
}
