package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

var ignoreTimes = cmp.FilterPath(func(p cmp.Path) bool {
	return p.Last().String() == ".At" || p.Last().String() == ".LastAt"
}, cmp.Ignore())

// actions returns what was noted about a case.
func actions(t *testing.T, in *inbox.Inbox, id string) (all []string) {
	t.Helper()
	c, err := in.Case(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Notes {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s by %s %s", n.Action, n.By, n.Text)))
		if (n.EventID == "") != (n.Action == inbox.Answered || n.Action == inbox.Ended) || n.At.IsZero() {
			t.Errorf("%+v", n)
		}
	}
	return all
}

// A dead letter that a person has settled is not counted, and kept with the note; a
// redelivery does not revive it, and Replay does.
func TestResolve(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		in := s.Start(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error { return errors.New("no") }), inbox.WithMaxAttempts(1))
		n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		mustReceive(t, in, n)
		enginetest.Await(t, in)
		id := historyOf(t, in, n.TransactionID)[0].ID
		if err := in.Resolve(t.Context(), id, "paid by hand", inbox.By("ana")); err != nil {
			t.Fatal(err)
		}
		if err := in.Resolve(t.Context(), id, "by mail", inbox.By("rui")); !errors.Is(err, inbox.ErrNotResolvable) || !strings.Contains(err.Error(), "is resolved") {
			t.Errorf("Resolve again: %v, want ErrNotResolvable", err)
		}
		if err := in.Receive(t.Context(), n); !errors.Is(err, pixmed.ErrDuplicate) {
			t.Errorf("a redelivery: %v, want ErrDuplicate", err)
		}
		if stats, err := in.Stats(t.Context()); err != nil || stats.Dead != 0 || stats.Open != 1 {
			t.Errorf("Stats: %+v, %v", stats, err)
		}
		if events, err := in.List(t.Context(), inbox.Filter{State: inbox.Resolved}); err != nil || len(events) != 1 || events[0].LastError != "no" {
			t.Errorf("List: %v, %v", events, err)
		}
		if err := in.Replay(t.Context(), id, inbox.By("rui")); err != nil {
			t.Fatal(err)
		}
		enginetest.AwaitCounts(t, in, func(c enginetest.Counts) bool { return c.Dead == 1 })
		if diff := cmp.Diff([]string{"resolved by ana paid by hand", "replayed by rui"}, actions(t, in, n.TransactionID)); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}

		// And what is quarantined: the same body again is still resolved.
		for i := range 2 {
			if err := in.Quarantine(t.Context(), []byte("{"), errors.New("it ends too early")); err != nil {
				t.Fatal(err)
			}
			events, err := in.List(t.Context(), inbox.Filter{State: []inbox.State{inbox.Quarantined, inbox.Resolved}[i]})
			if err != nil || len(events) != 1 || events[0].Deliveries != i+1 {
				t.Fatalf("List: %v, %v", events, err)
			}
			id = events[0].ID
			if err := in.Resolve(t.Context(), id, "a probe", inbox.By("ana")); !errors.Is(err, []error{nil, inbox.ErrNotResolvable}[i]) {
				t.Fatal(err)
			}
		}
		notes, err := in.Notes(t.Context(), id)
		if diff := cmp.Diff([]inbox.Note{{Action: inbox.ResolvedByHand, By: "ana", Text: "a probe", EventID: id}}, notes, ignoreTimes); diff != "" || err != nil {
			t.Errorf("notes: %v (-want +got):\n%s", err, diff)
		}
		if err := in.Replay(t.Context(), id); !errors.As(err, new(*pixmed.SyntaxError)) {
			t.Errorf("Replay: %v, want a SyntaxError", err)
		}
		if n, err := in.Purge(t.Context(), 0); err != nil || n != 1 {
			t.Errorf("Purge: %d, %v, want what is resolved", n, err)
		}
	})
}

