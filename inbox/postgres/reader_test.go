package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// A role that may only read reads what the inbox does, also where all transactions are
// read-only, as on a standby. One that may not even read is told what it needs.
func TestOpenReader(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	in := s.Start(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error { return inbox.Discard(errors.New("418")) }))
	id := enginetest.NewTransaction()
	receive(t, in, id, pixmed.Acknowledged)
	enginetest.Await(t, in)
	if err := in.MarkAnswered(t.Context(), id, "by mail", inbox.By("ana")); err != nil {
		t.Fatal(err)
	}
	const mayUse, mayRead = "GRANT USAGE ON SCHEMA pixmed_inbox TO {role}", "GRANT SELECT ON ALL TABLES IN SCHEMA pixmed_inbox TO {role}"
	for _, grants := range [][]string{nil, {mayUse}} {
		_, err := postgres.OpenReader(t.Context(), newRole(t, s, grants...))
		if err == nil || !strings.Contains(err.Error(), "GRANT USAGE ON SCHEMA pixmed_inbox, and SELECT ON ALL TABLES IN SCHEMA pixmed_inbox") {
			t.Errorf("with %v: %v", grants, err)
		}
	}
	pool := newRole(t, s, mayUse, mayRead, "ALTER ROLE {role} SET default_transaction_read_only = on")
	r, err := postgres.OpenReader(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(readAll(t, in, id), readAll(t, r, id), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("the inbox and its reader (-inbox +reader):\n%s", diff)
	}
}

// Behind a pooler in transaction mode each read may run in another session.
func TestReaderBehindAPooler(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	stop(t, s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore)))
	behind := &enginetest.Database{Engine: "postgres", URL: enginetest.Pooler(t, s.URL)}
	one := func(c *pgxpool.Config) { c.MaxConns = 1 }
	other, pool := newPool(t, behind, one), newPool(t, behind, one)
	if err := other.Ping(t.Context()); err != nil { // which makes a second session
		t.Fatal(err)
	}
	read := func() {
		t.Helper()
		r, err := postgres.OpenReader(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Stats(t.Context()); err != nil {
			t.Error(err)
		}
	}
	read()
	tx, err := other.Begin(t.Context()) // takes the session that was used last
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	read()
}

// readAll reads all that there is to read, which is a case with a dead notification.
func readAll(t *testing.T, of interface {
	Stats(ctx context.Context) (inbox.Stats, error)
	CountReceived(ctx context.Context, from time.Time, span time.Duration, n int) ([]inbox.Received, error)
	Failures(ctx context.Context, s inbox.State) ([]inbox.Failure, error)
	Cases(ctx context.Context, f inbox.CaseFilter) ([]*inbox.Case, error)
	Case(ctx context.Context, transactionID string) (*inbox.Case, error)
	List(ctx context.Context, f inbox.Filter) ([]*inbox.Event, error)
	Get(ctx context.Context, id string) (*inbox.Event, error)
	History(ctx context.Context, transactionID string) ([]*inbox.Event, error)
	Notes(ctx context.Context, id string) ([]inbox.Note, error)
}, id string,
) map[string]any {
	t.Helper()
	stats, err1 := of.Stats(t.Context())
	received, err2 := of.CountReceived(t.Context(), time.Now().Add(-time.Hour), 2*time.Hour, 1)
	failures, err3 := of.Failures(t.Context(), inbox.Dead)
	cases, err4 := of.Cases(t.Context(), inbox.CaseFilter{Search: id[:8]})
	c, err5 := of.Case(t.Context(), id)
	list, err6 := of.List(t.Context(), inbox.Filter{State: inbox.Dead})
	history, err7 := of.History(t.Context(), id)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		t.Fatal(err)
	}
	if len(received) != 1 || len(failures) != 1 || len(cases) != 1 || len(c.Notes) != 1 || len(list) != 1 || len(history) != 1 {
		t.Fatal("something is not there")
	}
	e, err1 := of.Get(t.Context(), history[0].ID)
	notes, err2 := of.Notes(t.Context(), history[0].ID)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"stats": stats, "received": received[0].Dead, "failures": failures, "cases": cases, "case": c, "list": list, "history": history, "notes": notes, "event": e,
	}
}

