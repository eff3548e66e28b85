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
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
	broken chan bool // whether the receiver fails, a channel of one
	log    *bytes.Buffer
}

func newSite(t *testing.T, opts ...ops.Option) *site {
	t.Helper()
	return newSiteIn(t, enginetest.SQLite(t), opts...)
}

func newSiteIn(t *testing.T, store *enginetest.Store, opts ...ops.Option) *site {
	t.Helper()
	s := &site{broken: make(chan bool, 1), log: &bytes.Buffer{}}
	s.broken <- false
	s.in = store.Start(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
		broken := <-s.broken
		s.broken <- broken
		if broken {
			return inbox.Discard(errors.New("the ledger is away " + markup))
		}
		return nil
	}))
	page, err := ops.NewHandler(s.in, append([]ops.Option{ops.WithAuthenticated(), ops.WithLogger(slog.New(slog.NewTextHandler(s.log, nil)))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(prefix+"/", http.StripPrefix(prefix, page))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// receive has the inbox take a notification, and waits until its attempt has ended.
func (s *site) receive(t *testing.T, broken bool, modify func(n *pixmed.Notification)) *inbox.Event {
	t.Helper()
	<-s.broken
	s.broken <- broken
	n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
		n.TransactionID, n.ReceivedAt, n.Raw = enginetest.NewTransaction(), time.Now(), nil
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
		t.Errorf("%s %s: a script got in:\n%s", method, path, body)
	}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") && method != http.MethodHead {
		if err := balanced(string(body)); err != nil {
			t.Errorf("%s %s: %v:\n%s", method, path, err, body)
		}
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

var tags = regexp.MustCompile(`<(/?)([a-z][a-z0-9]*)[^<>]*>`)

// balanced returns an error unless every element is closed where it was opened. A
// template escapes what is no tag, in attributes too.
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
	return nil
}

func (s *site) get(t *testing.T, path string) answer {
	t.Helper()
	return s.do(t, http.MethodGet, path, nil, nil)
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

// An operator finds what is dead, looks at it, replays it, and sees it done.
func TestReplayADeadLetter(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, store *enginetest.Store) { testReplayADeadLetter(t, newSiteIn(t, store)) })
}

func testReplayADeadLetter(t *testing.T, s *site) {
	t.Helper()
	e := s.receive(t, true, func(n *pixmed.Notification) {
		n.Value, n.ExternalID, n.EndToEndID = 123456, markup, endToEnd
	})
	s.receive(t, false, func(n *pixmed.Notification) { n.ExternalID = "another" })
	casePath, eventPath := "/case/"+e.Key.TransactionID, "/event/"+e.ID
	link := `href="./case/` + e.Key.TransactionID + `"`
	for _, query := range []string{"", "?state=dead", "?q=" + endToEnd, "?q=" + url.QueryEscape(markup), "?q=" + strings.ToUpper(e.Key.TransactionID), "?state=dead&q=" + endToEnd} {
		s.get(t, "/"+query).mustHold(t, http.StatusOK, link, "R$ 1.234,56", "ACKNOWLEDGED", `<span class="state dead">dead</span>`, "the ledger is away &lt;script&gt;")
	}
	for _, query := range []string{"?state=done", "?state=pending", "?state=quarantined", "?q=another", "?q=nobody"} {
		if a := s.get(t, "/"+query); a.status != http.StatusOK || strings.Contains(a.body, link) {
			t.Errorf("%s: %d:\n%s", query, a.status, a.body)
		}
	}
	s.get(t, casePath).mustHold(t, http.StatusOK, endToEnd, "R$ 1.234,56", "&lt;script&gt;", `action="../event/`+e.ID+`/replay"`, "&#34;transactionId&#34;: &#34;"+e.Key.TransactionID)

	<-s.broken
	s.broken <- false
	a := s.do(t, http.MethodPost, eventPath+"/replay", nil, url.Values{})
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "../"+e.ID {
		t.Fatalf("replay: %d, to %q", a.status, a.header.Get("Location"))
	}
	enginetest.Await(t, s.in)
	s.get(t, eventPath).mustHold(t, http.StatusOK, `<span class="state done">done</span>`, `href="../case/`)
	s.get(t, casePath).mustHold(t, http.StatusOK, `<span class="state done">done</span>`)
	if a := s.get(t, casePath); strings.Contains(a.body, "<form") {
		t.Errorf("what is done can be replayed:\n%s", a.body)
	}
	s.do(t, http.MethodPost, eventPath+"/replay", nil, url.Values{}).mustHold(t, http.StatusConflict, "neither dead nor quarantined")
}

// What would undo something newer is replayed only when that is asked for again.
func TestReplayAnyway(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, store *enginetest.Store) { testReplayAnyway(t, newSiteIn(t, store)) })
}

