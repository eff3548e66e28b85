package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestReplay(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		var broken atomic.Bool
		r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			if broken.Load() && n.MEDStatus == pixmed.Acknowledged {
				return errors.New("broken")
			}
			return nil
		})
		in := s.Start(t, r, inbox.WithMaxAttempts(3))
		broken.Store(true)
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Dead == 1 })
		dead := historyOf(t, in, id)[0]

		// All attempts again, and a count that goes on.
		if err := in.Replay(t.Context(), dead.ID); err != nil {
			t.Fatal(err)
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Dead == 1 })
		if e := historyOf(t, in, id)[0]; e.Attempts != 6 || e.LastError != "broken" {
			t.Errorf("%v, %q, want 6 attempts", e, e.LastError)
		}
		// Not after a newer one is done, unless it is forced.
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled))
		enginetest.Await(t, in)
		if err := in.Replay(t.Context(), dead.ID); !errors.Is(err, inbox.ErrSuperseded) {
			t.Errorf("%v, want ErrSuperseded", err)
		}
		broken.Store(false)
		for len(r.Got) > 0 {
			<-r.Got
		}
		if err := in.Replay(t.Context(), dead.ID, inbox.Force()); err != nil {
			t.Fatal(err)
		}
		// The receiver learns what came in between.
		if n := r.Next(t); n.MEDStatus != pixmed.Acknowledged || n.Previous != pixmed.Cancelled || n.Attempt != 7 {
			t.Errorf("got %v", n)
		}
		enginetest.Await(t, in)
		if err := in.Replay(t.Context(), dead.ID); !errors.Is(err, inbox.ErrNotReplayable) {
			t.Errorf("%v, want ErrNotReplayable", err)
		}
	})
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(nil)
		in := s.Start(t, r)
		handler := newHandler(t, in)
		id := enginetest.NewTransaction()
		for _, body := range []string{"{", `{"transactionStatus":"MED"}`, "\x00\xff"} {
			if code := post1(t, handler, body); code != http.StatusOK {
				t.Fatalf("%q: %d", body, code)
			}
		}
		events, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined})
		if err != nil {
			t.Fatal(err)
		}
		bodies := map[string]bool{}
		for _, e := range events {
			bodies[string(e.Raw)] = true
			if e.LastError == "" || e.Seq != 0 {
				t.Errorf("%v, %q", e, e.LastError)
			}
			// The SDK still does not know it.
			err := in.Replay(t.Context(), e.ID)
			var syntax *pixmed.SyntaxError
			var invalid *pixmed.ValidationError
			if !errors.As(err, &syntax) && !errors.As(err, &invalid) {
				t.Errorf("Replay: %v", err)
			}
		}
		if diff := cmp.Diff(map[string]bool{"{": true, `{"transactionStatus":"MED"}`: true, "\x00\xff": true}, bodies); diff != "" {
			t.Errorf("bodies (-want +got):\n%s", diff)
		}

		// After an update of the SDK the body may be valid.
		n := enginetest.Notification(id, pixmed.Acknowledged)
		invalid := func() string {
			t.Helper()
			if err := in.Quarantine(t.Context(), n.Raw, errors.New("an older SDK did not know it")); err != nil {
				t.Fatal(err)
			}
			events, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined, Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			return events[0].ID
		}
		first := invalid()
		if again := invalid(); again != first {
			t.Errorf("the same body is stored as %s and as %s", first, again)
		}
		if e, err := in.Get(t.Context(), first); err != nil || e.Deliveries != 2 || e.LastAt.Before(e.ReceivedAt) {
			t.Errorf("%v, %v: %d deliveries, the last at %v", e, err, e.Deliveries, e.LastAt)
		}
		if err := in.Replay(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if got := r.Next(t); string(got.Raw) != string(n.Raw) {
			t.Errorf("got %s", got.Raw)
		}
		enginetest.Await(t, in)
		if e := historyOf(t, in, id)[0]; e.ID != first || e.State != inbox.Done || e.Key.ExternalID != n.ExternalID {
			t.Errorf("the history begins with %v", e)
		}
		if err := in.Receive(t.Context(), n); !errors.Is(err, pixmed.ErrDuplicate) {
			t.Errorf("a delivery of the replayed one: %v, want ErrDuplicate", err)
		}
		second := invalid()
		if err := in.Replay(t.Context(), second); !errors.Is(err, pixmed.ErrDuplicate) {
			t.Errorf("a replay of its copy: %v, want ErrDuplicate", err)
		}
		if err := in.Replay(t.Context(), second, inbox.Force()); err != nil {
			t.Error(err)
		}
		r.Next(t)

		// One that is older than what was done since.
		n.MEDStatus, n.Raw = pixmed.Cancelled, nil
		n.Raw = pixmedtest.Payload(n.Infraction)
		third := invalid()
		newer := enginetest.Notification(id, pixmed.Debited)
		newer.ReceivedAt = time.Now().Add(time.Second)
		mustReceive(t, in, newer)
		enginetest.Await(t, in)
		if err := in.Replay(t.Context(), third); !errors.Is(err, inbox.ErrSuperseded) {
			t.Errorf("%v, want ErrSuperseded", err)
		}
	})
}

