package inboxtest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/inboxtest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

func TestIdle(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		called := 0
		in := s.Start(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
			if called++; called < 3 {
				return errors.New("not yet")
			}
			return nil
		}))
		if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
			t.Fatal(err)
		}
		stats, err := inboxtest.Idle(t.Context(), in)
		if err != nil || called != 3 || stats.Open != 1 {
			t.Errorf("after %d calls: %+v, %v", called, stats, err)
		}
	})
}

func TestNotIdle(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore)) // and not started
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	stats, err := inboxtest.Idle(ctx, in)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 notifications are pending") || stats.Pending != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
	away := errors.New("the database is away")
	if _, err := inboxtest.Idle(t.Context(), failing{away}); !errors.Is(err, away) {
		t.Errorf("%v, want %v", err, away)
	}
}

type failing struct{ err error }

func (f failing) Stats(context.Context) (inbox.Stats, error) { return inbox.Stats{}, f.err }
