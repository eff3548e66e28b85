package pixmed_test

import (
	stdcmp "cmp"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

var (
	_ http.Handler    = (*pixmed.Handler)(nil)
	_ pixmed.Receiver = pixmed.Callbacks{}
	_ pixmed.Receiver = pixmed.ReceiverFunc(nil)
	_ pixmed.Option   = pixmed.WithLogger(nil)
)

// afterDeadline returns a Receiver that returns err after its deadline.
func afterDeadline(err error) pixmed.ReceiverFunc {
	return func(ctx context.Context, _ *pixmed.Notification) error {
		<-ctx.Done()
		return err
	}
}

func TestReceiverAnswers(t *testing.T) {
	t.Parallel()
	known := fmt.Errorf("event 5: %w", pixmed.ErrDuplicate)
	again := map[string]string{"Retry-After": "10"}
	tests := []answerTest{
		{name: "handled", receiver: answer(nil), status: 200, outcome: about(pixmed.ResultAccepted)},
		{
			name: "handled, unknown status", receiver: answer(nil), body: payloadWith(t, `"medStatus": "NEW"`), status: 200,
			outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: "NEW"},
		},
		{
			name: "handled, no status", receiver: answer(nil), body: payloadWith(t, `"medStatus"`), status: 200,
			outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey},
		},
		{
			name: "handled, longest status", receiver: answer(nil), body: payloadWith(t, `"medStatus": "`+strings.Repeat("X", 64)+`"`), status: 200,
			outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: pixmed.MEDStatus(strings.Repeat("X", 64))},
		},
		{name: "duplicate", receiver: answer(pixmed.ErrDuplicate), status: 200, outcome: about(pixmed.ResultDuplicate), err: "duplicate notification"},
		{name: "duplicate, wrapped", receiver: answer(known), status: 200, outcome: about(pixmed.ResultDuplicate), err: "event 5: duplicate notification"},
		{
			name: "duplicate, joined with a failure", receiver: answer(errors.Join(pixmed.ErrDuplicate, errBoom)), status: 500, detail: detailAgain,
			outcome: about(pixmed.ResultFailed), err: "duplicate notification\n" + errBoom.Error(),
		},
		{
			name: "duplicate, wrapped beside a failure", receiver: answer(fmt.Errorf("%w, then %w", pixmed.ErrDuplicate, errBoom)), status: 500, detail: detailAgain,
			outcome: about(pixmed.ResultFailed), err: "duplicate notification, then " + errBoom.Error(),
		},
		{name: "failure", receiver: answer(errBoom), status: 500, detail: detailAgain, outcome: about(pixmed.ResultFailed), err: errBoom.Error()},
		{
			name: "panic", receiver: pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error { panic(errBoom) }),
			status: 500, detail: detailAgain, outcome: about(pixmed.ResultFailed), err: "the Receiver panicked: " + errBoom.Error(),
		},
		{
			name: "error that panics", receiver: answer(panickyError{}), status: 500, detail: detailAgain,
			outcome: about(pixmed.ResultFailed), err: "the Receiver panicked: no text",
		},
		{
			name: "panic with an error that panics", receiver: pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error { panic(panickyError{}) }),
			status: 500, detail: detailAgain, outcome: about(pixmed.ResultFailed), err: "the Receiver panicked: %!v(PANIC=Error method: no text)",
		},
		{
			name: "a deadline of its own", receiver: answer(context.DeadlineExceeded), // not the Handler's
			status: 500, detail: detailAgain, outcome: about(pixmed.ResultFailed), err: "context deadline exceeded",
		},
		{
			name: "too late", receiver: afterDeadline(context.DeadlineExceeded), status: 503, header: again, detail: detailAgain,
			outcome: about(pixmed.ResultBusy), err: "context deadline exceeded",
		},
		{
			name: "too late, another error", receiver: afterDeadline(errBoom), status: 503, header: again, detail: detailAgain,
			outcome: about(pixmed.ResultBusy), err: errBoom.Error(),
		},
		{name: "too late, and done", receiver: afterDeadline(nil), status: 200, outcome: about(pixmed.ResultAccepted)},
		{
			name: "too late, and a duplicate", receiver: afterDeadline(pixmed.ErrDuplicate), status: 200,
			outcome: about(pixmed.ResultDuplicate), err: "duplicate notification",
		},
		{name: "busy", receiver: answer(pixmed.ErrBusy), status: 503, header: again, detail: detailAgain, outcome: about(pixmed.ResultBusy), err: "busy"},
		{
			name: "busy, wrapped and joined", receiver: answer(errors.Join(fmt.Errorf("queue: %w", pixmed.ErrBusy), errBoom)),
			status: 503, header: again, detail: detailAgain, outcome: about(pixmed.ResultBusy), err: "queue: busy\n" + errBoom.Error(),
		},
	}
	for _, contentType := range []string{"", "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "image/png", "%%%"} {
		tests = append(tests, answerTest{
			name: "content type " + contentType, receiver: answer(nil), change: withHeader("Content-Type", contentType),
			status: 200, outcome: about(pixmed.ResultAccepted),
		})
	}
	for i := range tests {
		tests[i].body = stdcmp.Or(tests[i].body, specPayload)
	}
	testAnswers(t, tests)
}

