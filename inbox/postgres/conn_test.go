package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/internal/localpg"
)

// TestReadOnlyServer sets a server read-only and keeps its connections, as some
// failovers do; new connections lead to one that can be written. Nothing is written
// to the old one, and all find their way to the new one soon.
func TestReadOnlyServer(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context())
	localpg.Need(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &enginetest.Database{Engine: "postgres", URL: server.URL()}
	var failedOver atomic.Bool
	pool := newPool(t, s, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if !failedOver.Load() {
				return nil
			}
			_, err := conn.Exec(ctx, "SET default_transaction_read_only = off")
			return err
		}
	})
	r := enginetest.NewRecorder(func(ctx context.Context, _ *pixmed.Notification) error {
		tx, _ := postgres.Tx(ctx)
		_, err := tx.Exec(ctx, "INSERT INTO effects VALUES (1)")
		return err
	})
	mustExec(t, pool, "CREATE TABLE effects (n int)")
	in := start(t, pool, r)
	// Connections that are idle in the pool, all to the old server.
	var idle []*pgxpool.Conn
	for range 8 {
		c, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	for _, c := range idle {
		c.Release()
	}
	admin, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.WithoutCancel(t.Context())) })
	failedOver.Store(true)
	for _, sql := range []string{"ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	awaitSetting(t, pool)
	const notifications = 10
	for range notifications {
		deliver(t, in, enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
	}
	if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: notifications}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := in.Ready(t.Context()); err != nil {
		t.Errorf("Ready: %v", err)
	}
	if got := count(t, pool, "SELECT count(*) FROM effects"); got != notifications {
		t.Errorf("%d effects", got)
	}
}

// awaitSetting waits until the sessions of a pool know that they are read-only, or
// are new.
func awaitSetting(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	awaitCount(t, pool, "the sessions read their settings again", "SELECT count(*) FROM pg_settings WHERE name = 'default_transaction_read_only' AND (setting = 'on' OR source = 'session')")
}

// deliver sends a notification until it is accepted, as gateways do.
func deliver(t *testing.T, in *inbox.Inbox, n *pixmed.Notification) {
	t.Helper()
	for begin := time.Now(); ; {
		err := in.Receive(t.Context(), n)
		if err == nil || errors.Is(err, pixmed.ErrDuplicate) {
			return
		}
		if !errors.Is(err, pixmed.ErrBusy) || time.Since(begin) > enginetest.Patience {
			t.Fatalf("Receive: %v", err)
		}
	}
}

// TestSilentConnections has all connections go silent. The first sender after that
// is answered 200, on a new one, within the time that a commit may take.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	n := &network{}
	in := open(t, n.pool(t, s), enginetest.NewRecorder(nil))
	receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
	n.fallSilent()
	t.Cleanup(n.hangUp) // or the pool would wait for them
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := in.Receive(ctx, enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
		t.Errorf("Receive: %v", err)
	}
}

// TestStopOfASilentDatabase stops an inbox whose database no longer answers.
func TestStopOfASilentDatabase(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	n := &network{}
	pool := n.pool(t, s)
	in, err := postgres.Open(t.Context(), pool, enginetest.NewRecorder(nil), enginetest.Quick(), enginetest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	n.fallSilent()
	n.away.Store(true)
	started := make(chan error, 1)
	go func() { started <- in.Start(context.WithoutCancel(t.Context())) }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- in.Stop(ctx) }()
	_, _ = await(t, "Stop", stopped), await(t, "Start", started) // neither hangs; they may well complain
	stop(t, in)
}

// TestOutage takes the database away for a while: one line when it begins, one when
// it ends, and one for each batch that was refused.
func TestOutage(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	n := &network{}
	var log syncBuilder
	gone := make(chan struct{})
	r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
		if n.MEDStatus == pixmed.Debited {
			<-gone // and cannot be settled then
		}
		return nil
	})
	in := start(t, n.pool(t, s), r, log.option())
	for range 3 {
		receive(t, in, enginetest.NewTransaction(), pixmed.Debited)
		r.Next(t)
	}
	n.away.Store(true)
	close(gone)
	const refused = 20
	for range refused {
		err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
		if !errors.Is(err, pixmed.ErrBusy) {
			t.Fatalf("Receive: %v, want ErrBusy", err)
		}
	}
	n.away.Store(false)
	deliver(t, in, enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
	r.Next(t)
	enginetest.Await(t, in)
	stop(t, in)
	text := log.String()
	// One for the callbacks' ends, one for the notifications, one at the end.
	if lines := strings.Count(text, "\n"); lines > 3 || !strings.Contains(text, fmt.Sprintf("refused=%d", refused)) {
		t.Errorf("%d lines for %d refused notifications:\n%s", lines, refused, text)
	}
}

// TestPooler opens an inbox through a pooler in transaction mode.
func TestPooler(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	behind := &enginetest.Database{Engine: "postgres", URL: enginetest.Pooler(t, s.URL)}
	ignore := pixmed.ReceiverFunc(pixmed.Ignore)
	pool := newPool(t, behind, func(*pgxpool.Config) {})
	if _, err := postgres.Open(t.Context(), pool, ignore, enginetest.Log(t)); err == nil || !strings.Contains(err.Error(), "WithPollOnly") {
		t.Errorf("Open: %v, and it must name WithPollOnly", err)
	}
	if _, err := postgres.Open(t.Context(), pool, ignore, enginetest.Log(t), postgres.WithPollOnly()); err == nil || !strings.Contains(err.Error(), "QueryExecModeExec") {
		t.Errorf("Open with WithPollOnly and prepared statements: %v, and it must name QueryExecModeExec", err)
	}
	exec := newPool(t, behind, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec })
	r := enginetest.NewRecorder(func(ctx context.Context, _ *pixmed.Notification) error {
		tx, _ := postgres.Tx(ctx)
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	})
	in := start(t, exec, r, postgres.WithPollOnly())
	other := open(t, s.Pool(t), ignore) // accepts, and tells nobody that would hear it
	for range 5 {
		receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
		receive(t, other, enginetest.NewTransaction(), pixmed.Acknowledged)
	}
	if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 10}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := in.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
