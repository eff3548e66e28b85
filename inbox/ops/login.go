package ops

import (
	"crypto/rand"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/internal/text"
)

// How failed logins are slowed down.
const (
	freeFailures = 5           // from an address, before it has to wait
	firstWait    = time.Second // doubled after each further failure
	longestWait  = time.Minute
	forgetAfter  = time.Hour
	maxAddresses = 4096 // that are remembered
)

// knownCookie is for browsers that were logged in once: strangers behind the same
// proxy do not lock them out.
const knownCookie = "pixmed_ops_known"

// login guards the page.
type login struct {
	user   string
	verify pixmed.Verifier
	known  string // the cookie's value; another one in each process

	mu       sync.Mutex
	failures map[netip.Prefix]failures
	failed   int64
}

// failures are the failed logins from one address.
type failures struct {
	n    int
	last time.Time
}

func newLogin(user, password string) (*login, error) {
	v := pixmed.BasicAuth(user, password)
	if v, ok := v.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return nil, err
		}
	}
	return &login{user: user, verify: v, known: rand.Text(), failures: make(map[netip.Prefix]failures)}, nil
}

// admit lets a request with the password pass, and answers any other.
func (p *login) admit(w http.ResponseWriter, r *http.Request, now time.Time, log *slog.Logger) bool {
	user, _, given := r.BasicAuth()
	known := p.isKnown(r)
	var right bool
	var wait time.Duration
	var n int
	address := addressOf(r)
	if given {
		right, wait, n = p.try(r, address, known, now)
	}
	switch {
	case right:
		// Without a Path a cookie is for the folder of the address that sets it: here that
		// of the first page, which also has the style sheet that every page loads.
		if !known && strings.HasPrefix(r.URL.Path, "/") && root(r) == "./" {
			http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where that is possible
				Name: knownCookie, Value: p.known, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode, MaxAge: 30 * 24 * 60 * 60,
			})
		}
		return true
	case wait > 0:
		wait := strconv.Itoa(int((wait + time.Second - 1) / time.Second))
		w.Header().Set("Retry-After", wait)
		http.Error(w, "Too many failed logins from this address. Wait for "+wait+" s, then try again.", http.StatusTooManyRequests)
	default:
		if given {
			// Not the name that was given: people type passwords there.
			log.WarnContext(r.Context(), "pixmed: a login at the operations page failed", "address", text.Printable(r.RemoteAddr, 64), "right_user", user == p.user, "failures", n)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="pixmed", charset="UTF-8"`)
		http.Error(w, "Log in with the user and the password of the operations page.", http.StatusUnauthorized)
	}
	return false
}

// try compares the password, unless the address has to wait. n is how many logins
// from there have failed.
func (p *login) try(r *http.Request, address netip.Prefix, known bool, now time.Time) (right bool, wait time.Duration, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.failures[address]
	if now.Sub(f.last) > forgetAfter {
		f = failures{}
	}
	if wait := f.last.Add(f.wait()).Sub(now); wait > 0 && !known {
		return false, wait, f.n
	}
	if p.verify.Verify(r, nil) == nil { // which reads no body
		return true, 0, f.n
	}
	p.failed++
	if _, there := p.failures[address]; !there && len(p.failures) >= maxAddresses {
		p.forgetOldest()
	}
	f = failures{f.n + 1, now}
	p.failures[address] = f
	return false, 0, f.n
}

// wait returns how long after the last failure the next login has to come.
func (f failures) wait() time.Duration {
	if f.n < freeFailures {
		return 0
	}
	return min(firstWait<<min(f.n-freeFailures, 16), longestWait)
}

func (p *login) forgetOldest() {
	var oldest netip.Prefix
	for address, f := range p.failures {
		if last, there := p.failures[oldest]; !there || f.last.Before(last.last) {
			oldest = address
		}
	}
	delete(p.failures, oldest)
}

func (p *login) isKnown(r *http.Request) bool {
	for _, c := range r.CookiesNamed(knownCookie) {
		if subtle.ConstantTimeCompare([]byte(c.Value), []byte(p.known)) == 1 {
			return true
		}
	}
	return false
}

// addressOf returns where a request comes from: for IPv6 the network, since one person
// has all its addresses. Without an address, as behind a Unix socket, it returns the
// zero Prefix.
func addressOf(r *http.Request) netip.Prefix {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 64
	if a.Addr().Unmap().Is4() {
		bits = 32
	}
	prefix, _ := a.Addr().Unmap().WithZone("").Prefix(bits) // the bits fit
	return prefix
}

// FailedLogins returns how many logins with a wrong user or password there were since
// the handler was made, for a metric; without [WithBasicAuth], 0. Those that had to
// wait do not count, since their password was not checked.
func (h *Handler) FailedLogins() int64 {
	p := h.config.login
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// who returns the name of the person who sent a request, as [inbox.By] accepts it; ""
// if it is not known.
func (h *Handler) who(r *http.Request) string {
	name := ""
	switch {
	case h.config.user != nil:
		name = h.config.user(r)
	case h.config.login != nil:
		name = h.config.login.user // nobody else gets in
	}
	return show(name, 150)
}

// show returns a text from outside as the page may hold it: cut, and without control
// characters.
func show(s string, most int) string {
	return text.Cut(text.Escape(text.Cut(s, most)), most+3) // which "…" takes
}
