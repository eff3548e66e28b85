package pixmed_test

import (
	"bufio"
	"bytes"
	stdcmp "cmp"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// specPayload is the example in the gateway's documentation, byte for byte.
const specPayload = pixmedtest.Sample

// specInfraction is what specPayload says.
func specInfraction() pixmed.Infraction {
	return pixmed.Infraction{
		TransactionID:     "5a94d48d-c9f3-46be-8448-83510ca42bde",
		TransactionStatus: pixmed.TransactionMED,
		TransactionType:   pixmed.CashIn,
		Value:             18 * pixmed.Real,
		ExternalID:        "T&ste378",
		EndToEndID:        "E082535392025011818245238600338f",
		MEDStatus:         pixmed.Acknowledged,
	}
}

const bom = "\ufeff"

// payloadWith returns the spec's example with a member in the place of the one
// of the same name, or without it if member is only a name.
func payloadWith(t *testing.T, member string) string {
	t.Helper()
	name, _, keep := strings.Cut(member, ":")
	lines := strings.Split(specPayload, "\n")
	at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "  "+name+":") })
	if at < 0 {
		t.Fatalf("the example has no member %s", name)
	}
	lines = slices.Delete(lines, at, at+1)
	if keep {
		lines = slices.Insert(lines, 1, "  "+member+",")
	}
	body := strings.Join(lines, "\n")
	return strings.Replace(body, ",\n}", "\n}", 1)
}

// infractionWith is what the spec's example says after a change.
func infractionWith(change func(*pixmed.Infraction)) *pixmed.Infraction {
	i := specInfraction()
	change(&i)
	return &i
}

const (
	statusA = pixmed.Acknowledged
	statusC = pixmed.Cancelled
	statusD = pixmed.Debited
)

var errCallback = errors.New("callback failed")

// errBoom is an error that the sender must not see.
var errBoom = errors.New("boom: the database's password is hunter2")

// notification is a delivery of the spec's example in some state.
func notification(status pixmed.MEDStatus) *pixmed.Notification {
	n := &pixmed.Notification{Infraction: specInfraction(), Attempt: 1}
	n.MEDStatus = status
	return n
}

// webhookRequest is the gateway's request with the spec's example.
func webhookRequest(t *testing.T) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhook", strings.NewReader(specPayload))
}

// signed returns the HMAC-SHA256 of the body.
func signed(secret, body string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return mac.Sum(nil)
}

// gzipOf compresses text.
func gzipOf(text string) string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.String()
}

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

// outcome returns the only outcome.
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

// checkAnswer checks what all answers have in common, and returns the problem
// of one that is not a 200.
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

// answerTest is a request and all that it must lead to: answer, outcome, log.
type answerTest struct {
	name     string
	receiver pixmed.Receiver // nil if it must not be called
	verifier pixmed.Verifier // nil for WithoutVerification
	opts     []pixmed.HandlerOption
	body     string
	unread   bool // the body must not be read
	change   func(*http.Request)

	status  int
	header  map[string]string // Allow, Retry-After and WWW-Authenticate
	detail  string
	errors  []pixmed.FieldError
	outcome pixmed.Outcome // without StatusCode, Err and durations
	err     string         // the outcome's error
	logged  string         // what the log says of it, if not err
}

// specKey is the key of the spec's example.
var specKey = pixmed.Key{TransactionID: "5a94d48d-c9f3-46be-8448-83510ca42bde", ExternalID: "T&ste378"}

// about is an outcome of the spec's example.
func about(r pixmed.Result) pixmed.Outcome {
	return pixmed.Outcome{Result: r, Key: specKey, MEDStatus: statusA}
}

// withLength announces a body of n bytes.
func withLength(n int64) func(*http.Request) { return func(r *http.Request) { r.ContentLength = n } }

// withHeader sets a header.
func withHeader(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = values }
}

// invalidResult returns WithInvalid with a callback that returns err.
func invalidResult(err error) pixmed.HandlerOption {
	return pixmed.WithInvalid(func(context.Context, []byte, error) error { return err })
}

// logLine is the level and the message with which an outcome is logged.
func logLine(o pixmed.Outcome) (level, message string) {
	switch {
	case o.Result == pixmed.ResultAccepted, o.Result == pixmed.ResultDuplicate:
		return "DEBUG", "pixmed: webhook handled"
	case o.Result == pixmed.ResultFailed, o.Result == pixmed.ResultBusy:
		return "ERROR", "pixmed: webhook failed"
	case o.Result == pixmed.ResultInvalid && o.StatusCode == http.StatusOK:
		return "WARN", "pixmed: invalid webhook kept by WithInvalid's callback"
	case o.Result == pixmed.ResultOther && o.StatusCode == 0:
		return "DEBUG", "pixmed: webhook passed to the fallback"
	default:
		return "WARN", "pixmed: webhook rejected"
	}
}

