package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// next returns where the second inbox lives.
func next(t *testing.T, s *enginetest.Database) (*enginetest.Database, []inbox.Option) {
	t.Helper()
	if s.Engine == "postgres" {
		return s, []inbox.Option{postgres.WithSchema("second")}
	}
	return &enginetest.Database{Engine: s.Engine, Path: filepath.Join(t.TempDir(), "second.db")}, nil
}

// A second step that fails neither holds up nor repeats the first.
func TestThen(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		second := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Acknowledged {
				return errors.New("there is no receipt yet")
			}
			return nil
		})
		database, opts := next(t, s)
		receipts := database.Start(t, second, append(opts, inbox.WithMaxAttempts(3))...)
		first := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			n.ExternalID = "changed"
			if n.Attempt == 1 {
				return errors.New("not yet")
			}
			return pixmed.ErrDuplicate // it was done before
		})
		in := s.Start(t, inbox.Then(first, receipts))
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled))
		if got := enginetest.Await(t, in); got != (enginetest.Counts{Done: 2}) {
			t.Errorf("the first steps: %+v", got)
		}
		enginetest.AwaitCounts(t, receipts, func(c enginetest.Counts) bool { return c == enginetest.Counts{Done: 1, Dead: 1} })
		calls := func(r *enginetest.Recorder) (all []pixmed.MEDStatus) {
			for len(r.Got) > 0 {
				n := <-r.Got
				all = append(all, n.MEDStatus)
			}
			return all
		}
		const a, c = pixmed.Acknowledged, pixmed.Cancelled
		if diff := cmp.Diff([]pixmed.MEDStatus{a, a, c, c}, calls(first)); diff != "" {
			t.Errorf("first (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]pixmed.MEDStatus{a, a, a, c}, calls(second)); diff != "" {
			t.Errorf("second (-want +got):\n%s", diff)
		}
		if e := historyOf(t, receipts, id)[0]; e.Key.ExternalID == "changed" || e.LastError != "there is no receipt yet" {
			t.Errorf("%+v", e)
		}
	})
}

// What the first step discards is handed on, so that the case ends in both inboxes.
func TestThenDiscard(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		database, opts := next(t, s)
		receipts := database.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), opts...)
		in := s.Start(t, inbox.Then(pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Cancelled {
				return fmt.Errorf("no: %w", inbox.Discard(errors.New("there is no such order")))
			}
			return nil
		}), receipts))
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled))
		enginetest.AwaitCounts(t, in, func(c enginetest.Counts) bool { return c == enginetest.Counts{Done: 1, Dead: 1} })
		enginetest.AwaitCounts(t, receipts, func(c enginetest.Counts) bool { return c == enginetest.Counts{Done: 2} })
		if e := historyOf(t, in, id)[1]; !e.Discarded || e.LastError != "no: there is no such order" || e.Attempts != 1 {
			t.Errorf("%v, %q", e, e.LastError)
		}
		if c, err := receipts.Case(t.Context(), id); err != nil || c.Open {
			t.Errorf("the second case: %+v, %v", c, err)
		}
	})
}

// While the next inbox stores nothing, the first step is not done.
func TestThenNotStored(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	database, _ := next(t, s)
	receipts := database.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if err := receipts.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	in := s.Start(t, inbox.Then(pixmed.ReceiverFunc(pixmed.Ignore), receipts), inbox.WithMaxAttempts(2))
	id := enginetest.NewTransaction()
	mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
	if got := enginetest.Await(t, in); got != (enginetest.Counts{Dead: 1}) {
		t.Errorf("%+v", got)
	}
	if e := historyOf(t, in, id)[0]; !strings.Contains(e.LastError, "stopping") {
		t.Errorf("the error is %q", e.LastError)
	}
	for name, receiver := range map[string]pixmed.Receiver{
		"the receiver is nil":   inbox.Then(nil, receipts),
		"the next inbox is nil": inbox.Then(pixmed.ReceiverFunc(pixmed.Ignore), nil),
		"Other":                 inbox.Then(pixmed.Callbacks{}, receipts),
	} {
		if _, err := enginetest.SQLite(t).TryOpen(t, receiver); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, and it must name %q", err, name)
		}
	}
}
