package ops

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/internal/shared"
)

//go:embed pages
var files embed.FS

// How long a request may take, at the database most of all.
const (
	readTimeout   = 10 * time.Second
	actTimeout    = 30 * time.Second // which may be on thousands of notifications
	countTimeout  = 5 * time.Second
	searchTimeout = 3 * time.Second // with the wait for other searches
)

// How long counts are kept.
const (
	keepNumbers = 3 * time.Second
	keepChart   = time.Minute
)

// box is what the page needs of an inbox.
type box interface {
	Stats(ctx context.Context) (inbox.Stats, error)
	CountReceived(ctx context.Context, from time.Time, span time.Duration, n int) ([]inbox.Received, error)
	Failures(ctx context.Context, s inbox.State) ([]inbox.Failure, error)
	Cases(ctx context.Context, f inbox.CaseFilter) ([]*inbox.Case, error)
	Case(ctx context.Context, transactionID string) (*inbox.Case, error)
	List(ctx context.Context, f inbox.Filter) ([]*inbox.Event, error)
	Get(ctx context.Context, id string) (*inbox.Event, error)
	Notes(ctx context.Context, id string) ([]inbox.Note, error)
	MarkAnswered(ctx context.Context, transactionID, note string, opts ...inbox.ActionOption) error
	End(ctx context.Context, transactionID, note string, opts ...inbox.ActionOption) error
	Replay(ctx context.Context, id string, opts ...inbox.ActionOption) error
	Resolve(ctx context.Context, id, note string, opts ...inbox.ActionOption) error
	ReplayAll(ctx context.Context, f inbox.Filter, opts ...inbox.ActionOption) (inbox.Report, error)
	ResolveAll(ctx context.Context, f inbox.Filter, note string, opts ...inbox.ActionOption) (inbox.Report, error)
	RetryNow(ctx context.Context, id string, opts ...inbox.ActionOption) error
	Discard(ctx context.Context, id string, opts ...inbox.ActionOption) error
}

// ending is a box with another way to end a case.
type ending struct {
	box

	end EndFunc
}

func (b ending) End(ctx context.Context, transactionID, note string, opts ...inbox.ActionOption) error {
	return b.end(ctx, transactionID, note, opts...)
}

// Handler is the page. Make one with [NewHandler].
type Handler struct {
	in       box
	config   *config
	pages    *template.Template
	mux      *http.ServeMux
	numbers  *shared.Value[*numbers]
	received *shared.Value[[]inbox.Received]
	search   turn
	whole    turn
}

// NewHandler returns the page of an inbox. It fails without [WithBasicAuth] or
// [WithAuthenticated], and if an option is wrong.
func NewHandler(in *inbox.Inbox, opts ...Option) (*Handler, error) {
	if in == nil {
		return nil, errors.New("the inbox is nil")
	}
	return newHandler(in, opts...)
}

