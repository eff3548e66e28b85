package ops

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

//go:embed pages
var files embed.FS

// requestTimeout is how long the database may take for a page.
const requestTimeout = 10 * time.Second

// days is how many the chart shows.
const days = 14

// pageSize is how many cases, or quarantined bodies, a page lists.
const pageSize = 50

// store is what the page needs of an inbox.
type store interface {
	Stats(ctx context.Context) (inbox.Stats, error)
	CountReceived(ctx context.Context, from time.Time, span time.Duration, n int) ([]inbox.Received, error)
	Cases(ctx context.Context, f inbox.CaseFilter) ([]*inbox.Case, error)
	List(ctx context.Context, f inbox.Filter) ([]*inbox.Event, error)
	History(ctx context.Context, transactionID string) ([]*inbox.Event, error)
	Get(ctx context.Context, id string) (*inbox.Event, error)
	Replay(ctx context.Context, id string, opts ...inbox.ActionOption) error
}

// NewHandler returns the page of an inbox. It fails without [WithBasicAuth] or
// [WithAuthenticated], and if an option is wrong.
func NewHandler(in *inbox.Inbox, opts ...Option) (http.Handler, error) {
	if in == nil {
		return nil, errors.New("ops: NewHandler: the inbox is nil")
	}
	return newHandler(in, opts...)
}

func newHandler(in store, opts ...Option) (http.Handler, error) {
	c := &config{location: time.FixedZone("UTC-3", -3*60*60), log: slog.Default()}
	var errs []error
	for _, opt := range opts {
		if opt == nil {
			errs = append(errs, errors.New("ops: NewHandler: an option is nil"))
			continue
		}
		errs = append(errs, opt(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if !c.authenticated {
		return nil, errors.New("ops: NewHandler: the page shows personal data and needs authentication: use WithBasicAuth, or WithAuthenticated if something in front of it lets only operators through")
	}
	pages, err := template.New("").Option("missingkey=error").ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("ops: %w", err)
	}
	h := &handler{in: in, config: c, pages: pages}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.cases)
	mux.HandleFunc("GET /case/{id}", h.oneCase)
	mux.HandleFunc("GET /event/{id}", h.event)
	mux.HandleFunc("GET /event/{id}/receipt", h.receipt)
	mux.HandleFunc("GET /style.css", h.style)
	if !c.readOnly {
		mux.HandleFunc("POST /event/{id}/replay", h.replay)
	}
	return h.guard(http.NewCrossOriginProtection().Handler(mux)), nil
}

type handler struct {
	in     store
	config *config
	pages  *template.Template
}

// guard asks for the password and sets what all answers have in common.
func (h *handler) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Robots-Tag", "noindex")
		header.Add("Vary", "Accept-Language")
		if !h.config.admitted(r) {
			header.Set("WWW-Authenticate", `Basic realm="pixmed", charset="UTF-8"`)
			http.Error(w, "a user and a password are asked for", http.StatusUnauthorized)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (h *handler) style(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, files, "pages/style.css")
}

// cases lists cases, or what is quarantined.
func (h *handler) cases(w http.ResponseWriter, r *http.Request) {
	ctx, query := r.Context(), r.URL.Query()
	state := inbox.State(query.Get("state"))
	search := strings.TrimSpace(query.Get("q"))
	v := &overview{Page: h.page(r, "./"), State: string(state), Search: search}
	stats, err := h.in.Stats(ctx)
	if err == nil {
		v.Stats = stats
		v.OldestPending = age(stats.OldestPending)
		var received []inbox.Received
		received, err = h.received(ctx)
		v.Chart = newChart(received, h.config.location)
	}
	after := ""
	switch {
	case err != nil:
	case state == inbox.Quarantined:
		var events []*inbox.Event
		events, err = h.in.List(ctx, inbox.Filter{State: state, Search: search, After: query.Get("after"), Limit: pageSize})
		for _, e := range events {
			v.Events = append(v.Events, h.eventView(e))
			after = e.ID
		}
		if len(events) < pageSize {
			after = ""
		}
	default:
		var cases []*inbox.Case
		cases, err = h.in.Cases(ctx, inbox.CaseFilter{State: state, Search: search, After: query.Get("after"), Limit: pageSize})
		for _, c := range cases {
			v.Cases = append(v.Cases, h.caseRow(c))
			after = c.Cursor()
		}
		if len(cases) < pageSize {
			after = ""
		}
	}
	if err != nil {
		h.fail(w, r, "./", err)
		return
	}
	if after != "" {
		v.Older = "?" + url.Values{"state": {string(state)}, "q": {search}, "after": {after}}.Encode()
	}
	h.render(w, r, http.StatusOK, "cases.html", v)
}

// received counts what came on each of the last days, today included.
func (h *handler) received(ctx context.Context) ([]inbox.Received, error) {
	now := time.Now().In(h.config.location)
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, h.config.location)
	return h.in.CountReceived(ctx, today.AddDate(0, 0, 1-days), 24*time.Hour, days)
}

func (h *handler) oneCase(w http.ResponseWriter, r *http.Request) {
	events, err := h.in.History(r.Context(), r.PathValue("id"))
	if err == nil && len(events) == 0 {
		err = inbox.ErrNotFound
	}
	if err != nil {
		h.fail(w, r, "../", err)
		return
	}
	v := &timeline{Page: h.page(r, "../"), ID: events[0].Key.TransactionID}
	v.Page.Title = v.Page.T["case"] + " " + v.ID
	for _, e := range events {
		v.Events = append(v.Events, h.eventView(e))
	}
	h.render(w, r, http.StatusOK, "case.html", v)
}

