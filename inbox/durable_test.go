package inbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/internal/localpg"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// TestQueueFull answers 503 while the database stands still and the queue is
// full, and stores whatever is answered 200.
func TestQueueFull(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, enginetest.NewRecorder(nil), inbox.WithQueueSize(1))
		server := newServer(t, in)
		g := newGateway(t)
		release := stall(t, s)

		var answers sync.WaitGroup
		refused := make(chan pixmed.Infraction, 1000)
		var mu sync.Mutex
		accepted := make(map[string]bool)
		send := func() {
			n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
			switch a := g.Post(t.Context(), server.URL, n.Raw); a.StatusCode {
			case http.StatusOK:
				mu.Lock()
				defer mu.Unlock()
				accepted[n.TransactionID] = true
			case http.StatusServiceUnavailable:
				if a.Header.Get("Retry-After") == "" {
					t.Error("a 503 without Retry-After")
				}
				refused <- n.Infraction
			default:
				t.Errorf("got %v, want 200 or 503", a)
			}
		}
		// One is being committed, one more is queued: soon one finds the queue full.
		poll(t, "a refusal", func() bool {
			answers.Go(send)
			return len(refused) > 0
		})
		again := <-refused
		release()
		answers.Wait()
		checkPending(t, in, accepted)

		if _, err := g.Deliver(t.Context(), server.URL, again); err != nil {
			t.Error(err)
		}
		accepted[again.TransactionID] = true
		checkPending(t, in, accepted)
	})
}

// TestStoppedInbox answers 503 once the inbox is stopped.
func TestStoppedInbox(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Start(t, enginetest.NewRecorder(nil))
		server := newServer(t, in)
		if err := in.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		if a := newGateway(t).Post(t.Context(), server.URL, n.Raw); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("got %v, want 503", a)
		}
		if got := enginetest.Await(t, s.Open(t, enginetest.NewRecorder(nil))); got != (enginetest.Counts{}) {
			t.Errorf("the database holds %+v", got)
		}
	})
}

// TestDatabaseFails answers no 200 while the database fails, whether the notification
// is valid or not, and accepts again as soon as it works.
func TestDatabaseFails(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, enginetest.NewRecorder(nil))
		server := newServer(t, in, pixmed.WithInvalid(in.Quarantine))
		g := newGateway(t)
		n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)

		execute(t, s, `ALTER TABLE {}events RENAME TO elsewhere`)
		for name, body := range map[string][]byte{"valid": n.Raw, "invalid": []byte(`{"medStatus": 1}`)} {
			if a := g.Post(t.Context(), server.URL, body); a.StatusCode != http.StatusInternalServerError && a.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: got %v, want 500 or 503", name, a)
			}
		}
		execute(t, s, `ALTER TABLE {}elsewhere RENAME TO events`)
		checkPending(t, in, nil)

		if _, err := g.Deliver(t.Context(), server.URL, n.Infraction); err != nil {
			t.Error(err)
		}
		checkPending(t, in, map[string]bool{n.TransactionID: true})
	})
}

// TestServerAway answers no 200 while the database server is away, and recovers by
// itself when it is back.
func TestServerAway(t *testing.T) {
	t.Parallel()
	pg, err := localpg.Start(t.Context())
	localpg.Need(t, err)
	t.Cleanup(func() {
		if err := pg.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &enginetest.Database{Engine: "postgres", URL: pg.URL()}
	in := s.Start(t, enginetest.NewRecorder(nil))
	server := newServer(t, in)
	g := newGateway(t)
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)

	if err := pg.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := g.Post(t.Context(), server.URL, n.Raw); a.StatusCode != http.StatusInternalServerError && a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %v, want 500 or 503", a)
	}
	if err := pg.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Deliver(t.Context(), server.URL, n.Infraction); err != nil {
		t.Error(err)
	}
	if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestClientHangsUp stores a notification although nobody waits for the answer
// any more.
func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, enginetest.NewRecorder(nil))
		received := make(chan error, 1)
		begun := make(chan struct{})
		gone := make(chan struct{})
		server := newServer(t, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
			close(begun)
			<-gone
			err := in.Receive(ctx, n)
			received <- err
			return err
		}))
		release := stall(t, s)

		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(n.Raw), n.Raw)
		if err != nil {
			t.Fatal(err)
		}
		<-begun
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		close(gone)
		// The same for a caller whose context has ended, and who is told that it may have
		// been stored.
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		other := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		if err := in.Receive(ended, other); !errors.Is(err, pixmed.ErrBusy) {
			t.Errorf("Receive: %v, want ErrBusy", err)
		}
		release()
		if err := <-received; err != nil {
			t.Errorf("Receive: %v", err)
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Pending == 2 })
		checkPending(t, in, map[string]bool{n.TransactionID: true, other.TransactionID: true})
	})
}