// What is wrong with bodies groups them, and not what was found in them.
func TestFailuresOfBodies(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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

// Groups of dead letters are replayed and resolved together, the oldest first.
func TestAll(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			switch {
			case n.Attempt > 1 || n.MEDStatus == pixmed.Cancelled:
				return nil
			case n.Value == 1:
				return fmt.Errorf("no such column: %s", n.TransactionID)
			}
			return errors.New("the ledger is away")
		})
		in := s.Start(t, r, inbox.WithMaxAttempts(1))
		receive := func(value pixmed.Amount, statuses ...pixmed.MEDStatus) string {
			t.Helper()
			id := enginetest.NewTransaction()
			for _, status := range statuses {
				n := enginetest.Notification(id, status)
				n.Value, n.Raw = value, nil
				mustReceive(t, in, n)
				enginetest.Await(t, in)
			}
			return id
		}
		var away []string
		for range 3 {
			away = append(away, receive(2, pixmed.Acknowledged))
		}
		superseded := receive(2, pixmed.Acknowledged, pixmed.Cancelled)
		column := receive(1, pixmed.Acknowledged)
		failures, err := in.Failures(t.Context(), inbox.Dead)
		want := []inbox.Failure{{State: inbox.Dead, Error: "the ledger is away", Events: 4}, {State: inbox.Dead, Error: "no such column: " + column, Events: 1}}
		if diff := cmp.Diff(want, failures, ignoreTimes); diff != "" || err != nil {
			t.Fatalf("Failures: %v (-want +got):\n%s", err, diff)
		}
		for len(r.Got) > 0 {
			<-r.Got
		}
		report, err := in.ReplayAll(t.Context(), failures[0].Filter(), inbox.By("ana"))
		if diff := cmp.Diff(inbox.Report{Done: 3, Skipped: []string{historyOf(t, in, superseded)[0].ID}}, report); diff != "" || err != nil {
			t.Errorf("ReplayAll: %v (-want +got):\n%s", err, diff)
		}
		replayed := map[string]bool{}
		for range 3 {
			replayed[r.Next(t).TransactionID] = true
		}
		for _, id := range away {
			if !replayed[id] {
				t.Errorf("%s was not replayed", id)
			}
		}
		enginetest.Await(t, in)
		report, err = in.ResolveAll(t.Context(), inbox.Filter{State: inbox.Dead, Until: time.Now().Add(time.Hour)}, "done by hand", inbox.By("rui"))
		if diff := cmp.Diff(inbox.Report{Done: 2}, report); diff != "" || err != nil {
			t.Errorf("ResolveAll: %v (-want +got):\n%s", err, diff)
		}
		for range 2 { // again, there is nothing to do
			if report, err := in.ResolveAll(t.Context(), inbox.Filter{State: inbox.Dead}, ""); err != nil || report.Done != 0 {
				t.Errorf("again: %+v, %v", report, err)
			}
		}
		if diff := cmp.Diff([]string{"resolved by rui done by hand"}, actions(t, in, column)); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
	})
}

// What waits for its next attempt says when that is, and runs now when an operator
// wants it.
func TestRetryNow(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		block := make(chan struct{})
		r := enginetest.NewRecorder(func(ctx context.Context, n *pixmed.Notification) error {
			if n.Attempt > 1 {
				select {
				case <-block:
				case <-ctx.Done():
				}
			}
			return errors.New("not yet")
		})
		in := s.Start(t, r, inbox.WithBackoff(time.Hour, time.Hour))
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		r.Next(t)
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled))
		c := awaitCase(t, in, id, func(c *inbox.Case) bool { return c.Events[0].Attempts == 1 })
		first, second := c.Events[0], c.Events[1]
		if wait := time.Until(first.NextAttempt); wait < 20*time.Minute || wait > time.Hour || first.Running || !second.NextAttempt.IsZero() {
			t.Errorf("%+v, %+v", first, second)
		}
		if err := in.RetryNow(t.Context(), second.ID); !errors.Is(err, inbox.ErrNotInTurn) {
			t.Errorf("the second: %v, want ErrNotInTurn", err)
		}
		if err := in.RetryNow(t.Context(), first.ID, inbox.By("ana")); err != nil {
			t.Fatal(err)
		}
		r.Next(t)
		if err := in.RetryNow(t.Context(), first.ID); !errors.Is(err, inbox.ErrRunning) {
			t.Errorf("while it runs: %v, want ErrRunning", err)
		}
		if e, err := in.Get(t.Context(), first.ID); err != nil || !e.Running || !e.NextAttempt.IsZero() {
			t.Errorf("while it runs: %+v, %v", e, err)
		}
		close(block)
		awaitCase(t, in, id, func(c *inbox.Case) bool { return c.Events[0].Attempts == 2 })
		if err := in.Discard(t.Context(), first.ID, inbox.By("rui")); err != nil {
			t.Fatal(err)
		}
		if err := in.RetryNow(t.Context(), first.ID); !errors.Is(err, inbox.ErrNotPending) {
			t.Errorf("when it is dead: %v, want ErrNotPending", err)
		}
		if diff := cmp.Diff([]string{"retried by ana", "discarded by rui"}, actions(t, in, id)); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
	})
}

// What is deleted is gone, with its notes, and the log names neither it nor what was
// in it.
func TestDelete(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		var log strings.Builder
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore), enginetest.Configure(func(c *config.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }))
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled))
		if err := in.Delete(t.Context(), id); !errors.Is(err, inbox.ErrPending) {
			t.Errorf("while something is pending: %v, want ErrPending", err)
		}
		if err := in.Quarantine(t.Context(), []byte("{"), errors.New("no")); err != nil {
			t.Fatal(err)
		}
		quarantined, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined})
		if err != nil || len(quarantined) != 1 {
			t.Fatal(quarantined, err)
		}
		event := quarantined[0].ID
		if err := in.Resolve(t.Context(), event, "x"); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		if err := in.Delete(t.Context(), strings.ToUpper(id), inbox.Force(), inbox.By("ana")); err != nil {
			t.Fatal(err)
		}
		if err := in.DeleteQuarantined(t.Context(), event, inbox.By("ana")); err != nil {
			t.Fatal(err)
		}
		if said := log.String(); strings.Contains(said, id) || strings.Contains(said, event) || strings.Count(said, "by=ana") != 2 {
			t.Errorf("the log says:\n%s", said)
		}
		for name, err := range map[string]error{
			"the case again":  in.Delete(t.Context(), id),
			"the body again":  in.DeleteQuarantined(t.Context(), event),
			"the case's page": func() error { _, err := in.Case(t.Context(), id); return err }(),
		} {
			if !errors.Is(err, inbox.ErrNotFound) {
				t.Errorf("%s: %v, want ErrNotFound", name, err)
			}
		}
		for _, table := range []string{"cases", "events", "notes"} {
			var n int
			if err := s.DB(t).QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != 0 {
				t.Errorf("%s: %d rows are left, %v", table, n, err)
			}
		}
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled)) // it is no duplicate any more
	})
}