// A reader leaves tables of another version alone, as those of running servers are
// while a newer program looks at them, and does not wait for whoever migrates them.
func TestReaderMigratesNothing(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	pool := s.Pool(t)
	refused := func(want string) {
		t.Helper()
		if r, err := postgres.OpenReader(t.Context(), pool); r != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	refused("there is none in the schema pixmed_inbox: start the service first, which creates it")
	if n := count(t, pool, "SELECT count(*) FROM pg_namespace WHERE nspname = 'pixmed_inbox'"); n != 0 {
		t.Error("to look has made the schema")
	}
	stop(t, s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore)))
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(hashtextextended('pixmed inbox pixmed_inbox', 0))"); err != nil {
		t.Fatal(err)
	}
	for version, want := range map[int]string{
		-1: "has version -1, and this program reads ", // which is older than any
		99: "has version 99, and this program knows ",
	} {
		if _, err := pool.Exec(t.Context(), "WITH d AS (DELETE FROM pixmed_inbox.inbox_migrations) INSERT INTO pixmed_inbox.inbox_migrations (version) VALUES ($1)", version); err != nil {
			t.Fatal(err)
		}
		refused(want)
		if n := count(t, pool, "SELECT sum(version) FROM pixmed_inbox.inbox_migrations"); n != version {
			t.Errorf("version %d has become %d", version, n)
		}
	}
}

// The options and the pool are those of Open.
func TestOpenReaderMistakes(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	stop(t, s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore), postgres.WithSchema("mine")))
	for name, test := range map[string]struct {
		pool *pgxpool.Pool
		opts []inbox.Option
		want string
	}{
		"no pool": {nil, nil, "the pool is nil"},
		"sqlite":  {s.Pool(t), []inbox.Option{sqlite.WithMinFreeDisk(1)}, "an option of package sqlite is given"},
		"schema":  {s.Pool(t), []inbox.Option{postgres.WithSchema("Mine")}, "WithSchema: "},
		"none":    {s.Pool(t), nil, "in the schema pixmed_inbox"},
		"mine":    {s.Pool(t), []inbox.Option{postgres.WithSchema("mine"), postgres.WithPollOnly(), inbox.WithWorkers(1000)}, ""},
	} {
		r, err := postgres.OpenReader(t.Context(), test.pool, test.opts...)
		if (err == nil) != (test.want == "") || (r == nil) != (err != nil) || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// What takes a reader too long ends, on the server as well; and a reader can write
// nothing, whatever its role may.
func TestReaderIsBounded(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	stop(t, s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore)))
	pool := s.Pool(t)
	if _, err := postgres.ReadWithin(t.Context(), pool, 50*time.Millisecond, "SELECT 'slow' FROM pg_sleep(60)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	awaitCount(t, pool, "the server ends the query", "SELECT count(*) FROM (SELECT 1 HAVING NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT ''slow''%' AND state = 'active')) x")
	for setting, want := range map[string]string{"statement_timeout": "3s", "idle_in_transaction_session_timeout": "3s", "transaction_read_only": "on"} {
		got, err := postgres.ReadWithin(t.Context(), pool, 2*time.Second, "SELECT current_setting('"+setting+"')")
		if diff := cmp.Diff([]string{want}, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", setting, err, diff)
		}
	}
	_, err := postgres.ReadWithin(t.Context(), pool, enginetest.Patience, "INSERT INTO pixmed_inbox.inbox_migrations (version) VALUES (99) RETURNING 'written'")
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "25006" {
		t.Errorf("%v", err)
	}
}