func newHandler(in box, opts ...Option) (*Handler, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	if c.end != nil {
		in = ending{in, c.end}
	}
	pages, err := template.New("").Option("missingkey=error").ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, err
	}
	h := &Handler{in: in, config: c, pages: pages, mux: http.NewServeMux(), search: make(turn, 1), whole: make(turn, wholeCases)}
	h.numbers = &shared.Value[*numbers]{Keep: keepNumbers, Timeout: countTimeout, Now: c.now, Compute: h.count}
	h.received = &shared.Value[[]inbox.Received]{Keep: keepChart, Timeout: countTimeout, Now: c.now, Compute: h.countReceived}
	h.mux.HandleFunc("GET /{$}", h.overview)
	h.mux.HandleFunc("GET /cases", h.cases)
	h.mux.HandleFunc("GET /case/{id}", h.oneCase)
	h.mux.HandleFunc("GET /case/{id}/receipt", h.receipt)
	h.mux.HandleFunc("GET /event/{id}", h.event)
	h.mux.HandleFunc("GET /failures/{state}/{group}", h.group)
	h.mux.HandleFunc("GET /style.css", h.style)
	if !c.readOnly {
		for pattern, handle := range map[string]http.HandlerFunc{
			"/case/{id}/{action}": h.caseAction, "/event/{id}/{action}": h.eventAction, "/failures/{state}/{group}/{action}": h.groupAction,
		} {
			h.mux.HandleFunc("GET "+pattern, handle)
			h.mux.HandleFunc("POST "+pattern, handle)
		}
	}
	return h, nil
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range map[string]string{
		"Cache-Control":                "no-store",
		"Content-Security-Policy":      "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		// Not no-referrer, which makes browsers send "Origin: null" with forms.
		"Referrer-Policy":        "same-origin",
		"Vary":                   "Accept-Language",
		"X-Content-Type-Options": "nosniff",
		"X-Frame-Options":        "DENY",
		"X-Robots-Tag":           "noindex",
	} {
		w.Header().Set(name, value)
	}
	if p := h.config.login; p != nil && !p.admit(w, r, h.config.now(), h.config.log) {
		return
	}
	if fromElsewhere(r) {
		h.refuse(w, r)
		return
	}
	timeout := readTimeout
	if r.Method == http.MethodPost {
		timeout = actTimeout
		r.Body = http.MaxBytesReader(w, r.Body, 32<<10)
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	r = r.WithContext(ctx)
	if _, pattern := h.mux.Handler(r); pattern == "" {
		h.noRoute(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// fromElsewhere reports whether another site's page sent a request, be it to change
// something or to read, which takes the database's time.
func fromElsewhere(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return http.NewCrossOriginProtection().Check(r) != nil // which knows older browsers' POST by Origin
	default:
		return true
	}
}

// refuse answers what another site's page sent. Where a person followed a link, the
// same link on a page of ours works.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request) {
	v := &failure{Page: h.page(r)}
	v.Problem = v.Page.T["cross_site"]
	if r.Method == http.MethodGet {
		path := r.URL.EscapedPath()
		v.Link = "./" + path[strings.LastIndexByte(path, '/')+1:]
		if r.URL.RawQuery != "" {
			v.Link += "?" + r.URL.RawQuery
		}
	}
	h.render(w, r, http.StatusForbidden, "error.html", v)
}

// noRoute answers a request that matches no pattern.
func (h *Handler) noRoute(w http.ResponseWriter, r *http.Request) {
	probe := &discard{header: make(http.Header)}
	handler, _ := h.mux.Handler(r)
	handler.ServeHTTP(probe, r) // 404 or 405
	if probe.status != http.StatusMethodNotAllowed {
		h.fail(w, r, errNoPage)
		return
	}
	w.Header().Set("Allow", probe.header.Get("Allow"))
	h.fail(w, r, errMethod)
}

// discard keeps the status and the header of an answer.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

func (h *Handler) style(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, files, "pages/style.css")
}

// page is what every page has.
type page struct {
	speech
	Root     string // the way to the first page
	Title    string // what the page is about, "" for the first page
	Search   string
	User     string
	Said     string // what an action has done
	ReadOnly bool
}

func (h *Handler) page(r *http.Request) page {
	lang := languageOf(r.Header.Get("Accept-Language"))
	p := page{
		speech: speech{Lang: lang, T: texts[lang], location: h.config.location, now: h.config.now()},
		Root:   root(r), User: h.who(r), ReadOnly: h.config.readOnly,
	}
	p.Said = p.said(r.URL.Query())
	return p
}

// root is the relative address of the first page: the handler does not know where it is
// mounted.
func root(r *http.Request) string {
	if depth := strings.Count(r.URL.EscapedPath(), "/") - 1; depth > 0 {
		return strings.Repeat("../", depth)
	}
	return "./"
}

