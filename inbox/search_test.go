package inbox_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/bridge"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore))
		long := strings.Repeat("x", 4<<10)
		const many = "aaaaaaaa-0000-4000-8000-00000000000"
		names := map[string]string{} // of transactions
		for i, n := range []struct {
			name, transaction, external string
			e2e                         pixmed.EndToEndID
			status                      pixmed.MEDStatus
		}{
			{"order 1", "AAAAAAAA-1000-4000-8000-000000000001", "Order-1", "E9040088820260301120000000000001", pixmed.Acknowledged},
			{"order 10", "bbbbbbbb-0000-4000-8000-000000000002", "ORDER-10", "E9040088820260301120000000000002", pixmed.Cancelled},
			{"percent", many + "3", "50%_off\\", "", pixmed.Acknowledged},
			{"no percent", many + "4", "500_off", "x", pixmed.Acknowledged},
			{"accents", many + "5", "Devolução-É", "", pixmed.Acknowledged},
			{"long", many + "6", long + "a", "", pixmed.Acknowledged},
			{"NUL", many + "7", "a\x00b", "", pixmed.Acknowledged},
			{"two ids", many + "8", "first", "E1", pixmed.Acknowledged},
			{"two ids", many + "8", "second", "E2", pixmed.Cancelled},
			{"two ids", many + "8", "second", "E2", pixmed.Debited},
		} {
			names[strings.ToLower(n.transaction)] = n.name
			mustReceive(t, in, pixmedtest.NewNotification(func(x *pixmed.Notification) {
				x.TransactionID, x.ExternalID, x.EndToEndID, x.MEDStatus, x.Raw = n.transaction, n.external, n.e2e, n.status, nil
				x.ReceivedAt = x.ReceivedAt.Add(time.Duration(i) * time.Minute)
			}))
		}
		enginetest.Await(t, in)
		list := func(f inbox.CaseFilter) string {
			t.Helper()
			cases, err := in.Cases(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, c := range cases {
				found = append(found, names[c.TransactionID])
			}
			slices.Sort(found)
			return strings.Join(found, ", ")
		}
		for text, want := range map[string]string{
			"order-1":                               "order 1, order 10",
			"oRDeR-10":                              "order 10",
			"rder-1":                                "",
			"order-1 ":                              "",
			"order-1%":                              "",
			"e90400888202603011200000000000":        "order 1, order 10",
			"E9040088820260301120000000000002":      "order 10",
			"aaaaaaaa-1":                            "order 1",
			"BBBBBBBB-0000-4000-8000-000000000002":  "order 10",
			many[:9]:                                "NUL, accents, long, no percent, order 1, percent, two ids",
			"bbbbbbbb-0000-4000-8000-0000000000021": "",
			"50":                                    "no percent, percent",
			"50%":                                   "percent",
			"50_":                                   "",
			"50%_OFF\\":                             "percent",
			"%":                                     "",
			"_":                                     "",
			"\\":                                    "",
			"DEVOLUÇÃO-é":                           "accents",
			"devolucao":                             "",
			"X":                                     "long, no percent",
			long:                                    "long",
			strings.ToUpper(long) + "A":             "long",
			long + "b":                              "long", // beyond the bound
			"a\x00":                                 "NUL",
			"a\x00c":                                "",
			"\xff":                                  "",
			"\x00\xff":                              "",
			"' OR true --":                          "",
			"first":                                 "two ids",
			"sec":                                   "two ids",
			"e2":                                    "two ids",
			strings.Repeat("x", 1<<20):              "long",
			strings.Repeat("no such id", 99):        "",
		} {
			if got := list(inbox.CaseFilter{Search: text}); got != want {
				t.Errorf("%.50q finds %q, want %q", text, got, want)
			}
		}
		for _, test := range []struct {
			filter inbox.CaseFilter
			want   string
		}{
			{inbox.CaseFilter{Search: "order", Open: true}, "order 1"},
			{inbox.CaseFilter{Search: "order", Ended: true}, "order 10"},
			{inbox.CaseFilter{Search: "order", State: inbox.Done}, "order 1, order 10"},
			{inbox.CaseFilter{Search: "order", State: inbox.Dead}, ""},
			{inbox.CaseFilter{Search: "order", State: inbox.Pending}, ""},
			{inbox.CaseFilter{Search: "order", Unanswered: true}, "order 1"},
			{inbox.CaseFilter{Search: "order", Limit: 1}, "order 1"},
		} {
			if got := list(test.filter); got != test.want {
				t.Errorf("%+v finds %q, want %q", test.filter, got, test.want)
			}
		}
		first, err := in.Cases(t.Context(), inbox.CaseFilter{Search: "order", Limit: 1})
		if err != nil || len(first) != 1 {
			t.Fatalf("the first page: %v, %v", first, err)
		}
		if got := list(inbox.CaseFilter{Search: "order", After: first[0].Cursor()}); got != "order 10" {
			t.Errorf("the second page is %q", got)
		}

		events, err := in.List(t.Context(), inbox.Filter{Search: "FIRST"})
		if err != nil || len(events) != 3 || events[0].Status != pixmed.Debited {
			t.Errorf("List finds %v, %v", events, err)
		}
		if events, err = in.List(t.Context(), inbox.Filter{Search: "order-1", State: inbox.Done, Limit: 1}); err != nil || len(events) != 1 || len(events[0].Raw) == 0 {
			t.Errorf("List finds %v, %v", events, err)
		}

		// What is gone is not found, and leaves no id behind.
		if err := in.Delete(t.Context(), many+"8"); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Purge(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if got := list(inbox.CaseFilter{Search: "sec"}) + list(inbox.CaseFilter{Search: "order-10"}); got != "" {
			t.Errorf("after Delete and Purge %q is found", got)
		}
		var left int
		if err := s.DB(t).QueryRowContext(t.Context(), "SELECT count(*) FROM ids").Scan(&left); err != nil || left != 6 {
			t.Errorf("%d ids are left, %v", left, err)
		}
	})
}

