package pixmed_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
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

// hookLog collects the lines of a JSON log.
type hookLog struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *hookLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *hookLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// lines returns the log's lines without their time.
func (l *hookLog) lines(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		delete(m, "time")
		lines = append(lines, m)
	}
	return lines
}

func (l *hookLog) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// hook is a Handler whose log and outcomes are kept.
type hook struct {
	*pixmed.Handler
	log *hookLog

	mu   sync.Mutex
	seen []pixmed.Outcome
}

func newHook(t *testing.T, r pixmed.Receiver, opts ...pixmed.HandlerOption) *hook {
	t.Helper()
	h := &hook{log: new(hookLog)}
	opts = append([]pixmed.HandlerOption{
		pixmed.WithLogger(h.log.logger()),
		pixmed.WithObserver(func(_ context.Context, o pixmed.Outcome) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.seen = append(h.seen, o)
		}),
	}, opts...)
	var err error
	if h.Handler, err = pixmed.NewHandler(r, opts...); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hook) outcomes() []pixmed.Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen)
}

// outcome returns the only one.
func (h *hook) outcome(t *testing.T) pixmed.Outcome {
	t.Helper()
	all := h.outcomes()
	if len(all) != 1 {
		t.Fatalf("the observer was called %d times for one request: %v", len(all), all)
	}
	return all[0]
}

// serve answers one request.
func (h *hook) serve(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// hookProblem is the body of an answer other than 200. Members beside these
// fail the test.
type hookProblem struct {
	Type, Title string
	Status      int
	Detail      string
	Errors      []pixmed.FieldError
}

// checkAnswer checks what every answer owes its sender and returns the problem,
// if it is one.
func checkAnswer(t *testing.T, status int, header http.Header, body []byte) hookProblem {
	t.Helper()
	if status == http.StatusOK {
		if len(body) != 0 {
			t.Errorf("a 200 with the body %q", body)
		}
		return hookProblem{}
	}
	if got := header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	if got := header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options %q", got)
	}
	var p hookProblem
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("something follows the problem: %q", body)
	}
	if p.Type != "about:blank" || p.Title != http.StatusText(status) || p.Status != status || p.Detail == "" {
		t.Errorf("status %d with the problem %+v", status, p)
	}
	return p
}

// unreadable is a body that must not be read.
type unreadable struct{ t *testing.T }

func (b unreadable) Read([]byte) (int, error) {
	b.t.Error("the body was read")
	return 0, io.EOF
}

func answer(err error) pixmed.ReceiverFunc {
	return func(context.Context, *pixmed.Notification) error { return err }
}

const (
	detailAgain  = "The notification could not be handled. Send it again later."
	detailVerify = "The request could not be verified to come from the gateway."
	detailEmpty  = "The body is empty, though the request announced one: a middleware in front of this handler may have consumed it."
)