// see sends the browser to another page, relative to the first one.
func see(w http.ResponseWriter, r *http.Request, to string, query url.Values) {
	if len(query) > 0 {
		path, fragment, _ := strings.Cut(to, "#")
		to = path + "?" + query.Encode()
		if fragment != "" {
			to += "#" + fragment
		}
	}
	w.Header().Set("Location", root(r)+to) // http.Redirect would make it absolute, without what StripPrefix took
	w.WriteHeader(http.StatusSeeOther)
}

type failure struct {
	Page    page
	Problem string
	Link    string
}

// The page's own errors.
var (
	errNoReceipt  = errors.New("there is no receipt")
	errSearchBusy = errors.New("the search takes too long, or waits for others")
	errBadRequest = errors.New("invalid address")
	errNoPage     = errors.New("there is no such page")
	errMethod     = errors.New("the address does not accept such a request")
	errGroupGone  = errors.New("nothing fails with this error any more")
	errNote       = errors.New("the note is too long")
	errNoText     = errors.New("the note is not valid text")
)

// problems are the errors that a person can do something about, with their status and
// the key of their text; in this order.
var problems = []struct {
	is     error
	status int
	text   string
}{
	{errNoReceipt, http.StatusNotFound, "no_receipt"},
	{errSearchBusy, http.StatusServiceUnavailable, "search_busy"},
	{errBadRequest, http.StatusBadRequest, "bad_request"},
	{errNoPage, http.StatusNotFound, "no_page"},
	{errMethod, http.StatusMethodNotAllowed, "method_not_allowed"},
	{errGroupGone, http.StatusNotFound, "group_gone"},
	{errNote, http.StatusRequestEntityTooLarge, "note_too_long"},
	{errNoText, http.StatusBadRequest, "note_no_text"},
	{inbox.ErrNotFound, http.StatusNotFound, "not_found"},
	{inbox.ErrSuperseded, http.StatusConflict, "superseded"},
	{inbox.ErrNotReplayable, http.StatusConflict, "not_replayable"},
	{inbox.ErrNotResolvable, http.StatusConflict, "not_replayable"},
	{inbox.ErrNotPending, http.StatusConflict, "not_pending"},
	{inbox.ErrRunning, http.StatusConflict, "is_running"},
	{inbox.ErrNotInTurn, http.StatusConflict, "not_in_turn"},
	{inbox.ErrAnswered, http.StatusConflict, "answered_before"},
	{inbox.ErrEnded, http.StatusConflict, "has_ended"},
	{pixmed.ErrDuplicate, http.StatusConflict, "duplicate"},
	{pixmed.ErrNotInfraction, http.StatusUnprocessableEntity, "still_invalid"},
	{inbox.ErrInvalidArgument, http.StatusBadRequest, "bad_request"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "failed"},
}

// problemOf returns the status and the key of the text for an error.
func problemOf(err error) (status int, text string) {
	for _, p := range problems {
		if errors.Is(err, p.is) {
			return p.status, p.text
		}
	}
	if errors.As(err, new(*pixmed.SyntaxError)) || errors.As(err, new(*pixmed.ValidationError)) {
		return http.StatusUnprocessableEntity, "still_invalid"
	}
	return http.StatusInternalServerError, "failed"
}

// fail shows a page for an error. The details are for the log.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, key := problemOf(err)
	if status >= http.StatusInternalServerError {
		h.config.log.ErrorContext(r.Context(), "pixmed: an operations page could not be made", "path", show(r.URL.Path, 200), "error", err)
	}
	v := &failure{Page: h.page(r)}
	v.Problem = v.Page.T[key]
	v.Page.Said = ""
	h.render(w, r, status, "error.html", v)
}

// render writes a page once all of it is rendered.
func (h *Handler) render(w http.ResponseWriter, r *http.Request, status int, name string, v any) {
	var b bytes.Buffer
	if err := h.pages.ExecuteTemplate(&b, name, v); err != nil {
		h.config.log.ErrorContext(r.Context(), "pixmed: an operations page could not be made", "path", show(r.URL.Path, 200), "error", fmt.Errorf("%s: %w", name, err))
		http.Error(w, "The page could not be made; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
