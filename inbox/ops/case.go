package ops

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/internal/text"
)

// What is shown of a case at a time, and of an error, in bytes.
const (
	timelineSize = 50
	maxError     = 600
)

type caseView struct {
	Page                   page
	Case                   caseRow
	TransactionID          string
	ExternalID, EndToEndID string
	OpenedAt, DueAt        when
	EndedAt, AnsweredAt    when
	EndedBy                string
	NextReminder           when
	GivenUp                int64
	Receipt                bool
	Actions                []string
	Timeline               []entry
	Earlier, Later         string // queries, "" if there is nothing
}

// entry is a notification, or what was done.
type entry struct {
	Event *eventView
	Note  *noteView
}

type noteView struct {
	At             when
	Action         string // the key of its text
	By, Text       string
	Status         string // of the notification that it is about
	Failed, Person bool
}

// eventView is a notification as it is shown.
type eventView struct {
	ID, TransactionID      string
	ExternalID, EndToEndID string
	Status, Amount         string
	State                  string
	Attempts               int64
	NextAttempt            string // when
	Error                  string
	Discarded              bool
	Received, DoneAt       when
	Ago                    string
	Deliveries             int64
	LastAt                 when
	Body                   string
	Shown, Size            int64 // bytes of the body
	BodyApart              bool  // there is no room for it here
	Actions                []string
}

// With gives a template a notification with its page.
func (p page) With(e *eventView) eventPage { return eventPage{Page: p, Event: e} }

func (h *Handler) oneCase(w http.ResponseWriter, r *http.Request) {
	c, err := h.wholeCase(r.Context(), r.PathValue("id"))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	p := h.page(r)
	v := &caseView{
		Page: p, Case: h.caseRow(p, c), TransactionID: c.TransactionID, ExternalID: show(c.ExternalID, 300),
		OpenedAt: p.Time(c.OpenedAt), DueAt: p.Time(c.DueAt), EndedAt: p.Time(c.EndedAt), AnsweredAt: p.Time(c.AnsweredAt),
		EndedBy: show(c.EndedBy, 200), NextReminder: p.Time(c.NextReminder), GivenUp: int64(c.RemindersGivenUp),
	}
	v.Page.Title = p.T["case"] + " " + v.Case.Name
	i, err := h.infractionOf(r.Context(), c)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	if i != nil {
		v.EndToEndID = show(string(i.EndToEndID), 64)
		file, err := h.openReceipt(r.Context(), i)
		if err != nil {
			h.config.log.WarnContext(r.Context(), "pixmed: could not check for a receipt", "transaction_id", c.TransactionID, "error", err)
		} else if file != nil {
			v.Receipt = true
			_ = file.Close()
		}
	}
	if !h.config.readOnly {
		for _, a := range caseActions {
			if a.suits(c) {
				v.Actions = append(v.Actions, a.name)
			}
		}
	}
	skip, _ := strconv.Atoi(r.URL.Query().Get("skip"))
	if v.Timeline, err = h.timeline(r.Context(), p, c, v, max(skip, 0)); err != nil {
		h.fail(w, r, err)
		return
	}
	h.render(w, r, http.StatusOK, "case.html", v)
}

// timeline returns a part of what has happened to a case, the oldest first, without
// the last ones that are skipped.
func (h *Handler) timeline(ctx context.Context, p page, c *inbox.Case, v *caseView, skip int) ([]entry, error) {
	type item struct {
		event *inbox.Event
		note  *inbox.Note
	}
	var all []item
	statuses := make(map[string]string)
	notes := c.Notes
	for _, e := range c.Events { // in their order, which need not be that of the clock
		for len(notes) > 0 && notes[0].At.Before(e.ReceivedAt) {
			all = append(all, item{note: &notes[0]})
			notes = notes[1:]
		}
		all = append(all, item{event: e})
		statuses[e.ID] = show(string(e.Status), 64)
	}
	for i := range notes {
		all = append(all, item{note: &notes[i]})
	}
	end := max(len(all)-skip, 0)
	start := max(end-timelineSize, 0)
	if start > 0 {
		v.Earlier = "?skip=" + strconv.Itoa(len(all)-start)
	}
	if end < len(all) {
		v.Later = "?skip=" + strconv.Itoa(max(skip-timelineSize, 0))
	}
	entries := make([]entry, 0, end-start)
	room := bodiesOfAll
	for _, i := range slices.Backward(all[start:end]) { // room goes to the last ones first
		if i.note != nil {
			entries = append(entries, entry{Note: newNoteView(p, *i.note, statuses[i.note.EventID])})
			continue
		}
		whole := i.event
		if room > 0 {
			var err error
			if whole, err = h.in.Get(ctx, i.event.ID); errors.Is(err, inbox.ErrNotFound) {
				continue // deleted meanwhile
			} else if err != nil {
				return nil, err
			}
		}
		e := h.eventView(p, whole, min(room, bodyOfMany))
		room -= int(e.Shown)
		if e.ExternalID == v.ExternalID {
			e.ExternalID = "" // the page shows it above
		}
		if e.EndToEndID == v.EndToEndID {
			e.EndToEndID = ""
		}
		entries = append(entries, entry{Event: e})
	}
	slices.Reverse(entries)
	return entries, nil
}

