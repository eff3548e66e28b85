package postgres_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	small, err := pgxpool.New(t.Context(), s.URL+"&pool_max_conns=2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(small.Close)
	ignore := pixmed.ReceiverFunc(pixmed.Ignore)
	for name, test := range map[string]struct {
		pool     *pgxpool.Pool
		receiver pixmed.Receiver
		opts     []inbox.Option
		want     string
	}{
		"no pool":      {nil, ignore, nil, "the pool is nil"},
		"no receiver":  {s.Pool(t), nil, nil, "receiver is nil"},
		"a small pool": {small, ignore, nil, "at most 2 connections, and the inbox needs 3"},
		"a bad schema": {s.Pool(t), ignore, []inbox.Option{postgres.WithSchema("a b")}, `"a b"`},
		"a bad option": {s.Pool(t), ignore, []inbox.Option{inbox.WithWorkers(0)}, "WithWorkers: 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, err := postgres.Open(t.Context(), test.pool, test.receiver, test.opts...)
			if in != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %v, want %q", in, err, test.want)
			}
		})
	}
}

// Two inboxes in two schemas of one database know nothing of each other.
func TestSchemas(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	a, b := enginetest.NewRecorder(nil), enginetest.NewRecorder(nil)
	first, second := s.Start(t, a, postgres.WithSchema("one")), s.Start(t, b, postgres.WithSchema("two"), postgres.WithPollOnly())
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	for _, in := range []*inbox.Inbox{first, second} {
		if err := in.Receive(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	a.Next(t)
	b.Next(t)
	enginetest.Await(t, first)
	enginetest.Await(t, second)
	a.None(t)
	b.None(t)
}

// TestSmallPools runs callbacks with pools that are too small for all of them.
func TestSmallPools(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		conns int32
		tx    bool
		want  string // why they fail
	}{
		"three, without Tx": {3, false, ""},
		"three, with Tx":    {3, true, "the pool has at most 3 connections"},
		"four, with Tx":     {4, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			pool := newPool(t, s, func(c *pgxpool.Config) { c.MaxConns = test.conns })
			const transactions = 6
			var running atomic.Int64
			together := make(chan struct{})
			r := enginetest.NewRecorder(func(ctx context.Context, _ *pixmed.Notification) error {
				if !test.tx {
					// All run at the same time, though there are fewer connections.
					if running.Add(1) == transactions {
						close(together)
					}
					select {
					case <-together:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				tx, _ := postgres.Tx(ctx)
				_, err := tx.Exec(ctx, "SELECT 1")
				return err
			})
			in := open(t, pool, r, inbox.WithMaxAttempts(1))
			for range transactions {
				receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
			}
			if err := in.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := enginetest.Await(t, in)
			if err := in.Ready(t.Context()); err != nil {
				t.Errorf("Ready: %v", err)
			}
			if test.want == "" {
				if want := (enginetest.Counts{Done: transactions}); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				return
			}
			dead, err := in.List(t.Context(), inbox.Filter{State: inbox.Dead})
			if err != nil || len(dead) != transactions || !strings.Contains(dead[0].LastError, test.want) {
				t.Errorf("%d are dead, %v, %q, want %q", len(dead), err, dead[0].LastError, test.want)
			}
		})
	}
}
