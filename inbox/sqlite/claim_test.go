package sqlite_test

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// Recovery is one transaction, however many attempts were cut off.
func TestRecoveryIsOneTransaction(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	const attempts = 100
	begun := make(chan struct{}, attempts)
	first := s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}), inbox.WithWorkers(attempts), inbox.WithAttemptTimeout(time.Hour), inbox.WithOverdue(2*time.Hour))
	for range attempts {
		if err := first.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
			t.Fatal(err)
		}
	}
	for range attempts {
		<-begun
	}
	after := copyFiles(t, s.Path, "-wal")
	r := enginetest.NewRecorder(nil)
	in := after.Open(t, r, inbox.WithMaxAttempts(2))
	before := commits(t, after.Path)
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range attempts {
		if n := r.Next(t); n.Attempt != 2 {
			t.Fatalf("attempt %d", n.Attempt)
		}
	}
	if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: attempts}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// One recovers all; then come those that claim and settle, several at a time.
	if got := commits(t, after.Path) - before; got > attempts/2 {
		t.Errorf("%d transactions", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// commits returns how many transactions are in a -wal file.
func commits(t *testing.T, path string) (n int) {
	t.Helper()
	b, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	const header, frame = 32, 24 + 4096
	for at := header; at+frame <= len(b); at += frame {
		if !bytes.Equal(b[at+4:at+8], make([]byte, 4)) { // the size of the database after a commit
			n++
		}
	}
	return n
}