func newNoteView(p page, n inbox.Note, status string) *noteView {
	return &noteView{
		At: p.Time(n.At), Action: "note_" + strings.ReplaceAll(string(n.Action), " ", "_"), By: show(n.By, 200), Text: lines(text.Cut(n.Text, maxNote)), Status: status,
		Failed: n.Action == inbox.ReminderGivenUp, Person: n.Action != inbox.ReminderCalled && n.Action != inbox.ReminderGivenUp,
	}
}

// eventView returns what is shown of a notification, with at most most bytes of its
// body; if most is 0 the body is on a page of its own.
func (h *Handler) eventView(p page, e *inbox.Event, most int) *eventView {
	v := &eventView{
		ID: e.ID, TransactionID: e.Key.TransactionID, ExternalID: show(e.Key.ExternalID, 300), Status: show(string(e.Status), 64), Amount: e.Value.BRL(),
		State: string(e.State), Attempts: int64(e.Attempts), Discarded: e.Discarded,
		Received: p.Time(e.ReceivedAt), DoneAt: p.Time(e.DoneAt), Ago: p.Ago(e.ReceivedAt),
		Deliveries: int64(e.Deliveries), LastAt: p.Time(e.LastAt), Size: int64(len(e.Raw)),
	}
	if e.Key.TransactionID == "" {
		v.Amount = ""
	}
	due := !e.NextAttempt.After(p.now)
	switch {
	case e.Running:
		v.State = "running"
	case e.State != inbox.Pending:
	case e.NextAttempt.IsZero():
		v.NextAttempt = p.T["after_earlier"]
	case due:
		v.NextAttempt = p.T["as_soon_as"]
	default:
		v.NextAttempt = p.Time(e.NextAttempt).Text + " (" + p.Until(e.NextAttempt) + ")"
	}
	// What is on its way again has not failed: its old error would say that it had.
	if e.State != inbox.Done && (e.State != inbox.Pending || (!e.Running && !due)) {
		v.Error = lines(text.Cut(e.LastError, maxError))
	}
	if i, err := e.Infraction(); err == nil {
		v.EndToEndID = show(string(i.EndToEndID), 64)
	}
	if v.BodyApart = most <= 0; !v.BodyApart {
		body, shown := body(e.Raw, most)
		v.Body, v.Shown = body, int64(shown)
	}
	if !h.config.readOnly {
		for _, a := range eventActions {
			if a.suits(e, p.now) {
				v.Actions = append(v.Actions, a.name)
			}
		}
	}
	return v
}

// infractionOf returns what the last body of a case says, nil if nobody can read it.
func (h *Handler) infractionOf(ctx context.Context, c *inbox.Case) (*pixmed.Infraction, error) {
	if len(c.Events) == 0 {
		return nil, nil //nolint:nilnil // none is an answer
	}
	e, err := h.in.Get(ctx, c.Events[len(c.Events)-1].ID)
	if err != nil {
		return nil, err
	}
	i, _ := e.Infraction()
	return i, nil
}

type eventPage struct {
	Page  page
	Event *eventView
	Notes []*noteView
}

// event shows one notification, with as much of its body as there is room for.
func (h *Handler) event(w http.ResponseWriter, r *http.Request) {
	e, err := h.in.Get(r.Context(), r.PathValue("id"))
	var notes []inbox.Note
	if err == nil {
		notes, err = h.in.Notes(r.Context(), e.ID)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	p := h.page(r)
	p.Title = p.T["notification"]
	v := &eventPage{Page: p, Event: h.eventView(p, e, maxBody)}
	for _, n := range notes[max(len(notes)-timelineSize, 0):] {
		v.Notes = append(v.Notes, newNoteView(p, n, ""))
	}
	h.render(w, r, http.StatusOK, "event.html", v)
}

// receipt serves the receipt of a case.
func (h *Handler) receipt(w http.ResponseWriter, r *http.Request) {
	c, err := h.wholeCase(r.Context(), r.PathValue("id"))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	id := c.TransactionID // and no more of the case, however long the download takes
	i, err := h.infractionOf(r.Context(), c)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	file, err := h.openReceipt(r.Context(), i)
	if err == nil && file == nil {
		err = errNoReceipt
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer func() { _ = file.Close() }()
	w.Header().Set("Content-Type", "application/pdf")
	w.Header().Set("Content-Disposition", `attachment; filename="`+id+`.pdf"`)
	if _, err := io.Copy(w, file); err != nil {
		h.config.log.WarnContext(r.Context(), "pixmed: a receipt was only partly sent", "transaction_id", id, "error", err)
		panic(http.ErrAbortHandler) // so that the browser knows
	}
}

// openReceipt returns nil if there is none.
func (h *Handler) openReceipt(ctx context.Context, i *pixmed.Infraction) (io.ReadCloser, error) {
	if h.config.receipt == nil || i == nil {
		return nil, nil //nolint:nilnil // none is an answer
	}
	return h.config.receipt(ctx, i)
}
