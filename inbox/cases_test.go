package inbox_test

import (
	"context"
	"errors"
	"fmt"
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

func TestCases(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		// What is debited is dead, what is unknown is never done.
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			switch n.MEDStatus {
			case pixmed.Debited:
				return inbox.Discard(errors.New("no"))
			case pixmed.Acknowledged, pixmed.Cancelled:
				return nil
			default:
				return errors.New("not yet")
			}
		}), inbox.WithBackoff(time.Hour, time.Hour))
		names := map[string]string{}
		ids := map[string]string{}
		for _, n := range []struct {
			name, externalID string
			status           pixmed.MEDStatus
			pending          int64 // of them all, then
		}{
			{"done", "order-1", pixmed.Acknowledged, 0},
			{"dead", "order-2", pixmed.Acknowledged, 0},
			{"waits", "order-2", "REVIEWED", 1},
			{"dead", "order-2", pixmed.Debited, 1},
			{"dead then waits", "order-4", pixmed.Debited, 1},
			{"dead then waits", "order-4", "REVIEWED", 2},
			{"dead then waits", "order-4", pixmed.Cancelled, 3},
			{"done", "order-1", pixmed.Cancelled, 3},
		} {
			if ids[n.name] == "" {
				ids[n.name] = enginetest.NewTransaction()
				names[ids[n.name]] = n.name
			}
			mustReceive(t, in, pixmedtest.NewNotification(func(x *pixmed.Notification) {
				x.TransactionID, x.ExternalID, x.MEDStatus, x.Raw = ids[n.name], n.externalID, n.status, nil
				if n.name == "waits" {
					x.EndToEndID = "E9040088820260301120000000000001"
				}
			}))
			enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool {
				// A first attempt that is to come would move its case.
				events, err := in.List(t.Context(), inbox.Filter{State: inbox.Pending})
				tried := !slices.ContainsFunc(events, func(e *inbox.Event) bool { return e.Status == "REVIEWED" && e.Attempts == 0 })
				return err == nil && tried && s.Pending == n.pending
			})
		}
		if err := in.Quarantine(t.Context(), []byte(`{"externalId":"order-1"`), errors.New("it ends too early")); err != nil {
			t.Fatal(err)
		}
		list := func(f inbox.CaseFilter) (got, cursor string) {
			t.Helper()
			cases, err := in.Cases(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, c := range cases {
				all = append(all, fmt.Sprintf("%s: %s of %s, %d accepted, %d pending, %d dead, at %s %s",
					names[c.TransactionID], c.Status, c.ExternalID, c.Accepted, c.Pending, c.Dead, c.Current.Status, c.Current.State))
				cursor = c.Cursor()
			}
			return strings.Join(all, "\n"), cursor
		}
		const (
			done      = "done: CANCELLED of order-1, 2 accepted, 0 pending, 0 dead, at CANCELLED done"
			dead      = "dead: DEBITED of order-2, 2 accepted, 0 pending, 1 dead, at DEBITED dead"
			waits     = "waits: REVIEWED of order-2, 1 accepted, 1 pending, 0 dead, at REVIEWED pending"
			deadWaits = "dead then waits: CANCELLED of order-4, 3 accepted, 2 pending, 1 dead, at REVIEWED pending"
		)
		for name, test := range map[string]struct {
			filter inbox.CaseFilter
			want   []string
		}{
			"all":                  {inbox.CaseFilter{}, []string{waits, done, deadWaits, dead}},
			"open":                 {inbox.CaseFilter{Open: true}, []string{waits}},
			"ended":                {inbox.CaseFilter{Ended: true}, []string{done, deadWaits, dead}},
			"open or ended":        {inbox.CaseFilter{Open: true, Ended: true}, []string{waits, done, deadWaits, dead}},
			"ended and unanswered": {inbox.CaseFilter{Ended: true, Unanswered: true}, nil},
			"done":                 {inbox.CaseFilter{State: inbox.Done}, []string{done}},
			"dead":                 {inbox.CaseFilter{State: inbox.Dead}, []string{deadWaits, dead}},
			"pending":              {inbox.CaseFilter{State: inbox.Pending}, []string{waits, deadWaits}},
			"transaction":          {inbox.CaseFilter{Search: strings.ToUpper(ids["done"])}, []string{done}},
			"external id":          {inbox.CaseFilter{Search: "order-2"}, []string{waits, dead}},
			"of those, dead":       {inbox.CaseFilter{Search: "order-2", State: inbox.Dead}, []string{dead}},
			"end-to-end id":        {inbox.CaseFilter{Search: "E9040088820260301120000000000001"}, []string{waits}},
			"nothing":              {inbox.CaseFilter{Search: "order-9"}, nil},
			"nor what is no text":  {inbox.CaseFilter{Search: "\x00\xff"}, nil},
			"nor what is a clause": {inbox.CaseFilter{Search: "' OR true --"}, nil},
		} {
			got, _ := list(test.filter)
			if diff := cmp.Diff(strings.Join(test.want, "\n"), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		if got, _ := list(inbox.CaseFilter{Limit: 1}); got != waits {
			t.Errorf("the first that is due is %q", got)
		}
		whole, _ := list(inbox.CaseFilter{})
		var pages []string
		for f := (inbox.CaseFilter{Limit: 2}); ; {
			page, cursor := list(f)
			if page == "" {
				break
			}
			pages = append(pages, page)
			f.After = cursor
		}
		if len(pages) != 2 || strings.Join(pages, "\n") != whole {
			t.Errorf("pages %q, want %q", pages, whole)
		}

		events, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined, Search: "order-1"})
		if err != nil || len(events) != 1 {
			t.Errorf("List with a search: %v, %v", events, err)
		}
		if events, err = in.List(t.Context(), inbox.Filter{Search: "order-4"}); err != nil || len(events) != 3 {
			t.Errorf("List with a search: %v, %v", events, err)
		}
	})
}

