package ops_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/ops"
)

// Everything that a person does is confirmed, done, reported, and kept with the
// person's name.
func TestActions(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, testActions)
}

func testActions(t *testing.T, db *enginetest.Database) {
	t.Helper()
	s := newSiteIn(t, db, defence, ops.WithUser(func(r *http.Request) string { return r.Header.Get("X-User") + "\x01" }))
	as := func(method, path string, form url.Values) answer {
		return s.do(t, method, path, http.Header{"X-User": {"ana"}}, form)
	}
	for name, test := range map[string]struct {
		dead     bool
		form     url.Values
		question []string
		said     string
		action   inbox.Action
		note     string
	}{
		"answer":  {false, url.Values{"note": {" by mail "}}, []string{"Mark as answered?", `<textarea name="note"`}, "The case is marked as answered.", inbox.Answered, "by mail"},
		"end":     {false, nil, []string{"End the case?", `class="danger"`}, "The case is ended.", inbox.Ended, ""},
		"replay":  {true, nil, []string{"Replay?", "processed again"}, "The notification is processed again.", inbox.Replayed, ""},
		"resolve": {true, url.Values{"note": {"by hand"}}, []string{"Resolve?", `<textarea name="note"`}, "The notification is resolved.", inbox.ResolvedByHand, "by hand"},
	} {
		e := s.receive(t, anything)
		path := "/case/" + e.Key.TransactionID + "/" + name
		if test.dead {
			e = s.dead(t, errLedger, anything)
			path = "/event/" + e.ID + "/" + name
		}
		as(http.MethodGet, path, nil).mustHold(t, http.StatusOK, append(test.question, `method="post" action="`+name+`"`, `ana\x01</b>.`, "Cancel", e.Value.BRL())...)
		if c, err := s.in.Case(t.Context(), e.Key.TransactionID); err != nil || len(c.Notes) != 0 {
			t.Errorf("%s: to ask did something: %v, %v", name, c, err)
		}
		form := test.form
		if form == nil {
			form = url.Values{}
		}
		a := as(http.MethodPost, path, form)
		if a.status != http.StatusSeeOther {
			t.Errorf("%s: %d:\n%s", name, a.status, a.body)
			continue
		}
		a = as(http.MethodGet, landing(t, path, a), nil)
		a.mustHold(t, http.StatusOK, `<p class="said" role="status">`+test.said, "by ana")
		if name != "resolve" {
			a.mustNotHold(t, "the ledger is away") // not the old error
		}
		enginetest.Await(t, s.in)
		c, err := s.in.Case(t.Context(), e.Key.TransactionID)
		if err != nil {
			t.Fatal(err)
		}
		want := []inbox.Note{{Action: test.action, By: `ana\x01`, Text: test.note}}
		if diff := cmp.Diff(want, c.Notes, cmpopts.IgnoreFields(inbox.Note{}, "At", "EventID")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		// It is possible no more.
		a = as(http.MethodGet, path, nil)
		if name == "resolve" {
			continue // it would say why at the end
		}
		if a.status != http.StatusSeeOther {
			t.Errorf("%s again: %d:\n%s", name, a.status, a.body)
			continue
		}
		as(http.MethodGet, landing(t, path, a), nil).mustHold(t, http.StatusOK, "Nothing was changed")
	}
}

// The user of HTTP Basic is who did it.
func TestActionByBasicAuth(t *testing.T) {
	t.Parallel()
	s := newSite(t, ops.WithBasicAuth("ana", "secret-password"))
	dead := s.dead(t, errLedger, anything)
	if a := s.do(t, http.MethodPost, "/event/"+dead.ID+"/replay", basic("ana", "secret-password"), url.Values{}); a.status != http.StatusSeeOther {
		t.Fatalf("%d:\n%s", a.status, a.body)
	}
	c, err := s.in.Case(t.Context(), dead.Key.TransactionID)
	if err != nil || len(c.Notes) != 1 || c.Notes[0].By != "ana" {
		t.Errorf("%+v, %v", c, err)
	}
	if log := s.log.String(); strings.Contains(log, "secret-password") {
		t.Errorf("the log is %s", log)
	}
}

// A discarded notification says so, and can be replayed.
func TestDiscard(t *testing.T) {
	t.Parallel()
	s := &site{log: new(safeBuffer)}
	s.in = enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore)) // nothing runs
	s.serve(t)
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	if err := s.in.Receive(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	events, err := s.in.History(t.Context(), n.TransactionID)
	if err != nil {
		t.Fatal(err)
	}
	path := "/event/" + events[0].ID
	s.get(t, "/case/"+n.TransactionID).mustHold(t, http.StatusOK, "as soon as a worker is free", "Discard")
	s.get(t, path+"/discard").mustHold(t, http.StatusOK, "Discard?", `class="danger"`, "without a name")
	s.follow(t, path+"/discard", nil).mustHold(t, http.StatusOK, "The notification is discarded.", "a redelivery does not revive it", `/replay">Replay`)
	s.post(t, path+"/discard", nil).mustHold(t, http.StatusConflict, "is not pending any more")
	s.post(t, path+"/retry", nil).mustHold(t, http.StatusConflict, "is not pending any more")
	s.follow(t, path+"/replay", nil).mustHold(t, http.StatusOK, "processed again", `<span class="state pending">pending</span>`)
}