// testAnswers checks the answer, the outcome and the log of each request.
func testAnswers(t *testing.T, tests []answerTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // for deadlines
				if tt.receiver == nil {
					tt.receiver = pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
						t.Error("the Receiver was called")
						return nil
					})
				}
				opts := slices.Concat(tt.opts, []pixmed.HandlerOption{pixmed.WithoutVerification()})
				if tt.verifier != nil {
					opts[len(opts)-1] = pixmed.WithVerifier(tt.verifier)
				}
				h := newHook(t, tt.receiver, opts...)
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(tt.body))
				if tt.unread {
					r.Body = io.NopCloser(unreadable{t})
				}
				if tt.change != nil {
					tt.change(r)
				}
				w := h.serve(r)

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
				if want.StatusCode = tt.status; want.Result == pixmed.ResultOther && tt.status == 200 {
					want.StatusCode = 0 // the fallback answered
				}
				if text := fmt.Sprint(got.Err); (got.Err != nil || tt.err != "") && text != tt.err {
					t.Errorf("outcome's error:\n got %s\nwant %s", text, tt.err)
				}
				want.Err, want.Duration, want.Callback = got.Err, got.Duration, got.Callback
				if want != got {
					t.Errorf("outcome:\n got %+v\nwant %+v", got, want)
				}

				level, message := logLine(want)
				line := map[string]any{
					"level": level, "msg": message, "result": string(want.Result), "status": float64(want.StatusCode),
					"remote": "192.0.2.1:1234", "duration": float64(got.Duration),
				}
				if tt.err != "" {
					line["error"] = stdcmp.Or(tt.logged, tt.err)
				}
				if want.Key != (pixmed.Key{}) {
					line["transaction_id"], line["med_status"] = want.Key.TransactionID, string(want.MEDStatus)
				}
				lines := h.log.lines(t)
				last := lines[len(lines)-1]
				if diff := cmp.Diff(line, last); diff != "" {
					t.Errorf("log (-want +got):\n%s", diff)
				}
				// The only other lines are a panic's.
				for _, line := range lines[:len(lines)-1] {
					stack, _ := line["stack"].(string)
					if line["level"] != "ERROR" || line["msg"] != "pixmed: recovered from a panic" || line["error"] != tt.err || !strings.Contains(stack, "_test.go") {
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

// noBody is for verifiers that must not ask for the body.
func noBody(t *testing.T) func() ([]byte, error) {
	t.Helper()
	return func() ([]byte, error) {
		t.Error("the verifier asked for the body")
		return nil, nil
	}
}

func specBody() ([]byte, error) { return []byte(specPayload), nil }

func allow(*http.Request, func() ([]byte, error)) error { return nil }

func refuse(text string) pixmed.VerifierFunc {
	return func(*http.Request, func() ([]byte, error)) error { return errors.New(text) }
}

// checkVerdict compares what a verifier says with what is wanted: "" to let the
// request pass.
func checkVerdict(t *testing.T, got error, want string) {
	t.Helper()
	if (got == nil) != (want == "") || got != nil && got.Error() != want {
		t.Errorf("Verify = %v, want %q", got, want)
	}
}

func prefixes(texts ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		ps[i] = netip.MustParsePrefix(text)
	}
	return ps
}

const otherIsNil = "Callbacks.Other is nil: set it, or set it to pixmed.Ignore if no other status matters"

// dedupClock is a clock that moves only when it is told to.
type dedupClock struct {
	mu  sync.Mutex
	now time.Time
}

func newDedupClock() *dedupClock {
	return &dedupClock{now: time.Date(2025, 1, 18, 0, 0, 0, 0, time.UTC)}
}

func (c *dedupClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *dedupClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// gatedCall is a callback that has begun and ends with the result it is sent.
type gatedCall struct {
	*pixmed.Notification
	end chan<- func() error
}

// gate is a Receiver whose calls the test ends, one by one.
type gate chan gatedCall

func (g gate) Receive(_ context.Context, n *pixmed.Notification) error {
	end := make(chan func() error)
	g <- gatedCall{n, end}
	return (<-end)()
}

var (
	errPanicked = errors.New("panicked")
	errExited   = errors.New("the goroutine ended")
)

// deliver calls r in another goroutine and reports how the call ended.
func deliver(ctx context.Context, r pixmed.Receiver, n *pixmed.Notification) <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := errExited
		defer func() {
			if recover() != nil {
				err = errPanicked
			}
			ended <- err
		}()
		err = r.Receive(ctx, n)
	}()
	return ended
}

func succeed() error { return nil }

func fail() error { return errCallback }