func testReplayAnyway(t *testing.T, s *site) {
	t.Helper()
	dead := s.receive(t, true, func(*pixmed.Notification) {})
	s.receive(t, false, func(n *pixmed.Notification) {
		n.TransactionID, n.MEDStatus = dead.Key.TransactionID, pixmed.Cancelled
	})
	path := "/event/" + dead.ID + "/replay"
	s.do(t, http.MethodPost, path, nil, url.Values{}).mustHold(t, http.StatusConflict,
		"A newer notification of the case is done", `<input type="hidden" name="force" value="1">`, `action="../../event/`+dead.ID+`/replay"`)
	if a := s.do(t, http.MethodPost, path, nil, url.Values{"force": {"1"}}); a.status != http.StatusSeeOther {
		t.Errorf("forced: %d:\n%s", a.status, a.body)
	}
	enginetest.Await(t, s.in)
	s.get(t, "/event/"+dead.ID).mustHold(t, http.StatusOK, "state done")
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, store *enginetest.Store) { testQuarantine(t, newSiteIn(t, store)) })
}

func testQuarantine(t *testing.T, s *site) {
	t.Helper()
	if err := s.in.Quarantine(t.Context(), []byte(`{"medStatus":"`+markup+`"`), errors.New("it ends too early")); err != nil {
		t.Fatal(err)
	}
	events, err := s.in.List(t.Context(), inbox.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	path := "/event/" + events[0].ID
	s.get(t, "/?state=quarantined").mustHold(t, http.StatusOK, "it ends too early", `href=".`+path+`"`)
	s.get(t, path).mustHold(t, http.StatusOK, "it ends too early", "{&#34;medStatus&#34;:&#34;&lt;script&gt;", "/replay")
	s.do(t, http.MethodPost, path+"/replay", nil, url.Values{}).mustHold(t, http.StatusUnprocessableEntity, "still not valid")
}

func TestPages(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, store *enginetest.Store) { testPages(t, newSiteIn(t, store)) })
}

