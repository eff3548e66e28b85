package inbox_test

import (
	"context"
	"errors"
	"net/http"
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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
		// Not behind a newer one that is done, unless it is forced.
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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

		// One from before what was done since.
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

// An attempt whose lease runs out after an older event was replayed is charged to
// the event that it was of.
func TestReplayWhileALeaseRunsOut(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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
