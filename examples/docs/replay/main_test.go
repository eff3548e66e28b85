package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/examples/internal/testpg"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/inboxtest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// receiver has a bug until it is repaired.
type receiver struct {
	repaired atomic.Bool
	done     chan string
}

func (r *receiver) Receive(_ context.Context, n *pixmed.Notification) error {
	switch {
	case n.MEDStatus == "APPEALED":
		return inbox.Discard(errors.New("a status to look into"))
	case n.MEDStatus != pixmed.Debited && !r.repaired.Load():
		return errors.New("no such column: blocked")
	}
	r.done <- fmt.Sprint(n.TransactionID, " ", n.MEDStatus)
	return nil
}

// A bug has made dead letters. Once it is fixed they are replayed in order, and what is
// dead for another reason stays dead.
func TestReplay(t *testing.T) {
	t.Parallel()
	const cases = 20
	r := &receiver{done: make(chan string, 1000)}
	in, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inbox.db"), r, options()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, in) })
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range cases {
		i := pixmedtest.NewInfraction()
		ids = append(ids, i.TransactionID)
		for _, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled} {
			receive(t, in, i, status)
		}
	}
	gone := pixmedtest.NewInfraction() // its case continued without the first one
	receive(t, in, gone, pixmed.Acknowledged)
	receive(t, in, gone, pixmed.Debited)
	receive(t, in, pixmedtest.NewInfraction(), "APPEALED")
	want := inbox.Stats{Dead: 2*cases + 2}
	if diff := cmp.Diff(want, settle(t, in)); diff != "" {
		t.Fatalf("before (-want +got):\n%s", diff)
	}
	<-r.done

	r.repaired.Store(true)
	got, err := in.ReplayAll(t.Context(), inbox.Filter{State: inbox.Dead, Error: "no such column"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Done != 2*cases || len(got.Skipped) != 1 {
		t.Errorf("%d replayed and %d left alone, want %d and 1", got.Done, len(got.Skipped), 2*cases)
	}
	want = inbox.Stats{Dead: 2}
	if diff := cmp.Diff(want, settle(t, in)); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	close(r.done)
	order := make(map[string]string)
	for entry := range r.done {
		id, status, _ := strings.Cut(entry, " ")
		order[id] += status + " "
	}
	for _, id := range ids {
		if order[id] != "ACKNOWLEDGED CANCELLED " {
			t.Errorf("case %s: %q", id, order[id])
		}
	}
}

// The command, while a service works on the same inbox.
func TestCommand(t *testing.T) {
	t.Parallel()
	url := testpg.URL(t)
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 5 // two workers, and the three that the inbox takes for itself
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r := &receiver{done: make(chan string, 10)}
	in, err := postgres.Open(t.Context(), pool, r, append(options(), inbox.WithWorkers(2))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, in) })
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	receive(t, in, pixmedtest.NewInfraction(), pixmed.Acknowledged)
	if diff := cmp.Diff(inbox.Stats{Dead: 1}, settle(t, in)); diff != "" {
		t.Fatalf("before (-want +got):\n%s", diff)
	}

	r.repaired.Store(true)
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, args := range [][]string{{"-error", "something else"}, {"-since", future}} {
		if err := run(t.Context(), args, url); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(inbox.Stats{Dead: 1}, settle(t, in)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", args, diff)
		}
	}
	if err := run(t.Context(), []string{"-error", "no such column", "-since", "2020-01-01T00:00:00Z"}, url); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inbox.Stats{}, settle(t, in)); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
}

func options() []inbox.Option {
	return []inbox.Option{inbox.WithMaxAttempts(1), inbox.WithLogger(slog.New(slog.DiscardHandler))}
}

func stop(t *testing.T, in *inbox.Inbox) {
	t.Helper()
	if err := in.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func receive(t *testing.T, in *inbox.Inbox, i pixmed.Infraction, status pixmed.MEDStatus) {
	t.Helper()
	i.MEDStatus = status
	if err := in.Receive(t.Context(), &pixmed.Notification{Infraction: i}); err != nil {
		t.Fatal(err)
	}
}

// settle waits until nothing is pending, and returns what the inbox holds for a
// person to look at.
func settle(t *testing.T, in *inbox.Inbox) inbox.Stats {
	t.Helper()
	stats, err := inboxtest.Idle(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return inbox.Stats{Dead: stats.Dead, Quarantined: stats.Quarantined}
}