// A case that is deleted while its callback runs stays so.
func TestDeleteWhatRuns(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		proceed := make(chan struct{})
		ended := make(chan inbox.AttemptResult, 1)
		r := enginetest.NewRecorder(func(context.Context, *pixmed.Notification) error { <-proceed; return nil })
		in := s.Start(t, r, inbox.WithObserver(func(_ context.Context, a inbox.Attempt) { ended <- a.Result }))
		n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		mustReceive(t, in, n)
		r.Next(t)
		if err := in.Delete(t.Context(), n.TransactionID, inbox.Force()); err != nil {
			t.Fatal(err)
		}
		close(proceed)
		if got := <-ended; got != inbox.AttemptLate {
			t.Errorf("the attempt is %s, want late", got)
		}
		if events := historyOf(t, in, n.TransactionID); len(events) != 0 {
			t.Errorf("%v are left", events)
		}
	})
}

// Sums above the largest amount are that.
func TestBlockedSaturates(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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

func TestActionsMisused(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	ctx, id := t.Context(), enginetest.NewTransaction()
	replayAll := func(f inbox.Filter) error { _, err := in.ReplayAll(ctx, f); return err }
	for name, test := range map[string]struct {
		err  error
		is   error
		text string
	}{
		"no option":      {in.End(ctx, id, "", nil), inbox.ErrInvalidArgument, "an option is nil"},
		"two names":      {in.End(ctx, id, "", inbox.By("a"), inbox.By("b")), inbox.ErrInvalidArgument, "By is given twice"},
		"a line break":   {in.End(ctx, id, "", inbox.By("a\nb")), inbox.ErrInvalidArgument, "control characters"},
		"a long name":    {in.End(ctx, id, "", inbox.By(strings.Repeat("a", 201))), inbox.ErrInvalidArgument, "200 bytes"},
		"force":          {in.End(ctx, id, "", inbox.Force()), inbox.ErrInvalidArgument, "has no effect here"},
		"force twice":    {in.Delete(ctx, id, twice(inbox.Force())...), inbox.ErrInvalidArgument, "twice"},
		"a long note":    {in.MarkAnswered(ctx, id, strings.Repeat("a", 4097)), inbox.ErrInvalidArgument, "the note is longer"},
		"no note":        {in.Resolve(ctx, id, "\x00"), inbox.ErrInvalidArgument, "no valid text"},
		"no case":        {in.MarkAnswered(ctx, id, ""), inbox.ErrNotFound, id},
		"no case to end": {in.End(ctx, id, ""), inbox.ErrNotFound, id},
		"no id":          {in.End(ctx, "x", ""), inbox.ErrInvalidArgument, `"x"`},
		"no event":       {in.Resolve(ctx, id, ""), inbox.ErrNotFound, id},
		"no state":       {replayAll(inbox.Filter{}), inbox.ErrInvalidArgument, `the state is ""`},
		"a limit":        {replayAll(inbox.Filter{State: inbox.Dead, Limit: 1}), inbox.ErrInvalidArgument, "Limit"},
		"a bad filter":   {replayAll(inbox.Filter{State: inbox.Dead, TransactionID: "x"}), inbox.ErrInvalidArgument, `"x"`},
		"NUL in error":   {func() error { _, err := in.List(ctx, inbox.Filter{Error: "a\x00"}); return err }(), inbox.ErrInvalidArgument, "NUL"},
		"bytes in error": {func() error {
			_, err := in.ResolveAll(ctx, inbox.Filter{State: inbox.Dead, Error: "a\xff"}, "")
			return err
		}(), inbox.ErrInvalidArgument, "NUL"},
		"NUL in failure": {func() error { _, err := in.List(ctx, inbox.Failure{Error: "a\x00"}.Filter()); return err }(), inbox.ErrInvalidArgument, "NUL"},
		"failures":       {func() error { _, err := in.Failures(ctx, inbox.Done); return err }(), inbox.ErrInvalidArgument, "done"},
	} {
		if !errors.Is(test.err, test.is) || !strings.Contains(test.err.Error(), test.text) {
			t.Errorf("%s: %v", name, test.err)
		}
	}
}
