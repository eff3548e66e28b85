package ops_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/ops"
)

// basic returns the header of HTTP Basic.
func basic(user, pass string) http.Header {
	r := &http.Request{Header: make(http.Header)}
	r.SetBasicAuth(user, pass)
	return r.Header
}

// door is a page with a password, and a clock that the test moves.
type door struct {
	*ops.Handler

	log *safeBuffer
	mu  sync.Mutex
	now time.Time
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{log: new(safeBuffer), now: time.Date(2026, time.November, 27, 15, 0, 0, 0, time.UTC)}
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	var err error
	d.Handler, err = ops.NewHandler(in, ops.WithBasicAuth("ana", "secret-password"), ops.WithLogger(slog.New(slog.NewTextHandler(d.log, nil))),
		ops.WithNow(func() time.Time {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.now
		}))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *door) pass(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

func (d *door) knock(address, user, pass string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/style.css", nil)
	r.RemoteAddr = address
	if user != "" {
		r.SetBasicAuth(user, pass)
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

func (d *door) must(t *testing.T, w *httptest.ResponseRecorder, status int, retryAfter string) {
	t.Helper()
	if w.Code != status || w.Header().Get("Retry-After") != retryAfter {
		t.Errorf("%d, Retry-After %q, want %d, %q: %s", w.Code, w.Header().Get("Retry-After"), status, retryAfter, w.Body)
	}
	if challenge := w.Header().Get("WWW-Authenticate"); (status == http.StatusUnauthorized) != strings.HasPrefix(challenge, "Basic ") {
		t.Errorf("%d: WWW-Authenticate %q", w.Code, challenge)
	}
}

const stranger, operator = "203.0.113.7:1234", "198.51.100.1:5678"

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for _, test := range []struct {
		user, password string
		want           int
	}{
		{"", "", http.StatusUnauthorized},
		{"ana", "", http.StatusUnauthorized},
		{"ana", "secret-passwor", http.StatusUnauthorized},
		{"bob", "secret-password", http.StatusUnauthorized},
		{"ana", "secret-password", http.StatusOK},
	} {
		d.must(t, d.knock(operator, test.user, test.password), test.want, "")
	}
	if n := d.FailedLogins(); n != 3 {
		t.Errorf("%d failed logins, want 3: to send none is not one", n)
	}
	log := d.log.String()
	if strings.Count(log, "a login at the operations page failed") != 3 || !strings.Contains(log, "address="+operator) ||
		!strings.Contains(log, "right_user=true failures=2") || !strings.Contains(log, "right_user=false failures=3") {
		t.Errorf("the log is %s", log)
	}
	if strings.Contains(log, "secret-passwor") || strings.Contains(log, "bob") {
		t.Errorf("the log gives away what was typed: %s", log)
	}
}

// Whoever looks at the page learns that somebody guesses.
func TestFailedLoginsAreShown(t *testing.T) {
	t.Parallel()
	s := newSite(t, ops.WithBasicAuth("ana", "secret-password"))
	right := basic("ana", "secret-password")
	s.do(t, http.MethodGet, "/", right, nil).mustNotHold(t, "failed login")
	s.do(t, http.MethodGet, "/", basic("bob", "guess"), nil).mustHold(t, http.StatusUnauthorized)
	s.do(t, http.MethodGet, "/", right, nil).mustHold(t, http.StatusOK, "1 failed login since the process started", "User: <b>ana</b>")
}

func TestFailedLoginsAreSlowedDown(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for range 5 {
		d.must(t, d.knock(stranger, "ana", "guess"), http.StatusUnauthorized, "")
	}
	for _, wait := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		// Nothing is looked at meanwhile, not even what is right.
		d.must(t, d.knock(stranger, "ana", "secret-password"), http.StatusTooManyRequests, fmt.Sprint(wait))
		d.pass(time.Duration(wait)*time.Second - time.Millisecond)
		d.must(t, d.knock("203.0.113.7:999", "ana", "guess"), http.StatusTooManyRequests, "1") // from another port
		d.pass(time.Millisecond)
		d.must(t, d.knock(stranger, "ana", "guess"), http.StatusUnauthorized, "")
	}
	if n := d.FailedLogins(); n != 13 {
		t.Errorf("%d failed logins, want 13", n)
	}
	d.must(t, d.knock(operator, "ana", "secret-password"), http.StatusOK, "") // others do not wait
	d.pass(time.Minute)
	d.must(t, d.knock(stranger, "ana", "secret-password"), http.StatusOK, "") // nor does who remembers it in the end
	d.pass(time.Hour + time.Second)
	d.must(t, d.knock(stranger, "ana", "guess"), http.StatusUnauthorized, "")
	d.must(t, d.knock(stranger, "ana", "guess"), http.StatusUnauthorized, "") // it is forgotten
}

// A stranger behind the proxy through which the operators come does not lock out
// those who were logged in.
func TestStrangersDoNotLockOut(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	cookies := d.knock(stranger, "ana", "secret-password").Result().Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode {
		t.Fatalf("cookies %v", cookies)
	}
	for range 6 {
		d.knock(stranger, "ana", "guess")
	}
	d.must(t, d.knock(stranger, "ana", "secret-password"), http.StatusTooManyRequests, "1")
	d.must(t, d.knock(stranger, "ana", "secret-password", cookies[0]), http.StatusOK, "")
	d.must(t, d.knock(stranger, "", "", cookies[0]), http.StatusUnauthorized, "") // it opens nothing by itself
	forged := &http.Cookie{Name: cookies[0].Name, Value: "x"}
	d.must(t, d.knock(stranger, "ana", "secret-password", forged), http.StatusTooManyRequests, "1")
}

// After a login anywhere, the cookie is sent to all pages, and to none beside them.
func TestKnownCookieIsForAllPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, ops.WithBasicAuth("ana", "secret-password"))
	e := s.receive(t, anything)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	for _, path := range []string{"/case/" + e.Key.TransactionID, "/style.css"} { // as a browser does
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+prefix+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("ana", "secret-password")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", path, answer.StatusCode, err)
		}
	}
	for path, want := range map[string]int{prefix + "/": 1, prefix + "/cases": 1, prefix + "/event/1/replay": 1, prefix + "/case/1": 1, "/admin/other": 0, "/": 0} {
		u, err := url.Parse(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(jar.Cookies(u)); n != want {
			t.Errorf("%s gets %d cookies, want %d", path, n, want)
		}
	}
}