// TestAnswers goes through the table of answers.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const (
		paid     = `{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"PAID","value":"100.00"}`
		bad      = `{"transactionStatus":"MED","value":"1,00"}`
		specID   = "5a94d48d-c9f3-46be-8448-83510ca42bde"
		handled  = "pixmed: webhook handled"
		turned   = "pixmed: webhook turned away"
		failed   = "pixmed: webhook failed"
		badText  = `invalid infraction: transactionId is required; transactionType is required; value has a comma; the decimal point is a dot and thousands are not separated, found "1,00"; medStatus is required`
		otherErr = `not an infraction: transactionStatus is "PAID"`
	)
	specKey := pixmed.Key{TransactionID: specID, ExternalID: "T&ste378"}
	never := pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
		t.Error("the Receiver was called")
		return nil
	})
	secret := pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", "s3cret"))
	open := pixmed.WithoutVerification()
	boom := errors.New("boom: the database's password is hunter2")
	late := pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
		<-ctx.Done()
		return ctx.Err()
	})
	taken := func(err error) pixmed.HandlerOption {
		return pixmed.WithInvalid(func(context.Context, []byte, error) error { return err })
	}
	post := func(body string) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			t.Helper()
			return httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		}
	}
	with := func(request func(*testing.T) *http.Request, change func(*http.Request)) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			t.Helper()
			r := request(t)
			change(r)
			return r
		}
	}
	length := func(n int64) func(*http.Request) { return func(r *http.Request) { r.ContentLength = n } }
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	unread := func(method string) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			t.Helper()
			return httptest.NewRequestWithContext(t.Context(), method, "/", unreadable{t})
		}
	}
	padded := func(n int) string { return specPayload + strings.Repeat(" ", n-len(specPayload)) }

	type row struct {
		name     string
		receiver pixmed.Receiver
		opts     []pixmed.HandlerOption
		request  func(*testing.T) *http.Request

		status  int
		header  map[string]string
		detail  string
		errors  []pixmed.FieldError
		outcome pixmed.Outcome // without Err and durations
		err     string
		level   string
		message string
	}
	rows := []row{
		{
			name: "handled", receiver: answer(nil), opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: statusA},
			level: "DEBUG", message: handled,
		},
		{
			name: "handled, verified", receiver: answer(nil), opts: []pixmed.HandlerOption{secret},
			request: with(post(specPayload), header("X-Secret", "s3cret")),
			status:  200, outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: statusA},
			level: "DEBUG", message: handled,
		},
		{
			name: "handled, unknown status", receiver: answer(nil), opts: []pixmed.HandlerOption{open},
			request: post(payloadWith(t, `"medStatus": "NEW"`)),
			status:  200, outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: "NEW"},
			level: "DEBUG", message: handled,
		},
		{
			name: "duplicate", receiver: answer(pixmed.ErrDuplicate), opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultDuplicate, Key: specKey, MEDStatus: statusA},
			err: "duplicate notification", level: "DEBUG", message: handled,
		},
		{
			name: "duplicate, wrapped", receiver: answer(fmt.Errorf("event 5: %w", pixmed.ErrDuplicate)), opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultDuplicate, Key: specKey, MEDStatus: statusA},
			err: "event 5: duplicate notification", level: "DEBUG", message: handled,
		},
		{
			name: "duplicate, joined with a failure", receiver: answer(errors.Join(pixmed.ErrDuplicate, boom)), opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed, Key: specKey, MEDStatus: statusA},
			err: "duplicate notification\n" + boom.Error(), level: "ERROR", message: failed,
		},
		{
			name: "duplicate, wrapped beside a failure", receiver: answer(fmt.Errorf("%w, then %w", pixmed.ErrDuplicate, boom)), opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed, Key: specKey, MEDStatus: statusA},
			err: "duplicate notification, then " + boom.Error(), level: "ERROR", message: failed,
		},

		{
			name: "refused", receiver: never, opts: []pixmed.HandlerOption{secret}, request: with(unread(http.MethodPost), header("X-Secret", "wrong")),
			status: 401, detail: detailVerify, outcome: pixmed.Outcome{Result: pixmed.ResultRefused},
			err: "header X-Secret holds none of the 1 secrets", level: "WARN", message: turned,
		},
		{
			name: "refused before anything else is looked at", receiver: never, opts: []pixmed.HandlerOption{secret, pixmed.WithBodyLimit(1), taken(nil), pixmed.WithFallback(http.NotFoundHandler())},
			request: with(with(unread(http.MethodPost), header("Content-Encoding", "gzip")), length(1<<40)),
			status:  401, detail: detailVerify, outcome: pixmed.Outcome{Result: pixmed.ResultRefused},
			err: "header X-Secret is there 0 times, want once", level: "WARN", message: turned,
		},
		{
			name: "refused, the body is not parsed", receiver: never, opts: []pixmed.HandlerOption{pixmed.WithVerifier(pixmed.HMACSHA256("X-Signature", "", "s")), taken(nil)},
			request: with(post("not JSON"), header("X-Signature", strings.Repeat("0", 64))),
			status:  401, detail: detailVerify, outcome: pixmed.Outcome{Result: pixmed.ResultRefused},
			err: "header X-Signature matches the body under none of the 1 secrets", level: "WARN", message: turned,
		},
		{
			name: "refused, empty body", receiver: never, opts: []pixmed.HandlerOption{secret, taken(nil)}, request: post(""),
			status: 401, detail: detailVerify, outcome: pixmed.Outcome{Result: pixmed.ResultRefused},
			err: "header X-Secret is there 0 times, want once", level: "WARN", message: turned,
		},
		{
			name: "refused, Basic", receiver: never, opts: []pixmed.HandlerOption{pixmed.WithVerifier(pixmed.BasicAuth("u", "p"))}, request: unread(http.MethodPost),
			status: 401, detail: detailVerify, header: map[string]string{"WWW-Authenticate": `Basic realm="webhook", charset="UTF-8"`},
			outcome: pixmed.Outcome{Result: pixmed.ResultRefused}, err: "header Authorization is there 0 times, want once", level: "WARN", message: turned,
		},
		{
			name: "refused, Basic inside of others", receiver: never,
			opts:    []pixmed.HandlerOption{pixmed.WithVerifier(pixmed.Any(pixmed.HeaderSecret("X-Secret", "s"), pixmed.All(pixmed.BasicAuth("u", "p"))))},
			request: unread(http.MethodPost), status: 401, detail: detailVerify,
			header:  map[string]string{"WWW-Authenticate": `Basic realm="webhook", charset="UTF-8"`},
			outcome: pixmed.Outcome{Result: pixmed.ResultRefused},
			err:     "header X-Secret is there 0 times, want once\nheader Authorization is there 0 times, want once", level: "WARN", message: turned,
		},
		{
			name: "refused, Basic before others", receiver: never,
			opts:    []pixmed.HandlerOption{pixmed.WithVerifier(pixmed.Any(pixmed.BasicAuth("u", "p"), pixmed.HeaderSecret("X-Secret", "s"), refuse("no")))},
			request: unread(http.MethodPost), status: 401, detail: detailVerify,
			header:  map[string]string{"WWW-Authenticate": `Basic realm="webhook", charset="UTF-8"`},
			outcome: pixmed.Outcome{Result: pixmed.ResultRefused},
			err:     "header Authorization is there 0 times, want once\nheader X-Secret is there 0 times, want once\nno", level: "WARN", message: turned,
		},
		{
			name: "verifier of one's own panics", receiver: never, request: unread(http.MethodPost),
			opts:   []pixmed.HandlerOption{pixmed.WithVerifier(pixmed.VerifierFunc(func(*http.Request, func() ([]byte, error)) error { panic("boom") }))},
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed},
			err: "the Verifier panicked: boom", level: "ERROR", message: failed,
		},

		{
			name: "over the limit, announced", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)}, request: with(unread(http.MethodPost), length(pixmed.DefaultBodyLimit+1)),
			status: 413, detail: "The body is larger than 65536 bytes.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "http: request body too large", level: "WARN", message: turned,
		},
		{
			name: "over the limit, not announced", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)},
			request: with(post(padded(pixmed.DefaultBodyLimit+1)), length(-1)),
			status:  413, detail: "The body is larger than 65536 bytes.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "http: request body too large", level: "WARN", message: turned,
		},
		{
			name: "over a limit of one's own", receiver: never, opts: []pixmed.HandlerOption{open, pixmed.WithBodyLimit(300)}, request: post(padded(301)),
			status: 413, detail: "The body is larger than 300 bytes.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "http: request body too large", level: "WARN", message: turned,
		},
		{
			name: "over the limit, noticed by the verifier", receiver: never, opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(300), pixmed.WithVerifier(pixmed.HMACSHA256("X-Signature", "", "s"))},
			request: with(post(padded(301)), header("X-Signature", hex.EncodeToString(signed("s", padded(301))))),
			status:  413, detail: "The body is larger than 300 bytes.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "http: request body too large", level: "WARN", message: turned,
		},
		{
			name: "at the limit, announced", receiver: answer(nil), opts: []pixmed.HandlerOption{open}, request: post(padded(pixmed.DefaultBodyLimit)),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: statusA}, level: "DEBUG", message: handled,
		},
		{
			name: "at the limit, not announced", receiver: answer(nil), opts: []pixmed.HandlerOption{open, pixmed.WithBodyLimit(300)}, request: with(post(padded(300)), length(-1)),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: statusA}, level: "DEBUG", message: handled,
		},
		{
			name: "above the default, under a limit of one's own", receiver: answer(nil), opts: []pixmed.HandlerOption{open, pixmed.WithBodyLimit(1 << 20)}, request: post(padded(1 << 20)),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: statusA}, level: "DEBUG", message: handled,
		},

		{
			name: "empty", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)}, request: post(""),
			status: 400, detail: "The body is empty.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "malformed JSON at byte 0: the body is empty", level: "WARN", message: turned,
		},
		{
			name: "no body at all", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)}, request: with(post(""), func(r *http.Request) { r.Body = nil }),
			status: 400, detail: "The body is empty.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "malformed JSON at byte 0: the body is empty", level: "WARN", message: turned,
		},
		{
			name: "white space", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)}, request: post(" \r\n\t"),
			status: 400, detail: "The body is empty.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "malformed JSON at byte 0: the body is empty", level: "WARN", message: turned,
		},
		{
			name: "empty, and announced otherwise", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)}, request: with(post(""), length(245)),
			status: 400, detail: detailEmpty, outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "malformed JSON at byte 0: the body is empty", level: "WARN", message: turned,
		},
		{
			name: "malformed", receiver: never, opts: []pixmed.HandlerOption{open}, request: post(`{"value":NaN}`),
			status: 400, detail: "Malformed JSON at byte 9: invalid character 'N' at start of value (in /value).", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "malformed JSON at byte 9: invalid character 'N' at start of value (in /value)", level: "WARN", message: turned,
		},
		{
			name: "member twice", receiver: never, opts: []pixmed.HandlerOption{open}, request: post(`{"value":1,"value":2}`),
			status: 400, detail: "Malformed JSON at byte 11: duplicate object member name (in /value).", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "malformed JSON at byte 11: duplicate object member name (in /value)", level: "WARN", message: turned,
		},
		{
			name: "cut off", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)},
			request: with(post(""), func(r *http.Request) {
				r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)), 245
			}),
			status: 400, detail: "The body was cut off.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "unexpected EOF", level: "WARN", message: turned,
		},
		{
			name: "too slow", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)},
			request: with(post(""), func(r *http.Request) {
				r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(fmt.Errorf("read: %w", os.ErrDeadlineExceeded))), 245
			}),
			status: 408, detail: "The body took too long to arrive.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "read: i/o timeout", level: "WARN", message: turned,
		},
		{
			name: "too slow, in the words of another package", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)},
			request: with(post(""), func(r *http.Request) {
				r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(timeoutError{})), 245
			}),
			status: 408, detail: "The body took too long to arrive.", outcome: pixmed.Outcome{Result: pixmed.ResultInvalid},
			err: "slow", level: "WARN", message: turned,
		},

		{
			name: "not valid", receiver: never, opts: []pixmed.HandlerOption{open}, request: post(bad),
			status: 422, detail: "Invalid infraction: " + strings.TrimPrefix(badText, "invalid infraction: ") + ".",
			errors: []pixmed.FieldError{
				{"transactionId", "is required"},
				{"transactionType", "is required"},
				{"value", `has a comma; the decimal point is a dot and thousands are not separated, found "1,00"`},
				{"medStatus", "is required"},
			},
			outcome: pixmed.Outcome{Result: pixmed.ResultInvalid}, err: badText, level: "WARN", message: turned,
		},
		{
			name: "malformed, taken", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)}, request: post("{"),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultInvalid}, err: "malformed JSON at byte 1: the body ends too early",
			level: "WARN", message: "pixmed: invalid webhook taken by WithInvalid's callback",
		},
		{
			name: "not valid, taken", receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)}, request: post(bad),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultInvalid}, err: badText,
			level: "WARN", message: "pixmed: invalid webhook taken by WithInvalid's callback",
		},
		{
			name: "not valid, could not be taken", receiver: never, opts: []pixmed.HandlerOption{open, taken(boom)}, request: post(bad),
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed}, err: boom.Error(), level: "ERROR", message: failed,
		},
		{
			name: "not valid, no room", receiver: never, opts: []pixmed.HandlerOption{open, taken(pixmed.ErrBusy)}, request: post(bad),
			status: 503, header: map[string]string{"Retry-After": "10"}, detail: detailAgain,
			outcome: pixmed.Outcome{Result: pixmed.ResultBusy}, err: "busy", level: "ERROR", message: failed,
		},
		{
			name: "not valid, took too long", receiver: never, request: post(bad),
			opts: []pixmed.HandlerOption{open, pixmed.WithInvalid(func(ctx context.Context, _ []byte, _ error) error {
				<-ctx.Done()
				return ctx.Err()
			})},
			status: 503, header: map[string]string{"Retry-After": "10"}, detail: detailAgain,
			outcome: pixmed.Outcome{Result: pixmed.ResultBusy}, err: "context deadline exceeded", level: "ERROR", message: failed,
		},
		{
			name: "not valid, panic", receiver: never, request: post(bad),
			opts:   []pixmed.HandlerOption{open, pixmed.WithInvalid(func(context.Context, []byte, error) error { panic(boom) })},
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed},
			err: "the WithInvalid callback panicked: " + boom.Error(), level: "ERROR", message: failed,
		},

		{
			name: "another event", receiver: never, opts: []pixmed.HandlerOption{open, pixmed.WithInvalid(func(context.Context, []byte, error) error {
				t.Error("another event was handed to WithInvalid")
				return nil
			})}, request: post(paid),
			status: 422, detail: `Not an infraction: transactionStatus is "PAID".`,
			outcome: pixmed.Outcome{Result: pixmed.ResultOther}, err: otherErr, level: "WARN", message: turned,
		},
		{
			name: "another event, acknowledged", receiver: never, opts: []pixmed.HandlerOption{open, pixmed.WithFallback(pixmed.AcknowledgeEvent(slog.New(slog.DiscardHandler)))}, request: post(paid),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultOther}, err: otherErr, level: "DEBUG", message: "pixmed: webhook passed to the fallback",
		},

		{
			name: "Receiver fails", receiver: answer(boom), opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed, Key: specKey, MEDStatus: statusA},
			err: boom.Error(), level: "ERROR", message: failed,
		},
		{
			name: "Receiver panics", opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			receiver: pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error { panic(boom) }),
			status:   500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed, Key: specKey, MEDStatus: statusA},
			err: "the Receiver panicked: " + boom.Error(), level: "ERROR", message: failed,
		},
		{
			name: "Receiver's error panics", receiver: answer(panickyError{}), opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed, Key: specKey, MEDStatus: statusA},
			err: "the Receiver panicked: no text", level: "ERROR", message: failed,
		},
		{
			name: "Receiver gives up on something of its own", opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			receiver: answer(context.DeadlineExceeded), // not the Handler's deadline
			status:   500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed, Key: specKey, MEDStatus: statusA},
			err: "context deadline exceeded", level: "ERROR", message: failed,
		},
		{
			name: "Receiver over its deadline", receiver: late, opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 503, header: map[string]string{"Retry-After": "10"}, detail: detailAgain,
			outcome: pixmed.Outcome{Result: pixmed.ResultBusy, Key: specKey, MEDStatus: statusA},
			err:     "context deadline exceeded", level: "ERROR", message: failed,
		},
		{
			name: "Receiver over its deadline, another error", opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			receiver: pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
				<-ctx.Done()
				return boom
			}),
			status: 503, header: map[string]string{"Retry-After": "10"}, detail: detailAgain,
			outcome: pixmed.Outcome{Result: pixmed.ResultBusy, Key: specKey, MEDStatus: statusA},
			err:     boom.Error(), level: "ERROR", message: failed,
		},
		{
			name: "Receiver over its deadline, and done", opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			receiver: pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
				<-ctx.Done()
				return nil
			}),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: statusA}, level: "DEBUG", message: handled,
		},
		{
			name: "Receiver over its deadline, and a duplicate", opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			receiver: pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
				<-ctx.Done()
				return pixmed.ErrDuplicate
			}),
			status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultDuplicate, Key: specKey, MEDStatus: statusA},
			err: "duplicate notification", level: "DEBUG", message: handled,
		},
		{
			name: "Receiver is busy", receiver: answer(pixmed.ErrBusy), opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 503, header: map[string]string{"Retry-After": "10"}, detail: detailAgain,
			outcome: pixmed.Outcome{Result: pixmed.ResultBusy, Key: specKey, MEDStatus: statusA}, err: "busy", level: "ERROR", message: failed,
		},
		{
			name: "Receiver is busy, wrapped and joined", receiver: answer(errors.Join(fmt.Errorf("queue: %w", pixmed.ErrBusy), boom)), opts: []pixmed.HandlerOption{open}, request: post(specPayload),
			status: 503, header: map[string]string{"Retry-After": "10"}, detail: detailAgain,
			outcome: pixmed.Outcome{Result: pixmed.ResultBusy, Key: specKey, MEDStatus: statusA},
			err:     "queue: busy\n" + boom.Error(), level: "ERROR", message: failed,
		},
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "post", "Post", "BREW"} {
		rows = append(rows, row{
			name: "method " + method, receiver: never, opts: []pixmed.HandlerOption{secret, taken(nil)},
			request: with(unread(http.MethodPost), func(r *http.Request) { r.Method = method }),
			status:  405, header: map[string]string{"Allow": "POST"}, detail: "Webhooks are sent with POST.",
			outcome: pixmed.Outcome{Result: pixmed.ResultRefused}, err: "method " + method + " instead of POST", level: "WARN", message: turned,
		})
	}
	for _, tt := range []struct {
		encodings []string
		bad       string
	}{
		{[]string{"gzip"}, "gzip"},
		{[]string{"br"}, "br"},
		{[]string{"deflate"}, "deflate"},
		{[]string{"x"}, "x"},
		{[]string{"identity, gzip"}, "gzip"},
		{[]string{"gzip,identity"}, "gzip"},
		{[]string{"identity", "gzip"}, "gzip"},
		{[]string{"", "GZIP"}, "GZIP"},
		{[]string{"identitygzip"}, "identitygzip"},
		{[]string{strings.Repeat("g", 100)}, strings.Repeat("g", 64) + "…"},
	} {
		rows = append(rows, row{
			name: fmt.Sprintf("encoding %q", tt.encodings), receiver: never, opts: []pixmed.HandlerOption{open, taken(nil)},
			request: with(unread(http.MethodPost), header("Content-Encoding", tt.encodings...)),
			status:  415, detail: "Send the body without a Content-Encoding.",
			outcome: pixmed.Outcome{Result: pixmed.ResultInvalid}, err: fmt.Sprintf("content encoding %q", tt.bad), level: "WARN", message: turned,
		})
	}
	accepted := pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: statusA}
	for _, encoding := range []string{"identity", "IDENTITY", "", " ", ",", "identity, identity"} {
		rows = append(rows, row{
			name: "encoding " + encoding, receiver: answer(nil), opts: []pixmed.HandlerOption{open},
			request: with(post(specPayload), header("Content-Encoding", encoding)), status: 200, outcome: accepted, level: "DEBUG", message: handled,
		})
	}
	for _, contentType := range []string{"", "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "image/png", "%%%"} {
		rows = append(rows, row{
			name: "content type " + contentType, receiver: answer(nil), opts: []pixmed.HandlerOption{open},
			request: with(post(specPayload), header("Content-Type", contentType)), status: 200, outcome: accepted, level: "DEBUG", message: handled,
		})
	}

	long := strings.Repeat("X", 1000) // in the log it is shorter
	rows = append(rows, row{
		name: "long method", receiver: never, opts: []pixmed.HandlerOption{open},
		request: with(unread(http.MethodPost), func(r *http.Request) { r.Method = long }),
		status:  405, header: map[string]string{"Allow": "POST"}, detail: "Webhooks are sent with POST.",
		outcome: pixmed.Outcome{Result: pixmed.ResultRefused}, err: "method " + long[:64] + "… instead of POST", level: "WARN", message: turned,
	}, row{
		name: "long status", receiver: answer(nil), opts: []pixmed.HandlerOption{open}, request: post(payloadWith(t, `"medStatus": "`+long+`"`)),
		status: 200, outcome: pixmed.Outcome{Result: pixmed.ResultAccepted, Key: specKey, MEDStatus: pixmed.MEDStatus(long)}, level: "DEBUG", message: handled,
	})

	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // for the rows with a deadline
				h := newHook(t, tt.receiver, tt.opts...)
				w := h.serve(tt.request(t))
				if w.Code != tt.status {
					t.Errorf("status %d, want %d", w.Code, tt.status)
				}
				p := checkAnswer(t, w.Code, w.Header(), w.Body.Bytes())
				if p.Detail != tt.detail {
					t.Errorf("detail:\n got %s\nwant %s", p.Detail, tt.detail)
				}
				if diff := cmp.Diff(tt.errors, p.Errors); diff != "" {
					t.Errorf("errors (-want +got):\n%s", diff)
				}
				for _, name := range []string{"Allow", "Retry-After", "WWW-Authenticate"} {
					if got := w.Header().Get(name); got != tt.header[name] {
						t.Errorf("%s: %q, want %q", name, got, tt.header[name])
					}
				}

				got := h.outcome(t)
				want := tt.outcome
				if want.StatusCode = tt.status; strings.HasSuffix(tt.message, "fallback") {
					want.StatusCode = 0
				}
				if text := fmt.Sprint(got.Err); (got.Err != nil || tt.err != "") && text != tt.err {
					t.Errorf("outcome's error:\n got %s\nwant %s", text, tt.err)
				}
				want.Err, want.Duration, want.Callback = got.Err, got.Duration, got.Callback
				if want != got {
					t.Errorf("outcome:\n got %+v\nwant %+v", got, want)
				}

				lines := h.log.lines(t)
				last := lines[len(lines)-1]
				line := map[string]any{
					"level": tt.level, "msg": tt.message, "result": string(tt.outcome.Result), "status": float64(got.StatusCode),
					"remote": "192.0.2.1:1234", "duration": float64(got.Duration),
				}
				if tt.err != "" { // of the body nothing is in the log
					shown, _, _ := strings.Cut(tt.err, " (in /")
					if strings.HasPrefix(shown, pixmed.ErrNotInfraction.Error()) {
						shown = pixmed.ErrNotInfraction.Error()
					}
					line["error"] = shown
				}
				if tt.err == badText { // what was found stays out of the log
					line["error"] = "invalid infraction"
					line["fields"] = []any{"transactionId", "transactionType", "value", "medStatus"}
				}
				if tt.outcome.Key != (pixmed.Key{}) {
					line["transaction_id"], line["med_status"] = specID, string(tt.outcome.MEDStatus)
					if len(tt.outcome.MEDStatus) > 64 {
						line["med_status"] = string(tt.outcome.MEDStatus[:64]) + "…"
					}
				}
				if diff := cmp.Diff(line, last); diff != "" {
					t.Errorf("log (-want +got):\n%s", diff)
				}
				// The only other lines are a panic's.
				for _, line := range lines[:len(lines)-1] {
					stack, _ := line["stack"].(string)
					if line["level"] != "ERROR" || line["msg"] != "pixmed: recovered from a panic" || line["error"] != tt.err || !strings.Contains(stack, "webhook_test.go") {
						t.Errorf("log line %v", line)
					}
				}
				if panicked := strings.Contains(tt.err, "panicked"); panicked != (len(lines) == 2) {
					t.Errorf("%d lines in the log", len(lines))
				}
			})
		})
	}
}