// A MED request without a status is for Other, whatever else is set.
func TestMEDWithoutAStatusReachesOther(t *testing.T) {
	t.Parallel()
	for _, member := range []string{`"medStatus"`, `"medStatus": null`, `"medStatus": ""`} {
		var got []*pixmed.Notification
		unexpected := func(_ context.Context, n *pixmed.Notification) error {
			t.Errorf("%s: it reached another callback than Other: %v", member, n)
			return nil
		}
		h := newHook(t, pixmed.Callbacks{
			Acknowledged: unexpected, Cancelled: unexpected, Debited: unexpected,
			Other: func(_ context.Context, n *pixmed.Notification) error {
				got = append(got, n)
				return nil
			},
		}, pixmed.WithoutVerification(), pixmed.WithFallback(http.NotFoundHandler()), invalidResult(errBoom))
		w := h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(payloadWith(t, member))))
		if w.Code != 200 || len(got) != 1 || got[0].MEDStatus != "" || got[0].Key() != specKey {
			t.Errorf("%s: status %d, Other got %v", member, w.Code, got)
		}
		if o := h.outcome(t); o.Result != pixmed.ResultAccepted || o.MEDStatus != "" || o.Key != specKey {
			t.Errorf("%s: outcome %+v", member, o)
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	var tests []answerTest
	for _, method := range []string{
		"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "post", "Post", "BREW", strings.Repeat("X", 1000),
	} {
		shown := method
		if len(shown) > 64 {
			shown = shown[:64] + "…"
		}
		tests = append(tests, answerTest{
			name: "method " + shown, verifier: pixmed.HeaderSecret("X-Secret", "s3cret"), opts: []pixmed.HandlerOption{invalidResult(nil)},
			unread: true, change: func(r *http.Request) { r.Method = method },
			status: 405, header: map[string]string{"Allow": "POST"}, detail: "Webhooks are sent with POST.",
			outcome: pixmed.Outcome{Result: pixmed.ResultRefused}, err: "method " + shown + " instead of POST",
		})
	}
	testAnswers(t, tests)
}

type panickyError struct{}

func (panickyError) Error() string { panic("no text") }

func TestNotificationThatTheReceiverGets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, body := range []string{specPayload, bom + specPayload, " " + specPayload + "\r\n"} {
			var got *pixmed.Notification
			h := newHook(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
				got = n
				return nil
			}), pixmed.WithoutVerification())
			start := time.Now()
			r := webhookRequest(t)
			r.Body = io.NopCloser(slowReader{time.Second, strings.NewReader(body)}) // ReceivedAt is before it
			h.serve(r)
			want := &pixmed.Notification{Infraction: specInfraction(), Raw: []byte(body), ReceivedAt: start, Attempt: 1}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
	})
}