func testPages(t *testing.T, s *site) {
	t.Helper()
	const n = 53
	for i := range n {
		if err := s.in.Receive(t.Context(), pixmedtest.NewNotification(func(n *pixmed.Notification) {
			n.TransactionID, n.ReceivedAt, n.Raw = enginetest.NewTransaction(), time.Now(), nil
		})); err != nil {
			t.Fatal(err)
		}
		if err := s.in.Quarantine(t.Context(), []byte("{"+strings.Repeat(" ", i)), errors.New("it ends too early")); err != nil {
			t.Fatal(err)
		}
	}
	enginetest.Await(t, s.in)
	links := regexp.MustCompile(`href="\./((?:case|event)/[^"]+)"`)
	next := regexp.MustCompile(`href="\./(\?[^"]+)" rel="next"`)
	for _, first := range []string{"/", "/?state=quarantined"} {
		seen := map[string]bool{}
		pages := 0
		for path := first; path != ""; pages++ {
			a := s.get(t, path)
			for _, link := range links.FindAllStringSubmatch(a.body, -1) {
				seen[link[1]] = true
			}
			path = ""
			if m := next.FindStringSubmatch(a.body); m != nil {
				path = "/" + strings.ReplaceAll(m[1], "&amp;", "&")
			}
		}
		if pages != 2 || len(seen) != n {
			t.Errorf("%s: %d on %d pages, want %d on 2", first, len(seen), pages, n)
		}
	}
	s.get(t, "/").mustHold(t, http.StatusOK, fmt.Sprintf(": %d</title>", 2*n), `<rect class="done"`, `<rect class="quarantined"`)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	none := enginetest.NewTransaction()
	crossSite := http.Header{"Sec-Fetch-Site": {"cross-site"}}
	dead := s.receive(t, true, func(*pixmed.Notification) {})
	for name, test := range map[string]struct {
		got  answer
		want int
		text string
	}{
		"no case":          {s.get(t, "/case/"+none), http.StatusNotFound, "no such case"},
		"no event":         {s.get(t, "/event/"+none), http.StatusNotFound, "no such case"},
		"no id":            {s.get(t, "/event/x"), http.StatusBadRequest, "not right"},
		"no state":         {s.get(t, "/?state=lost"), http.StatusBadRequest, "no state"},
		"no cursor":        {s.get(t, "/?after=x"), http.StatusBadRequest, "cursor"},
		"nothing there":    {s.get(t, "/x"), http.StatusNotFound, ""},
		"no receipt":       {s.get(t, "/event/"+dead.ID+"/receipt"), http.StatusNotFound, "no receipt"},
		"style":            {s.get(t, "/style.css"), http.StatusOK, "--ink"},
		"HEAD":             {s.do(t, http.MethodHead, "/", nil, nil), http.StatusOK, ""},
		"wrong method":     {s.do(t, http.MethodDelete, "/event/"+dead.ID, nil, nil), http.StatusMethodNotAllowed, ""},
		"replay no event":  {s.do(t, http.MethodPost, "/event/"+none+"/replay", nil, url.Values{}), http.StatusNotFound, "no such case"},
		"GET replays none": {s.get(t, "/event/"+dead.ID+"/replay"), http.StatusMethodNotAllowed, ""},
		"another site":     {s.do(t, http.MethodPost, "/event/"+dead.ID+"/replay", crossSite, url.Values{}), http.StatusForbidden, ""},
		"another origin":   {s.do(t, http.MethodPost, "/event/"+dead.ID+"/replay", http.Header{"Origin": {"https://evil.example"}}, url.Values{}), http.StatusForbidden, ""},
	} {
		if test.got.status != test.want || !strings.Contains(test.got.body, test.text) {
			t.Errorf("%s: %d, want %d:\n%s", name, test.got.status, test.want, test.got.body)
		}
		for header, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
			if got := test.got.header.Get(header); got != want {
				t.Errorf("%s: %s is %q", name, header, got)
			}
		}
		if csp := test.got.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script-src") {
			t.Errorf("%s: Content-Security-Policy %q", name, csp)
		}
	}
	if e, err := s.in.Get(t.Context(), dead.ID); err != nil || e.State != inbox.Dead {
		t.Errorf("it was replayed: %v, %v", e, err)
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, ops.WithReadOnly())
	dead := s.receive(t, true, func(*pixmed.Notification) {})
	if a := s.get(t, "/event/"+dead.ID); a.status != http.StatusOK || strings.Contains(a.body, "<form") {
		t.Errorf("%d:\n%s", a.status, a.body)
	}
	if a := s.do(t, http.MethodPost, "/event/"+dead.ID+"/replay", nil, url.Values{}); a.status/100 != 4 {
		t.Errorf("replay: %d", a.status)
	}
}

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	s := newSite(t, ops.WithBasicAuth("ana", "secret-password"))
	dead := s.receive(t, true, func(*pixmed.Notification) {})
	for _, test := range []struct {
		user, password string
		want           int
	}{
		{"", "", http.StatusUnauthorized},
		{"ana", "", http.StatusUnauthorized},
		{"ana", "secret-passwor", http.StatusUnauthorized},
		{"bob", "secret-password", http.StatusUnauthorized},
		{"ana", "secret-password", http.StatusSeeOther},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		if test.user != "" {
			r.SetBasicAuth(test.user, test.password)
		}
		a := s.do(t, http.MethodPost, "/event/"+dead.ID+"/replay", r.Header, url.Values{})
		if a.status != test.want || (a.status == http.StatusUnauthorized) != strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%+v: %d, %v", test, a.status, a.header)
		}
	}
	s.Close()
	if log := s.log.String(); !strings.Contains(log, "user=ana") || strings.Contains(log, "secret-password") {
		t.Errorf("the log is %s", log)
	}
}