type panickyError struct{}

func (panickyError) Error() string { panic("no text") }

type timeoutError struct{}

func (timeoutError) Error() string { return "slow" }
func (timeoutError) Timeout() bool { return true }

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

// The Notification is the Receiver's to change, and to keep.
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
			t.Errorf("the body of notification %d changed behind its back", i)
		}
	}
}

// slowReader takes a while for each read.
type slowReader struct {
	d time.Duration
	r io.Reader
}

func (s slowReader) Read(p []byte) (int, error) {
	time.Sleep(s.d) // on the bubble's clock
	return s.r.Read(p)
}

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
		{"other", `{}`, 14 * time.Second, 0},
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

// A callback that ignores its context keeps the answer waiting: nothing goes on
// behind it.
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

func TestWithInvalid(t *testing.T) {
	t.Parallel()
	const limit = 300
	type call struct {
		body  string
		cause string
	}
	signature := func(body string) string { return hex.EncodeToString(signed("s", body)) }
	for _, tt := range []struct {
		name, body string
		signature  string // the right one if empty
		want       []call
	}{
		{name: "not JSON", body: "transactionId=5", want: []call{{"transactionId=5", "*pixmed.SyntaxError"}}},
		{name: "not UTF-8", body: "{\"\xff\x00\":1}", want: []call{{"{\"\xff\x00\":1}", "*pixmed.SyntaxError"}}},
		{name: "with white space and a byte order mark", body: bom + "\r\n {x} \n", want: []call{{bom + "\r\n {x} \n", "*pixmed.SyntaxError"}}},
		{name: "an array", body: "[" + specPayload + "]", want: []call{{"[" + specPayload + "]", "*pixmed.SyntaxError"}}},
		{name: "a bad field", body: `{"medStatus":"X"}`, want: []call{{`{"medStatus":"X"}`, "*pixmed.ValidationError"}}},
		{name: "valid", body: specPayload},
		{name: "another event", body: `{"transactionStatus":"PAID"}`},
		{name: "empty", body: ""},
		{name: "white space", body: " \n"},
		{name: "too large", body: strings.Repeat("x", limit+1)},
		{name: "unverified", body: "transactionId=5", signature: strings.Repeat("0", 64)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls []call
			h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.HMACSHA256("X-Signature", "", "s")), pixmed.WithBodyLimit(limit),
				pixmed.WithInvalid(func(_ context.Context, body []byte, cause error) error {
					calls = append(calls, call{string(body), fmt.Sprintf("%T", cause)})
					return nil
				}))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(tt.body))
			r.Header.Set("X-Signature", signature(tt.body))
			if tt.signature != "" {
				r.Header.Set("X-Signature", tt.signature)
			}
			w := h.serve(r)
			if diff := cmp.Diff(tt.want, calls, cmp.AllowUnexported(call{})); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if taken := w.Code == 200; taken != (tt.want != nil || tt.name == "valid") {
				t.Errorf("status %d", w.Code)
			}
		})
	}
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

