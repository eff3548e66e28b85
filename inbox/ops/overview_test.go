package ops_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/ops"
)

// window is how long a case has in these tests.
const window = 72 * time.Hour

var defence = []inbox.Option{inbox.WithDefence(window, nil)}

// noon is where it is noon now, so that today is neither over nor new.
func noon() ops.Option { return ops.WithLocation(location()) }

func location() *time.Location {
	h, m, s := time.Now().UTC().Clock()
	return time.FixedZone("noon", (12-h)*3600-m*60-s)
}

// open has the inbox take a case that is due in some time.
func (s *site) open(t *testing.T, due time.Duration, modify func(n *pixmed.Notification)) *inbox.Event {
	t.Helper()
	return s.receive(t, func(n *pixmed.Notification) {
		n.ReceivedAt = time.Now().Add(due - window)
		modify(n)
	})
}

func named(externalID string, value pixmed.Amount) func(n *pixmed.Notification) {
	return func(n *pixmed.Notification) { n.ExternalID, n.Value = externalID, value }
}

// The first screen says what is blocked, what is due, and what failed, and leads
// there.
func TestOverview(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, db *enginetest.Database) { testOverview(t, newSiteIn(t, db, defence, noon())) })
}

func testOverview(t *testing.T, s *site) {
	t.Helper()
	s.get(t, "/").mustHold(t, http.StatusOK, "<b>R$ 0,00</b> <span>blocked in 0 open cases", "No case waits for an answer", "Nothing has failed for good")
	s.page2(t)
	late := s.open(t, -time.Hour, named("late-1", 100000))
	today := s.open(t, 5*time.Hour, named("today-1", 20000))
	s.open(t, 6*time.Hour, named("today-2", 3000))
	s.open(t, 20*time.Hour, named("tomorrow-1", 400))
	answered := s.open(t, 4*time.Hour, named("answered-1", 50))
	if err := s.in.MarkAnswered(t.Context(), answered.Key.TransactionID, "", inbox.By("ana")); err != nil {
		t.Fatal(err)
	}
	ended := s.open(t, 3*time.Hour, named("ended-1", 7))
	if err := s.in.End(t.Context(), ended.Key.TransactionID, ""); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		s.dead(t, errors.New("the ledger is away "+markup), named(fmt.Sprint("dead-", i), 1))
	}
	s.dead(t, errors.New("post: the ledger is away "+markup), named("dead-4", 1))
	if err := s.in.Quarantine(t.Context(), []byte(`{"medStatus":`), errors.New("it ends too early")); err != nil {
		t.Fatal(err)
	}
	s.page2(t)
	a := s.get(t, "/")
	a.mustHold(t, http.StatusOK,
		"<b>R$ 1.234,54</b> <span>blocked in 9 open cases",
		`<li class="late"><a href="./cases?show=overdue"><b>1</b> <span>overdue`,
		`<li class="soon"><a href="./cases?show=today"><b>2</b> <span>due today`,
		`<b>4</b> <span>failed for good`, `<b>1</b> <span>in quarantine`, `<b>0</b> <span>pending`,
		"late-1", "1 h overdue", "today-1", "in 4 h 59 min", "tomorrow-1",
		"the ledger is away &lt;script&gt;", "it ends too early", `/replay">Replay all`)
	a.mustNotHold(t, "answered-1", "ended-1")
	if i, j := strings.Index(a.body, late.Key.TransactionID), strings.Index(a.body, today.Key.TransactionID); i < 0 || i > j {
		t.Error("what is due first is not first")
	}
	if i, j := strings.Index(a.body, "<b>3</b></td>"), strings.Index(a.body, "<b>1</b></td>"); i < 0 || i > j {
		t.Errorf("the groups are not by their number:\n%s", a.body)
	}
	pt := s.do(t, http.MethodGet, "/", http.Header{"Accept-Language": {"pt-BR"}}, nil)
	pt.mustHold(t, http.StatusOK, "bloqueados em 9 casos abertos", "<b>1</b> <span>vencido<", "<b>2</b> <span>vencem hoje", "<b>4</b> <span>falhas definitivas", "em 4 h 59 min", "Ver como tabela", "por situação")
}