func TestReceipt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSite(t, ops.WithReceipt(func(_ context.Context, i *pixmed.Infraction) (io.ReadCloser, error) {
		f, err := os.Open(filepath.Join(dir, i.TransactionID))
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil //nolint:nilnil // there is none
		}
		return f, err
	}))
	e := s.receive(t, false, func(*pixmed.Notification) {})
	path := "/event/" + e.ID + "/receipt"
	s.get(t, "/event/"+e.ID).mustHold(t, http.StatusOK, `href="..`+path+`"`)
	s.get(t, path).mustHold(t, http.StatusNotFound, "There is no receipt")
	pdf := pixmedtest.PDF(pixmedtest.NewInfraction())
	if err := os.WriteFile(filepath.Join(dir, e.Key.TransactionID), pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	a := s.get(t, path)
	want := http.Header{"Content-Type": {"application/pdf"}, "Content-Disposition": {`inline; filename="` + e.Key.TransactionID + `.pdf"`}}
	got := http.Header{"Content-Type": a.header["Content-Type"], "Content-Disposition": a.header["Content-Disposition"]}
	if diff := cmp.Diff(want, got); a.status != http.StatusOK || a.body != string(pdf) || diff != "" {
		t.Errorf("%d, %d bytes (-want +got):\n%s", a.status, len(a.body), diff)
	}
}

func TestLanguages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for accept, want := range map[string]string{
		"": "en", "en-US,en;q=0.9": "en", "pt-BR,pt;q=0.9,en;q=0.8": "pt-BR", "pt": "pt-BR", "pt-PT": "pt-BR", "de": "en", "de,pt;q=0.5": "pt-BR", ";;;": "en",
	} {
		a := s.do(t, http.MethodGet, "/", http.Header{"Accept-Language": {accept}}, nil)
		if !strings.Contains(a.body, `<html lang="`+want+`">`) || !strings.Contains(a.body, ops.Texts[want]["oldest"]) {
			t.Errorf("%q: not in %s:\n%s", accept, want, a.body)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(ops.Texts["en"])), slices.Sorted(maps.Keys(ops.Texts["pt-BR"]))); diff != "" {
		t.Errorf("texts (-en +pt-BR):\n%s", diff)
	}
	// A text that no page uses is one too many.
	var pages strings.Builder
	for _, pattern := range []string{"pages/*.html", "ops.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%v, %v", names, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			pages.Write(b)
		}
	}
	for _, m := range regexp.MustCompile(`(?:\$t|\.T)\.([a-z_]+)`).FindAllStringSubmatch(pages.String(), -1) {
		if ops.Texts["en"][m[1]] == "" {
			t.Errorf("there is no text %q", m[1])
		}
	}
	for key := range ops.Texts["en"] {
		if !strings.Contains(pages.String(), "."+key) && !strings.Contains(pages.String(), `"`+key+`"`) {
			t.Errorf("nothing uses the text %q", key)
		}
	}
}

// failing is an inbox whose database is away.
type failing struct{ ops.Store }

func (failing) Stats(context.Context) (inbox.Stats, error) {
	return inbox.Stats{}, errors.New("connection refused by 10.0.0.7")
}

func (failing) Get(context.Context, string) (*inbox.Event, error) {
	return nil, errors.New("connection refused by 10.0.0.7")
}

func (failing) Replay(context.Context, string, ...inbox.ActionOption) error {
	return errors.New("connection refused by 10.0.0.7")
}

func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	page, err := ops.NewHandlerOf(failing{}, ops.WithAuthenticated(), ops.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	id := enginetest.NewTransaction()
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/", nil),
		httptest.NewRequest(http.MethodGet, "/event/"+id, nil),
		httptest.NewRequest(http.MethodPost, "/event/"+id+"/replay", nil),
	} {
		log.Reset()
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "does not answer") ||
			strings.Contains(w.Body.String(), "10.0.0.7") || !strings.Contains(log.String(), "10.0.0.7") {
			t.Errorf("%s %s: %d:\n%s\nlog: %s", r.Method, r.URL, w.Code, w.Body, &log)
		}
	}
}

func TestNewHandlerFails(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	for name, test := range map[string]struct {
		in   *inbox.Inbox
		opts []ops.Option
		want []string
	}{
		"no authentication": {in, nil, []string{"WithBasicAuth", "WithAuthenticated"}},
		"no inbox":          {nil, []ops.Option{ops.WithAuthenticated()}, []string{"inbox is nil"}},
		"all at once": {
			in,
			[]ops.Option{nil, ops.WithBasicAuth("", "x"), ops.WithBasicAuth("a:b", "x"), ops.WithReceipt(nil), ops.WithLocation(nil), ops.WithLogger(nil)},
			[]string{"option is nil", "is empty", "colon", "WithReceipt", "WithLocation", "WithLogger"},
		},
	} {
		_, err := ops.NewHandler(test.in, test.opts...)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in %v", name, want, err)
			}
		}
	}
}
