package ops

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/internal/text"
)

// maxNote is what the inbox keeps of a note, in bytes.
const maxNote = 4 << 10

// onCase is an action on a case. Its name is in addresses, and in the keys of texts.
type onCase struct {
	name  string
	suits func(c *inbox.Case) bool
	do    func(in box, ctx context.Context, id, note string, opts ...inbox.ActionOption) error
}

var caseActions = []onCase{
	{"answer", func(c *inbox.Case) bool { return c.Open && c.AnsweredAt.IsZero() }, box.MarkAnswered},
	{"end", func(c *inbox.Case) bool { return c.Open }, box.End},
}

// onEvent is an action on a notification.
type onEvent struct {
	name  string
	noted bool // it takes a note
	suits func(e *inbox.Event, now time.Time) bool
	do    func(in box, ctx context.Context, id, note string, opts ...inbox.ActionOption) error
}

var eventActions = []onEvent{
	{"replay", false, func(e *inbox.Event, _ time.Time) bool { return failed(e) || e.State == inbox.Resolved }, noteless(box.Replay)},
	{"resolve", true, func(e *inbox.Event, _ time.Time) bool { return failed(e) }, box.Resolve},
	{"retry", false, func(e *inbox.Event, now time.Time) bool { return e.State == inbox.Pending && e.NextAttempt.After(now) }, noteless(box.RetryNow)},
	{"discard", false, func(e *inbox.Event, _ time.Time) bool { return e.State == inbox.Pending && !e.Running }, noteless(box.Discard)},
}

func failed(e *inbox.Event) bool { return e.State == inbox.Dead || e.State == inbox.Quarantined }

// noteless makes an action that takes no note one that ignores it.
func noteless(do func(in box, ctx context.Context, id string, opts ...inbox.ActionOption) error) func(box, context.Context, string, string, ...inbox.ActionOption) error {
	return func(in box, ctx context.Context, id, _ string, opts ...inbox.ActionOption) error {
		return do(in, ctx, id, opts...)
	}
}

// groupActions are what can be done about a group: the event action of that name, on
// each of its events.
var groupActions = []string{"replay", "resolve"}

// confirmation asks whether something is to be done.
type confirmation struct {
	Page      page
	Action    string // the key of its name
	Explained string
	Case      *caseRow // what it is about: one of the three
	Event     *eventView
	Group     *failureView
	Noted     bool // it takes a note
	Note      string
	Problem   string // why it was not done
	Force     bool   // it may be done all the same
	Dangerous bool
	Back      string // from the first page
	Post      string // relative to this page
}

// ask shows a confirmation, or why what was confirmed was not done.
func (h *Handler) ask(w http.ResponseWriter, r *http.Request, v *confirmation, problem error) {
	p := h.page(r)
	p.Said = ""
	p.Title = p.T[v.Action]
	n := int64(1)
	if v.Group != nil {
		n = v.Group.Count
	}
	v.Page, v.Explained, v.Post = p, p.Words(strings.TrimSuffix(v.Action, "_all")+"_explained", n), r.PathValue("action")
	v.Dangerous = v.Action == "end" || v.Action == "discard"
	status := http.StatusOK
	if problem != nil {
		var key string
		status, key = problemOf(problem)
		if status >= http.StatusInternalServerError {
			h.config.log.ErrorContext(r.Context(), "pixmed: an action on the operations page failed", "action", v.Action, "error", problem)
		}
		v.Problem = p.T[key]
		v.Note = lines(text.Cut(r.PostForm.Get("note"), maxNote))
		v.Force = errors.Is(problem, inbox.ErrSuperseded) || errors.Is(problem, pixmed.ErrDuplicate)
		v.Dangerous = v.Dangerous || v.Force
	}
	h.render(w, r, status, "confirm.html", v)
}

// form returns an action's note and options, from its form.
func (h *Handler) form(r *http.Request) (note string, opts []inbox.ActionOption, err error) {
	if err := r.ParseForm(); err != nil {
		if _, long := errors.AsType[*http.MaxBytesError](err); long {
			return "", nil, errNote // the rest of a form is short
		}
		return "", nil, errNoText
	}
	note = strings.TrimSpace(strings.ReplaceAll(r.PostForm.Get("note"), "\r\n", "\n"))
	switch {
	case len(note) > maxNote:
		return "", nil, errNote
	case !utf8.ValidString(note), strings.Contains(note, "\x00"):
		return "", nil, errNoText
	}
	if by := h.who(r); by != "" {
		opts = append(opts, inbox.By(by))
	}
	if r.PostForm.Get("force") != "" {
		opts = append(opts, inbox.Force())
	}
	return note, opts, nil
}

