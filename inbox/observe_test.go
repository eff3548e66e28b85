package inbox_test

import (
	cmpstd "cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

func TestObserver(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		errNot := errors.New("not now")
		seen := make(chan inbox.Attempt, 10)
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			switch {
			case n.MEDStatus == pixmed.Cancelled:
				return inbox.Discard(errNot)
			case n.Attempt == 1:
				return errNot
			}
			return nil
		}), inbox.WithObserver(func(_ context.Context, a inbox.Attempt) { seen <- a }))
		first := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		first.ReceivedAt = time.Now().Add(-time.Hour)
		second := enginetest.Notification(first.TransactionID, pixmed.Cancelled)
		mustReceive(t, in, first)
		mustReceive(t, in, second)
		enginetest.Await(t, in)
		var got []inbox.Attempt
		for range 3 {
			a := <-seen
			if a.EventID == "" || a.Duration < 0 || (a.Status == pixmed.Acknowledged && (a.Age < time.Hour || a.Age > 2*time.Hour)) {
				t.Errorf("%+v", a)
			}
			got = append(got, a)
		}
		// The observer is told of an attempt when it is stored; by then the next one may be
		// under way.
		slices.SortFunc(got, func(a, b inbox.Attempt) int {
			return cmpstd.Or(strings.Compare(string(a.Status), string(b.Status)), a.Number-b.Number)
		})
		want := []inbox.Attempt{
			{Key: first.Key(), Status: pixmed.Acknowledged, Number: 1, Result: inbox.AttemptFailed, Err: errNot},
			{Key: first.Key(), Status: pixmed.Acknowledged, Number: 2, Result: inbox.AttemptDone},
			{Key: first.Key(), Status: pixmed.Cancelled, Number: 1, Result: inbox.AttemptDead, Err: errNot},
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateErrors(), cmpopts.IgnoreFields(inbox.Attempt{}, "EventID", "Duration", "Age")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(seen) > 0 {
			t.Errorf("one more: %+v", <-seen)
		}
	})
	if _, err := sqlite.Open(t.Context(), enginetest.SQLite(t).Path, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithObserver(nil)); err == nil {
		t.Error("a nil function is accepted")
	}
}

// What is put off is called again after its wait, with the attempts that it had, and
// no observer is told of it: with one attempt it would be dead.
func TestPutOffDoesNotCount(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		early := true
		r := enginetest.NewRecorder(func(context.Context, *pixmed.Notification) error {
			if early {
				early = false
				return inbox.PutOff(errors.New("too early"), time.Millisecond)
			}
			return nil
		})
		seen := make(chan inbox.Attempt, 10)
		in := s.Start(t, r, inbox.WithMaxAttempts(1), inbox.WithObserver(func(_ context.Context, a inbox.Attempt) { seen <- a }))
		mustReceive(t, in, enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Done == 1 && s.Dead == 0 })
		for range 2 {
			if got := r.Next(t).Attempt; got != 1 {
				t.Errorf("attempt %d, want 1", got)
			}
		}
		if a := <-seen; a.Number != 1 || a.Result != inbox.AttemptDone || len(seen) != 0 {
			t.Errorf("the observer was told of %+v and %d more", a, len(seen))
		}
	})
}