// page2 makes the site's page anew, which has kept nothing.
func (s *site) page2(t *testing.T) {
	t.Helper()
	s.Close()
	s.serve(t, noon())
}

// Without WithDefence nothing is due, and cases are by when they opened.
func TestOverviewWithoutDefence(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.receive(t, func(n *pixmed.Notification) { n.ExternalID, n.ReceivedAt = "old-1", time.Now().Add(-50*time.Hour) })
	a := s.get(t, "/")
	a.mustHold(t, http.StatusOK, "old-1", `<th scope="col">Opened</th>`, "2 d 2 h ago")
	a.mustNotHold(t, "due today", "overdue")
}

// A reminder that failed for good is on the first screen, and with its case.
func TestOverviewRemindersGivenUp(t *testing.T) {
	t.Parallel()
	told := make(chan struct{}, 100)
	s := newSiteIn(t, enginetest.SQLite(t), []inbox.Option{inbox.WithMaxAttempts(1), inbox.WithDefence(window, func(context.Context, *inbox.Case) error {
		told <- struct{}{}
		return errors.New("no mail")
	}, 24*time.Hour)})
	e := s.open(t, time.Hour, named("silent", 1))
	<-told
	a := s.until(t, "/case/"+e.Key.TransactionID, "Reminder failed for good")
	a.mustHold(t, http.StatusOK, "no mail", "1 case has a reminder that failed for good: nobody was told.")
	s.get(t, "/").mustHold(t, http.StatusOK, "1 case has a reminder that failed for good: nobody was told.")
}

// until asks for a page until it holds a text.
func (s *site) until(t *testing.T, path, text string) answer {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(enginetest.Patience)
	for {
		if a := s.get(t, path); strings.Contains(a.body, text) {
			return a
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%q does not come on %s", text, path)
		}
	}
}

// crowd is an inbox with many cases that are due within the day.
type crowd struct {
	ops.Box
	n int
}

func (c crowd) Stats(context.Context) (inbox.Stats, error) {
	return inbox.Stats{Open: int64(c.n), Blocked: pixmed.Amount(c.n) * pixmed.Real, Dead: 10012, Pending: 1}, nil
}

func (c crowd) Failures(context.Context, inbox.State) ([]inbox.Failure, error) { return nil, nil }

func (c crowd) CountReceived(context.Context, time.Time, time.Duration, int) ([]inbox.Received, error) {
	return nil, errAway
}

func (c crowd) Cases(_ context.Context, f inbox.CaseFilter) ([]*inbox.Case, error) {
	var cases []*inbox.Case
	for range min(f.Limit, c.n) {
		cases = append(cases, &inbox.Case{TransactionID: uuid.NewString(), Open: true, OpenedAt: time.Now(), DueAt: time.Now().Add(window)})
	}
	return cases, nil
}

// What is due today is counted up to a bound, and a chart that cannot be made costs
// nothing else.
func TestOverviewBounds(t *testing.T) {
	t.Parallel()
	page, err := ops.NewHandlerOf(crowd{n: 100_000}, ops.WithAuthenticated(), ops.WithLogger(enginetest.Logger(t)))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept-Language", "pt-BR")
	page.ServeHTTP(w, r)
	a := answer{w.Code, w.Header(), w.Body.String()}
	a.mustHold(t, http.StatusOK, "<b>1.000&#43;</b>", "R$ 100.000,00", "bloqueados em 100.000 casos abertos", "<b>10.012</b> <span>falhas definitivas", "<b>1</b> <span>pendente,")
	a.mustNotHold(t, "<svg")
}
