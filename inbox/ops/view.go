package ops

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed/inbox"
)

// page is what every page has.
type page struct {
	Root     string // the way to the first page
	Title    string // what the page is about, "" for the first page
	Lang     string
	T        map[string]string
	ReadOnly bool
}

func (h *handler) page(r *http.Request, root string) page {
	lang := languageOf(r.Header.Get("Accept-Language"))
	return page{Root: root, Lang: lang, T: texts[lang], ReadOnly: h.config.readOnly}
}

type overview struct {
	Page          page
	State, Search string
	Stats         inbox.Stats
	OldestPending string
	Chart         chart
	Cases         []caseRow
	Events        []eventView // what is quarantined
	Older         string      // the next page's query, "" for none
}

type caseRow struct {
	ID            string
	Notifications int
	Age           string
	Last, Current eventView
}

type timeline struct {
	Page    page
	ID      string
	Events  []eventView
	Alone   bool   // one notification, on a page of its own
	Problem string // why it was not replayed
	Detail  string
	Force   bool // it could be forced
}

type failure struct {
	Page            page
	Problem, Detail string
}

// eventView is a notification as it is shown.
type eventView struct {
	ID, TransactionID, ExternalID, EndToEndID string
	Status, Amount                            string
	State                                     string
	Seq                                       int64
	Attempts                                  int
	LastError                                 string
	ReceivedAt, DoneAt                        when
	Age                                       string
	Body                                      string
	Replayable                                bool
	Receipt                                   bool // the application may have one
}

// when is a point in time, for people and for machines.
type when struct{ Text, Machine string }

func (h *handler) when(t time.Time) when {
	if t.IsZero() {
		return when{}
	}
	return when{t.In(h.config.location).Format("2006-01-02 15:04:05"), t.UTC().Format(time.RFC3339)}
}

func (h *handler) eventView(e *inbox.Event) eventView {
	v := eventView{
		ID: e.ID, TransactionID: e.Key.TransactionID, ExternalID: e.Key.ExternalID, Status: string(e.Status),
		State: string(e.State), Seq: e.Seq, Attempts: e.Attempts, LastError: e.LastError,
		ReceivedAt: h.when(e.ReceivedAt), DoneAt: h.when(e.DoneAt), Age: age(time.Since(e.ReceivedAt)), Body: body(e.Raw),
		Replayable: !h.config.readOnly && (e.State == inbox.Dead || e.State == inbox.Quarantined),
	}
	if i, err := e.Infraction(); err == nil {
		v.Amount, v.EndToEndID, v.Receipt = i.Value.BRL(), string(i.EndToEndID), h.config.receipt != nil
	}
	return v
}

func (h *handler) caseRow(c *inbox.Case) caseRow {
	v := caseRow{ID: c.TransactionID, Notifications: int(c.Accepted), Age: age(time.Since(c.UpdatedAt)), Current: h.eventView(c.Current)}
	v.Last = v.Current
	v.Last.Status, v.Last.ExternalID, v.Last.Amount = string(c.Status), c.ExternalID, c.Value.BRL()
	return v
}

// maxBody is how much of a body is shown, in bytes.
const maxBody = 64 << 10

// body makes a body fit to read: indented if it is JSON, otherwise as it came.
func body(raw []byte) string {
	if len(raw) <= maxBody {
		var b bytes.Buffer
		if json.Indent(&b, raw, "", "  ") == nil {
			raw = b.Bytes()
		}
	} else {
		raw = append(raw[:maxBody:maxBody], " …"...)
	}
	return strings.ToValidUTF8(string(raw), "\uFFFD")
}

// age rounds a duration down to what matters.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(max(d, 0)/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d/time.Hour))
	}
	return fmt.Sprintf("%d d", int(d/(24*time.Hour)))
}