// A fallback is any handler: its panic is the server's, but it is counted.
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
		h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}")))
	}()
	o := h.outcome(t)
	if o.Result != pixmed.ResultFailed || o.StatusCode != 0 || o.Err == nil {
		t.Errorf("outcome %+v", o)
	}
	if lines := h.log.lines(t); len(lines) != 1 || lines[0]["level"] != "ERROR" {
		t.Errorf("log %v", lines)
	}
}

// As t.FailNow does in a callback that a test gave.
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
	long := strings.Repeat("x", 100)
	const refusedMED = "Not an infraction, but it has a MED status: not acknowledged."
	refusedLog := []map[string]any{{
		"level": "WARN", "msg": "pixmed: event turned away", "error": "not an infraction, but it has a MED status: not acknowledged",
	}}
	for _, tt := range []struct {
		name, body string
		status     int
		detail     string
		log        []map[string]any
	}{
		{
			"cash-in", cashIn, 200, "",
			line("PAID", "CASH_IN", "5a94d48d-c9f3-46be-8448-83510ca42bde", "T&ste378", "E082535392025011818245238600338f"),
		},
		{"external id a number", `{"transactionStatus":"PAID","externalId":5}`, 200, "", line("PAID", "", "", "5", "")},
		{"nothing that is known", `{"evento":"teste_webhook"}`, 200, "", line("", "", "", "", "")},
		{"types wrong", `{"transactionStatus":1,"transactionType":[],"transactionId":{},"externalId":true,"e2e_id":null}`, 200, "", line("", "", "", "", "")},
		{
			"long ids", fmt.Sprintf(`{"transactionStatus":%q,"transactionType":%q,"transactionId":%q,"externalId":%q,"e2e_id":%q}`, long, long, long, long, long),
			200, "", line(long[:64]+"…", long[:64]+"…", long[:64]+"…", long[:64]+"…", long[:64]+"…"),
		},
		{"garbage", "garbage", 400, "Malformed JSON at byte 0: invalid character 'g' at start of value.", nil},
		{"an array", "[]", 400, "Malformed JSON at byte 0: the body is not a JSON object.", nil},
		{"empty", "", 400, "Malformed JSON at byte 0: the body is empty.", nil},
		{"MED and another status", `{"transactionStatus":"PAID","medStatus":"CANCELLED"}`, 422, refusedMED, refusedLog},
		{"a status that is much like MED", `{"transactionStatus":" med"}`, 422, refusedMED, refusedLog},
		{"an infraction", specPayload, 422, refusedMED, refusedLog},
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
			if p := checkAnswer(t, w.Code, w.Header(), w.Body.Bytes()); p.Detail != tt.detail {
				t.Errorf("detail %q, want %q", p.Detail, tt.detail)
			}
			if diff := cmp.Diff(tt.log, log.lines(t)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("a body within the Handler's own limit", func(t *testing.T) {
		t.Parallel()
		h := newHook(t, answer(nil), pixmed.WithoutVerification(), pixmed.WithBodyLimit(1<<20),
			pixmed.WithFallback(pixmed.AcknowledgeEvent(slog.New(slog.DiscardHandler))))
		body := `{"x":"` + strings.Repeat("x", 2*pixmed.DefaultBodyLimit) + `"}`
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

func TestCallbacks(t *testing.T) {
	t.Parallel()
	all := []pixmed.MEDStatus{statusA, statusC, statusD, "NEW", "", "acknowledged"}
	for _, tt := range []struct {
		name string
		set  string // the fields that are set, by their first letters
		want map[pixmed.MEDStatus]string
	}{
		{"all", "ACDO", map[pixmed.MEDStatus]string{statusA: "A", statusC: "C", statusD: "D"}},
		{"Other alone", "O", nil},
		{"one", "CO", map[pixmed.MEDStatus]string{statusC: "C"}},
		{"without Debited", "ACO", map[pixmed.MEDStatus]string{statusA: "A", statusC: "C"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			called := ""
			callback := func(name string) func(context.Context, *pixmed.Notification) error {
				if !strings.Contains(tt.set, name) {
					return nil
				}
				return func(context.Context, *pixmed.Notification) error {
					called += name
					return errCallback
				}
			}
			c := pixmed.Callbacks{Acknowledged: callback("A"), Cancelled: callback("C"), Debited: callback("D"), Other: callback("O")}
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			for _, status := range all {
				called = ""
				want, ok := tt.want[status]
				if !ok {
					want = "O"
				}
				err := c.Receive(t.Context(), notification(status))
				if called != want || !errors.Is(err, errCallback) {
					t.Errorf("%q called %q, %v; want %q and its error", status, called, err, want)
				}
			}
		})
	}

	t.Run("the context and the notification are passed on", func(t *testing.T) {
		t.Parallel()
		type key struct{}
		n := notification(statusA)
		ctx := context.WithValue(t.Context(), key{}, 1)
		c := pixmed.Callbacks{Other: func(gotCtx context.Context, got *pixmed.Notification) error {
			if got != n || gotCtx.Value(key{}) != 1 {
				t.Error("the callback got others")
			}
			return nil
		}}
		if err := c.Receive(ctx, n); err != nil {
			t.Error(err)
		}
	})
	t.Run("without Other nothing is swallowed", func(t *testing.T) {
		t.Parallel()
		c := pixmed.Callbacks{Acknowledged: pixmed.Ignore}
		if err := c.Receive(t.Context(), notification(statusA)); err != nil {
			t.Error(err)
		}
		for _, status := range []pixmed.MEDStatus{statusC, statusD, "NEW"} {
			if err := c.Receive(t.Context(), notification(status)); err == nil || err.Error() != otherIsNil {
				t.Errorf("%q: %v", status, err)
			}
		}
	})
	t.Run("Ignore", func(t *testing.T) {
		t.Parallel()
		h := newHook(t, pixmed.Callbacks{Other: pixmed.Ignore}, pixmed.WithoutVerification())
		if w := h.serve(webhookRequest(t)); w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
	})
}

func TestNewHandlerProblems(t *testing.T) {
	t.Parallel()
	const (
		noVerifier = "no verifier: use WithVerifier, or WithoutVerification if something in front of the handler verifies requests"
		noReceiver = "the Receiver is nil"
		nilOption  = "an option is nil"
		twice      = "WithVerifier was given twice: combine the verifiers with All or Any"
		both       = "WithVerifier and WithoutVerification contradict each other"
	)
	var (
		ignore = pixmed.ReceiverFunc(pixmed.Ignore)
		open   = pixmed.WithoutVerification()
		secret = pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", "s"))
	)
	type options = []pixmed.HandlerOption
	for _, tt := range []struct {
		name     string
		receiver pixmed.Receiver
		opts     options
		want     []string
	}{
		{"nothing at all", nil, nil, []string{noReceiver, noVerifier}},
		{"no verifier", ignore, nil, []string{noVerifier}},
		{"no receiver", nil, options{open}, []string{noReceiver}},
		{"nil function", pixmed.ReceiverFunc(nil), options{open}, []string{noReceiver}},
		{"nil pointer", (*pixmed.Callbacks)(nil), options{open}, []string{noReceiver}},
		{"Callbacks without Other", pixmed.Callbacks{Acknowledged: pixmed.Ignore}, options{open}, []string{otherIsNil}},
		{"pointer to Callbacks without Other", &pixmed.Callbacks{}, options{open}, []string{otherIsNil}},
		{"a Receiver of one's own that is not complete", problematicReceiver{}, options{open}, []string{"my own problem"}},
		{"nil option", ignore, options{open, nil}, []string{nilOption}},
		{"nil verifier", ignore, options{pixmed.WithVerifier(nil), open}, []string{"WithVerifier: the Verifier is nil"}},
		{"nil verifier function", ignore, options{pixmed.WithVerifier(pixmed.VerifierFunc(nil)), open}, []string{"WithVerifier: the Verifier is nil"}},
		{"verifier twice", ignore, options{secret, secret}, []string{twice}},
		{"verifier and none", ignore, options{secret, open}, []string{both}},
		{"none and verifier", ignore, options{open, secret}, []string{both}},
		{"bad verifier", ignore, options{pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret"))}, []string{"HeaderSecret: no secret was given"}},
		{"nil fallback", ignore, options{open, pixmed.WithFallback(nil)}, []string{"WithFallback: the handler is nil"}},
		{"nil fallback function", ignore, options{open, pixmed.WithFallback(http.HandlerFunc(nil))}, []string{"WithFallback: the handler is nil"}},
		{"nil invalid", ignore, options{open, pixmed.WithInvalid(nil)}, []string{"WithInvalid: the callback is nil"}},
		{"nil observer", ignore, options{open, pixmed.WithObserver(nil)}, []string{"WithObserver: the function is nil"}},
		{"nil logger", ignore, options{open, pixmed.WithLogger(nil)}, []string{"WithLogger: the logger is nil"}},
		{"no limit", ignore, options{open, pixmed.WithBodyLimit(0)}, []string{"WithBodyLimit: 0 is not a positive number of bytes"}},
		{"negative limit", ignore, options{open, pixmed.WithBodyLimit(-1)}, []string{"WithBodyLimit: -1 is not a positive number of bytes"}},
		{"no time", ignore, options{open, pixmed.WithCallbackTimeout(0)}, []string{"WithCallbackTimeout: 0s is not a positive duration"}},
		{"negative time", ignore, options{open, pixmed.WithCallbackTimeout(-time.Second)}, []string{"WithCallbackTimeout: -1s is not a positive duration"}},
		{
			"everything at once",
			pixmed.Callbacks{},
			options{
				pixmed.WithVerifier(pixmed.All(pixmed.HeaderSecret("", ""), pixmed.Any())), secret, open, nil, pixmed.WithBodyLimit(-5),
				pixmed.WithCallbackTimeout(-5), pixmed.WithFallback(nil), pixmed.WithInvalid(nil), pixmed.WithObserver(nil), pixmed.WithLogger(nil),
			},
			[]string{
				otherIsNil, "HeaderSecret: secret 1 is empty", "HeaderSecret: the header's name is empty",
				"Any: no verifier was given", twice, nilOption,
				"WithBodyLimit: -5 is not a positive number of bytes", "WithCallbackTimeout: -5ns is not a positive duration",
				"WithFallback: the handler is nil", "WithInvalid: the callback is nil", "WithObserver: the function is nil",
				"WithLogger: the logger is nil", both,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := pixmed.NewHandler(tt.receiver, tt.opts...)
			if h != nil || err == nil {
				t.Fatalf("NewHandler = %v, %v", h, err)
			}
			if diff := cmp.Diff(tt.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("the smallest limits", func(t *testing.T) {
		t.Parallel()
		if _, err := pixmed.NewHandler(ignore, open, pixmed.WithBodyLimit(1), pixmed.WithCallbackTimeout(1)); err != nil {
			t.Error(err)
		}
	})
}

type problematicReceiver struct{}

func (problematicReceiver) Validate() error { return errors.New("my own problem") }

func (problematicReceiver) Receive(context.Context, *pixmed.Notification) error { return nil }

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
	if len(lines) != 2 || lines[1]["error"] != "the observer panicked: observer's own" || !strings.Contains(stack, "webhook_test.go") {
		t.Errorf("log %v", lines)
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

// The values are labels of metrics: changing one breaks a dashboard.
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

// What the sender may not know stays out of the answer: a callback's error and
// a panic's value.
func TestAnswersDoNotTellWhatFailed(t *testing.T) {
	t.Parallel()
	for name, receiver := range map[string]pixmed.ReceiverFunc{
		"error":     answer(errors.New("canary")),
		"busy":      answer(fmt.Errorf("canary: %w", pixmed.ErrBusy)),
		"duplicate": answer(fmt.Errorf("canary: %w", pixmed.ErrDuplicate)),
		"panic":     func(context.Context, *pixmed.Notification) error { panic("canary") },
	} {
		h := newHook(t, receiver, pixmed.WithoutVerification())
		w := h.serve(webhookRequest(t))
		if text := fmt.Sprint(w.Header(), w.Body); strings.Contains(text, "canary") {
			t.Errorf("%s: the answer is %s", name, text)
		}
		if !strings.Contains(h.log.String(), "canary") {
			t.Errorf("%s: the log does not say what failed: %s", name, h.log)
		}
	}
}

// Neither what the verifiers know nor what a sender tried appears anywhere.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	const canary = "canary"
	v := pixmed.All(
		pixmed.Any(pixmed.ClientNetworks(prefixes("10.0.0.0/8")), pixmed.HeaderSecret("X-Secret", canary+"-header-1", canary+"-header-2")),
		pixmed.Any(pixmed.BasicAuth("user", canary+"-password"), pixmed.HMACSHA256("X-Signature", "", canary+"-hmac")),
		pixmed.QuerySecret("token", canary+"-query"),
	)
	right := func(r *http.Request) {
		r.Header.Set("X-Secret", canary+"-header-2")
		r.SetBasicAuth("user", canary+"-password")
		r.URL.RawQuery = "token=" + canary + "-query"
	}
	for name, change := range map[string]func(*http.Request){
		"none":           func(r *http.Request) { r.Header, r.URL.RawQuery = http.Header{}, "" },
		"all right":      func(*http.Request) {},
		"method":         func(r *http.Request) { r.Method = http.MethodGet },
		"header wrong":   func(r *http.Request) { r.Header.Set("X-Secret", canary) },
		"header twice":   func(r *http.Request) { r.Header.Add("X-Secret", canary) },
		"basic wrong":    func(r *http.Request) { r.SetBasicAuth(canary, canary) },
		"basic odd":      func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+canary) },
		"hmac wrong":     func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Set("X-Signature", canary) },
		"query wrong":    func(r *http.Request) { r.URL.RawQuery = "token=" + canary },
		"query twice":    func(r *http.Request) { r.URL.RawQuery += "&token=" + canary },
		"malformed body": func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{")) },
		"encoded":        func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") },
	} {
		for _, result := range []error{nil, errors.New("no"), pixmed.ErrBusy} {
			h := newHook(t, answer(result), pixmed.WithVerifier(v))
			r := webhookRequest(t)
			right(r)
			change(r)
			w := h.serve(r)
			o := h.outcome(t)
			text := fmt.Sprint(w.Header(), w.Body, h.log.String()) + fmt.Sprintf("%v %+v %#v %v", o, o, o, o.Err)
			if strings.Contains(text, canary) || strings.Contains(text, "Y2FuYXJ5") { // in base64
				t.Errorf("%s: %s", name, text)
			}
			if name == "all right" && result == nil && w.Code != 200 {
				t.Errorf("%s: status %d", name, w.Code)
			}
		}
	}
}

// countingBody counts how often it is read to its end.
type countingBody struct {
	*strings.Reader
	ends int
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.ends++
	}
	return n, err
}

func (b *countingBody) Close() error { return nil }

func TestBodyIsReadOnce(t *testing.T) {
	t.Parallel()
	signature := func(name, secret string) pixmed.Verifier { return pixmed.HMACSHA256(name, "", secret) }
	for name, v := range map[string]pixmed.Verifier{
		"no verifier asks": pixmed.HeaderSecret("X-Secret", "s"),
		"one asks":         signature("X-A", "a"),
		"two ask":          pixmed.All(signature("X-A", "a"), signature("X-B", "b")),
		"one of two":       pixmed.Any(signature("X-A", "wrong"), signature("X-B", "b")),
		"one asks twice": pixmed.VerifierFunc(func(_ *http.Request, body func() ([]byte, error)) error {
			for range 2 {
				if b, err := body(); string(b) != specPayload || err != nil {
					return fmt.Errorf("body %q, %w", b, err)
				}
			}
			return nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, answer(nil), pixmed.WithVerifier(v))
			r := webhookRequest(t)
			r.Header.Set("X-Secret", "s")
			r.Header.Set("X-A", hex.EncodeToString(signed("a", specPayload)))
			r.Header.Set("X-B", hex.EncodeToString(signed("b", specPayload)))
			body := &countingBody{Reader: strings.NewReader(specPayload)}
			r.Body = body
			if w := h.serve(r); w.Code != 200 || body.ends != 1 {
				t.Errorf("status %d, the body was read to its end %d times", w.Code, body.ends)
			}
		})
	}
}

// An error of the body is not the verifier's verdict, unless the verifier does
// without the body.
func TestVerifierAndABodyThatIsCutOff(t *testing.T) {
	t.Parallel()
	sum := hex.EncodeToString(signed("s", specPayload))
	hmac, header := pixmed.HMACSHA256("X-Signature", "", "s"), pixmed.HeaderSecret("X-Secret", "s")
	for name, tt := range map[string]struct {
		v    pixmed.Verifier
		want int
	}{
		"signature":                 {hmac, 400},
		"signature, and the secret": {pixmed.All(header, hmac), 400},
		"signature, or the secret":  {pixmed.Any(hmac, header), 400},
		"secret, or the signature":  {pixmed.Any(header, hmac), 400},
		"the secret alone":          {header, 400},
		"a wrong secret alone":      {pixmed.HeaderSecret("X-Secret", "other"), 401},
	} {
		h := newHook(t, answer(nil), pixmed.WithVerifier(tt.v))
		r := webhookRequest(t)
		r.Header.Set("X-Signature", sum)
		r.Header.Set("X-Secret", "s")
		r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
		w := h.serve(r)
		if w.Code != tt.want {
			t.Errorf("%s: status %d, want %d", name, w.Code, tt.want)
		}
	}
}

// Secrets that overlap, as while one is rotated.
func TestRotation(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", strings.Fields(" old  new\n")...)))
	for secret, want := range map[string]int{"old": 200, "new": 200, "older": 401, "": 401, "old new": 401} {
		r := webhookRequest(t)
		r.Header.Set("X-Secret", secret)
		if w := h.serve(r); w.Code != want {
			t.Errorf("%q: status %d, want %d", secret, w.Code, want)
		}
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

// --- what crosses a wire ---

// hookConn is a connection to a server on the loopback interface.
type hookConn struct {
	net.Conn
	r *bufio.Reader
}

func dialHook(t *testing.T, s *httptest.Server) *hookConn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &hookConn{c, bufio.NewReader(c)}
}

func (c *hookConn) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// wireAnswer is what came back over a connection.
type wireAnswer struct {
	status int
	closes bool // the server says that it closes the connection
	hookProblem
}

func (c *hookConn) answer(t *testing.T) wireAnswer {
	t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return wireAnswer{resp.StatusCode, resp.Close, checkAnswer(t, resp.StatusCode, resp.Header, body)}
}

func serverOf(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestWire(t *testing.T) {
	t.Parallel()
	n := len(specPayload)
	head := func(headers ...string) string {
		return "POST /hook HTTP/1.1\r\nHost: x\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	}
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for _, tt := range []struct {
		name   string
		opts   []pixmed.HandlerOption
		text   string
		closed bool // the client says that it will send no more
		status int
		detail string
	}{
		{name: "with a length", text: head(fmt.Sprint("Content-Length: ", n)) + specPayload, status: 200},
		{
			name: "in chunks", text: head("Transfer-Encoding: chunked") + chunk(specPayload[:100]) + chunk(specPayload[100:]) + "0\r\n\r\n",
			status: 200,
		},
		{name: "HTTP/1.0", text: fmt.Sprintf("POST /hook HTTP/1.0\r\nContent-Length: %d\r\n\r\n", n) + specPayload, status: 200},
		{name: "HTTP/1.0 without a length", text: "POST /hook HTTP/1.0\r\n\r\n", status: 400, detail: "The body is empty."},
		{name: "empty", text: head("Content-Length: 0"), status: 400, detail: "The body is empty."},
		{name: "without a length", text: head(), status: 400, detail: "The body is empty."},
		{
			name: "cut off, with a length", text: head("Content-Length: 1000") + specPayload, closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "cut off before its first byte", text: head("Content-Length: 1000"), closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "cut off between chunks", text: head("Transfer-Encoding: chunked") + chunk(specPayload), closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "cut off in a chunk", text: head("Transfer-Encoding: chunked") + "ffff\r\n" + specPayload, closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "malformed chunk", text: head("Transfer-Encoding: chunked") + "zz\r\n", closed: true,
			status: 400, detail: "The body was cut off.",
		},
		{
			name: "over the limit, announced and never sent", text: head("Content-Length: 301"), opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(300)},
			status: 413, detail: "The body is larger than 300 bytes.",
		},
		{
			name: "over the limit, in chunks, no end in sight", text: head("Transfer-Encoding: chunked") + chunk(strings.Repeat("x", 301)),
			opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(300)}, status: 413, detail: "The body is larger than 300 bytes.",
		},
		{
			name: "at the limit, in chunks", text: head("Transfer-Encoding: chunked") + chunk(specPayload) + "0\r\n\r\n",
			opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(int64(n))}, status: 200,
		},
		{
			name: "at the limit, announced", text: head(fmt.Sprint("Content-Length: ", n)) + specPayload,
			opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(int64(n))}, status: 200,
		},
		{
			name: "over the limit by one, announced", text: head(fmt.Sprint("Content-Length: ", n)) + specPayload,
			opts: []pixmed.HandlerOption{pixmed.WithBodyLimit(int64(n - 1))}, status: 413, detail: "The body is larger than 244 bytes.",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, answer(nil), append(tt.opts, pixmed.WithoutVerification())...)
			c := dialHook(t, serverOf(t, h))
			c.send(t, tt.text)
			if tt.closed {
				tcp, ok := c.Conn.(*net.TCPConn)
				if !ok {
					t.Fatalf("a %T", c.Conn)
				}
				if err := tcp.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.answer(t); got.status != tt.status || got.Detail != tt.detail {
				t.Errorf("%d: %s; want %d: %s", got.status, got.Detail, tt.status, tt.detail)
			}
		})
	}
}

// A request whose secret is wrong is answered while its body is still to come.
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

// A middleware that reads the body and keeps it to itself, with and without
// closing it.
func TestConsumedBody(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		closes bool
		detail string
	}{
		"read":            {false, detailEmpty},
		"read and closed": {true, "The body was closed before this handler could read it: a middleware in front of it may have consumed it."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, answer(nil), pixmed.WithoutVerification())
			s := serverOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Error(err)
				}
				if tt.closes {
					_ = r.Body.Close()
				}
				h.ServeHTTP(w, r)
			}))
			for _, text := range []string{
				fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload),
				fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(specPayload), specPayload),
			} {
				c := dialHook(t, s)
				c.send(t, text)
				if got := c.answer(t); got.status != 400 || got.Detail != tt.detail {
					t.Errorf("%d: %s", got.status, got.Detail)
				}
			}
		})
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

