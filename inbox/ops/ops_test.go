package ops_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/ops"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const (
	prefix   = "/admin/ops"
	markup   = `<script>alert("x")</script>`
	endToEnd = "E9040088820260301120000000000001"
)

// site is a page on an inbox, mounted in an admin.
type site struct {
	*httptest.Server

	in     *inbox.Inbox
	page   *ops.Handler
	broken atomic.Pointer[error] // what the receiver returns
	log    *safeBuffer
}

// safeBuffer may be written to and read at once.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newSite(t *testing.T, opts ...ops.Option) *site {
	t.Helper()
	return newSiteIn(t, enginetest.SQLite(t), nil, opts...)
}

func newSiteIn(t *testing.T, db *enginetest.Database, inboxOpts []inbox.Option, opts ...ops.Option) *site {
	t.Helper()
	s := &site{log: new(safeBuffer)}
	s.in = db.Start(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
		if err := s.broken.Load(); err != nil {
			return *err
		}
		return nil
	}), inboxOpts...)
	s.serve(t, opts...)
	return s
}

// serve serves the page of the site's inbox.
func (s *site) serve(t *testing.T, opts ...ops.Option) {
	t.Helper()
	var err error
	s.page, err = ops.NewHandler(s.in, append([]ops.Option{ops.WithAuthenticated(), ops.WithLogger(slog.New(slog.NewTextHandler(s.log, nil)))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(prefix+"/", http.StripPrefix(prefix, s.page))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
}

// fails has the receiver fail from now on, or not any more.
func (s *site) fails(err error) {
	if err == nil {
		s.broken.Store(nil)
		return
	}
	s.broken.Store(&err)
}

var errLedger = inbox.Discard(errors.New("the ledger is away " + markup))

// receive has the inbox take a notification, and waits until its attempt has ended.
func (s *site) receive(t *testing.T, modify func(n *pixmed.Notification)) *inbox.Event {
	t.Helper()
	n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
		n.ReceivedAt = time.Now()
		modify(n)
	})
	if err := s.in.Receive(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	enginetest.Await(t, s.in)
	events, err := s.in.History(t.Context(), n.TransactionID)
	if err != nil {
		t.Fatal(err)
	}
	return events[len(events)-1]
}

// dead has the inbox hold a notification that failed for good.
func (s *site) dead(t *testing.T, err error, modify func(n *pixmed.Notification)) *inbox.Event {
	t.Helper()
	s.fails(inbox.Discard(err))
	defer s.fails(nil)
	return s.receive(t, modify)
}

func anything(*pixmed.Notification) {}

// answer is what a browser gets.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *site) do(t *testing.T, method, path string, header http.Header, form url.Values) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+prefix+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return s.send(t, r)
}

func (s *site) send(t *testing.T, r *http.Request) answer {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(r) // and follow nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "<script") {
		t.Errorf("%s %s: a script got in:\n%s", r.Method, r.URL, body)
	}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") && r.Method != http.MethodHead {
		if err := balanced(string(body)); err != nil {
			t.Errorf("%s %s: %v:\n%s", r.Method, r.URL, err, body)
		}
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

var tags = regexp.MustCompile(`<(/?)([a-z][a-z0-9]*)[^<>]*>`)

// balanced returns an error unless every element is closed where it was opened, and
// no two have one id. A template escapes what is no tag, in attributes too.
func balanced(page string) error {
	var open []string
	for _, tag := range tags.FindAllStringSubmatch(page, -1) {
		switch closes, name := tag[1] != "", tag[2]; {
		case slices.Contains([]string{"meta", "link", "input"}, name): // have no end
		case !closes:
			open = append(open, name)
		case len(open) == 0 || open[len(open)-1] != name:
			return fmt.Errorf("</%s> closes %v", name, open)
		default:
			open = open[:len(open)-1]
		}
	}
	rest := tags.ReplaceAllString(strings.TrimPrefix(page, "<!doctype html>"), "")
	if len(open) > 0 || strings.ContainsAny(rest, "<>") {
		return fmt.Errorf("%v stay open, or a bracket is no tag's", open)
	}
	seen := make(map[string]bool)
	for _, id := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if seen[id[1]] {
			return fmt.Errorf("two elements have the id %s", id[1])
		}
		seen[id[1]] = true
	}
	return nil
}

func (s *site) get(t *testing.T, path string) answer {
	t.Helper()
	return s.do(t, http.MethodGet, path, nil, nil)
}