func TestReceived(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Debited {
				return inbox.Discard(errors.New("no"))
			}
			return nil
		}))
		from := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)

		for _, n := range []struct {
			at     time.Duration
			status pixmed.MEDStatus
		}{
			{-time.Microsecond, pixmed.Acknowledged},
			{0, pixmed.Acknowledged},
			{day - time.Microsecond, pixmed.Debited},
			{day, pixmed.Cancelled},
			{3*day - time.Microsecond, pixmed.Cancelled},
			{3*day - time.Microsecond, pixmed.Acknowledged},
			{3 * day, pixmed.Acknowledged},
		} {
			notification := enginetest.Notification(enginetest.NewTransaction(), n.status)
			notification.ReceivedAt = from.Add(n.at)
			mustReceive(t, in, notification)
		}
		enginetest.Await(t, in)
		got, err := in.CountReceived(t.Context(), from, day, 3)
		if err != nil {
			t.Fatal(err)
		}
		want := []inbox.Received{
			{From: from, Done: 1, Dead: 1},
			{From: from.Add(day), Done: 1},
			{From: from.Add(2 * day), Done: 2},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := in.Quarantine(t.Context(), []byte("{"), errors.New("it ends too early")); err != nil {
			t.Fatal(err)
		}
		got, err = in.CountReceived(t.Context(), time.Now().Add(-time.Hour), 2*time.Hour, 1)
		if err != nil || got[0].Quarantined != 1 || got[0].Done != 0 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestCasesMisused(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	cases := func(f inbox.CaseFilter) error { _, err := in.Cases(t.Context(), f); return err }
	received := func(span time.Duration, n int) error {
		_, err := in.CountReceived(t.Context(), time.Now(), span, n)
		return err
	}
	for name, test := range map[string]struct {
		err  error
		text string
	}{
		"state":               {cases(inbox.CaseFilter{State: "lost"}), `no state "lost"`},
		"quarantined":         {cases(inbox.CaseFilter{State: inbox.Quarantined}), "use List"},
		"a cursor of nothing": {cases(inbox.CaseFilter{After: "o"}), `"o" is not a case's cursor`},
		"limit":               {cases(inbox.CaseFilter{Limit: 201}), "201"},
		"negative":            {cases(inbox.CaseFilter{Limit: -1}), "-1"},
		"cursor":              {cases(inbox.CaseFilter{After: "1.x"}), `"1.x" is not a case's cursor`},
		"no cursor":           {cases(inbox.CaseFilter{After: "x"}), `"x" is not a case's cursor`},
		"span":                {received(0, 1), "too short"},
		"spans":               {received(time.Hour, 1001), "1001"},
		"no spans":            {received(time.Hour, 0), "0 spans"},
	} {
		if !errors.Is(test.err, inbox.ErrInvalidArgument) || !strings.Contains(test.err.Error(), test.text) {
			t.Errorf("%s: %v", name, test.err)
		}
	}
}
