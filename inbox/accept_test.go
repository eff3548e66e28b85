package inbox_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

func TestStatusesOfACase(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		r := enginetest.NewRecorder(nil)
		in := s.Start(t, r)
		id := enginetest.NewTransaction()
		type call struct {
			Status, Previous pixmed.MEDStatus
			Seen, Reopened   bool
			Attempt          int
		}
		var got []call
		for _, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, pixmed.Acknowledged, "NEW\x00ONE", pixmed.Debited} {
			if err := in.Receive(t.Context(), enginetest.Notification(id, status)); err != nil {
				t.Fatal(err)
			}
			n := r.Next(t)
			got = append(got, call{n.MEDStatus, n.Previous, !n.SeenAt.IsZero(), n.MaybeReopened(), n.Attempt})
			enginetest.Await(t, in)
			if err := in.Receive(t.Context(), enginetest.Notification(id, status)); !errors.Is(err, pixmed.ErrDuplicate) {
				t.Errorf("a redelivery of %q: %v, want ErrDuplicate", status, err)
			}
		}
		want := []call{
			{pixmed.Acknowledged, "", false, false, 1},
			{pixmed.Cancelled, pixmed.Acknowledged, false, false, 1},
			{pixmed.Acknowledged, pixmed.Cancelled, true, true, 1},
			{"NEW\x00ONE", pixmed.Acknowledged, false, false, 1},
			{pixmed.Debited, "NEW\x00ONE", false, false, 1},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		r.None(t)
	})
}

func TestRetry(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			switch n.Attempt {
			case 1:
				return errors.New("not now")
			case 2:
				panic("oh")
			}
			return nil
		})
		in := s.Start(t, r)
		if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
			t.Fatal(err)
		}
		for attempt := 1; attempt <= 3; attempt++ {
			if n := r.Next(t); n.Attempt != attempt {
				t.Errorf("attempt %d, want %d", n.Attempt, attempt)
			}
		}
		if got, want := enginetest.Await(t, in), (inbox.Stats{Done: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}