func (s *site) post(t *testing.T, path string, form url.Values) answer {
	t.Helper()
	if form == nil {
		form = url.Values{}
	}
	return s.do(t, http.MethodPost, path, nil, form)
}

// follow posts, and gets the page that it leads to.
func (s *site) follow(t *testing.T, path string, form url.Values) answer {
	t.Helper()
	a := s.post(t, path, form)
	if a.status != http.StatusSeeOther {
		t.Fatalf("POST %s: %d:\n%s", path, a.status, a.body)
	}
	return s.get(t, landing(t, path, a))
}

// landing returns where a redirection leads, relative to the first page.
func landing(t *testing.T, path string, a answer) string {
	t.Helper()
	base, err := url.Parse("http://page" + path)
	if err != nil {
		t.Fatal(err)
	}
	to, err := base.Parse(a.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return to.RequestURI()
}

func (a answer) mustHold(t *testing.T, status int, texts ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d", a.status, status)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("%q is not in:\n%s", text, a.body)
		}
	}
}

func (a answer) mustNotHold(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(a.body, text) {
			t.Errorf("%q is in:\n%s", text, a.body)
		}
	}
}

// Every answer has its headers, whatever it is.
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	none := enginetest.NewTransaction()
	dead := s.dead(t, errLedger, anything)
	guarded := &site{in: s.in, log: s.log}
	guarded.serve(t, ops.WithBasicAuth("ana", "secret-password"))
	var throttled answer
	for range 6 {
		throttled = guarded.do(t, http.MethodGet, "/", basic("ana", "wrong"), nil)
	}
	for name, test := range map[string]struct {
		got  answer
		want int
		text string
	}{
		"first":           {s.get(t, "/"), http.StatusOK, "MED inbox"},
		"no case":         {s.get(t, "/case/"+none), http.StatusNotFound, "Case not found"},
		"no event":        {s.get(t, "/event/"+none), http.StatusNotFound, "Case not found"},
		"no id":           {s.get(t, "/event/x"), http.StatusBadRequest, "Invalid address."},
		"no choice":       {s.get(t, "/cases?show=lost"), http.StatusBadRequest, "Invalid address."},
		"no cursor":       {s.get(t, "/cases?after=x"), http.StatusBadRequest, "Invalid address."},
		"no group":        {s.get(t, "/failures/dead/x"), http.StatusNotFound, "any more"},
		"nothing there":   {s.get(t, "/x"), http.StatusNotFound, "no such page"},
		"no receipt":      {s.get(t, "/case/"+dead.Key.TransactionID+"/receipt"), http.StatusNotFound, "no receipt for this transaction"},
		"style":           {s.get(t, "/style.css"), http.StatusOK, "--ink"},
		"HEAD":            {s.do(t, http.MethodHead, "/", nil, nil), http.StatusOK, ""},
		"wrong method":    {s.do(t, http.MethodDelete, "/event/"+dead.ID, nil, nil), http.StatusMethodNotAllowed, "does not accept"},
		"act on no case":  {s.post(t, "/case/"+none+"/answer", nil), http.StatusNotFound, "Case not found"},
		"act on no event": {s.post(t, "/event/"+none+"/replay", nil), http.StatusNotFound, "Case not found"},
		"act on no group": {s.post(t, "/failures/dead/x/replay", nil), http.StatusNotFound, "any more"},
		"no case action":  {s.post(t, "/case/"+dead.Key.TransactionID+"/delete", nil), http.StatusNotFound, "no such page"},
		"no event action": {s.get(t, "/event/"+dead.ID+"/delete"), http.StatusNotFound, "no such page"},
		"no group action": {s.get(t, "/failures/dead/x/discard"), http.StatusNotFound, "no such page"},
		"no login":        {guarded.get(t, "/"), http.StatusUnauthorized, "Log in"},
		"too many logins": {throttled, http.StatusTooManyRequests, "Too many failed logins"},
		"another site":    {s.do(t, http.MethodGet, "/", http.Header{"Sec-Fetch-Site": {"cross-site"}}, nil), http.StatusForbidden, "Another site"},
	} {
		if test.got.status != test.want || !strings.Contains(test.got.body, test.text) {
			t.Errorf("%s: %d, want %d:\n%s", name, test.got.status, test.want, test.got.body)
		}
		for header, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := test.got.header.Get(header); got != want {
				t.Errorf("%s: %s is %q", name, header, got)
			}
		}
		csp := test.got.header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "script-src") {
			t.Errorf("%s: Content-Security-Policy %q", name, csp)
		}
	}
	if allow := s.do(t, http.MethodDelete, "/event/"+dead.ID, nil, nil).header.Get("Allow"); allow != "GET, HEAD" {
		t.Errorf("Allow is %q", allow)
	}
}

