package inbox_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

func TestRetry(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		type call struct {
			Attempt   int
			LastError string
		}
		var in *inbox.Inbox
		started := make(chan struct{})
		calls := make(chan call, 10)
		in = s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
			<-started
			events, err := in.History(ctx, n.TransactionID)
			if err != nil {
				t.Error(err)
				return nil
			}
			calls <- call{n.Attempt, events[0].LastError}
			switch n.Attempt {
			case 1:
				return errors.New("not now")
			case 2:
				panic("oh")
			case 3:
				runtime.Goexit() // as a test's FailNow does
			case 4:
				return pixmed.ErrDuplicate // the receiver has seen to it before
			}
			return nil
		}))
		close(started)
		mustReceive(t, in, enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
		if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		close(calls)
		var got []call
		for c := range calls {
			got = append(got, c)
		}
		want := []call{
			{1, ""},
			{2, "not now"},
			{3, "panic: oh"},
			{4, "the callback ended its goroutine, with runtime.Goexit or a test's FailNow"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestAttemptTimeout(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(func(ctx context.Context, n *pixmed.Notification) error {
			if n.Attempt > 1 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		})
		in := s.Start(t, r, inbox.WithAttemptTimeout(50*time.Millisecond), inbox.WithOverdue(time.Minute))
		mustReceive(t, in, enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
		if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// An attempt that does not end with its context is given up; what it returns later does
// not count.
func TestOverdue(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		release := make(chan struct{})
		r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			if n.Attempt == 1 {
				<-release
				return inbox.Discard(errors.New("too late to matter"))
			}
			return nil
		})
		in := s.Start(t, r, inbox.WithAttemptTimeout(20*time.Millisecond), inbox.WithOverdue(100*time.Millisecond))
		mustReceive(t, in, enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
		for attempt := 1; attempt <= 2; attempt++ {
			if n := r.Next(t); n.Attempt != attempt {
				t.Errorf("attempt %d, want %d", n.Attempt, attempt)
			}
		}
		enginetest.Await(t, in)
		close(release)
		mustStop(t, in)
		in = s.Open(t, r)
		if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// One at a time and in order within a transaction, side by side otherwise; and a
// slow callback holds up no accept of its own transaction.
func TestOrder(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		const transactions, each = 6, 5
		var (
			mu      sync.Mutex
			running = map[string]int{}
			order   = map[string][]pixmed.MEDStatus{}
			most    int
		)
		gate := make(chan struct{})
		r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			mu.Lock()
			running[n.TransactionID]++
			most = max(most, len(running))
			if running[n.TransactionID] > 1 {
				t.Errorf("two callbacks of %s at a time", n.TransactionID)
			}
			order[n.TransactionID] = append(order[n.TransactionID], n.MEDStatus)
			mu.Unlock()
			<-gate
			mu.Lock()
			defer mu.Unlock()
			if running[n.TransactionID]--; running[n.TransactionID] == 0 {
				delete(running, n.TransactionID)
			}
			return nil
		})
		in := s.Start(t, r)
		want := map[string][]pixmed.MEDStatus{}
		for range transactions {
			id := enginetest.NewTransaction()
			for i := range each {
				status := []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled}[i%2]
				mustReceive(t, in, enginetest.Notification(id, status)) // while its first callback hangs
				want[id] = append(want[id], status)
			}
		}
		for range transactions {
			r.Next(t)
		}
		close(gate)
		enginetest.Await(t, in)
		if diff := cmp.Diff(want, order); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if most != transactions {
			t.Errorf("%d transactions at a time, want %d", most, transactions)
		}
	})
}

func historyOf(t *testing.T, in *inbox.Inbox, id string) []*inbox.Event {
	t.Helper()
	events, err := in.History(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// What is joined with other errors decides nothing: they may be worth a retry.
func TestJoinedErrors(t *testing.T) {
	t.Parallel()
	for name, joined := range map[string]error{"duplicate": pixmed.ErrDuplicate, "discard": inbox.Discard(errors.New("never"))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.SQLite(t)
			r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
				if n.Attempt == 1 {
					return errors.Join(joined, errors.New("the other half fails"))
				}
				return nil
			})
			in := s.Start(t, r)
			id := enginetest.NewTransaction()
			mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
			enginetest.Await(t, in)
			if e := historyOf(t, in, id)[0]; e.State != inbox.Done || e.Attempts != 2 {
				t.Errorf("%v, want it done at the second attempt", e)
			}
		})
	}
}

// An attempt timeout that is barely below the time after which an attempt is
// overdue, which leaves little for everything else: all is done in the end, and
// nothing is given back again and again.
func TestOverdueBarelyAboveTheTimeout(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
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

// A notification that kills its process is dead after its attempts, and others are
// worked on.
func TestPoison(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
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

func TestDiscard(t *testing.T) {
	t.Parallel()
	cause := errors.New("no account")
	if err := inbox.Discard(cause); !errors.Is(err, cause) || err.Error() != "no account" {
		t.Errorf("got %v", err)
	}
	if err := inbox.Discard(nil); err == nil || err.Error() == "" {
		t.Errorf("Discard(nil) is %v, and must be an error", err)
	}
}