func (h *handler) event(w http.ResponseWriter, r *http.Request) {
	h.showEvent(w, r, http.StatusOK, "../", nil)
}

// showEvent shows one notification, and why it was not replayed if it was not.
func (h *handler) showEvent(w http.ResponseWriter, r *http.Request, status int, root string, notReplayed error) {
	e, err := h.in.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		h.fail(w, r, root, err)
		return
	}
	v := &timeline{Page: h.page(r, root), ID: e.ID, Events: []eventView{h.eventView(e)}, Alone: true}
	v.Page.Title = v.Page.T["notification"] + " " + v.ID
	if notReplayed != nil {
		v.Problem = v.Page.T[problemKey(notReplayed)]
		v.Detail = notReplayed.Error()
		v.Force = errors.Is(notReplayed, inbox.ErrSuperseded) || errors.Is(notReplayed, pixmed.ErrDuplicate)
	}
	h.render(w, r, status, "case.html", v)
}

// replay makes a notification pending again.
func (h *handler) replay(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	r.Body = http.MaxBytesReader(w, r.Body, 1<<10)
	var opts []inbox.ActionOption
	if r.PostFormValue("force") != "" {
		opts = append(opts, inbox.Force())
	}
	err := h.in.Replay(r.Context(), id, opts...)
	user, _, _ := r.BasicAuth()
	if h.config.credentials == nil {
		user = "" // nobody has checked it
	}
	log := h.config.log.With("event_id", id, "user", user, "forced", len(opts) > 0)
	switch {
	case err == nil:
		log.InfoContext(r.Context(), "ops: replayed")
		w.Header().Set("Location", "../"+url.PathEscape(id)) // http.Redirect does not know where the page is mounted
		w.WriteHeader(http.StatusSeeOther)
	case statusOf(err) == http.StatusInternalServerError:
		h.fail(w, r, "../../", err)
	default:
		log.InfoContext(r.Context(), "ops: not replayed", "error", err)
		h.showEvent(w, r, statusOf(err), "../../", err)
	}
}

// receipt serves the receipt of a notification's transaction.
func (h *handler) receipt(w http.ResponseWriter, r *http.Request) {
	e, err := h.in.Get(r.Context(), r.PathValue("id"))
	var file io.ReadCloser
	if err == nil {
		file, err = h.openReceipt(r.Context(), e)
	}
	if err == nil && file == nil {
		err = errNoReceipt
	}
	if err != nil {
		h.fail(w, r, "../../", err)
		return
	}
	defer func() { _ = file.Close() }()
	w.Header().Set("Content-Type", "application/pdf")
	w.Header().Set("Content-Disposition", `inline; filename="`+e.Key.TransactionID+`.pdf"`)
	if _, err := io.Copy(w, file); err != nil {
		h.config.log.WarnContext(r.Context(), "ops: a receipt was not sent whole", "event_id", e.ID, "error", err)
		panic(http.ErrAbortHandler) // so that the browser knows
	}
}

var errNoReceipt = errors.New("ops: there is no receipt")

// openReceipt returns nil if there is none.
func (h *handler) openReceipt(ctx context.Context, e *inbox.Event) (io.ReadCloser, error) {
	if h.config.receipt == nil {
		return nil, nil //nolint:nilnil // none is an answer
	}
	i, err := e.Infraction()
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // what is quarantined has none
	}
	return h.config.receipt(ctx, i)
}

// statusOf returns the status code for an error.
func statusOf(err error) int {
	switch {
	case errors.Is(err, inbox.ErrNotFound), errors.Is(err, errNoReceipt):
		return http.StatusNotFound
	case errors.Is(err, inbox.ErrSuperseded), errors.Is(err, inbox.ErrNotReplayable), errors.Is(err, pixmed.ErrDuplicate):
		return http.StatusConflict
	case errors.As(err, new(*pixmed.SyntaxError)), errors.As(err, new(*pixmed.ValidationError)), errors.Is(err, pixmed.ErrNotInfraction):
		return http.StatusUnprocessableEntity
	case errors.Is(err, inbox.ErrInvalidArgument):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// problemKey returns the key of the text that explains an error.
func problemKey(err error) string {
	switch {
	case errors.Is(err, errNoReceipt):
		return "no_receipt"
	case errors.Is(err, inbox.ErrNotFound):
		return "not_found"
	case errors.Is(err, inbox.ErrSuperseded):
		return "superseded"
	case errors.Is(err, inbox.ErrNotReplayable):
		return "not_replayable"
	case errors.Is(err, pixmed.ErrDuplicate):
		return "duplicate"
	case statusOf(err) == http.StatusUnprocessableEntity:
		return "still_invalid"
	case statusOf(err) == http.StatusBadRequest:
		return "bad_request"
	}
	return "failed"
}

// fail shows a page for an error. What it is in detail, which may hold what is
// nobody's business, is for the log unless the request is to blame.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, root string, err error) {
	v := &failure{Page: h.page(r, root)}
	v.Problem = v.Page.T[problemKey(err)]
	status := statusOf(err)
	v.Page.Title = http.StatusText(status)
	if status == http.StatusInternalServerError {
		h.config.log.ErrorContext(r.Context(), "ops: a page could not be made", "path", r.URL.Path, "error", err)
	} else {
		v.Detail = err.Error()
	}
	h.render(w, r, status, "error.html", v)
}

// render writes a page once all of it is made.
func (h *handler) render(w http.ResponseWriter, r *http.Request, status int, name string, v any) {
	var b bytes.Buffer
	if err := h.pages.ExecuteTemplate(&b, name, v); err != nil {
		h.config.log.ErrorContext(r.Context(), "ops: a page could not be made", "path", r.URL.Path, "error", err)
		http.Error(w, "the page could not be made; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