// What would undo something newer is replayed only when that is asked for again.
func TestReplayAnyway(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, db *enginetest.Database) { testReplayAnyway(t, newSiteIn(t, db, nil)) })
}

func testReplayAnyway(t *testing.T, s *site) {
	t.Helper()
	dead := s.dead(t, errLedger, anything)
	s.receive(t, func(n *pixmed.Notification) {
		n.TransactionID, n.ExternalID, n.MEDStatus = dead.Key.TransactionID, dead.Key.ExternalID, pixmed.Cancelled
	})
	path := "/event/" + dead.ID + "/replay"
	s.post(t, path, nil).mustHold(t, http.StatusConflict, "Replaying this one could undo it", `<input type="hidden" name="force" value="1">`, `action="replay"`, "Replay anyway", `class="danger"`)
	s.follow(t, path, url.Values{"force": {"1"}}).mustHold(t, http.StatusOK, "processed again")
	enginetest.Await(t, s.in)
	s.get(t, "/event/"+dead.ID).mustHold(t, http.StatusOK, "state done")
	s.post(t, path, nil).mustHold(t, http.StatusConflict, "neither failed for good nor in quarantine")
}

// What cannot be done says why, and keeps what was written.
func TestActionsFail(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	e := s.receive(t, func(n *pixmed.Notification) { n.MEDStatus = pixmed.Cancelled })
	path := "/case/" + e.Key.TransactionID + "/answer"
	s.post(t, path, url.Values{"note": {"by mail"}}).mustHold(t, http.StatusConflict, `role="alert">This case has ended: nothing was changed, and the note was not kept.`, ">by mail</textarea>")
	s.post(t, path, url.Values{"note": {strings.Repeat("x", 4097)}}).mustHold(t, http.StatusRequestEntityTooLarge, "longer than 4,096 bytes")
	s.post(t, path, url.Values{"note": {strings.Repeat("x", 64<<10)}}).mustHold(t, http.StatusRequestEntityTooLarge, "longer than 4,096 bytes")
	for _, note := range []string{"%zz", "%00", "%ff"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+prefix+path, strings.NewReader("note="+note))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		s.send(t, r).mustHold(t, http.StatusBadRequest, "The note holds something other than text: nothing was changed.")
	}
	if _, err := s.in.Case(t.Context(), e.Key.TransactionID); err != nil {
		t.Error(err)
	}
	s.post(t, "/event/"+e.ID+"/resolve", nil).mustHold(t, http.StatusConflict, "neither failed for good nor in quarantine")
	s.post(t, "/event/"+e.ID+"/resolve", url.Values{"force": {"1"}}).mustHold(t, http.StatusBadRequest, "Invalid address")
}