// Bodies in quarantine have no ids: a search looks through the last 1000 of them.
func TestSearchQuarantined(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		quarantine := func(body string) {
			t.Helper()
			if err := in.Quarantine(t.Context(), []byte(body), errors.New("it ends too early")); err != nil {
				t.Fatal(err)
			}
		}
		find := func(f inbox.Filter) (found []string) {
			t.Helper()
			f.State = inbox.Quarantined
			events, err := in.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				found = append(found, string(e.Raw))
			}
			return found
		}
		quarantine(`{"externalId":"Order-1"`)
		for range 20 {
			quarantine(`{"externalId":"order-2` + enginetest.NewTransaction())
		}
		quarantine(`{"externalId":"ação%"`)
		for range 40 {
			quarantine(`{"externalId":"order-3` + enginetest.NewTransaction())
		}
		if diff := cmp.Diff([]string{`{"externalId":"Order-1"`}, find(inbox.Filter{Search: "ORDER-1"})); diff != "" {
			t.Errorf("a search reads more than one page (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{`{"externalId":"ação%"`}, find(inbox.Filter{Search: "Ação%"})); diff != "" {
			t.Errorf("a search folds letters (-want +got):\n%s", diff)
		}
		if found := find(inbox.Filter{Search: "_"}); found != nil {
			t.Errorf("a wildcard finds %q", found)
		}
		if found := find(inbox.Filter{Search: "order-2", Limit: 7}); len(found) != 7 {
			t.Errorf("a page of 7 holds %q", found)
		}
		if found := find(inbox.Filter{Search: "order", Error: "another error"}); found != nil {
			t.Errorf("another error is that of %q", found)
		}
		if events, err := in.List(t.Context(), inbox.Filter{Search: "order"}); err != nil || len(events) != 0 {
			t.Errorf("a search in all states finds %v, %v", events, err)
		}
		report, err := in.ResolveAll(t.Context(), inbox.Filter{State: inbox.Quarantined, Search: "order-2"}, "")
		if err != nil || report.Done != 20 {
			t.Errorf("ResolveAll: %+v, %v", report, err)
		}
	})
}

