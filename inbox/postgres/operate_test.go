package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/modeltest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

const day = 24 * time.Hour

// A window that is changed while a case is accepted, or opens again, moves it too: the
// change waits for whoever has planned by the old one and has not committed.
func TestDefenceChangedMeanwhile(t *testing.T) {
	t.Parallel()
	remind := func(context.Context, *inbox.Case) error { return nil }
	ignore := pixmed.ReceiverFunc(pixmed.Ignore)
	for write, before := range map[string][]pixmed.MEDStatus{"INSERT": nil, "UPDATE OF opened_at": {pixmed.Acknowledged, pixmed.Cancelled}} {
		t.Run(write, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			look := s.Pool(t)
			in := open(t, s.Pool(t), ignore, inbox.WithDefence(7*day, remind, day))
			id := enginetest.NewTransaction()
			for _, status := range before {
				receive(t, in, id, status)
			}
			mustExec(t, look, `
CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	WHILE NOT pg_try_advisory_xact_lock_shared(7) LOOP PERFORM pg_sleep(0.005); END LOOP;
	RETURN new;
END $$;
CREATE TRIGGER hold BEFORE `+write+` ON pixmed_inbox.cases FOR EACH ROW EXECUTE FUNCTION public.hold()`)
			held := begin(t, look, "SELECT pg_advisory_xact_lock(7)")
			received := goReceive(t, in, id, pixmed.Acknowledged)
			awaitCount(t, look, "an accept", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
			opened := make(chan error, 1)
			go func() {
				in, err := postgres.Open(t.Context(), s.Pool(t), ignore, inbox.WithDefence(8*day, remind, day))
				if err == nil {
					err = in.Stop(t.Context())
				}
				opened <- err
			}()
			awaitCount(t, look, "a wait for it", waits)
			if err := held.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
			if err := errors.Join(await(t, "Receive", received), await(t, "Open", opened)); err != nil {
				t.Error(err)
			}
			if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.cases WHERE remind_at = opened_at + interval '7 days'"); got != 1 {
				t.Errorf("%d cases have moved, want 1", got)
			}
		})
	}
}

// waits counts those that wait to change the settings.
const waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"

// Somebody who reads the tables, such as pg_dump, prevents neither a change of the
// window nor accepts.
func TestDefenceChangedBesideAReader(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	remind := func(context.Context, *inbox.Case) error { return nil }
	ignore := pixmed.ReceiverFunc(pixmed.Ignore)
	in := open(t, s.Pool(t), ignore, inbox.WithDefence(7*day, remind, day))
	dump := begin(t, look, "LOCK TABLE pixmed_inbox.settings, pixmed_inbox.cases, pixmed_inbox.events, pixmed_inbox.notes, pixmed_inbox.ids IN ACCESS SHARE MODE")
	receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
	stop(t, open(t, s.Pool(t), ignore, inbox.WithDefence(8*day, remind, day)))
	receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
	if err := dump.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.cases WHERE remind_at = opened_at + interval '7 days'"); got != 2 {
		t.Errorf("%d cases have moved, want 2", got)
	}
}

// begin begins a transaction with a statement.
func begin(t *testing.T, pool *pgxpool.Pool, sql string) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	if _, err := tx.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	return tx
}

// A transaction that plans reminders and does not end prevents a change of the
// settings, which Open reports, but no accepts.
func TestDefenceChangedBesideAFrozenReplica(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	remind := func(context.Context, *inbox.Case) error { return nil }
	ignore := pixmed.ReceiverFunc(pixmed.Ignore)
	in := open(t, s.Pool(t), ignore, inbox.WithDefence(7*day, remind, day))
	frozen := begin(t, look, "LOCK TABLE pixmed_inbox.settings IN ROW SHARE MODE")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened := make(chan error, 1)
	go func() {
		_, err := postgres.Open(ctx, s.Pool(t), ignore, inbox.WithDefence(8*day, remind, day))
		opened <- err
	}()
	awaitCount(t, look, "a wait for the lock", waits)
	for range 20 {
		receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
	}
	cancel()
	if err := await(t, "Open", opened); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "holds the case") {
		t.Errorf("Open: %v", err)
	}
	if err := frozen.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	stop(t, open(t, s.Pool(t), ignore, inbox.WithDefence(8*day, remind, day)))
	if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.cases WHERE remind_at = opened_at + interval '7 days'"); got != 20 {
		t.Errorf("%d cases have moved, want 20", got)
	}
}

// The open cases move in batches, each committed by itself: nobody waits for all of
// them. If a process is killed in between, the next one moves what is left; and of a
// batch, only a case that somebody else holds is waited for.
func TestDefenceMovesInBatches(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	remind := func(context.Context, *inbox.Case) error { return nil }
	ignore := pixmed.ReceiverFunc(pixmed.Ignore)
	in := open(t, s.Pool(t), ignore)
	const cases = 1200
	s.Fill(t, cases, 1)
	moved := func() int {
		return count(t, look, "SELECT count(*) FROM pixmed_inbox.cases WHERE remind_at = opened_at + interval '6 days'")
	}
	p := newPauser("remind_at = n.at")
	p.skip.Store(1)
	p.armed.Store(true)
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	opened := make(chan error, 1)
	go func() {
		_, err := postgres.Open(ctx, p.pool(t, s), ignore, inbox.WithDefence(7*day, remind, day))
		opened <- err
	}()
	await(t, "the second batch", p.reached)
	if got := moved(); got == 0 || got > cases/2 {
		t.Errorf("%d cases have moved before the second batch", got)
	}
	for _, order := range []string{"", " DESC"} { // one that has moved, and one that has not
		var id string
		if err := look.QueryRow(t.Context(), "SELECT transaction_id FROM pixmed_inbox.cases ORDER BY opened_at"+order+" LIMIT 1").Scan(&id); err != nil {
			t.Fatal(err)
		}
		receive(t, in, id, pixmed.Cancelled)
	}
	kill()
	close(p.proceed)
	if err := await(t, "Open", opened); err == nil {
		t.Error("Open is done, and it was cut off")
	}
	if got := moved(); got > cases/2 {
		t.Errorf("%d cases have moved, and the second batch was cut off", got)
	}

	held := begin(t, look, "SELECT FROM pixmed_inbox.cases WHERE remind_at IS NULL AND open FOR UPDATE")
	p = newPauser("remind_at = n.at")
	p.skip.Store(2) // what is left in two batches is held
	p.armed.Store(true)
	go func() {
		in, err := postgres.Open(t.Context(), p.pool(t, s), ignore, inbox.WithDefence(7*day, remind, day))
		if err == nil {
			err = in.Stop(t.Context())
		}
		opened <- err
	}()
	await(t, "another look at what was held", p.reached)
	close(p.proceed)
	if err := held.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	if err := await(t, "Open", opened); err != nil {
		t.Error(err)
	}
	if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.cases WHERE open AND remind_at IS DISTINCT FROM opened_at + interval '6 days'"); got != 0 {
		t.Errorf("%d open cases have not moved", got)
	}
}

// What is quarantined can be resolved and deleted; what belongs to a case cannot.
func TestDismiss(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	defer cancel()
	if err := modeltest.Dismisses(ctx, openEngine(t, enginetest.Postgres(t).Pool(t))); err != nil {
		t.Error(err)
	}
}