// The Receiver may keep and change the Notification.
func TestReceiverOwnsTheNotification(t *testing.T) {
	t.Parallel()
	var kept []*pixmed.Notification
	h := newHook(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		kept = append(kept, n)
		for i := range n.Raw {
			n.Raw[i] = byte('0' + len(kept))
		}
		n.TransactionID, n.MEDStatus = "changed", "changed"
		return nil
	}), pixmed.WithoutVerification())
	for range 2 {
		h.serve(webhookRequest(t))
	}
	for i, o := range h.outcomes() {
		if o.Key != (pixmed.Key{TransactionID: "5a94d48d-c9f3-46be-8448-83510ca42bde", ExternalID: "T&ste378"}) || o.MEDStatus != statusA {
			t.Errorf("outcome %d is about %v, %q", i, o.Key, o.MEDStatus)
		}
		if want := strings.Repeat(strconv.Itoa(i+1), len(specPayload)); string(kept[i].Raw) != want {
			t.Errorf("the body of notification %d changed later", i)
		}
	}
}

func TestCallbackContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	for _, tt := range []struct {
		name string
		opts []pixmed.HandlerOption
		want time.Duration
	}{
		{"by default", nil, 10 * time.Second},
		{"set", []pixmed.HandlerOption{pixmed.WithCallbackTimeout(3 * time.Minute)}, 3 * time.Minute},
	} {
		for _, body := range []string{specPayload, `{"medStatus":"X"}`} {
			t.Run(tt.name+" "+body[:3], func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					calls := 0
					check := func(ctx context.Context) {
						calls++
						if got := ctx.Value(key{}); got != "value" {
							t.Errorf("the request's value is %v", got)
						}
						if err := ctx.Err(); err != nil {
							t.Errorf("the context of a request whose client is gone ended: %v", err)
						}
						if deadline, ok := ctx.Deadline(); !ok || !deadline.Equal(time.Now().Add(tt.want)) {
							t.Errorf("deadline in %v, want in %v", time.Until(deadline), tt.want)
						}
						start := time.Now()
						<-ctx.Done()
						if took := time.Since(start); took != tt.want || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
							t.Errorf("the context ended after %v with %v", took, ctx.Err())
						}
					}
					h := newHook(t, pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
						check(ctx)
						return nil
					}), append(tt.opts, pixmed.WithoutVerification(), pixmed.WithInvalid(func(ctx context.Context, _ []byte, _ error) error {
						check(ctx)
						return nil
					}))...)
					// A request whose client has already hung up, and whose own deadline is over.
					ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), time.Nanosecond)
					cancel()
					w := h.serve(httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(body)))
					if w.Code != 200 || calls != 1 {
						t.Errorf("status %d after %d calls", w.Code, calls)
					}
				})
			})
		}
	}
}

// The answer waits for a callback that ignores its context.
func TestCallbackRunsToItsEndBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := false
		h := newHook(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
			time.Sleep(time.Hour) // on the bubble's clock
			ended = true
			return nil
		}), pixmed.WithoutVerification())
		if w := h.serve(webhookRequest(t)); w.Code != 200 || !ended {
			t.Errorf("status %d, the callback has ended: %v", w.Code, ended)
		}
	})
}

func TestContextEndsWithTheCallback(t *testing.T) {
	t.Parallel()
	var ended func() error
	h := newHook(t, pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
		ended = ctx.Err
		return nil
	}), pixmed.WithoutVerification())
	h.serve(webhookRequest(t))
	if ended() == nil {
		t.Error("the context is still alive after the answer")
	}
}

// A callback ends its goroutine, as t.FailNow does.
func TestCallbackEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	h := newHook(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
		runtime.Goexit()
		return nil
	}), pixmed.WithoutVerification())
	w := httptest.NewRecorder()
	var wg sync.WaitGroup
	wg.Go(func() { h.ServeHTTP(w, webhookRequest(t)) })
	wg.Wait()
	if w.Code == 200 && w.Flushed || w.Body.Len() > 0 {
		t.Errorf("answered %d %q", w.Code, w.Body)
	}
	if o := h.outcome(t); o.Result != pixmed.ResultFailed || o.StatusCode != 0 || o.Err == nil {
		t.Errorf("outcome %+v", o)
	}
}