// A body that stops arriving, on a server without a limit of its own.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"with a length": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n{",
		"in chunks":     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"HTTP/1.0":      "POST / HTTP/1.0\r\nContent-Length: 245\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, answer(nil), pixmed.WithoutVerification())
			h.SetBodyTimeout(20 * time.Millisecond)
			c := dialHook(t, serverOf(t, h))
			c.send(t, text)
			if got := c.answer(t); got.status != 408 || got.Detail != "The body took too long to arrive." {
				t.Errorf("%d: %s", got.status, got.Detail)
			}
		})
	}
}

// pipeListener is a listener in memory, for servers on a bubble's clock.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{make(chan net.Conn), make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.IPAddr{IP: net.IPv4(192, 0, 2, 1)} }

// dial connects, and closes the connection with the test's bubble.
func (l *pipeListener) dial() *hookConn {
	client, server := net.Pipe()
	l.conns <- server
	return &hookConn{client, bufio.NewReader(client)}
}

// inBubble runs a server and its clients on a clock of their own.
func inBubble(t *testing.T, handler http.Handler, readTimeout time.Duration, test func(t *testing.T, l *pipeListener)) {
	t.Helper()
	l := newPipeListener()
	s := &http.Server{Handler: handler, ReadTimeout: readTimeout}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	test(t, l)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// Which limit ends a slow body, to the second.
func TestBodyTimeouts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		readTimeout time.Duration // the server's
		arrives     time.Duration // when the body is complete
		status      int
		answered    time.Duration
	}{
		{"no limit of the server's: just in time", 0, 10*time.Second - 1, 200, 10*time.Second - 1},
		{"no limit of the server's: too late", 0, time.Hour, 408, 10 * time.Second},
		{"the server's is longer: in time", time.Minute, time.Minute - 1, 200, time.Minute - 1},
		{"the server's is longer: too late", time.Minute, time.Hour, 408, time.Minute},
		{"the server's is shorter: in time", time.Second, time.Second - 1, 200, time.Second - 1},
		{"the server's is shorter: too late", time.Second, time.Hour, 408, time.Second},
		{"negative means none", -1, time.Hour, 408, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHook(t, answer(nil), pixmed.WithoutVerification())
				inBubble(t, h, tt.readTimeout, func(t *testing.T, l *pipeListener) {
					t.Helper()
					c := l.dial()
					start := time.Now()
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload[:100])
						time.Sleep(tt.arrives) // on the bubble's clock
						_, _ = io.WriteString(c, specPayload[100:])
					}()
					got := c.answer(t)
					if took := time.Since(start); got.status != tt.status || took != tt.answered {
						t.Errorf("status %d after %v, want %d after %v", got.status, took, tt.status, tt.answered)
					}
					_ = c.Close()
					<-sent
				})
			})
		})
	}
}