// TestRefusedData has the database reject one notification. It is kept in
// quarantine, and those that were stored together with it are none the worse.
func TestRefusedData(t *testing.T) {
	t.Parallel()
	for name, others := range map[string]int{"alone": 0, "beside others": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			enginetest.Each(t, func(t *testing.T, s *enginetest.Database) { testRefusedData(t, s, others) })
		})
	}
}

func testRefusedData(t *testing.T, s *enginetest.Database, others int) {
	t.Helper()
	in := s.Open(t, enginetest.NewRecorder(nil))
	if s.Engine == "postgres" {
		execute(t, s, `ALTER TABLE {}events ADD CONSTRAINT refused CHECK (external_id <> 'refuse me')`)
	} else {
		execute(t, s, `CREATE TRIGGER refused BEFORE INSERT ON events WHEN NEW.external_id = 'refuse me' BEGIN SELECT RAISE(ABORT, 'refused'); END`)
	}
	var begun atomic.Int64
	server := newServer(t, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
		begun.Add(1)
		return in.Receive(ctx, n)
	}))
	g := newGateway(t)
	var answers sync.WaitGroup
	send := func(i pixmed.Infraction) {
		before := begun.Load()
		answers.Go(func() {
			if _, err := g.Deliver(t.Context(), server.URL, i); err != nil {
				t.Errorf("external id %q: %v", i.ExternalID, err)
			}
		})
		poll(t, "the request to arrive", func() bool { return begun.Load() > before })
	}

	// While the first one is being committed, the next transaction gathers.
	release := stall(t, s)
	accepted := make(map[string]bool)
	for range others {
		other := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		accepted[other.TransactionID] = true
		send(other.Infraction)
	}
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	n.ExternalID = "refuse me"
	send(n.Infraction)
	release()
	answers.Wait()
	checkPending(t, in, accepted)

	kept, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined})
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 || !bytes.Equal(kept[0].Raw, pixmedtest.Payload(n.Infraction)) {
		t.Errorf("in quarantine are %+v, want the one that was refused, as it came", kept)
	}
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: int64(len(accepted)), Quarantined: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestSynchronousCommit looks into the transactions of an inbox whose sessions
// are set not to wait for the disk: those that accept, those that settle, and
// those of callbacks.
func TestSynchronousCommit(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	s.URL += "&options=" + url.QueryEscape("-csynchronous_commit=off")
	pool := s.Pool(t)
	var setting, sync string
	if err := pool.QueryRow(t.Context(), "SELECT current_setting('synchronous_commit'), current_setting('fsync')").Scan(&setting, &sync); err != nil || setting != "off" || sync != "on" {
		t.Fatalf("the sessions begin with synchronous_commit %s and fsync %s, %v, want off and on", setting, sync, err)
	}
	in := s.Open(t, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
		if n.MEDStatus == pixmed.Cancelled {
			return nil
		}
		tx, _ := postgres.Tx(ctx)
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	}))
	for _, statement := range []string{
		`CREATE TABLE seen (seq bigserial, operation text, status text, setting text, lsn pg_lsn)`,
		`CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.seen (operation, status, setting, lsn)
			VALUES (TG_OP, convert_from(NEW.status, 'UTF8'), current_setting('synchronous_commit'), pg_current_wal_insert_lsn());
			RETURN NULL;
		END $$`,
		`CREATE TRIGGER see AFTER INSERT OR UPDATE ON {}events FOR EACH ROW EXECUTE FUNCTION public.see()`,
	} {
		execute(t, s, statement)
	}
	id := enginetest.NewTransaction()
	for _, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled} {
		if err := in.Receive(t.Context(), enginetest.Notification(id, status)); err != nil {
			t.Fatal(err)
		}
		var flushed bool
		if err := pool.QueryRow(t.Context(), "SELECT pg_current_wal_flush_lsn() > max(lsn) FROM seen").Scan(&flushed); err != nil || !flushed {
			t.Errorf("%s is accepted, and the log is on disk up to behind it: %v, %v", status, flushed, err)
		}
	}
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	enginetest.Await(t, in)

	type seen struct{ Operation, Status, Setting string }
	rows, _ := pool.Query(t.Context(), "SELECT operation, status, setting FROM seen ORDER BY seq")
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[seen])
	if err != nil {
		t.Fatal(err)
	}
	want := []seen{
		{"INSERT", "ACKNOWLEDGED", "on"},
		{"UPDATE", "ACKNOWLEDGED", "on"}, // it is no longer the last
		{"INSERT", "CANCELLED", "on"},
		{"UPDATE", "ACKNOWLEDGED", "on"},
		{"UPDATE", "CANCELLED", "on"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("synchronous_commit (-want +got):\n%s", diff)
	}
}

