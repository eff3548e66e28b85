package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/modeltest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// TestLockedCase has somebody hold a case for longer than anybody waits: that case
// alone is busy, and nobody else waits for it.
func TestLockedCase(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"a row":                          "SELECT FROM pixmed_inbox.cases WHERE transaction_id = $1::text::uuid FOR UPDATE",
		"a row that nobody else can see": "INSERT INTO pixmed_inbox.cases (transaction_id) VALUES ($1::text::uuid)",
	}
	for name, lock := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			look := s.Pool(t)
			in := open(t, s.Pool(t), enginetest.NewRecorder(nil))
			locked := enginetest.NewTransaction()
			if strings.HasPrefix(lock, "SELECT") {
				receive(t, in, locked, pixmed.Acknowledged)
			}
			hold, err := look.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = hold.Rollback(context.WithoutCancel(t.Context())) }()
			if _, err := hold.Exec(t.Context(), lock, locked); err != nil {
				t.Fatal(err)
			}
			var busy []<-chan error
			for _, status := range []pixmed.MEDStatus{pixmed.Cancelled, pixmed.Cancelled, pixmed.Debited, "A", "B", "C"} {
				busy = append(busy, goReceive(t, in, locked, status))
			}
			// While those wait, others are accepted one after the other, and none of them
			// waits for as long as those do.
			begin, others := time.Now(), 0
			for ; time.Since(begin) < time.Second; others++ {
				receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
			}
			if others < 3 {
				t.Errorf("%d others were accepted within a second", others)
			}
			for _, c := range busy {
				if err := await(t, "the locked case", c); !errors.Is(err, pixmed.ErrBusy) {
					t.Errorf("the locked case: %v, want ErrBusy", err)
				}
			}
			if err := hold.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			receive(t, in, locked, pixmed.Cancelled)
			if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.events WHERE transaction_id = $1::text::uuid AND status = 'CANCELLED'", locked); got != 1 {
				t.Errorf("it is there %d times", got)
			}
		})
	}
}

// TestAcceptBeforeSettlement has a settlement come while an accept holds the case:
// what the accept adds must run after it.
func TestAcceptBeforeSettlement(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context) error{
		"plain": func(context.Context) error { return nil },
		"in the callback's transaction": func(ctx context.Context) error {
			tx, _ := postgres.Tx(ctx)
			_, err := tx.Exec(ctx, "SELECT 1")
			return err
		},
	}
	for name, callback := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			proceed := make(chan struct{})
			r := enginetest.NewRecorder(func(ctx context.Context, n *pixmed.Notification) error {
				if n.MEDStatus == pixmed.Acknowledged {
					<-proceed
				}
				return callback(ctx)
			})
			settling := newPauser("FOR NO KEY UPDATE")
			worker := start(t, settling.pool(t, s), r)
			p := newPauser("WITH added AS") // the case is locked by then
			accepting := open(t, p.pool(t, s), r)
			id := enginetest.NewTransaction()

			receive(t, accepting, id, pixmed.Acknowledged)
			r.Next(t)
			p.armed.Store(true)
			second := goReceive(t, accepting, id, pixmed.Cancelled)
			await(t, "the accept is about to commit", p.reached)
			settling.armed.Store(true)
			close(proceed)
			await(t, "the settlement is about to lock", settling.reached)
			close(settling.proceed)
			close(p.proceed)
			if err := await(t, "the accept", second); err != nil {
				t.Fatal(err)
			}
			if n := r.Next(t); n.MEDStatus != pixmed.Cancelled || n.Previous != pixmed.Acknowledged {
				t.Errorf("the next callback is for %s after %q", n.MEDStatus, n.Previous)
			}
			if got, want := enginetest.Await(t, worker), (enginetest.Counts{Done: 2}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// An operation gets the events that it needs, and no others.
func TestLoads(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	defer cancel()
	if err := modeltest.Loads(ctx, openEngine(t, enginetest.Postgres(t).Pool(t))); err != nil {
		t.Error(err)
	}
}