func TestHandlerConcurrently(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]string{}
	h := newHook(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		mu.Lock()
		defer mu.Unlock()
		got[n.ExternalID] = string(n.Raw)
		return nil
	}), pixmed.WithVerifier(pixmed.HMACSHA256("X-Signature", "", "s")))
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			id := fmt.Sprint(i)
			body := payloadWith(t, `"externalId": "`+id+`"`)
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("X-Signature", hex.EncodeToString(signed("s", body)))
			w := h.serve(r)
			mu.Lock()
			defer mu.Unlock()
			if w.Code != 200 || got[id] != body {
				t.Errorf("%s: status %d, handled %q", id, w.Code, got[id])
			}
		})
	}
	wg.Wait()
	if n := len(h.outcomes()); n != 100 {
		t.Errorf("%d outcomes", n)
	}
}

// A request with a wrong secret is answered before its body is sent.
func TestRefusedBeforeTheBodyIsSent(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", "s")))
	c := dialHook(t, serverOf(t, h))
	c.send(t, "POST / HTTP/1.1\r\nHost: x\r\nX-Secret: wrong\r\nContent-Length: 245\r\nExpect: 100-continue\r\n\r\n")
	if got := c.answer(t); got.status != 401 { // and not 100
		t.Errorf("status %d", got.status)
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", "s")))
	c := dialHook(t, serverOf(t, h))
	for i, tt := range []struct {
		secret, body string
		want         int
	}{
		{"s", specPayload, 200},
		{"wrong", specPayload, 401},
		{"s", "{", 400},
		{"s", "{}", 422},
		{"s", specPayload, 200},
	} {
		c.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nX-Secret: %s\r\nContent-Length: %d\r\n\r\n%s", tt.secret, len(tt.body), tt.body))
		if got := c.answer(t); got.status != tt.want || got.closes {
			t.Errorf("request %d: status %d, want %d; the connection is closed: %v", i+1, got.status, tt.want, got.closes)
		}
	}
}

func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	started, gone, checked := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	h := newHook(t, pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
		close(started)
		<-gone // the server has noticed
		checked <- ctx.Err()
		return nil
	}), pixmed.WithoutVerification())
	s := serverOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		go func() {
			<-r.Context().Done()
			close(gone)
		}()
		h.ServeHTTP(w, r)
	}))
	c := dialHook(t, s)
	c.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload))
	<-started
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-checked; err != nil {
		t.Errorf("the callback's context ended with the client's connection: %v", err)
	}
	s.Close() // waits for the handler
	if o := h.outcome(t); o.Result != pixmed.ResultAccepted {
		t.Errorf("outcome %+v", o)
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", "s")))
	impatient := newHook(t, answer(nil), pixmed.WithoutVerification())
	impatient.SetBodyTimeout(20 * time.Millisecond)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Secret") == "impatient" {
			impatient.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	endless, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	for _, tt := range []struct {
		name, secret string
		body         io.Reader
		length       int64
		want         int
	}{
		{"handled", "s", strings.NewReader(specPayload), int64(len(specPayload)), 200},
		{"length not announced", "s", strings.NewReader(specPayload), -1, 200},
		{"rejected", "wrong", strings.NewReader(specPayload), int64(len(specPayload)), 401},
		{"too large", "s", strings.NewReader(strings.Repeat(" ", 1<<20)), 1 << 20, 413},
		{"too large, not announced", "s", strings.NewReader(strings.Repeat(" ", 1<<20)), -1, 413},
		{"too slow", "impatient", endless, 100, 408},
		{"handled after all that", "s", strings.NewReader(specPayload), int64(len(specPayload)), 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, tt.body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Secret", tt.secret)
		r.ContentLength = tt.length
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if resp.ProtoMajor != 2 || resp.StatusCode != tt.want {
			t.Errorf("%s: %s %s, want %d", tt.name, resp.Proto, resp.Status, tt.want)
		}
		checkAnswer(t, resp.StatusCode, resp.Header, body)
	}
}

func FuzzHandler(f *testing.F) {
	const (
		secret   = "s3cret"
		limit    = 512
		gzipped  = 0x40 // the body is sent as gzip
		kept     = 0x80 // with WithInvalid
		fallback = 0x20 // with WithFallback
	)
	for _, seed := range []struct {
		method, secret, signature, encoding, contentType, body string
		length                                                 int64
		mode                                                   uint8
	}{
		{"POST", secret, "", "", "application/json", specPayload, 245, 0},
		{"POST", secret, "", "", "", specPayload, -1, 1},
		{"POST", secret, "", "identity", "", specPayload, 0, 2},
		{"POST", "", hex.EncodeToString(signed(secret, specPayload)), "", "", specPayload, 245, 3},
		{"POST", secret, "", "", "", specPayload, 245, 4},
		{"POST", secret, "", "", "", specPayload, 245, 5},
		{"POST", secret, "", "", "", "{", 1, kept},
		{"POST", secret, "", "", "", "{", 1, kept + 2},
		{"POST", secret, "", "", "", `{"medStatus":"X"}`, 17, kept + 3},
		{"POST", secret, "", "", "", `{"transactionStatus":"PAID"}`, 28, kept},
		{"POST", secret, "", "", "", `{"transactionStatus":"PAID"}`, 28, kept + fallback},
		{"POST", "wrong", "", "", "", specPayload, 245, 0},
		{"POST", secret, "", "gzip", "", "\x1f\x8b", 2, 0},
		{"GET", secret, "", "", "", "", 0, 0},
		{"", "", "", "", "", "", 0, 0},
		{"PO\nST", "\x00", "\xff", "\r\n", "\x00", "\xff\xfe", -5, 0xff},
		{"POST", secret, "", "", "", strings.Repeat(" ", 600), 600, 0},
		{"POST", secret, "", "", "", specPayload, 1 << 40, 0},

		{"POST", secret, "", "gzip", "", specPayload, -1, gzipped},
		{"POST", secret, "", "", "", specPayload, -1, gzipped + kept},
		{"POST", "", hex.EncodeToString(signed(secret, gzipOf(specPayload))), "gzip", "", specPayload, -1, gzipped},
		{"POST", secret, "", "gzip", "", specPayload, 245, 0},
		{"POST", secret, "", "gzip", "", gzipOf(specPayload)[:100], -1, kept},
		{"POST", secret, "", "", "", gzipOf(specPayload) + gzipOf(" "), -1, kept},
		{"POST", secret, "", "", "", gzipOf(specPayload) + "x", -1, kept},
		{"POST", secret, "", "gzip", "", strings.Repeat(" ", 600), -1, gzipped + kept},
		{"POST", secret, "", "gzip", "", `{"transactionStatus":"PAID"}`, -1, gzipped + fallback},
		{"POST", secret, "", "utf-8", "", specPayload, 245, 0},
		{"POST", secret, "", "br", "", bom + " " + specPayload, -1, 0},
		{"POST", secret, "", "identity, BR", "", "\x0b\x02", 2, kept},
		{"POST", secret, "", "deflate", "", specPayload, -1, gzipped + kept},
	} {
		f.Add(seed.method, seed.secret, seed.signature, seed.encoding, seed.contentType, seed.body, seed.length, seed.mode)
	}
	documented := []int{200, 400, 401, 405, 408, 413, 415, 422, 500, 503}
	f.Fuzz(func(t *testing.T, method, given, signature, encoding, contentType, body string, length int64, mode uint8) {
		sent := body
		if mode&gzipped != 0 {
			sent = gzipOf(body)
		}
		// What the Handler must make of the body: its text, or a status code.
		text, status := sent, 0
		switch other := slices.ContainsFunc(strings.Split(encoding, ","), func(coding string) bool {
			return slices.Contains([]string{"br", "compress", "x-compress", "deflate", "zstd"}, strings.ToLower(strings.TrimSpace(coding)))
		}); {
		case len(sent) > limit || length > limit:
			status = 413
		case other && !strings.HasPrefix(strings.TrimLeft(strings.TrimPrefix(sent, bom), " \t\r\n"), "{"):
			status = 415
		case !other && strings.HasPrefix(sent, "\x1f\x8b"):
			var plain []byte
			z, err := gzip.NewReader(strings.NewReader(sent))
			if err == nil {
				plain, err = io.ReadAll(z)
			}
			switch text = string(plain); {
			case len(text) > limit:
				status = 413
			case err != nil:
				status = 400
			}
		}

		var results []error
		callback := func() error {
			var err error
			switch mode % 6 {
			case 1:
				err = errCallback
			case 2:
				err = pixmed.ErrBusy
			case 3:
				err = fmt.Errorf("again: %w", pixmed.ErrDuplicate)
			case 4:
				err = errors.Join(pixmed.ErrDuplicate, errCallback)
			case 5:
				results = append(results, errPanicked)
				panic("boom")
			}
			results = append(results, err)
			return err
		}
		opts := []pixmed.HandlerOption{
			pixmed.WithVerifier(pixmed.Any(pixmed.HeaderSecret("X-Secret", secret), pixmed.HMACSHA256("X-Signature", "", secret))),
			pixmed.WithBodyLimit(limit),
		}
		if mode&kept != 0 {
			opts = append(opts, pixmed.WithInvalid(func(_ context.Context, got []byte, cause error) error {
				if string(got) != sent || cause == nil || status == 413 || errors.Is(cause, pixmed.ErrEncoding) != (status == 415) {
					t.Errorf("WithInvalid got %q, %v; expected status %d", got, cause, status)
				}
				return callback()
			}))
		}
		passed := false
		if mode&fallback != 0 {
			opts = append(opts, pixmed.WithFallback(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				passed = true
				got, err := io.ReadAll(r.Body)
				if string(got) != text || err != nil || status != 0 || r.ContentLength != int64(len(text)) || r.Header.Get("Content-Encoding") != "" {
					t.Errorf("the fallback got %q, %v, length %d, header %v; expected status %d", got, err, r.ContentLength, r.Header, status)
				}
				_, err = pixmed.ParseInfraction(got)
				if !errors.Is(err, pixmed.ErrNotInfraction) {
					t.Errorf("the fallback got %q, which is %v", got, err)
				}
				w.WriteHeader(http.StatusOK)
			})))
		}
		h := newHook(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if string(n.Raw) != text || status != 0 || n.Validate() != nil {
				t.Errorf("the Receiver got %v, %q; expected status %d", n, n.Raw, status)
			}
			return callback()
		}), opts...)
		r := webhookRequest(t)
		r.Method, r.Body, r.ContentLength = method, io.NopCloser(strings.NewReader(sent)), length
		for name, value := range map[string]string{
			"X-Secret": given, "X-Signature": signature, "Content-Encoding": encoding, "Content-Type": contentType,
		} {
			if value != "" {
				r.Header[name] = []string{value}
			}
		}
		w := h.serve(r)

		if !slices.Contains(documented, w.Code) {
			t.Fatalf("status %d", w.Code)
		}
		checkAnswer(t, w.Code, w.Header(), w.Body.Bytes())
		done := passed || len(results) == 1 && (results[0] == nil || mode%6 == 3)
		switch {
		case (w.Code == 200) != done:
			t.Fatalf("status %d, passed on: %v, the callback's results: %v", w.Code, passed, results)
		case len(results) > 1 || len(results) == 1 && passed:
			t.Fatalf("%d calls, passed on: %v", len(results), passed)
		case (len(results) == 1 || passed) && (method != http.MethodPost || len(sent) > limit || len(text) > limit):
			t.Fatalf("a callback was called for a request that must be rejected: %d", w.Code)
		case (len(results) == 1 || passed) && given != secret && signature == "":
			t.Fatal("a callback was called for an unverified request")
		case given == secret && method == http.MethodPost && status != 0 && len(results) == 0 && strings.Trim(sent, " \t\r\n") != "" && w.Code != status:
			t.Fatalf("status %d, want %d", w.Code, status)
		case w.Code == 503 && w.Header().Get("Retry-After") == "":
			t.Fatal("503 without Retry-After")
		case w.Code == 405 && w.Header().Get("Allow") != http.MethodPost:
			t.Fatal("405 without Allow")
		}
		o := h.outcome(t)
		if passed && o.StatusCode != 0 || !passed && o.StatusCode != w.Code || (o.Err == nil) != (o.Result == pixmed.ResultAccepted) {
			t.Fatalf("status %d, outcome %+v", w.Code, o)
		}
	})
}
