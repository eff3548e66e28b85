package ops

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/pixmed-go/pixmed/inbox"
)

// pageSize is how many rows a list has.
const pageSize = 50

// shows are the choices of what to list; texts have a name for each.
var shows = []string{"open", "answer", "overdue", "today", "pending", "dead", "ended", "all"}

// caseTable is a list of cases.
type caseTable struct {
	Page   page
	Rows   []caseRow
	HasDue bool // otherwise it shows when they opened
}

// caseRow is a case in a list: one line, whatever has failed.
type caseRow struct {
	ID, Name   string // Name is the external id, or else the transaction id
	Amount     string
	Status     string
	Due        string // or since when it is open
	DueAt      when
	Urgency    string // "late", "soon" or ""
	AnsweredBy string // "" if nobody has
	Answered   when
	Open       bool
	Dead       int64
	Pending    int64
}

func (h *Handler) caseTable(p page, cases []*inbox.Case) *caseTable {
	t := &caseTable{Page: p, Rows: make([]caseRow, len(cases))}
	for i, c := range cases {
		t.HasDue = t.HasDue || !c.DueAt.IsZero()
		t.Rows[i] = h.caseRow(p, c)
	}
	return t
}

func (h *Handler) caseRow(p page, c *inbox.Case) caseRow {
	row := caseRow{
		ID: c.TransactionID, Name: show(c.ExternalID, 48), Amount: c.Value.BRL(), Status: show(string(c.Status), 64),
		Answered: p.Short(c.AnsweredAt), Open: c.Open, Dead: c.Dead, Pending: c.Pending,
	}
	if strings.TrimSpace(row.Name) == "" {
		row.Name = c.TransactionID
	}
	if !c.AnsweredAt.IsZero() {
		row.AnsweredBy = p.T["somebody"]
		if c.AnsweredBy != "" {
			row.AnsweredBy = show(c.AnsweredBy, 40)
		}
	}
	switch {
	case !c.Open:
		row.Due = p.T["no_longer_due"]
		row.DueAt = p.Short(c.EndedAt)
	case c.DueAt.IsZero():
		row.Due, row.DueAt = p.Ago(c.OpenedAt), p.Short(c.OpenedAt)
	default:
		row.Due, row.DueAt = p.Until(c.DueAt), p.Short(c.DueAt)
		row.Urgency = h.urgency(c)
	}
	return row
}

// urgency says whether an open case is overdue or due today, and nobody has answered
// it.
func (h *Handler) urgency(c *inbox.Case) string {
	now := h.config.now()
	switch {
	case !c.Open || c.DueAt.IsZero() || !c.AnsweredAt.IsZero():
		return ""
	case !c.DueAt.After(now):
		return "late"
	case c.DueAt.Before(h.tomorrow(now)):
		return "soon"
	}
	return ""
}

type list struct {
	Page  page
	Show  string
	Shows []string
	Cases *caseTable
	Next  string // the next page's query, "" if there is none
	// Quarantined are bodies that hold what is searched for: they have no case yet.
	Quarantined []quarantined
}

// inQuarantine is how many bodies a search finds.
const inQuarantine = 10

type quarantined struct {
	ID, Error string
	Received  when
}

// cases lists cases.
func (h *Handler) cases(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	search := strings.TrimSpace(query.Get("q"))
	what := query.Get("show")
	if what == "" {
		what = "open"
		if search != "" {
			what = "all"
		}
	}
	f := inbox.CaseFilter{Search: search, After: query.Get("after"), Limit: pageSize}
	cases, bodies, err := h.find(r.Context(), what, f)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	p := h.page(r)
	p.Title, p.Search = p.T["cases"], search
	v := &list{Page: p, Show: what, Shows: shows, Cases: h.caseTable(p, cases)}
	for _, e := range bodies {
		what, _, _ := strings.Cut(e.LastError, "\n")
		v.Quarantined = append(v.Quarantined, quarantined{e.ID, show(what, 250), p.Short(e.ReceivedAt)})
	}
	if len(cases) == pageSize {
		v.Next = "?" + url.Values{"show": {what}, "q": {search}, "after": {cases[pageSize-1].Cursor()}}.Encode()
	}
	h.render(w, r, http.StatusOK, "cases.html", v)
}

// find returns the cases of a choice. With a search it waits for others, and returns
// bodies in quarantine too if all is searched.
func (h *Handler) find(ctx context.Context, what string, f inbox.CaseFilter) (cases []*inbox.Case, bodies []*inbox.Event, err error) {
	if f.Search == "" {
		cases, err = h.choose(ctx, what, f)
		return cases, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	done, err := h.search.wait(ctx)
	if err != nil {
		return nil, nil, errSearchBusy
	}
	defer done()
	cases, err = h.choose(ctx, what, f)
	if err == nil && what == "all" && f.After == "" {
		bodies, err = h.in.List(ctx, inbox.Filter{State: inbox.Quarantined, Search: f.Search, Limit: inQuarantine})
	}
	if err != nil && ctx.Err() != nil {
		err = errors.Join(errSearchBusy, err)
	}
	return cases, bodies, err
}

// choose returns the cases of a choice.
func (h *Handler) choose(ctx context.Context, what string, f inbox.CaseFilter) ([]*inbox.Case, error) {
	now := h.config.now()
	switch what {
	case "open":
		f.Open = true
	case "answer":
		f.Unanswered = true
	case "overdue":
		f.Unanswered, f.DueBefore = true, now
	case "today":
		f.Unanswered, f.DueBefore = true, h.tomorrow(now)
		if f.After == "" {
			some, err := h.in.Cases(ctx, inbox.CaseFilter{Unanswered: true, Limit: 1})
			if err != nil {
				return nil, err
			}
			f.After = dueAfter(some, now)
		}
	case "pending", "dead":
		f.State = inbox.State(what)
	case "ended":
		f.Ended = true
	case "all":
	default:
		return nil, errBadRequest
	}
	return h.in.Cases(ctx, f)
}
