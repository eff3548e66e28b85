package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// TestAmbiguousSettlement cuts the connection when an attempt is settled. What is
// reported is what happened, and never "late".
func TestAmbiguousSettlement(t *testing.T) {
	t.Parallel()
	for name, mode := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			n := &network{}
			proceed := make(chan struct{})
			r := enginetest.NewRecorder(func(context.Context, *pixmed.Notification) error {
				<-proceed
				return nil
			})
			var ended results
			in := start(t, n.pool(t, s), r, ended.option())
			receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
			r.Next(t)
			n.mode.Store(mode)
			close(proceed)
			enginetest.Await(t, in)
			stop(t, in)
			r.None(t)
			if diff := cmp.Diff([]inbox.AttemptResult{inbox.AttemptDone}, ended.get()); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFrozenBeforeCommit has a process freeze while it holds a case: the server
// ends its transaction, and others go on.
func TestFrozenBeforeCommit(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	quick := enginetest.Configure(func(c *config.Config) { c.CommitTimeout = 500 * time.Millisecond })
	p := newPauser("WITH added AS") // the case is locked by then
	frozen := open(t, p.pool(t, s), enginetest.NewRecorder(nil), quick)
	id := enginetest.NewTransaction()
	receive(t, frozen, id, pixmed.Acknowledged)
	p.armed.Store(true)
	first := goReceive(t, frozen, id, pixmed.Cancelled)
	await(t, "it holds the case", p.reached)
	other := open(t, s.Pool(t), enginetest.NewRecorder(nil), quick)
	receive(t, other, id, pixmed.Debited) // within the two seconds that it waits
	close(p.proceed)
	if err := await(t, "the frozen one", first); !errors.Is(err, pixmed.ErrBusy) { // its time is over
		t.Errorf("when it goes on: %v, want ErrBusy", err)
	}
	receive(t, frozen, id, pixmed.Cancelled) // again
	history, err := other.History(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var got []pixmed.MEDStatus
	for _, e := range history {
		got = append(got, e.Status)
	}
	if diff := cmp.Diff([]pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Debited, pixmed.Cancelled}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFullDisk has the server refuse every write as it does on a full disk.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	in := open(t, s.Pool(t), enginetest.NewRecorder(nil))
	if err := in.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustExec(t, look, `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$`)
	for _, table := range []string{"settings", "cases", "events"} {
		mustExec(t, look, "CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON pixmed_inbox."+table+" FOR EACH ROW EXECUTE FUNCTION full_disk()")
	}
	if err := in.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "No space left") {
		t.Errorf("Ready: %v", err)
	}
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); !errors.Is(err, pixmed.ErrBusy) {
		t.Errorf("Receive: %v, want ErrBusy", err)
	}
	for _, table := range []string{"settings", "cases", "events"} {
		mustExec(t, look, "DROP TRIGGER full_disk ON pixmed_inbox."+table)
	}
	if err := in.Ready(t.Context()); err != nil {
		t.Errorf("Ready, when there is room again: %v", err)
	}
}
