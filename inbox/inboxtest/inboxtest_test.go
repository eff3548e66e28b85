package inboxtest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/inboxtest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

func TestIdle(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
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
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("the test has waited long enough")
	looks := 0
	stats, err := inboxtest.Idle(ctx, stater(func() (inbox.Stats, error) {
		if looks++; looks == 3 {
			cancel(late)
		}
		return inbox.Stats{Pending: 2}, ctx.Err()
	}))
	if !errors.Is(err, late) || !strings.Contains(err.Error(), "2 notifications are pending") || stats.Pending != 2 {
		t.Errorf("%+v, %v", stats, err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	_, err = inboxtest.Idle(ctx, stater(func() (inbox.Stats, error) {
		cancel(late)
		return inbox.Stats{}, ctx.Err()
	}))
	if !errors.Is(err, late) || !strings.Contains(err.Error(), "it was not counted in time") {
		t.Errorf("%v", err)
	}
	away := errors.New("the database is away")
	if _, err := inboxtest.Idle(t.Context(), stater(func() (inbox.Stats, error) { return inbox.Stats{}, away })); !errors.Is(err, away) {
		t.Errorf("%v, want %v", err, away)
	}
}

type stater func() (inbox.Stats, error)

func (s stater) Stats(context.Context) (inbox.Stats, error) { return s() }
