package ops_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/ops"
)

// groups returns the paths of the groups on the first screen, by their number.
func (s *site) groups(t *testing.T) map[string]string {
	t.Helper()
	groups := make(map[string]string)
	for _, m := range regexp.MustCompile(`<b>(\d+)</b></td>\s*<td class="error"><a href="\.(/failures/[^"]+)">`).FindAllStringSubmatch(s.get(t, "/").body, -1) {
		groups[m[1]] = m[2]
	}
	return groups
}

// All of a group is replayed, or resolved, and nothing else, even if its error holds
// the group's.
func TestGroups(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, testGroups)
}

func testGroups(t *testing.T, db *enginetest.Database) {
	t.Helper()
	s := newSiteIn(t, db, nil, ops.WithUser(func(*http.Request) string { return "ana" }))
	long := strings.Repeat("é", 300) // longer than a group's name
	var longest *inbox.Event
	for i := range 3 {
		s.dead(t, errors.New("timeout"), named(fmt.Sprint("plain-", i), 1))
	}
	for i := range 2 {
		s.dead(t, errors.New("post: timeout"), named(fmt.Sprint("wrapped-", i), 1))
	}
	for i := range 4 {
		longest = s.dead(t, errors.New(long+fmt.Sprint(i)), named(fmt.Sprint("long-", i), 1))
	}
	groups := s.groups(t)
	if len(groups) != 3 {
		t.Fatalf("groups: %v", groups)
	}
	for _, path := range groups {
		if strings.Contains(path, "timeout") {
			t.Errorf("the error is in the address: %s", path)
		}
	}
	a := s.get(t, groups["3"])
	a.mustHold(t, http.StatusOK, "3 notifications failed with this error", "timeout", "plain-0", "plain-1", "plain-2", `/replay">Replay all`, `/resolve">Resolve all`)
	a.mustNotHold(t, "wrapped")
	s.get(t, groups["4"]).mustHold(t, http.StatusOK, "long-0", "long-3", `href="../../case/`+longest.Key.TransactionID+"#e-"+longest.ID)

	s.get(t, groups["3"]+"/replay").mustHold(t, http.StatusOK, "Replay all?", "<b class=\"big\">3</b>", "timeout", "All 3 notifications are processed again", "ana</b>")
	s.follow(t, groups["3"]+"/replay", nil).mustHold(t, http.StatusOK, "3 notifications are processed again.")
	s.get(t, groups["4"]+"/resolve").mustHold(t, http.StatusOK, "Resolve all?", "<textarea")
	s.follow(t, groups["4"]+"/resolve", url.Values{"note": {"by hand"}}).mustHold(t, http.StatusOK, "4 notifications are resolved.")
	if c := enginetest.Await(t, s.in); c.Dead != 2 || c.Done != 3 {
		t.Errorf("%+v", c)
	}
	c, err := s.in.Case(t.Context(), longest.Key.TransactionID)
	if err != nil || len(c.Notes) != 1 || c.Notes[0].By != "ana" || c.Notes[0].Text != "by hand" {
		t.Errorf("%+v, %v", c, err)
	}
	s.get(t, groups["3"]).mustHold(t, http.StatusNotFound, "No notification fails with this error any more.")
	a = s.get(t, "/")
	a.mustHold(t, http.StatusOK, "post: timeout", `<b>2</b> <span>failed for good`)
	a.mustNotHold(t, `">timeout<`)
}

// What would undo something newer is left alone, and the message says so.
func TestGroupLeavesAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dead := s.dead(t, errors.New("timeout"), named("superseded", 1))
	s.receive(t, func(n *pixmed.Notification) {
		n.TransactionID, n.ExternalID, n.MEDStatus = dead.Key.TransactionID, "superseded", pixmed.Cancelled
	})
	s.dead(t, errors.New("timeout"), named("plain", 1))
	path := s.groups(t)["2"]
	s.follow(t, path+"/replay", nil).mustHold(t, http.StatusOK, "1 notification is processed again. 1 was left alone:", "superseded", "Replay all")
	if e, err := s.in.Get(t.Context(), dead.ID); err != nil || e.State != inbox.Dead {
		t.Errorf("%v, %v", e, err)
	}
}

// A group of an error without a text does not take all others with it.
func TestGroupOfNoError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.dead(t, errors.New(""), named("empty", 1))
	s.dead(t, errors.New("timeout"), anything)
	s.dead(t, errors.New("timeout"), anything)
	s.follow(t, s.groups(t)["1"]+"/resolve", nil).mustHold(t, http.StatusOK, "1 notification is resolved.", "timeout")
	if c := enginetest.Count(t, s.in); c.Dead != 2 {
		t.Errorf("%+v", c)
	}
}

// tiring is an inbox whose database goes away in the middle.
type tiring struct {
	*inbox.Inbox

	done int
}

func (s *tiring) ReplayAll(context.Context, inbox.Filter, ...inbox.ActionOption) (inbox.Report, error) {
	defer func() { s.done = 0 }()
	return inbox.Report{Done: s.done}, errAway
}

// What was done before something failed is reported, and the rest can be done again.
func TestGroupFailsHalfway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 3 {
		s.dead(t, errors.New("timeout"), anything)
	}
	path := s.groups(t)["3"]
	log := new(safeBuffer)
	page, err := ops.NewHandlerOf(&tiring{Inbox: s.in, done: 2}, ops.WithAuthenticated(), ops.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{http.StatusSeeOther, http.StatusInternalServerError} {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path+"/replay", nil))
		if w.Code != want || strings.Contains(w.Body.String(), "10.0.0.7") || !strings.Contains(log.String(), "10.0.0.7") {
			t.Errorf("%d, want %d:\n%s", w.Code, want, w.Body)
		}
		if to := w.Header().Get("Location"); want == http.StatusSeeOther && (!strings.Contains(to, "n=2") || !strings.Contains(to, "more=1")) {
			t.Errorf("it leads to %s", to)
		}
	}
}

// Bodies with one fault are one group, whatever was found in them.
func TestGroupOfBodies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 120 {
		body := fmt.Appendf(nil, `{"transactionId":"order-%d","transactionStatus":"MED","transactionType":"CASH_IN","value":1}`, i)
		_, err := pixmed.ParseInfraction(body)
		if err := s.in.Quarantine(t.Context(), body, err); err != nil {
			t.Fatal(err)
		}
	}
	path := s.groups(t)["120"]
	s.get(t, path).mustHold(t, http.StatusOK, "120 notifications failed with this error", "invalid infraction: transactionId<", `?after=`)
	s.follow(t, path+"/resolve", nil).mustHold(t, http.StatusOK, "120 notifications are resolved.")
}