// Who answers, ends or resolves second learns that somebody was first, and has the
// note back. Nothing claims that it was done.
func TestSecondOperator(t *testing.T) {
	t.Parallel()
	db, log := enginetest.SQLite(t), new(safeBuffer)
	s := newSiteIn(t, db, []inbox.Option{inbox.WithLogger(slog.New(slog.NewTextHandler(log, nil)))},
		ops.WithUser(func(r *http.Request) string { return r.Header.Get("X-User") }))
	open, dead := s.receive(t, anything), s.dead(t, errLedger, anything)
	for _, test := range []struct{ path, said, first string }{
		{"/case/" + open.Key.TransactionID + "/answer", "This case was answered already: nothing was changed, and the note was not kept.", "</time> by ana</dd>"},
		{"/case/" + open.Key.TransactionID + "/end", "This case has ended: nothing was changed, and the note was not kept.", "<dt>Ended</dt>"},
		{"/event/" + dead.ID + "/resolve", "nothing was changed.", `<span class="state resolved">`},
	} {
		post := func(user, note string) answer {
			return s.do(t, http.MethodPost, test.path, http.Header{"X-User": {user}}, url.Values{"note": {note}})
		}
		if a := post("ana", "the first"); a.status != http.StatusSeeOther {
			t.Errorf("%s: %d:\n%s", test.path, a.status, a.body)
		}
		post("rui", "the second").mustHold(t, http.StatusConflict, test.said, test.first, ">the second</textarea>")
	}
	if said := log.String() + s.log.String(); strings.Count(said, "by=ana") != 3 || strings.Contains(said, "by=rui") {
		t.Errorf("the log is %s", said)
	}
}

// A case is ended by the function that is given for it, and its error is what is said.
func TestWithEnd(t *testing.T) {
	t.Parallel()
	var s *site
	second := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	s = newSite(t, ops.WithBasicAuth("ana", "secret-password"), ops.WithEnd(func(ctx context.Context, id, note string, opts ...inbox.ActionOption) error {
		if err := second.End(ctx, id, note, opts...); err != nil {
			return err
		}
		return s.in.End(ctx, id, note, opts...)
	}))
	e := s.receive(t, anything)
	path := "/case/" + e.Key.TransactionID + "/end"
	post := func() answer {
		return s.do(t, http.MethodPost, path, basic("ana", "secret-password"), url.Values{"note": {"by phone"}})
	}
	post().mustHold(t, http.StatusNotFound, "Case not found")
	if c, err := s.in.Case(t.Context(), e.Key.TransactionID); err != nil || !c.Open {
		t.Errorf("%+v, %v", c, err)
	}
	if err := second.Receive(t.Context(), enginetest.Notification(e.Key.TransactionID, pixmed.Acknowledged)); err != nil {
		t.Fatal(err)
	}
	if a := post(); a.status != http.StatusSeeOther {
		t.Errorf("%d:\n%s", a.status, a.body)
	}
	for _, in := range []*inbox.Inbox{s.in, second} {
		if c, err := in.Case(t.Context(), e.Key.TransactionID); err != nil || c.Open || c.EndedBy != "ana" || c.Notes[0].Text != "by phone" {
			t.Errorf("%+v, %v", c, err)
		}
	}
}

// Nobody can have the page say what it likes.
func TestSaid(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for query, want := range map[string]string{
		"?did=replay_all&n=1&left=0":            "1 notification is processed again.<",
		"?did=resolve_all&n=10012&left=2&more=": "10,012 notifications are resolved. 2 were left alone: something newer of their case is done, or they are not valid. Look at each by itself. It took too long",
		"?did=late":                             "Nothing was changed",
	} {
		s.get(t, "/"+query).mustHold(t, http.StatusOK, `<p class="said" role="status">`+want)
	}
	for _, query := range []string{"?did=title", "?did=replay_all&n=x&left=0", "?did=replay_all", "?did=" + url.QueryEscape(markup)} {
		s.get(t, "/"+query).mustNotHold(t, `class="said"`)
	}
}
