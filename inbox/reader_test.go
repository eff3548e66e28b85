package inbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// reads are the functions that an Inbox and a Reader have in common.
type reads interface {
	Stats(ctx context.Context) (inbox.Stats, error)
	CountReceived(ctx context.Context, from time.Time, span time.Duration, n int) ([]inbox.Received, error)
	Failures(ctx context.Context, s inbox.State) ([]inbox.Failure, error)
	Cases(ctx context.Context, f inbox.CaseFilter) ([]*inbox.Case, error)
	Case(ctx context.Context, transactionID string) (*inbox.Case, error)
	List(ctx context.Context, f inbox.Filter) ([]*inbox.Event, error)
	Get(ctx context.Context, id string) (*inbox.Event, error)
	History(ctx context.Context, transactionID string) ([]*inbox.Event, error)
	Notes(ctx context.Context, id string) ([]inbox.Note, error)
}

// A reader finds what the inbox itself found.
func TestReader(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Debited {
				return errors.New("the ledger is away")
			}
			return nil
		}), inbox.WithMaxAttempts(1), inbox.WithDefence(7*day, nil))
		id := enginetest.NewTransaction()
		for _, n := range []*pixmed.Notification{
			enginetest.Notification(id, pixmed.Acknowledged), enginetest.Notification(id, pixmed.Debited), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged),
		} {
			mustReceive(t, in, n)
		}
		if err := in.Quarantine(t.Context(), []byte("{"), errors.New("it ends too early")); err != nil {
			t.Fatal(err)
		}
		enginetest.Await(t, in)
		quarantined, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined})
		if err != nil || len(quarantined) != 1 {
			t.Fatal(quarantined, err)
		}
		body := quarantined[0].ID
		if err := in.Resolve(t.Context(), body, "a probe", inbox.By("ana")); err != nil {
			t.Fatal(err)
		}
		all := func(r reads) (found []any) {
			t.Helper()
			keep := func(v any, err error) {
				t.Helper()
				if err != nil {
					t.Error(err)
				}
				found = append(found, v)
			}
			ctx := t.Context()
			keep(r.Stats(ctx))
			keep(r.CountReceived(ctx, time.UnixMilli(0), 200*365*day, 1))
			keep(r.Failures(ctx, inbox.Dead))
			keep(r.Cases(ctx, inbox.CaseFilter{}))
			keep(r.Cases(ctx, inbox.CaseFilter{Search: id[:20]}))
			keep(r.Case(ctx, id))
			keep(r.List(ctx, inbox.Filter{}))
			keep(r.List(ctx, inbox.Filter{State: inbox.Resolved, Search: "{"}))
			keep(r.Get(ctx, body))
			keep(r.History(ctx, id))
			keep(r.Notes(ctx, body))
			return found
		}
		want := all(in)
		mustStop(t, in) // on SQLite a process must not read a file that it has open
		var r *inbox.Reader
		if s.Engine == "sqlite" {
			r, err = sqlite.OpenReader(t.Context(), s.Path)
		} else {
			r, err = postgres.OpenReader(t.Context(), s.Pool(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, all(r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
