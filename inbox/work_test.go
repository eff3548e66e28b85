package inbox_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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

// An attempt that does not end with its context is given up; what it returns in
// the end does not count.
func TestOverdue(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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

func TestStopLetsCallbacksEnd(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		release := make(chan struct{})
		r := enginetest.NewRecorder(func(ctx context.Context, _ *pixmed.Notification) error {
			<-release
			return ctx.Err()
		})
		in := s.Start(t, r)
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		r.Next(t)
		stopped := make(chan error)
		go func() { stopped <- in.Stop(t.Context()) }()
		for { // it refuses from now on
			err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
			if errors.Is(err, pixmed.ErrBusy) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		close(release)
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		mustStop(t, in) // again
		events := historyOf(t, s.Open(t, r), id)
		if e := events[0]; e.State != inbox.Done || e.Attempts != 1 {
			t.Errorf("the event is %v, want it done at the first attempt", e)
		}
	})
}

// Callbacks that Stop cuts off run again, and it is not counted against them.
func TestStopCutsCallbacksOff(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		r := enginetest.NewRecorder(func(ctx context.Context, n *pixmed.Notification) error {
			if n.Attempt == 1 {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		in := s.Start(t, r, inbox.WithMaxAttempts(1))
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		r.Next(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := in.Stop(ctx); err != nil {
			t.Fatalf("Stop: %v", err)
		}
		in = s.Start(t, r, inbox.WithMaxAttempts(1))
		enginetest.Await(t, in)
		if e := historyOf(t, in, id)[0]; e.State != inbox.Done || e.Attempts != 2 {
			t.Errorf("the event is %v, want it done at the second attempt", e)
		}
	})
}

func TestStartAndStopMisused(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Start(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if err := in.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "started already") {
		t.Errorf("a second Start: %v", err)
	}
	mustStop(t, in)
	if err := in.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("Start after Stop: %v", err)
	}
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Debited)); !errors.Is(err, pixmed.ErrBusy) {
		t.Errorf("Receive after Stop: %v, want ErrBusy", err)
	}
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
