package inbox_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// An attempt timeout that is barely below the time after which an attempt is
// overdue, which leaves little for everything else: all is done in the end, and
// nothing is given back again and again.
func TestOverdueBarelyAboveTheTimeout(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		r := enginetest.NewRecorder(func(ctx context.Context, n *pixmed.Notification) error {
			if n.Attempt == 1 {
				<-ctx.Done() // all of its time
				return ctx.Err()
			}
			return nil
		})
		in := s.Start(t, r, inbox.WithAttemptTimeout(200*time.Millisecond), inbox.WithOverdue(240*time.Millisecond))
		const notifications = 30
		for range notifications {
			mustReceive(t, in, enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
		}
		if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: notifications}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
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

// A notification that kills its process is dead after its attempts, and others are
// worked.
func TestPoison(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		c := newEffects(t, s).child()
		c.Poison, c.Fail, c.MaxAttempts = true, false, 2
		if s.Engine == "postgres" {
			c.AttemptTimeout, c.Overdue = time.Second, 1500*time.Millisecond
		}
		good, bad := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged), enginetest.Notification(enginetest.NewTransaction(), poison)
		c.AcceptOnly = true // or it would die before it has answered
		p := serve(t, c)
		deliver(t, "http://"+p.address, bad.Infraction)
		p.stop(t)
		c.AcceptOnly = false
		for range c.MaxAttempts {
			<-spawn(t, c).ended
		}
		p = serve(t, c)
		deliver(t, "http://"+p.address, good.Infraction)
		want := enginetest.Counts{Done: 1, Dead: 1}
		poll(t, "one to be done and one to be dead", func() bool {
			got, err := p.stats(t.Context())
			return err == nil && got == want
		})
		p.stop(t)
	})
}

// Logs stay short, whatever is in a notification and in the errors about it.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	var log syncBuilder
	long := strings.Repeat("x", 60<<10)
	r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
		if n.Attempt%2 == 0 {
			panic(long)
		}
		return errors.New(long)
	})
	const attempts = 20
	in := s.Start(t, r, inbox.WithMaxAttempts(attempts), log.option())
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	n.ExternalID, n.Raw = long, nil
	mustReceive(t, in, n)
	enginetest.Await(t, in)
	mustStop(t, in)
	if size := len(log.String()); size > attempts*16<<10 {
		t.Errorf("%d KiB of log", size>>10)
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if err := in.Receive(t.Context(), nil); err == nil || errors.Is(err, pixmed.ErrBusy) {
		t.Errorf("Receive(nil): %v", err)
	}
	id := enginetest.NewTransaction()
	if err := in.Replay(t.Context(), id, nil); !errors.Is(err, inbox.ErrInvalidArgument) {
		t.Errorf("Replay: %v", err)
	}
	if err := in.Replay(t.Context(), id, twice(inbox.Force())...); !errors.Is(err, inbox.ErrInvalidArgument) {
		t.Errorf("Replay: %v", err)
	}
	if _, err := in.Purge(t.Context(), 0, nil); !errors.Is(err, inbox.ErrInvalidArgument) {
		t.Errorf("Purge: %v", err)
	}
	if _, err := in.Purge(t.Context(), 0, twice(inbox.IncludeDead())...); !errors.Is(err, inbox.ErrInvalidArgument) {
		t.Errorf("Purge: %v", err)
	}
}

func twice[T any](option T) []T { return []T{option, option} }

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