// One person has all addresses of an IPv6 network, and there is a bound on what is
// remembered.
func TestAddresses(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for i := range 5 {
		d.must(t, d.knock(fmt.Sprintf("[2001:db8::%x]:80", i), "ana", "guess"), http.StatusUnauthorized, "")
	}
	d.must(t, d.knock("[2001:db8::ffff]:80", "ana", "guess"), http.StatusTooManyRequests, "1")
	d.must(t, d.knock("[2001:db8:0:1::]:80", "ana", "guess"), http.StatusUnauthorized, "")
	d.must(t, d.knock("@", "ana", "guess"), http.StatusUnauthorized, "") // a Unix socket
	if n := d.Addresses(); n != 3 {
		t.Errorf("%d addresses, want 3", n)
	}
	for i := range ops.MaxAddresses + 10 {
		d.pass(time.Millisecond)
		d.knock(fmt.Sprintf("10.0.%d.%d:80", i/256, i%256), "ana", "guess")
	}
	if n := d.Addresses(); n != ops.MaxAddresses {
		t.Errorf("%d addresses, want %d", n, ops.MaxAddresses)
	}
	d.must(t, d.knock("[2001:db8::ffff]:80", "ana", "guess"), http.StatusUnauthorized, "") // the oldest are forgotten
}

func TestNoPassword(t *testing.T) {
	t.Parallel()
	if n := newSite(t).page.FailedLogins(); n != 0 {
		t.Errorf("%d failed logins", n)
	}
}
