package ops

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"

	"github.com/pixmed-go/pixmed/inbox"
)

// A group is what failed with one error. Its address has a digest of the error, which
// may hold what is nobody's business in a proxy's log.
func groupPath(f inbox.Failure) string {
	digest := sha256.Sum256([]byte(f.Error))
	return "failures/" + string(f.State) + "/" + hex.EncodeToString(digest[:8])
}

type groupView struct {
	Page    page
	Group   failureView
	State   string
	Rows    []groupRow
	Next    string
	Actions []string
}

type groupRow struct {
	Path, Name     string
	Status, Amount string
	Received       when
}

// findGroup returns the group that a request is about.
func (h *Handler) findGroup(r *http.Request) (inbox.Failure, error) {
	n, _, err := h.numbers.Get(r.Context())
	if err != nil {
		return inbox.Failure{}, err
	}
	path := "failures/" + r.PathValue("state") + "/" + r.PathValue("group")
	for _, all := range [][]inbox.Failure{n.dead, n.quarantined} {
		for _, f := range all {
			if groupPath(f) == path {
				return f, nil
			}
		}
	}
	return inbox.Failure{}, errGroupGone
}

// group lists a group.
func (h *Handler) group(w http.ResponseWriter, r *http.Request) {
	f, err := h.findGroup(r)
	var events []*inbox.Event
	if err == nil {
		filter := f.Filter()
		filter.After, filter.Limit = r.URL.Query().Get("after"), pageSize
		events, err = h.in.List(r.Context(), filter)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	p := h.page(r)
	p.Title = p.T["group_of"]
	v := &groupView{Page: p, Group: failureViews(p, []inbox.Failure{f})[0], State: string(f.State)}
	for _, e := range events {
		row := groupRow{"event/" + e.ID, e.ID, show(string(e.Status), 64), "", p.Time(e.ReceivedAt)}
		if e.Key.TransactionID != "" {
			row.Path, row.Name, row.Amount = "case/"+e.Key.TransactionID+"#e-"+e.ID, show(e.Key.ExternalID, 48), e.Value.BRL()
			if row.Name == "" {
				row.Name = e.Key.TransactionID
			}
		}
		v.Rows = append(v.Rows, row)
	}
	if len(events) == pageSize {
		v.Next = "?" + url.Values{"after": {events[pageSize-1].ID}}.Encode()
	}
	if !h.config.readOnly {
		v.Actions = groupActions
	}
	h.render(w, r, http.StatusOK, "group.html", v)
}
