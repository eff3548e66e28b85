package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

func TestList(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Debited {
				return inbox.Discard(errors.New("no"))
			}
			return nil
		}))
		day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		name := map[string]string{} // of ids
		id := enginetest.NewTransaction()
		for i, n := range []struct {
			name, transaction string
			status            pixmed.MEDStatus
		}{
			{"a", id, pixmed.Acknowledged},
			{"b", enginetest.NewTransaction(), pixmed.Debited},
			{"c", id, pixmed.Cancelled},
			{"d", enginetest.NewTransaction(), pixmed.Acknowledged},
		} {
			notification := enginetest.Notification(n.transaction, n.status)
			notification.ReceivedAt = day.AddDate(0, 0, i).Add(500 * time.Microsecond)
			mustReceive(t, in, notification)
			events, err := in.List(t.Context(), inbox.Filter{Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			name[events[0].ID] = n.name
		}
		if err := in.Quarantine(t.Context(), []byte("{"), errors.New("it ends too early")); err != nil {
			t.Fatal(err)
		}
		enginetest.Await(t, in)
		list := func(f inbox.Filter) (names string, last string) {
			t.Helper()
			events, err := in.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.State == inbox.Quarantined {
					names += "q"
				}
				names += name[e.ID]
				last = e.ID
			}
			return names, last
		}
		for what, test := range map[string]struct {
			filter inbox.Filter
			want   string
		}{
			"all":              {inbox.Filter{}, "qdcba"},
			"done":             {inbox.Filter{State: inbox.Done}, "dca"},
			"dead":             {inbox.Filter{State: inbox.Dead}, "b"},
			"quarantined":      {inbox.Filter{State: inbox.Quarantined}, "q"},
			"pending":          {inbox.Filter{State: inbox.Pending}, ""},
			"transaction":      {inbox.Filter{TransactionID: strings.ToUpper(id)}, "ca"},
			"done transaction": {inbox.Filter{TransactionID: id, State: inbox.Done}, "ca"},
			"since":            {inbox.Filter{Since: day.AddDate(0, 0, 2)}, "qdc"},
			"until":            {inbox.Filter{Until: day.AddDate(0, 0, 2)}, "ba"},
			"between":          {inbox.Filter{Since: day.AddDate(0, 0, 1), Until: day.AddDate(0, 0, 3)}, "cb"},
		} {
			if got, _ := list(test.filter); got != test.want {
				t.Errorf("%s: %q, want %q", what, got, test.want)
			}
		}
		var pages []string
		for f := (inbox.Filter{Limit: 2}); ; {
			names, last := list(f)
			if names == "" {
				break
			}
			pages = append(pages, names)
			f.After = last
		}
		if diff := cmp.Diff([]string{"qd", "cb", "a"}, pages); diff != "" {
			t.Errorf("pages (-want +got):\n%s", diff)
		}

		got, err := in.Stats(t.Context())
		if want := (inbox.Stats{Dead: 1, Quarantined: 1, Open: 1, Blocked: 18 * pixmed.Real}); err != nil || got != want {
			t.Errorf("Stats: %+v, %v, want %+v", got, err, want)
		}
		if got, want := enginetest.Count(t, in), (enginetest.Counts{Done: 3, Dead: 1, Quarantined: 1}); got != want {
			t.Errorf("CountReceived: %+v, want %+v", got, want)
		}
		h := historyOf(t, in, strings.ToUpper(id))
		if len(h) != 2 || h[0].Seq != 1 || h[1].Seq != 2 || h[0].Status != pixmed.Acknowledged || h[1].DoneAt.Before(h[0].DoneAt) {
			t.Errorf("History: %v", h)
		}
		e, err := in.Get(t.Context(), strings.ToUpper(h[1].ID))
		if diff := cmp.Diff(h[1], e); err != nil || diff != "" {
			t.Errorf("Get: %v (-want +got):\n%s", err, diff)
		}
		if i, err := e.Infraction(); err != nil || i.MEDStatus != pixmed.Cancelled {
			t.Errorf("Infraction: %v, %v", i, err)
		}
	})
}

