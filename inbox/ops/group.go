package ops

import (
	"context"
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

// members returns a page of a group, those received last first, and the cursor of the
// next page, "" if there is none. The inbox finds what has the text anywhere in its
// error, as in one that wraps it; that is another group.
func (h *Handler) members(ctx context.Context, f inbox.Failure, after string, limit int) (events []*inbox.Event, next string, err error) {
	all, err := h.in.List(ctx, inbox.Filter{State: f.State, Error: f.Error, After: after, Limit: limit})
	for _, e := range all {
		if beginning(e.LastError, failureText) == f.Error {
			events = append(events, e)
		}
	}
	if len(all) == limit {
		next = all[limit-1].ID
	}
	return events, next, err
}

// failureText is how much of an error [inbox.Failure] has, in characters.
const failureText = 200

// beginning returns the first characters of a text.
func beginning(s string, characters int) string {
	for i := range s {
		if characters == 0 {
			return s[:i]
		}
		characters--
	}
	return s
}

// group lists a group.
func (h *Handler) group(w http.ResponseWriter, r *http.Request) {
	f, err := h.findGroup(r)
	var events []*inbox.Event
	var next string
	if err == nil {
		events, next, err = h.members(r.Context(), f, r.URL.Query().Get("after"), pageSize)
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
	if next != "" {
		v.Next = "?" + url.Values{"after": {next}}.Encode()
	}
	if !h.config.readOnly {
		v.Actions = groupActions
	}
	h.render(w, r, http.StatusOK, "group.html", v)
}
