package ops

import (
	"context"
	"net/http"
	"time"

	"github.com/pixmed-go/pixmed/inbox"
)

// first is how many of the cases to answer the first screen lists: few enough that
// the failures can be seen below them.
const first = 7

// Today's cases are counted up to a bound.
const (
	countPage  = 200
	countPages = 5
)

// numbers are what the first screen says.
type numbers struct {
	stats             inbox.Stats
	next              []*inbox.Case // to answer
	today             int64
	more              bool // than today
	dead, quarantined []inbox.Failure
}

func (h *Handler) count(ctx context.Context) (*numbers, error) {
	n := new(numbers)
	var err error
	if n.stats, err = h.in.Stats(ctx); err != nil {
		return nil, err
	}
	if n.next, err = h.in.Cases(ctx, inbox.CaseFilter{Unanswered: true, Limit: first}); err != nil {
		return nil, err
	}
	if n.dead, err = h.in.Failures(ctx, inbox.Dead); err != nil {
		return nil, err
	}
	if n.quarantined, err = h.in.Failures(ctx, inbox.Quarantined); err != nil {
		return nil, err
	}
	n.today, n.more, err = h.countToday(ctx, n.next)
	return n, err
}

// countToday counts the cases that are due from now until today ends.
func (h *Handler) countToday(ctx context.Context, some []*inbox.Case) (n int64, more bool, err error) {
	now := h.config.now()
	f := inbox.CaseFilter{Unanswered: true, DueBefore: h.tomorrow(now), After: dueAfter(some, now), Limit: countPage}
	if f.After == "" {
		return 0, false, nil
	}
	for range countPages {
		cases, err := h.in.Cases(ctx, f)
		if err != nil {
			return 0, false, err
		}
		n += int64(len(cases))
		if len(cases) < countPage {
			return n, false, nil
		}
		f.After = cases[len(cases)-1].Cursor()
	}
	return n, true, nil
}

// tomorrow is when today ends, where the operators are.
func (h *Handler) tomorrow(now time.Time) time.Time {
	y, m, d := now.In(h.config.location).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, h.config.location)
}

// dueAfter returns the cursor after the open cases that are due by a time, given
// some of them: the window is the same for all. It is "" if no case has a due time.
func dueAfter(some []*inbox.Case, now time.Time) string {
	if len(some) == 0 || some[0].DueAt.IsZero() {
		return ""
	}
	window := some[0].DueAt.Sub(some[0].OpenedAt)
	last := &inbox.Case{Open: true, OpenedAt: now.Add(-window), TransactionID: "ffffffff-ffff-ffff-ffff-ffffffffffff"}
	return last.Cursor()
}

type overview struct {
	Page        page
	Stats       inbox.Stats
	Blocked     string
	Today       string // a number, and a plus if there are more
	TodayN      int64
	HasDue      bool
	Oldest      string
	Cases       *caseTable
	Dead        []failureView
	Quarantined []failureView
	Chart       *chart // nil if it could not be made
	CountedAt   when
	Failed      int64 // logins
}

// groups are some with their page, for a template.
type groups struct {
	Page   page
	Groups []failureView
}

// Groups gives a template some groups with their page.
func (v *overview) Groups(all []failureView) groups { return groups{v.Page, all} }

// failureView is a group of failures.
type failureView struct {
	Count  int64
	Error  string
	LastAt when
	Path   string // from the first page
}

func (h *Handler) overview(w http.ResponseWriter, r *http.Request) {
	n, at, err := h.numbers.Get(r.Context())
	if err != nil {
		h.fail(w, r, err)
		return
	}
	p := h.page(r)
	v := &overview{
		Page: p, Stats: n.stats, Blocked: n.stats.Blocked.BRL(), Today: p.Number(n.today), TodayN: n.today,
		Oldest: age(n.stats.OldestPending), Cases: h.caseTable(p, n.next), CountedAt: p.Time(at), Failed: h.FailedLogins(),
		Dead: failureViews(p, n.dead), Quarantined: failureViews(p, n.quarantined),
	}
	v.HasDue = len(n.next) == 0 || !n.next[0].DueAt.IsZero()
	if n.more {
		v.Today += "+"
	}
	// The first screen is worth having without it.
	if received, _, err := h.received.Get(r.Context()); err != nil {
		h.config.log.WarnContext(r.Context(), "pixmed: the chart of the operations page could not be made", "error", err)
	} else {
		v.Chart = newChart(p.speech, received)
	}
	h.render(w, r, http.StatusOK, "overview.html", v)
}

func failureViews(p page, failures []inbox.Failure) []failureView {
	views := make([]failureView, len(failures))
	for i, f := range failures {
		views[i] = failureView{f.Events, show(f.Error, 250), p.Short(f.LastAt), groupPath(f)}
	}
	return views
}
