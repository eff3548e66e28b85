package inbox_test

import (
	order "cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A caseModel is what a case is by its definition.
type caseModel struct {
	said       []*pixmed.Notification // that were accepted
	ended      int                    // how many of them when a person ended it
	openedAt   time.Time
	answeredBy string
}

// last returns what was accepted last of each external id, those that are open if
// any is, in the order in which they were accepted.
func (c *caseModel) last() (last []*pixmed.Notification, open bool) {
	final := func(n *pixmed.Notification) bool {
		return n.MEDStatus.Final() || slices.Index(c.said, n) < c.ended
	}
	for i, n := range c.said {
		if !slices.ContainsFunc(c.said[i+1:], func(m *pixmed.Notification) bool { return m.ExternalID == n.ExternalID }) {
			last, open = append(last, n), open || !final(n)
		}
	}
	if open {
		last = slices.DeleteFunc(last, final)
	}
	return last, open
}

// show describes a case: what is not open has no due time.
func show(id string, status pixmed.MEDStatus, externalID string, value pixmed.Amount, open bool, due time.Time, answeredBy string) string {
	return fmt.Sprintf("%.4s %q of %s, %v, open %t, due %s, answered by %q", id, status, externalID, value, open, due.Format(time.RFC3339Nano), answeredBy)
}

// TestCasesModel does at random what gateways and people do, and compares the cases
// and the numbers with their definitions.
func TestCasesModel(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		const window = 10 * time.Hour
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(window, nil))
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		start := time.Now().UTC().Truncate(time.Microsecond)
		cases := make(map[string]*caseModel)
		var ids []string
		for range 6 {
			ids = append(ids, enginetest.NewTransaction())
		}
		steps := 150
		if testing.Short() {
			steps = 60
		}
		for step := range steps {
			id := ids[r.IntN(len(ids))]
			c := cases[id]
			if c == nil {
				c = &caseModel{}
			}
			_, open := c.last()
			switch r.IntN(8) {
			case 0:
				err := in.End(t.Context(), id, "over", inbox.By("ana"))
				want := map[bool]error{true: inbox.ErrNotFound, false: inbox.ErrEnded}[c.said == nil]
				if open && err != nil || !open && !errors.Is(err, want) {
					t.Fatalf("seed %d: End: %v", seed, err)
				}
				if open {
					c.ended = len(c.said)
				}
			case 1:
				err := in.MarkAnswered(t.Context(), id, "sent", inbox.By("rui"))
				want := map[bool]error{true: inbox.ErrNotFound, false: inbox.ErrEnded}[c.said == nil]
				if open && c.answeredBy != "" {
					want = inbox.ErrAnswered
				}
				if first := open && c.answeredBy == ""; first && err != nil || !first && !errors.Is(err, want) {
					t.Fatalf("seed %d: MarkAnswered: %v", seed, err)
				}
				if open {
					c.answeredBy = "rui"
				}
			default:
				n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
					n.TransactionID, n.ExternalID, n.Raw = id, fmt.Sprint(r.IntN(3)), nil
					n.MEDStatus = []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited, "REVIEWED", ""}[r.IntN(5)]
					n.Value = []pixmed.Amount{0, 1, math.MaxInt64 / 3}[r.IntN(3)]
					n.ReceivedAt = start.Add(-time.Duration(r.Int64N(int64(2 * window)))).Truncate(time.Microsecond)
				})
				switch err := in.Receive(t.Context(), n); {
				case errors.Is(err, pixmed.ErrDuplicate):
				case errors.Is(err, pixmed.ErrBusy): // too many are pending
				case err != nil:
					t.Fatal(err)
				default:
					c.said = append(c.said, n)
					cases[id] = c
					if _, is := c.last(); is && !open {
						c.openedAt, c.answeredBy = n.ReceivedAt, ""
					}
				}
			}
			if step%5 == 0 {
				compareCases(t, in, cases, window, seed)
			}
		}
	})
}

func compareCases(t *testing.T, in *inbox.Inbox, cases map[string]*caseModel, window time.Duration, seed uint64) {
	t.Helper()
	var open, ended, unanswered, overdue []string
	var want inbox.Stats
	now := time.Now()
	sum := 0.0
	ids := make([]string, 0, len(cases))
	for id := range cases {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		return order.Or(cases[a].openedAt.Compare(cases[b].openedAt), strings.Compare(a, b))
	})
	for _, id := range ids {
		c := cases[id]
		last, is := c.last()
		var value pixmed.Amount
		for _, n := range last {
			value = max(value, n.Value)
		}
		var due time.Time
		if is {
			due = c.openedAt.Add(window)
		}
		newest := last[len(last)-1]
		text := show(id, newest.MEDStatus, newest.ExternalID, value, is, due, c.answeredBy)
		if !is {
			ended = append(ended, text)
			continue
		}
		open = append(open, text)
		want.Open++
		sum += float64(value)
		want.Blocked += value
		if want.Blocked < 0 || sum > math.MaxInt64 {
			want.Blocked = math.MaxInt64
		}
		if due.Before(now) {
			overdue = append(overdue, text)
		}
		if c.answeredBy != "" {
			continue
		}
		unanswered = append(unanswered, text)
		switch {
		case due.Before(now):
			want.Overdue++
		case want.NearestDue.IsZero() || due.Before(want.NearestDue):
			want.NearestDue = due
		}
	}
	stats, err := in.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stats.Pending, stats.OldestPending = 0, 0
	if diff := cmp.Diff(want, stats); diff != "" {
		t.Fatalf("seed %d: Stats (-want +got):\n%s", seed, diff)
	}
	for name, test := range map[string]struct {
		filter inbox.CaseFilter
		want   []string
	}{
		"open":       {inbox.CaseFilter{Open: true}, open},
		"unanswered": {inbox.CaseFilter{Unanswered: true}, unanswered},
		"due before": {inbox.CaseFilter{DueBefore: now}, overdue},
		"ended":      {inbox.CaseFilter{Ended: true}, ended},
		"all":        {inbox.CaseFilter{}, slices.Concat(open, ended)},
	} {
		var got []string
		for test.filter.Limit = 4; ; {
			page, err := in.Cases(t.Context(), test.filter)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page {
				got = append(got, show(c.TransactionID, c.Status, c.ExternalID, c.Value, c.Open, c.DueAt, c.AnsweredBy))
				if (c.AnsweredBy != "") == c.AnsweredAt.IsZero() || c.Open != c.EndedAt.IsZero() {
					t.Fatalf("seed %d: %+v", seed, c)
				}
			}
			if len(page) < test.filter.Limit {
				break
			}
			test.filter.After = page[len(page)-1].Cursor()
		}
		if name == "ended" || name == "all" { // in the order in which something happened to them
			slices.Sort(got[len(test.want)-len(ended):])
			slices.Sort(test.want[len(test.want)-len(ended):])
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Fatalf("seed %d: %s (-want +got):\n%s", seed, name, diff)
		}
	}
}