// What is answered without the body does not wait for it forever either: the
// server reads the rest of a body before it sends the answer.
func TestAnswersWithoutTheBody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, head  string
		readTimeout time.Duration
		status      int
		answered    time.Duration
	}{
		{"refused", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n", 0, 401, 10 * time.Second},
		{"refused, chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 401, 10 * time.Second},
		{"refused, the server's limit", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n", time.Minute, 401, time.Minute},
		{"refused, client waits to be asked", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\nExpect: 100-continue\r\n\r\n", 0, 401, 0},
		{"method", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 245\r\n\r\n", 0, 405, 10 * time.Second},
		{"encoding", "POST / HTTP/1.1\r\nHost: x\r\nX-Secret: s\r\nContent-Encoding: gzip\r\nContent-Length: 245\r\n\r\n", 0, 415, 10 * time.Second},
		{"too large", "POST / HTTP/1.1\r\nHost: x\r\nX-Secret: s\r\nContent-Length: 65537\r\n\r\n", 0, 413, 0},
		{"far too large", "POST / HTTP/1.1\r\nHost: x\r\nX-Secret: s\r\nContent-Length: 1000000000\r\n\r\n", 0, 413, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", "s")))
				inBubble(t, h, tt.readTimeout, func(t *testing.T, l *pipeListener) {
					t.Helper()
					c := l.dial()
					c.send(t, tt.head)
					start := time.Now()
					got := c.answer(t)
					if took := time.Since(start); got.status != tt.status || took != tt.answered || !got.closes {
						t.Errorf("status %d after %v, want %d after %v; closes the connection: %v", got.status, took, tt.status, tt.answered, got.closes)
					}
					// Nothing of it is left behind.
					if _, err := c.r.ReadByte(); err != io.EOF {
						t.Errorf("the connection ends with %v", err)
					}
					if took := time.Since(start); took > tt.answered+10*time.Second+500*time.Millisecond {
						t.Errorf("the connection was closed only after %v", took)
					}
				})
			})
		})
	}
}

// A verifier that takes its time does not take the body's, nor does the body's
// limit end the verifier's context where there is no body.
func TestBodyTimeoutDoesNotCountTheVerifier(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		body   string
		status int
	}{{specPayload, 200}, {"", 400}} {
		synctest.Test(t, func(t *testing.T) {
			h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.VerifierFunc(func(r *http.Request, _ func() ([]byte, error)) error {
				time.Sleep(time.Minute) // on the bubble's clock
				return r.Context().Err()
			})))
			inBubble(t, h, 0, func(t *testing.T, l *pipeListener) {
				t.Helper()
				c := l.dial()
				go func() {
					_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(tt.body))
					if tt.body != "" {
						_, _ = io.WriteString(c, tt.body) // waits until the server reads on
					}
				}()
				if got := c.answer(t); got.status != tt.status {
					t.Errorf("status %d, want %d", got.status, tt.status)
				}
				_ = c.Close()
			})
		})
	}
}

