package postgres_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// finishedCases returns an inbox that is not started, and cases whose only event
// is done, in the order of their ids.
func finishedCases(t *testing.T, s *enginetest.Database, pool *pgxpool.Pool, n int) (in *inbox.Inbox, ids []string) {
	t.Helper()
	r := enginetest.NewRecorder(nil)
	worker := s.Start(t, r)
	for range n {
		ids = append(ids, enginetest.NewTransaction())
		receive(t, worker, ids[len(ids)-1], pixmed.Cancelled)
	}
	enginetest.Await(t, worker)
	stop(t, worker)
	slices.Sort(ids)
	return open(t, pool, r), ids
}

// checkAccepted checks the states of a case's events, and that it is due.
func checkAccepted(t *testing.T, in *inbox.Inbox, look *pgxpool.Pool, id string, want ...inbox.State) {
	t.Helper()
	history, err := in.History(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var got []inbox.State
	for _, e := range history {
		got = append(got, e.State)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the case's events (-want +got):\n%s", diff)
	}
	if count(t, look, "SELECT count(*) FROM pixmed_inbox.cases WHERE run_at <= clock_timestamp() AND transaction_id = $1::text::uuid", id) != 1 {
		t.Error("the case is not due")
	}
}

type purged struct {
	n   int64
	err error
}

func goPurge(t *testing.T, in *inbox.Inbox) <-chan purged {
	t.Helper()
	result := make(chan purged, 1)
	go func() {
		n, err := in.Purge(t.Context(), 0)
		result <- purged{n, err}
	}()
	return result
}

// TestAcceptBeforePurge has an accept commit when a purge has found its case and
// not deleted it yet.
func TestAcceptBeforePurge(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	p := newPauser("FOR UPDATE SKIP LOCKED")
	in, ids := finishedCases(t, s, p.pool(t, s), 2)
	p.armed.Store(true)
	purge := goPurge(t, in)
	await(t, "the purge has found the cases", p.reached)
	receive(t, in, ids[0], pixmed.Debited)
	close(p.proceed)
	if got, want := await(t, "the purge", purge), (purged{n: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	checkAccepted(t, in, look, ids[0], inbox.Done, inbox.Pending)
}

// TestAcceptDuringPurge has an accept come while a purge deletes its case: the
// accept begins a new case, or the purge leaves the old one.
func TestAcceptDuringPurge(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	in, ids := finishedCases(t, s, s.Pool(t), 1)
	hold, err := look.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hold.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := hold.Exec(t.Context(), "SELECT pg_advisory_xact_lock(42)"); err != nil {
		t.Fatal(err)
	}
	if _, err := look.Exec(t.Context(), `
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN OLD; END $$;
CREATE TRIGGER hold BEFORE DELETE ON pixmed_inbox.events FOR EACH ROW EXECUTE FUNCTION hold()`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	purge := goPurge(t, in)
	awaitCount(t, look, "the purge has deleted the case", `
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'`)
	accept := goReceive(t, in, ids[0], pixmed.Cancelled)
	receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged) // others do not wait for it
	if err := hold.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := await(t, "the purge", purge), (purged{n: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := await(t, "the accept", accept); err != nil {
		t.Errorf("Receive: %v", err) // what was purged is no longer known as a duplicate
	}
	checkAccepted(t, in, look, ids[0], inbox.Pending)
}

// TestPurgeLeavesWhatIsHeld purges beside somebody who holds a case.
func TestPurgeLeavesWhatIsHeld(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	in, ids := finishedCases(t, s, s.Pool(t), 3)
	hold, err := look.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hold.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := hold.Exec(t.Context(), "SELECT FROM pixmed_inbox.cases WHERE transaction_id = $1::text::uuid FOR NO KEY UPDATE", ids[1]); err != nil {
		t.Fatal(err)
	}
	if n, err := in.Purge(t.Context(), 0); err != nil || n != 2 {
		t.Errorf("Purge: %d, %v, want 2", n, err)
	}
}