// newGateway returns a gateway that is closed at the end of the test.
func newGateway(t *testing.T) *pixmedtest.Gateway {
	t.Helper()
	g := pixmedtest.NewGateway(pixmedtest.WithDeliveryTimeout(enginetest.Patience))
	t.Cleanup(g.Close)
	return g
}

// checkPending compares what is pending with what must be. There may be nothing else
// except what is in quarantine.
func checkPending(t *testing.T, in *inbox.Inbox, want map[string]bool) {
	t.Helper()
	events, err := in.List(t.Context(), inbox.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for _, e := range events {
		switch {
		case e.State == inbox.Quarantined:
		case e.State != inbox.Pending || got[e.Key.TransactionID]:
			t.Errorf("it holds %+v, again or not pending", e)
		default:
			got[e.Key.TransactionID] = true
		}
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("pending transactions (-want +got):\n%s", diff)
	}
}

// stall makes the database stand still for those who write: somebody else has
// locked it. The test must release it soon, before the inbox gives up.
func stall(t *testing.T, s *enginetest.Database) (release func()) {
	t.Helper()
	var rollback func() error
	if s.Engine == "sqlite" {
		tx, err := openFile(t, s).BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		rollback = tx.Rollback
	} else {
		tx, err := s.Pool(t).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "LOCK TABLE "+postgres.DefaultSchema+".cases IN EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		rollback = func() error { return tx.Rollback(context.WithoutCancel(t.Context())) }
	}
	release = sync.OnceFunc(func() {
		if err := rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) { // the end of the test's context has done it
			t.Error(err)
		}
	})
	t.Cleanup(release)
	return release
}

// execute executes a statement behind the inbox's back. In it {} stands for the
// inbox's schema and a dot, where there are schemas.
func execute(t *testing.T, s *enginetest.Database, statement string) {
	t.Helper()
	var err error
	if s.Engine == "sqlite" {
		_, err = openFile(t, s).ExecContext(t.Context(), strings.ReplaceAll(statement, "{}", ""))
	} else {
		_, err = s.Pool(t).Exec(t.Context(), strings.ReplaceAll(statement, "{}", postgres.DefaultSchema+"."))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// openFile opens the file of a database beside the inbox, as only a test may.
func openFile(t *testing.T, s *enginetest.Database) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(s.Path)+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