// An attempt whose lease runs out after an older event was replayed counts against the
// event that it ran.
func TestReplayWhileALeaseRunsOut(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		release := make(chan struct{})
		var mu sync.Mutex
		repaired := false
		r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Cancelled {
				<-release // deaf to its context
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if !repaired {
				return errors.New("not yet")
			}
			return nil
		})
		in := s.Start(t, r, inbox.WithMaxAttempts(1), inbox.WithAttemptTimeout(500*time.Millisecond), inbox.WithOverdue(time.Second))
		defer close(release)
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		enginetest.AwaitCounts(t, in, func(c enginetest.Counts) bool { return c.Dead == 1 })
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled))
		r.Next(t)
		if n := r.Next(t); n.MEDStatus != pixmed.Cancelled {
			t.Fatalf("got %v", n)
		}
		mu.Lock()
		repaired = true
		mu.Unlock()
		if err := in.Replay(t.Context(), historyOf(t, in, id)[0].ID); err != nil {
			t.Fatal(err)
		}
		enginetest.Await(t, in)
		type event struct {
			State    inbox.State
			Attempts int
		}
		var got []event
		for _, e := range historyOf(t, in, id) {
			got = append(got, event{e.State, e.Attempts})
		}
		if diff := cmp.Diff([]event{{inbox.Done, 2}, {inbox.Dead, 1}}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A replayed notification runs before a newer one that waits for its retry.
func TestReplayBeforeARetry(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		var mu sync.Mutex
		var order []pixmed.MEDStatus
		calls := make(map[pixmed.MEDStatus]int)
		r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			mu.Lock()
			defer mu.Unlock()
			calls[n.MEDStatus]++
			if calls[n.MEDStatus] == 1 {
				if n.MEDStatus == pixmed.Acknowledged {
					return inbox.Discard(errors.New("no"))
				}
				return errors.New("not yet")
			}
			order = append(order, n.MEDStatus)
			return nil
		})
		// The retry would come in five seconds at least.
		in := s.Start(t, r, enginetest.Configure(func(c *config.Config) { c.FirstDelay, c.MaxDelay = 10*time.Second, 10*time.Second }))
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled))
		poll(t, "the retry", func() bool { h := historyOf(t, in, id); return h[1].Attempts == 1 })
		if err := in.Replay(t.Context(), historyOf(t, in, id)[0].ID); err != nil {
			t.Fatal(err)
		}
		poll(t, "the replay", func() bool { return historyOf(t, in, id)[0].State == inbox.Done })
		enginetest.Await(t, in)
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff([]pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled}, order); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// An operator discards what is pending and does not run.
func TestDiscardByAnOperator(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		proceed := make(chan struct{})
		r := enginetest.NewRecorder(func(context.Context, *pixmed.Notification) error { <-proceed; return nil })
		in := s.Start(t, r)
		id := enginetest.NewTransaction()
		for _, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled} {
			mustReceive(t, in, enginetest.Notification(id, status))
		}
		r.Next(t)
		h := historyOf(t, in, id)
		if err := in.Discard(t.Context(), h[0].ID); !errors.Is(err, inbox.ErrRunning) {
			t.Errorf("what runs: %v, want ErrRunning", err)
		}
		if err := in.Discard(t.Context(), h[1].ID); err != nil {
			t.Errorf("what waits: %v", err)
		}
		if err := in.Discard(t.Context(), h[1].ID); !errors.Is(err, inbox.ErrNotPending) {
			t.Errorf("what is dead: %v, want ErrNotPending", err)
		}
		if err := in.Discard(t.Context(), enginetest.NewTransaction()); !errors.Is(err, inbox.ErrNotFound) {
			t.Errorf("what is not there: %v, want ErrNotFound", err)
		}
		close(proceed)
		if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1, Dead: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if err := in.Receive(t.Context(), enginetest.Notification(id, pixmed.Cancelled)); !errors.Is(err, pixmed.ErrDuplicate) {
			t.Errorf("a redelivery: %v, want ErrDuplicate", err)
		}
	})
}

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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
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

