package postgres_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

const day = 24 * time.Hour

// What a reminder writes in its transaction happens once, whatever becomes of its
// attempts: one fails, and the answer to the next one's COMMIT is lost.
func TestReminderInTransaction(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	mustExec(t, look, "CREATE TABLE public.mails (transaction_id text)")
	var n network
	var calls atomic.Int32
	ended := make(chan inbox.Attempt, 10)
	remind := func(ctx context.Context, c *inbox.Case) error {
		tx, ok := postgres.Tx(ctx)
		if !ok {
			return errors.New("there is no transaction")
		}
		if _, err := tx.Exec(ctx, "INSERT INTO public.mails VALUES ($1)", c.TransactionID); err != nil {
			return err
		}
		if calls.Add(1) == 1 {
			return errors.New("after it has written")
		}
		n.mode.Store(loseAnswer)
		return nil
	}
	in := start(t, n.pool(t, s), pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, remind, day),
		inbox.WithObserver(func(_ context.Context, a inbox.Attempt) {
			if a.Reminder {
				ended <- a
			}
		}))
	notification := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	notification.ReceivedAt = time.Now().Add(time.Hour - 7*day)
	if err := in.Receive(t.Context(), notification); err != nil {
		t.Fatal(err)
	}
	for _, want := range []inbox.AttemptResult{inbox.AttemptFailed, inbox.AttemptDone} {
		if a := await(t, "a reminder", ended); a.Result != want {
			t.Errorf("an attempt is %+v, want %s", a, want)
		}
	}
	if got := count(t, look, "SELECT count(*) FROM public.mails"); got != 1 || n.cuts.Load() != 1 {
		t.Errorf("it was written %d times, with %d cuts", got, n.cuts.Load())
	}
	if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.notes WHERE action = 'reminded'"); got != 1 {
		t.Errorf("it was noted %d times", got)
	}
}

// A window that is changed while others accept moves all cases, those that are being
// accepted too.
func TestDefenceChangedMeanwhile(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	remind := func(context.Context, *inbox.Case) error { return nil }
	ignore := pixmed.ReceiverFunc(pixmed.Ignore)
	in := start(t, s.Pool(t), ignore, inbox.WithDefence(7*day, remind, day))
	quit, done := make(chan struct{}), make(chan error, 4)
	for range cap(done) {
		go func() {
			for {
				select {
				case <-quit:
					done <- nil
					return
				default:
				}
				n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
				n.ReceivedAt = time.Now()
				if err := in.Receive(t.Context(), n); err != nil && !errors.Is(err, pixmed.ErrBusy) {
					done <- err
					return
				}
			}
		}()
	}
	for i := range 6 {
		awaitCount(t, look, "accepts", "SELECT count(*) FROM (SELECT FROM pixmed_inbox.cases OFFSET $1) c", 20*(i+1))
		stop(t, open(t, s.Pool(t), ignore, inbox.WithDefence(time.Duration(8+i)*day, remind, 2*day)))
	}
	close(quit)
	for range cap(done) {
		if err := await(t, "a sender", done); err != nil {
			t.Error(err)
		}
	}
	if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.cases WHERE remind_at IS DISTINCT FROM opened_at + interval '11 days'"); got != 0 {
		t.Errorf("%d cases have not moved", got)
	}
}