// What another site asks for is neither read nor done; a person who followed a link
// gets on from there.
func TestFromElsewhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dead := s.dead(t, errLedger, anything)
	casePath, replay := "/case/"+dead.Key.TransactionID, "/event/"+dead.ID+"/replay"
	for _, test := range []struct {
		method, path string
		header       http.Header
		want         int
	}{
		{http.MethodGet, casePath, http.Header{"Sec-Fetch-Site": {"none"}}, http.StatusOK}, // typed, or a bookmark
		{http.MethodGet, casePath, http.Header{"Sec-Fetch-Site": {"same-origin"}}, http.StatusOK},
		{http.MethodGet, casePath, http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{http.MethodGet, casePath, http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
		{http.MethodGet, casePath, http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}}, http.StatusForbidden},
		{http.MethodPost, replay, http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{http.MethodPost, replay, http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
		{http.MethodPost, replay, http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		{http.MethodPost, replay, http.Header{"Sec-Fetch-Site": {"same-origin"}}, http.StatusSeeOther},
	} {
		before, err := s.in.Get(t.Context(), dead.ID)
		if err != nil {
			t.Fatal(err)
		}
		a := s.do(t, test.method, test.path, test.header, url.Values{})
		if a.status != test.want {
			t.Errorf("%s %v: %d, want %d:\n%s", test.method, test.header, a.status, test.want, a.body)
		}
		if a.status != http.StatusForbidden {
			continue
		}
		a.mustNotHold(t, dead.Key.ExternalID, dead.Key.TransactionID+`" class`)
		if e, err := s.in.Get(t.Context(), dead.ID); err != nil || e.State != before.State {
			t.Errorf("%s %v: it became %v, %v", test.method, test.header, e, err)
		}
	}
	a := s.do(t, http.MethodGet, "/cases?q=a%26b&show=all", http.Header{"Sec-Fetch-Site": {"cross-site"}}, nil)
	a.mustHold(t, http.StatusForbidden, `href="./cases?q=a%26b&amp;show=all">Open the page`)
	s.do(t, http.MethodGet, "/", http.Header{"Sec-Fetch-Site": {"cross-site"}}, nil).mustHold(t, http.StatusForbidden, `href="./">Open the page`)
	s.do(t, http.MethodPost, replay, http.Header{"Sec-Fetch-Site": {"cross-site"}}, url.Values{}).mustNotHold(t, "Open the page")
}

var errAway = errors.New("connection refused by 10.0.0.7")

// away is an inbox whose database is away.
type away struct{ ops.Box }

func (away) Stats(context.Context) (inbox.Stats, error) { return inbox.Stats{}, errAway }

func (away) Cases(context.Context, inbox.CaseFilter) ([]*inbox.Case, error) { return nil, errAway }

func (away) Case(context.Context, string) (*inbox.Case, error) { return nil, errAway }

func (away) Get(context.Context, string) (*inbox.Event, error) { return nil, errAway }

// The page says that something failed, and the log says what.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	log := new(safeBuffer)
	page, err := ops.NewHandlerOf(away{}, ops.WithAuthenticated(), ops.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	id := enginetest.NewTransaction()
	for i, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/", nil),
		httptest.NewRequest(http.MethodGet, "/cases", nil),
		httptest.NewRequest(http.MethodGet, "/case/"+id, nil),
		httptest.NewRequest(http.MethodGet, "/event/"+id, nil),
		httptest.NewRequest(http.MethodGet, "/failures/dead/x", nil),
		httptest.NewRequest(http.MethodPost, "/event/"+id+"/replay", nil),
	} {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "does not answer") ||
			strings.Contains(w.Body.String(), "10.0.0.7") || strings.Count(log.String(), "10.0.0.7") != i+1 {
			t.Errorf("%s %s: %d:\n%s\nlog: %s", r.Method, r.URL, w.Code, w.Body, log)
		}
	}
}

// Links lead to the first page wherever an address has a slash that is a part of a
// name.
func TestEscapedSlash(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for path, root := range map[string]string{"/case/a%2Fb": "../", "/event/a%2Fb%2Fc": "../", "/case/a%2Fb/answer": "../../"} {
		a := s.get(t, path)
		a.mustHold(t, http.StatusBadRequest, `href="`+root+`style.css"`)
		a.mustNotHold(t, `href="../`+root)
	}
}