func TestOperationsMisused(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	ctx := t.Context()
	list := func(f inbox.Filter) error { _, err := in.List(ctx, f); return err }
	get := func(id string) error { _, err := in.Get(ctx, id); return err }
	for name, test := range map[string]struct {
		err  error
		is   error
		text string
	}{
		"state":       {list(inbox.Filter{State: "lost"}), inbox.ErrInvalidArgument, `no state "lost"`},
		"limit":       {list(inbox.Filter{Limit: 1001}), inbox.ErrInvalidArgument, "1001"},
		"transaction": {list(inbox.Filter{TransactionID: "x"}), inbox.ErrInvalidArgument, `transaction id "x"`},
		"after":       {list(inbox.Filter{After: "x"}), inbox.ErrInvalidArgument, `event id "x"`},
		"get":         {get("{5a94d48d-c9f3-46be-8448-83510ca42bde}"), inbox.ErrInvalidArgument, "not a UUID of 36"},
		"none":        {get(enginetest.NewTransaction()), inbox.ErrNotFound, ""},
		"replay none": {in.Replay(ctx, enginetest.NewTransaction()), inbox.ErrNotFound, ""},
		"history":     {func() error { _, err := in.History(ctx, ""); return err }(), inbox.ErrInvalidArgument, "transaction id"},
		"purge":       {func() error { _, err := in.Purge(ctx, -1); return err }(), inbox.ErrInvalidArgument, "negative"},
	} {
		if test.err == nil || (test.is != nil && !errors.Is(test.err, test.is)) || !strings.Contains(test.err.Error(), test.text) {
			t.Errorf("%s: %v", name, test.err)
		}
	}
}

func TestOldestPending(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		for _, age := range []time.Duration{time.Hour, 3 * time.Hour, 2 * time.Hour} {
			n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
			n.ReceivedAt = time.Now().Add(-age)
			mustReceive(t, in, n)
		}
		got, err := in.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Pending != 3 || got.OldestPending < 3*time.Hour || got.OldestPending > 3*time.Hour+time.Minute {
			t.Errorf("got %+v", got)
		}
	})
}

// What is wrong with bodies groups them, and not what was found in them.
func TestFailuresOfBodies(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		quarantine := func(body string, wrap string) {
			t.Helper()
			_, err := pixmed.ParseInfraction([]byte(body))
			if err == nil {
				t.Fatalf("%s is valid", body)
			}
			if err := in.Quarantine(t.Context(), []byte(body), fmt.Errorf("%s%w", wrap, err)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 5 {
			quarantine(fmt.Sprintf(`{"transactionId":"order-%d","transactionStatus":"MED","transactionType":"CASH_IN","value":1}`, i), fmt.Sprint("request ", i, ": "))
		}
		for i := range 3 {
			quarantine(`{"a":"`+strings.Repeat("x", i), "")
		}
		long := strings.Repeat("é", 300)
		for _, cause := range []string{"timeout\nat 10:00", "timeout\nat 10:01", "post: timeout", long + "1", long + "2"} {
			if err := in.Quarantine(t.Context(), []byte(cause), errors.New(cause)); err != nil {
				t.Fatal(err)
			}
		}
		failures, err := in.Failures(t.Context(), inbox.Quarantined)
		want := []inbox.Failure{
			{State: inbox.Quarantined, Error: "invalid infraction: transactionId", Events: 5},
			{State: inbox.Quarantined, Error: "malformed JSON: the body ends too early", Events: 3},
			{State: inbox.Quarantined, Error: "timeout", Events: 2},
			{State: inbox.Quarantined, Error: strings.Repeat("é", 200), Events: 2},
			{State: inbox.Quarantined, Error: "post: timeout", Events: 1},
		}
		if diff := cmp.Diff(want, failures, ignoreTimes); diff != "" || err != nil {
			t.Fatalf("Failures: %v (-want +got):\n%s", err, diff)
		}
		events, err := in.List(t.Context(), failures[0].Filter())
		if err != nil || len(events) != 5 || !strings.Contains(events[0].LastError, "\nrequest 4: ") || !strings.Contains(events[0].LastError, `"order-4"`) {
			t.Errorf("List: %v, %v", events, err)
		}
		for _, f := range failures[1:] {
			if report, err := in.ResolveAll(t.Context(), f.Filter(), ""); err != nil || int64(report.Done) != f.Events {
				t.Errorf("ResolveAll of %q: %+v, %v", f.Error, report, err)
			}
		}
		if left, err := in.Failures(t.Context(), inbox.Quarantined); err != nil || len(left) != 1 || left[0] != failures[0] {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// Sums above the largest amount are that.
func TestBlockedSaturates(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		for i, want := range []pixmed.Amount{math.MaxInt64 - 1, math.MaxInt64, math.MaxInt64} {
			n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
			n.Value, n.Raw = []pixmed.Amount{math.MaxInt64 - 1, 1, math.MaxInt64}[i], nil
			mustReceive(t, in, n)
			if stats, err := in.Stats(t.Context()); err != nil || stats.Blocked != want {
				t.Errorf("%d: %v, %v, want %v", i, stats.Blocked, err, want)
			}
		}
	})
}