// done makes the first screen count again. The inbox has logged what was done.
func (h *Handler) done() {
	h.numbers.Forget()
	h.received.Forget()
}

func (h *Handler) caseAction(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("action")
	i := slices.IndexFunc(caseActions, func(a onCase) bool { return a.name == name })
	if i < 0 {
		h.fail(w, r, errNoPage)
		return
	}
	a := caseActions[i]
	c, err := h.wholeCase(r.Context(), r.PathValue("id"))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	back := "case/" + c.TransactionID
	row := h.caseRow(h.page(r), c)
	v := &confirmation{Action: name, Case: &row, Noted: true, Back: back}
	switch {
	case r.Method == http.MethodPost:
		note, opts, err := h.form(r)
		if err == nil {
			err = a.do(h.in, r.Context(), c.TransactionID, note, opts...)
		}
		if err != nil {
			h.ask(w, r, v, err)
			return
		}
		h.done()
		see(w, r, back, url.Values{"did": {name}})
	case !a.suits(c):
		see(w, r, back, url.Values{"did": {"late"}})
	default:
		h.ask(w, r, v, nil)
	}
}

func (h *Handler) eventAction(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("action")
	i := slices.IndexFunc(eventActions, func(a onEvent) bool { return a.name == name })
	if i < 0 {
		h.fail(w, r, errNoPage)
		return
	}
	a := eventActions[i]
	e, err := h.in.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	v := &confirmation{Action: name, Event: h.eventView(h.page(r), e, 0), Noted: a.noted, Back: placeOf(e)}
	switch {
	case r.Method == http.MethodPost:
		note, opts, err := h.form(r)
		if err == nil {
			err = a.do(h.in, r.Context(), e.ID, note, opts...)
		}
		if err != nil {
			h.ask(w, r, v, err)
			return
		}
		h.done()
		if moved, err := h.in.Get(r.Context(), e.ID); err == nil { // what was quarantined may have a case now
			v.Back = placeOf(moved)
		}
		see(w, r, v.Back, url.Values{"did": {name}})
	case !a.suits(e, h.config.now()):
		see(w, r, v.Back, url.Values{"did": {"late"}})
	default:
		h.ask(w, r, v, nil)
	}
}

// placeOf returns where a notification is shown, from the first page.
func placeOf(e *inbox.Event) string {
	if e.Key.TransactionID == "" {
		return "event/" + e.ID
	}
	return "case/" + e.Key.TransactionID + "#e-" + e.ID
}

func (h *Handler) groupAction(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("action")
	if !slices.Contains(groupActions, name) {
		h.fail(w, r, errNoPage)
		return
	}
	f, err := h.findGroup(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	view := failureViews(h.page(r), []inbox.Failure{f})[0]
	v := &confirmation{Action: name + "_all", Group: &view, Noted: name == "resolve", Back: groupPath(f)}
	if r.Method != http.MethodPost {
		h.ask(w, r, v, nil)
		return
	}
	note, opts, err := h.form(r)
	var report inbox.Report
	switch {
	case err != nil:
	case name == "replay":
		report, err = h.in.ReplayAll(r.Context(), f.Filter(), opts...)
	default:
		report, err = h.in.ResolveAll(r.Context(), f.Filter(), note, opts...)
	}
	if err != nil && report.Done == 0 {
		h.ask(w, r, v, err)
		return
	}
	h.done()
	if err != nil {
		h.config.log.ErrorContext(r.Context(), "pixmed: an action on the operations page was not done for all of a group", "action", v.Action, "done", report.Done, "left_alone", len(report.Skipped), "error", err)
	}
	said := url.Values{"did": {name + "_all"}, "n": {strconv.Itoa(report.Done)}, "left": {strconv.Itoa(len(report.Skipped))}}
	if err != nil {
		said.Set("more", "1")
	}
	if len(report.Skipped) == 0 && !said.Has("more") {
		v.Back = ""
	}
	see(w, r, v.Back, said)
}

// said returns the message that the address names, about what an action did.
func (p page) said(query url.Values) string {
	switch did := query.Get("did"); did {
	case "answer", "end", "replay", "resolve", "retry", "discard", "late":
		return p.T["did_"+did]
	case "replay_all", "resolve_all":
		n, err := strconv.ParseInt(query.Get("n"), 10, 64)
		left, err2 := strconv.ParseInt(query.Get("left"), 10, 64)
		if err != nil || err2 != nil {
			return ""
		}
		said := p.Count("did_"+did, n)
		if left > 0 {
			said += " " + p.Count("left_alone", left)
		}
		if query.Has("more") {
			said += " " + p.T["more_left"]
		}
		return said
	}
	return ""
}