// A body that trickles does not push the limit back.
func TestBodyTimeoutIsForTheWholeBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, answer(nil), pixmed.WithoutVerification())
		inBubble(t, h, 0, func(t *testing.T, l *pipeListener) {
			t.Helper()
			c := l.dial()
			start := time.Now()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(specPayload))
				for i := range len(specPayload) {
					if _, err := io.WriteString(c, specPayload[i:i+1]); err != nil {
						return
					}
					time.Sleep(time.Second) // on the bubble's clock
				}
			}()
			got := c.answer(t)
			if took := time.Since(start); got.status != 408 || took != 10*time.Second {
				t.Errorf("status %d after %v", got.status, took)
			}
			_ = c.Close()
			<-sent
		})
	})
}

// The limit is for the body alone: neither a callback that takes longer nor the
// next request on the connection runs into it.
func TestBodyTimeoutEndsWithTheBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
			time.Sleep(time.Minute) // on the bubble's clock
			return nil
		}), pixmed.WithoutVerification(), pixmed.WithCallbackTimeout(time.Hour))
		var ended []error
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			ended = append(ended, r.Context().Err())
		})
		inBubble(t, handler, 0, func(t *testing.T, l *pipeListener) {
			t.Helper()
			c := l.dial()
			for i := range 3 {
				c.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload))
				if got := c.answer(t); got.status != 200 || got.closes {
					t.Errorf("request %d: status %d, the connection is closed: %v", i+1, got.status, got.closes)
				}
				time.Sleep(time.Minute) // on the bubble's clock
			}
			_ = c.Close()
		})
		if diff := cmp.Diff([]error{nil, nil, nil}, ended); diff != "" {
			t.Errorf("the requests' contexts ended (-want +got):\n%s", diff)
		}
	})
}

