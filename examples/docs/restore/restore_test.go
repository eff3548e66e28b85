package restore

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A file that is copied while its inbox is stopped is a complete backup. After it is
// restored, what was pending runs again, what was done is still recognised as a
// duplicate, and what came after the copy is not.
func TestRestore(t *testing.T) {
	t.Parallel()
	file, backup := filepath.Join(t.TempDir(), "inbox.db"), filepath.Join(t.TempDir(), "inbox.db")
	done, pending, later := pixmedtest.NewInfraction(), pixmedtest.NewInfraction(), pixmedtest.NewInfraction()

	in, calls := open(t, file)
	begin(t, in)
	receive(t, in, done, nil)
	expect(t, calls, done)
	end(t, in)
	in, _ = open(t, file) // and not started, so that what comes stays pending
	receive(t, in, pending, nil)
	end(t, in)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(backup, content, 0o600); err != nil {
		t.Fatal(err)
	}

	in, calls = open(t, file) // after the copy
	begin(t, in)
	expect(t, calls, pending)
	receive(t, in, later, nil)
	expect(t, calls, later)
	end(t, in)

	in, calls = open(t, backup)
	begin(t, in)
	expect(t, calls, pending) // again
	receive(t, in, done, pixmed.ErrDuplicate)
	receive(t, in, pending, pixmed.ErrDuplicate)
	receive(t, in, later, nil)
	expect(t, calls, later) // again
	end(t, in)
	if n := len(calls); n > 0 {
		t.Errorf("%d calls more, the first for %s", n, <-calls)
	}
}

// open returns an inbox, and the transactions that its receiver is called for.
func open(t *testing.T, file string) (*inbox.Inbox, chan string) {
	t.Helper()
	calls := make(chan string, 10)
	in, err := sqlite.Open(t.Context(), file, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		calls <- n.TransactionID
		return nil
	}), inbox.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return in, calls
}

func begin(t *testing.T, in *inbox.Inbox) {
	t.Helper()
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func end(t *testing.T, in *inbox.Inbox) {
	t.Helper()
	if err := in.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, in *inbox.Inbox, i pixmed.Infraction, want error) {
	t.Helper()
	if err := in.Receive(t.Context(), &pixmed.Notification{Infraction: i}); !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func expect(t *testing.T, calls <-chan string, i pixmed.Infraction) {
	t.Helper()
	if diff := cmp.Diff(i.TransactionID, <-calls); diff != "" {
		t.Errorf("called for (-want +got):\n%s", diff)
	}
}
