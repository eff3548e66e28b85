package ops_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// The list has what was asked for, each case in one line that no error makes longer.
func TestCases(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, db *enginetest.Database) { testCases(t, newSiteIn(t, db, defence, noon())) })
}

func testCases(t *testing.T, s *site) {
	t.Helper()
	all := map[string]*inbox.Event{
		"late-1":  s.open(t, -time.Hour, named("late-1", 123456)),
		"today-1": s.open(t, 5*time.Hour, named("today-1", 1)),
		"later-1": s.open(t, 30*time.Hour, func(n *pixmed.Notification) { n.ExternalID, n.EndToEndID = "later-1", endToEnd }),
		"done-1":  s.open(t, 40*time.Hour, named("done-1", 1)),
		"ended-1": s.open(t, 50*time.Hour, named("ended-1", 1)),
		markup:    s.dead(t, errLedger, func(n *pixmed.Notification) { n.ExternalID, n.ReceivedAt = markup, time.Now().Add(-time.Hour) }),
	}
	if err := s.in.MarkAnswered(t.Context(), all["done-1"].Key.TransactionID, "", inbox.By("ana")); err != nil {
		t.Fatal(err)
	}
	if err := s.in.End(t.Context(), all["ended-1"].Key.TransactionID, ""); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string][]string{
		"":                                      {"late-1", "today-1", "later-1", "done-1", markup},
		"?show=open":                            {"late-1", "today-1", "later-1", "done-1", markup},
		"?show=answer":                          {"late-1", "today-1", "later-1", markup},
		"?show=overdue":                         {"late-1"},
		"?show=today":                           {"today-1"},
		"?show=pending":                         {},
		"?show=dead":                            {markup},
		"?show=ended":                           {"ended-1"},
		"?show=all":                             {"late-1", "today-1", "later-1", "done-1", markup, "ended-1"},
		"?q=ended-1":                            {"ended-1"},
		"?q=ended-1&show=open":                  {},
		"?q=" + url.QueryEscape(markup):         {markup},
		"?q=" + endToEnd:                        {"later-1"},
		"?q=" + all["late-1"].Key.TransactionID: {"late-1"},
		"?q=+" + strings.ToUpper(all["late-1"].Key.TransactionID) + "+": {"late-1"},
		"?q=LATE-": {"late-1"},
		"?q=-1":    {}, // not the beginning of any
		"?q=" + all["today-1"].Key.TransactionID[:18]: {"today-1"},
		"?q=" + strings.ToLower(endToEnd[:30]):        {"later-1"},
		"?q=nobody":                                   {},
	} {
		a := s.get(t, "/cases"+query)
		var got []string
		for name, e := range all {
			if strings.Contains(a.body, `href="./case/`+e.Key.TransactionID+`"`) {
				got = append(got, name)
			}
		}
		if a.status != http.StatusOK || len(got) != len(want) {
			t.Errorf("%s: %d, %q, want %q", query, a.status, got, want)
		}
		for _, name := range want {
			if !strings.Contains(a.body, `href="./case/`+all[name].Key.TransactionID+`"`) {
				t.Errorf("%s: %s is not there", query, name)
			}
		}
		a.mustNotHold(t, "the ledger is away", "transactionStatus") // no error, no body
	}
	a := s.get(t, "/cases?show=all")
	a.mustHold(t, http.StatusOK, `<td class="due late" data-label="Due"><b>1 h overdue</b>`, "R$ 1.234,56", "ACKNOWLEDGED", `<td class="due soon"`,
		`<span class="state dead">1 failed for good</span>`, `<td class="by" data-label="Answered by">ana`, `<span class="nobody">nobody</span>`, "<b>ended</b>")
	s.get(t, "/cases?q="+endToEnd).mustHold(t, http.StatusOK, `name="q" value="`+endToEnd+`"`)
}

func TestPages(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, db *enginetest.Database) { testPages(t, newSiteIn(t, db, nil)) })
}

func testPages(t *testing.T, s *site) {
	t.Helper()
	const n = 53
	s.fails(errLedger)
	for i := range n {
		if err := s.in.Receive(t.Context(), pixmedtest.NewNotification(func(n *pixmed.Notification) { n.ReceivedAt = time.Now() })); err != nil {
			t.Fatal(err)
		}
		if err := s.in.Quarantine(t.Context(), []byte("{"+strings.Repeat(" ", i)), errLedger); err != nil {
			t.Fatal(err)
		}
	}
	enginetest.Await(t, s.in)
	groups := regexp.MustCompile(`href="\./(failures/[a-z]+/[0-9a-f]+)"`).FindAllStringSubmatch(s.get(t, "/").body, -1)
	if len(groups) != 2 {
		t.Fatalf("groups: %q", groups)
	}
	links := regexp.MustCompile(`href="(?:\.\./\.\./|\./)((?:case|event)/[^"]+)"`)
	next := regexp.MustCompile(`href="(\?[^"]+)" rel="next"`)
	for _, first := range []string{"/cases", "/cases?show=dead", "/" + groups[0][1], "/" + groups[1][1]} {
		seen := map[string]bool{}
		pages := 0
		for path := first; path != ""; pages++ {
			a := s.get(t, path)
			for _, link := range links.FindAllStringSubmatch(a.body, -1) {
				seen[link[1]] = true
			}
			base, _, _ := strings.Cut(path, "?")
			path = ""
			if m := next.FindStringSubmatch(a.body); m != nil {
				path = base + strings.ReplaceAll(m[1], "&amp;", "&")
			}
		}
		if pages != 2 || len(seen) != n {
			t.Errorf("%s: %d on %d pages, want %d on 2", first, len(seen), pages, n)
		}
	}
	s.get(t, "/").mustHold(t, http.StatusOK, fmt.Sprintf(": %d notifications</title>", 2*n), `<rect class="dead"`, `<rect class="quarantined"`)
}