// A middleware's ResponseWriter that cannot set deadlines is no obstacle.
func TestWriterWithoutDeadlines(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithoutVerification())
	s := serverOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	}))
	c := dialHook(t, s)
	c.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload))
	if got := c.answer(t); got.status != 200 {
		t.Errorf("status %d", got.status)
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
		{"refused", "wrong", strings.NewReader(specPayload), int64(len(specPayload)), 401},
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
	secret := "s3cret"
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
		{"POST", secret, "", "", "", "{", 1, 0x80},
		{"POST", secret, "", "", "", "{", 1, 0x82},
		{"POST", secret, "", "", "", `{"medStatus":"X"}`, 17, 0x83},
		{"POST", secret, "", "", "", `{"transactionStatus":"PAID"}`, 28, 0x80},
		{"POST", "wrong", "", "", "", specPayload, 245, 0},
		{"POST", secret, "", "gzip", "", "\x1f\x8b", 2, 0},
		{"GET", secret, "", "", "", "", 0, 0},
		{"", "", "", "", "", "", 0, 0},
		{"PO\nST", "\x00", "\xff", "\r\n", "\x00", "\xff\xfe", -5, 0xff},
		{"POST", secret, "", "", "", strings.Repeat(" ", 600), 600, 0},
		{"POST", secret, "", "", "", specPayload, 1 << 40, 0},
	} {
		f.Add(seed.method, seed.secret, seed.signature, seed.encoding, seed.contentType, seed.body, seed.length, seed.mode)
	}
	identity := regexp.MustCompile(`(?i)^[ \t]*(identity)?[ \t]*(,[ \t]*(identity)?[ \t]*)*$`)
	documented := []int{200, 400, 401, 405, 408, 413, 415, 422, 500, 503}
	f.Fuzz(func(t *testing.T, method, given, signature, encoding, contentType, body string, length int64, mode uint8) {
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
			pixmed.WithBodyLimit(512),
		}
		if mode >= 0x80 {
			opts = append(opts, pixmed.WithInvalid(func(_ context.Context, got []byte, cause error) error {
				if string(got) != body || cause == nil {
					t.Errorf("WithInvalid got %q, %v", got, cause)
				}
				return callback()
			}))
		}
		h := newHook(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if string(n.Raw) != body || n.Validate() != nil {
				t.Errorf("the Receiver got %v, %q", n, n.Raw)
			}
			return callback()
		}), opts...)
		r := webhookRequest(t)
		r.Method, r.Body, r.ContentLength = method, io.NopCloser(strings.NewReader(body)), length
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
		verified := given == secret || strings.EqualFold(signature, hex.EncodeToString(signed(secret, body)))
		done := len(results) == 1 && (results[0] == nil || mode%6 == 3)
		switch {
		case (w.Code == 200) != done:
			t.Fatalf("status %d, the callback's results: %v", w.Code, results)
		case len(results) > 1:
			t.Fatalf("%d calls", len(results))
		case len(results) == 1 && (method != http.MethodPost || !identity.MatchString(encoding) || len(body) > 512):
			t.Fatalf("a callback was called for a request that is to be turned away: %d", w.Code)
		case len(results) == 1 && !verified && signature == "":
			t.Fatal("a callback was called for an unverified request")
		case w.Code == 503 && w.Header().Get("Retry-After") == "":
			t.Fatal("503 without Retry-After")
		case w.Code == 405 && w.Header().Get("Allow") != http.MethodPost:
			t.Fatal("405 without Allow")
		}
		if o := h.outcome(t); o.StatusCode != w.Code || (o.Err == nil) != (o.Result == pixmed.ResultAccepted) {
			t.Fatalf("status %d, outcome %+v", w.Code, o)
		}
	})
}

// A middleware has read the body and put it back, so that the server waits for the
// client to hang up: that wait must not run into the body's limit.
func TestBodyTimeoutEndsWithABufferedBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
			time.Sleep(time.Minute) // on the bubble's clock
			return nil
		}), pixmed.WithoutVerification(), pixmed.WithCallbackTimeout(time.Hour))
		var ended error
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			h.ServeHTTP(w, r)
			ended = r.Context().Err()
		})
		inBubble(t, handler, 0, func(t *testing.T, l *pipeListener) {
			t.Helper()
			c := l.dial()
			c.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(specPayload), specPayload))
			if got := c.answer(t); got.status != 200 || got.closes {
				t.Errorf("status %d, the connection is closed: %v", got.status, got.closes)
			}
			_ = c.Close()
		})
		if ended != nil {
			t.Errorf("the request's context ended: %v", ended)
		}
	})
}

// What is announced is not reserved.
func TestAnnouncedLengthIsNotReserved(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithoutVerification(), pixmed.WithBodyLimit(math.MaxInt64))
	r := webhookRequest(t)
	r.ContentLength = math.MaxInt64
	if w := h.serve(r); w.Code != 200 {
		t.Errorf("status %d", w.Code)
	}
}

// A body that is too large costs an HTTP/2 client its stream, not its connection.
func TestTooLargeOverHTTP2(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(newHook(t, answer(nil), pixmed.WithoutVerification()))
	s.EnableHTTP2 = true
	s.Config.ConnState = countNew(&connections)
	s.StartTLS()
	t.Cleanup(s.Close)
	for range 3 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader(strings.Repeat(" ", pixmed.DefaultBodyLimit+1)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge || resp.ProtoMajor != 2 {
			t.Errorf("%s %s", resp.Proto, resp.Status)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// What stays out of the log is the body's; a receiver's error is the user's to word.
func TestReceiverErrorsAreLoggedWhole(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		fmt.Errorf("ledger: %w", pixmed.ErrNotInfraction),
		fmt.Errorf("ledger: %w", &pixmed.SyntaxError{Reason: "no", Pointer: "/a"}),
		fmt.Errorf("ledger: %w", &pixmed.ValidationError{Fields: []pixmed.FieldError{{Field: "a", Detail: "b"}}}),
	} {
		h := newHook(t, answer(err), pixmed.WithoutVerification())
		h.serve(webhookRequest(t))
		lines := h.log.lines(t)
		if got := lines[len(lines)-1]["error"]; got != err.Error() {
			t.Errorf("the log has %v, want %v", got, err)
		}
	}
}