// A search reads no more bodies than it says.
func TestSearchBodies(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if _, err := s.DB(t).ExecContext(t.Context(), `
WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 1001)
INSERT INTO events (id, external_id, external_digest, status, value, raw, digest, state, received_at)
SELECT printf('01900000-0000-7000-8000-%012d', n), '', 0, '', 0, CAST('body ' || n || '.' AS blob), CAST(n AS blob), 'quarantined', 1 FROM g`); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]int{"body 2.": 1, "body 1.": 0} {
		events, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined, Search: body})
		if err != nil || len(events) != want {
			t.Errorf("%s: %d found, %v", body, len(events), err)
		}
	}
}

// A quarantined notification that is replayed is found from then on.
func TestSearchReplayed(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		n := pixmedtest.NewNotification(func(n *pixmed.Notification) { n.ExternalID, n.EndToEndID, n.Raw = "Kept", "E-kept", nil })
		if err := in.Quarantine(t.Context(), pixmedtest.Payload(n.Infraction), errors.New("no")); err != nil {
			t.Fatal(err)
		}
		events, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined})
		if err != nil || len(events) != 1 {
			t.Fatal(events, err)
		}
		if err := in.Replay(t.Context(), events[0].ID); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"kept", "e-KEPT"} {
			if cases, err := in.Cases(t.Context(), inbox.CaseFilter{Search: text}); err != nil || len(cases) != 1 {
				t.Errorf("%s finds %v, %v", text, cases, err)
			}
		}
	})
}

// Among very many that begin alike, a whole id is found, and a search reads no more
// than it says.
func TestSearchMany(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		s.Fill(t, 20_000, 10)
		for text, want := range map[string]int{"order-1": 200, "order-19999": 1, "E90400888": 200, "order-1999": 11} {
			cases, err := in.Cases(t.Context(), inbox.CaseFilter{Search: text, Limit: 200})
			if err != nil || len(cases) != want {
				t.Errorf("%s finds %d, %v, want %d", text, len(cases), err, want)
			}
		}
		seen := 0
		for f := (inbox.CaseFilter{Search: "order-1", Limit: 200}); ; {
			cases, err := in.Cases(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if len(cases) == 0 {
				break
			}
			seen += len(cases)
			f.After = cases[len(cases)-1].Cursor()
		}
		if seen != 1000 {
			t.Errorf("a search that more match finds %d", seen)
		}
	})
}

// A search has a deadline of its own; other reads have their caller's.
func TestSearchDeadline(t *testing.T) {
	t.Parallel()
	from := new(deadlines)
	in := bridge.Inbox.NewReader(from).(*inbox.Reader) //nolint:forcetypeassert // it is one
	for name, read := range map[string]func(text string) error{
		"Cases": func(text string) error {
			_, err := in.Cases(t.Context(), inbox.CaseFilter{Search: text, Open: true})
			return err
		},
		"List": func(text string) error { _, err := in.List(t.Context(), inbox.Filter{Search: text}); return err },
		"quarantined": func(text string) error {
			_, err := in.List(t.Context(), inbox.Filter{Search: text, State: inbox.Quarantined})
			return err
		},
	} {
		if err := read(""); err != nil || from.left != 0 {
			t.Errorf("%s without a search: %v are left, %v", name, from.left, err)
		}
		if err := read("x"); err != nil || from.left <= 0 || from.left > 5*time.Second {
			t.Errorf("%s: %v are left, %v", name, from.left, err)
		}
	}
}

// deadlines keeps how long a read may take, 0 for as long as it likes.
type deadlines struct {
	ledger.Reader
	left time.Duration
}

func (d *deadlines) Cases(ctx context.Context, _ ledger.CaseFilter) ([]*ledger.CaseRow, error) {
	d.note(ctx)
	return nil, nil
}

func (d *deadlines) List(ctx context.Context, _ ledger.Filter) ([]*ledger.Event, error) {
	d.note(ctx)
	return nil, nil
}

func (d *deadlines) note(ctx context.Context) {
	d.left = 0
	if deadline, ok := ctx.Deadline(); ok {
		d.left = time.Until(deadline)
	}
}