// idle fails the test if a callback has begun, or a delivery has ended.
func idle(t *testing.T, g gate, deliveries ...<-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case call := <-g:
		t.Fatalf("%s is being handled", call.MEDStatus)
	default:
	}
	for i, d := range deliveries {
		if len(d) > 0 {
			t.Fatalf("delivery %d ended with %v", i+1, <-d)
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

// wireAnswer is an answer read from a connection.
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

// dial connects. The caller closes the connection.
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

// canaryText marks the text of a body that no log may show.
const canaryText = "Qw7zKj9xVp"

// showsCanary reports whether text has any four bytes of canaryText in a row.
func showsCanary(text string) bool {
	for i := range len(canaryText) - 3 {
		if strings.Contains(strings.ToLower(text), strings.ToLower(canaryText[i:i+4])) {
			return true
		}
	}
	return false
}

// canaryBodies returns bodies with canaryText in every name and member that may
// hold text, sorted by what is wrong with them.
func canaryBodies() (malformed, invalid, other []string) {
	malformed = []string{
		`C`, `"C"`, `["C"]`, `C=C&C=C`, bom + `C`, `{C`, `{C}`, `{"C`, `{"C"`, `{"C":`, `{"C"C`, `{"C":C`, `{"C":"C`, `{"C":"C"`, `{"C":"C"C}`,
		`{"C":"C",}`, `{"C":"\C"}`, `{"C":"\uC"}`, `{"C":"\ud800C"}`, `{"C":"\ud800\uC"}`, `{"C":"\ud800\u0043C"}`, `{"C":"\udc00C"}`, `{"\ud800C":1}`,
		"{\"C\xff\":1}", "{\"C\":\"\xffC\"}", "{\"C\":\"C\xc3\"}", "{\"C\":\"\tC\"}", "{\"C\":\"C\x00C\"}", "{\"C\":`C`}", "{`C`:1}", `{'C':'C'}`, `{"C":'C'}`, `{"C":'`,
		`{"C":truC}`, `{"C":nulC}`, `{"C":falseC}`, `{"C":1C}`, `{"C":0C}`, `{"C":-C}`, `{"C":1eC}`, `{"C":1.C}`, `{"C":01}C`,
		`{"C":"C","C":"C"}`, `{"C":{"C":1,"C":2}}`, `{"C":["C",{"C":1,"\u0043":1,"C":1}]}`, `{"C":[1 "C"]}`, `{"C":[1}C`, `{"C" "C"}`, `{"C":"C" "C"}`,
		`{"C":1} C`, `{"C":1}{"C":1}`, `{"C":1}` + bom + `C`, `<C>C</C>`, "\x1f\x8bC", "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xffC\x00C", strings.Repeat(`{"C":`, 11_000),
		gzipOf(`C`), gzipOf(`{"C":"\ud800C"}`), gzipOf(`{"C":"C"}`) + "C",
		`{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","externalId":"\ud800C"}`,
	}
	valid := `"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"MED","transactionType":"C","value":1,"externalId":"C","e2e_id":"C"`
	invalid = []string{
		`{"C":"C"}`, `{"event":"C","data":{"C":"C","medStatus":"C"}}`, `{"C":[{"C":["C"]}],"transactionStatus":5}`,
		`{"transactionId":"C","transactionStatus":"MED","transactionType":{"C":"C"},"value":"C","externalId":["C"],"e2e_id":"C","medStatus":{"C":1},"C":"C"}`,
		`{"transactionId":"C","transactionStatus":"MEDC","transactionType":"C","value":"1C","externalId":{"C":1},"e2e_id":{"C":1},"medStatus":["C"],"C":{"C":"C"}}`,
		`{"transactionId":"C","transactionStatus":"MED","transactionType":"C","value":"1,C","medStatus":"` + strings.Repeat("C", 7) + `"}`,
		`{` + valid + `,"medStatusC":null,"infractionC":"C"}`, `{` + valid + `,"C":{"infraction C":{"C":"C"}}}`,
		`{"transactionStatus":"C","med":"C"}`, gzipOf(`{` + valid + `,"infractionC":"C"}`),
	}
	other = []string{
		`{"transactionStatus":"PAID","value":"C","medStatus":null,"C":"C","debtor":{"C":["C"]}}`,
		gzipOf(`{"transactionStatus":"PAID","C":"C"}`),
	}
	for _, bodies := range [][]string{malformed, invalid, other} {
		for i, body := range bodies {
			if strings.HasPrefix(body, "\x1f\x8b") && len(body) > 40 { // compressed above, with the letter C
				z, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					continue
				}
				z.Multistream(false)
				text, _ := io.ReadAll(z)
				rest := strings.TrimPrefix(body, gzipOf(string(text)))
				bodies[i] = gzipOf(strings.ReplaceAll(string(text), "C", canaryText)) + strings.ReplaceAll(rest, "C", canaryText)
				continue
			}
			bodies[i] = strings.ReplaceAll(body, "C", canaryText)
		}
	}
	return malformed, invalid, other
}

// bothLogs makes loggers of both of slog's formats.
func bothLogs(w io.Writer) []*slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelDebug}
	return []*slog.Logger{slog.New(slog.NewJSONHandler(w, o)), slog.New(slog.NewTextHandler(w, o))}
}