// Groups of dead letters are replayed and resolved together, the oldest first.
func TestAll(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
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

// A function for many events returns the error that its sibling for one returns.
func TestErrorsOfAll(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	body := []byte("{")
	if err := in.Quarantine(t.Context(), body, errors.New("no")); err != nil {
		t.Fatal(err)
	}
	quarantined, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined})
	if err != nil || len(quarantined) != 1 {
		t.Fatal(quarantined, err)
	}
	id, filter := quarantined[0].ID, inbox.Filter{State: inbox.Quarantined}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, invalid := pixmed.ParseInfraction(body)
	_, replayAll := in.ReplayAll(ended, filter)
	_, resolveAll := in.ResolveAll(ended, filter, "")
	for name, test := range map[string]struct{ got, want error }{
		"Replay of what is not valid":  {in.Replay(t.Context(), id), invalid},
		"Replay without the database":  {in.Replay(ended, id), context.Canceled},
		"Resolve without the database": {in.Resolve(ended, id, ""), context.Canceled},
		"ReplayAll":                    {replayAll, context.Canceled},
		"ResolveAll":                   {resolveAll, context.Canceled},
	} {
		if test.got == nil || test.got.Error() != test.want.Error() {
			t.Errorf("%s: %v, want %v", name, test.got, test.want)
		}
	}
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
		"no note":        {in.Resolve(ctx, id, "\x00"), inbox.ErrInvalidArgument, "not valid text"},
		"no case":        {in.MarkAnswered(ctx, id, ""), inbox.ErrNotFound, id},
		"no case to end": {in.End(ctx, id, ""), inbox.ErrNotFound, id},
		"no id":          {in.End(ctx, "x", ""), inbox.ErrInvalidArgument, `"x"`},
		"no event":       {in.Resolve(ctx, id, ""), inbox.ErrNotFound, id},
		"no state":       {replayAll(inbox.Filter{}), inbox.ErrInvalidArgument, `the state is ""`},
		"a limit":        {replayAll(inbox.Filter{State: inbox.Dead, Limit: 1}), inbox.ErrInvalidArgument, "Limit"},
		"a bad filter":   {replayAll(inbox.Filter{State: inbox.Dead, TransactionID: "x"}), inbox.ErrInvalidArgument, `"x"`},
		"NUL in error":   {func() error { _, err := in.List(ctx, inbox.Filter{Error: "a\x00"}); return err }(), inbox.ErrInvalidArgument, "List: the text of the error"},
		"bytes in error": {func() error {
			_, err := in.ResolveAll(ctx, inbox.Filter{State: inbox.Dead, Error: "a\xff"}, "")
			return err
		}(), inbox.ErrInvalidArgument, "ResolveAll: the text of the error"},
		"NUL in failure": {func() error { _, err := in.List(ctx, inbox.Failure{Error: "a\x00"}.Filter()); return err }(), inbox.ErrInvalidArgument, "NUL"},
		"failures":       {func() error { _, err := in.Failures(ctx, inbox.Done); return err }(), inbox.ErrInvalidArgument, "done"},
	} {
		if !errors.Is(test.err, test.is) || !strings.Contains(test.err.Error(), test.text) {
			t.Errorf("%s: %v", name, test.err)
		}
	}
}

var ignoreTimes = cmp.FilterPath(func(p cmp.Path) bool {
	return p.Last().String() == ".At" || p.Last().String() == ".LastAt"
}, cmp.Ignore())
