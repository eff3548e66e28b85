package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// pauser is a tracer that stops a statement before it is sent, once.
type pauser struct {
	part    string        // of the statement
	reached chan struct{} // closed when it is about to be sent
	proceed chan struct{} // to be closed by the test
	armed   atomic.Bool
}

func newPauser(part string) *pauser {
	return &pauser{part: part, reached: make(chan struct{}), proceed: make(chan struct{})}
}

func (p *pauser) pause(sql string) {
	if strings.Contains(sql, p.part) && p.armed.CompareAndSwap(true, false) {
		close(p.reached)
		<-p.proceed
	}
}

func (p *pauser) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	p.pause(data.SQL)
	return ctx
}

func (p *pauser) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (p *pauser) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		p.pause(q.SQL)
	}
	return ctx
}

func (p *pauser) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (p *pauser) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// newPool returns a pool for a store that is changed first.
func newPool(t *testing.T, s *enginetest.Store, modify func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	c, err := pgxpool.ParseConfig(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = 16
	modify(c)
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			pool.Close()
		}()
		select {
		case <-closed:
		case <-time.After(enginetest.Patience):
			t.Error("a connection was never given back to the pool")
		}
	})
	return pool
}

// open opens an inbox, which is not started.
func open(t *testing.T, pool *pgxpool.Pool, receiver pixmed.Receiver, opts ...inbox.Option) *inbox.Inbox {
	t.Helper()
	in, err := postgres.Open(t.Context(), pool, receiver, append([]inbox.Option{enginetest.Quick, inbox.WithLogger(enginetest.Logger(t))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, in) })
	return in
}

func stop(t *testing.T, in *inbox.Inbox) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), enginetest.Patience)
	defer cancel()
	if err := in.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// noSweep leaves recovery out, which would repair what a test is about.
func noSweep(c *config.Config) error {
	c.SweepInterval = time.Hour
	return nil
}

func receive(t *testing.T, in *inbox.Inbox, transaction string, status pixmed.MEDStatus) {
	t.Helper()
	if err := in.Receive(t.Context(), enginetest.Notification(transaction, status)); err != nil {
		t.Fatalf("Receive: %v", err)
	}
}

// goReceive delivers in the background.
func goReceive(t *testing.T, in *inbox.Inbox, transaction string, status pixmed.MEDStatus) <-chan error {
	t.Helper()
	n := enginetest.Notification(transaction, status)
	result := make(chan error, 1)
	go func() { result <- in.Receive(t.Context(), n) }()
	return result
}

// await returns what a channel brings.
func await[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(enginetest.Patience):
		t.Fatalf("%s: nothing has happened", what)
	}
	return v
}

func count(t *testing.T, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, sql string, args ...any,
) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// awaitCount asks again and again until a query returns one.
func awaitCount(t *testing.T, pool *pgxpool.Pool, what, query string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(enginetest.Patience); count(t, pool, query) == 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it does not happen", what)
		}
	}
}

// awaitBlocked waits until somebody waits for a lock.
func awaitBlocked(t *testing.T, pool *pgxpool.Pool, event string) {
	t.Helper()
	awaitCount(t, pool, "somebody waits for a lock", `
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event LIKE '`+event+`'`)
}

// TestAcceptBeforeSettlement has a settlement wait for an accept that holds the
// case's row: what the accept has added must be seen, since the accept, which saw
// a live job, has not issued one.
func TestAcceptBeforeSettlement(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context) error{
		"plain": func(context.Context) error { return nil },
		"in the callback's transaction": func(ctx context.Context) error {
			tx, _ := postgres.Tx(ctx)
			_, err := tx.Exec(ctx, "SELECT 1")
			return err
		},
	}
	for name, callback := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			proceed := make(chan struct{})
			r := enginetest.NewRecorder(func(ctx context.Context, n *pixmed.Notification) error {
				if n.MEDStatus == pixmed.Acknowledged {
					<-proceed
				}
				return callback(ctx)
			})
			worker := open(t, s.Pool(t), r, noSweep)
			if err := worker.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			p := newPauser("COMMIT")
			accepting := open(t, newPool(t, s, func(c *pgxpool.Config) { c.ConnConfig.Tracer = p }), r, noSweep)
			look := s.Pool(t)
			id := enginetest.NewTransaction()

			receive(t, accepting, id, pixmed.Acknowledged)
			r.Next(t)
			p.armed.Store(true)
			second := goReceive(t, accepting, id, pixmed.Cancelled)
			await(t, "the accept is about to commit", p.reached)
			close(proceed)
			awaitBlocked(t, look, "%")
			close(p.proceed)
			if err := await(t, "the accept", second); err != nil {
				t.Fatal(err)
			}
			if n := r.Next(t); n.MEDStatus != pixmed.Cancelled || n.Previous != pixmed.Acknowledged {
				t.Errorf("the next callback is for %s after %q", n.MEDStatus, n.Previous)
			}
			if got, want := enginetest.Await(t, worker), (inbox.Stats{Done: 2}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestSupersededTx has an attempt return nil after another one has taken over:
// what it wrote is not committed, and it leaves nothing locked.
func TestSupersededTx(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	if _, err := look.Exec(t.Context(), "CREATE TABLE effects (attempt int)"); err != nil {
		t.Fatal(err)
	}
	proceed := map[int]chan struct{}{1: make(chan struct{}), 2: make(chan struct{})}
	r := enginetest.NewRecorder(nil)
	written := make(chan int, 10)
	r.Answer = func(ctx context.Context, n *pixmed.Notification) error {
		tx, ok := postgres.Tx(ctx)
		if !ok {
			return errors.New("no transaction")
		}
		if _, err := tx.Exec(ctx, "INSERT INTO effects VALUES ($1)", n.Attempt); err != nil {
			return err
		}
		written <- n.Attempt
		if c, ok := proceed[n.Attempt]; ok && n.MEDStatus == pixmed.Acknowledged {
			<-c
		}
		return nil
	}
	in := open(t, newPool(t, s, func(*pgxpool.Config) {}), r)
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := enginetest.NewTransaction()
	receive(t, in, id, pixmed.Acknowledged)
	await(t, "the first attempt", written)
	// Its job is lost, so that the sweeper gives the event to another attempt.
	if _, err := look.Exec(t.Context(), "DELETE FROM pixmed_inbox.river_job WHERE state = 'running'"); err != nil {
		t.Fatal(err)
	}
	if n := await(t, "the second attempt", written); n != 2 {
		t.Fatalf("the attempt is %d", n)
	}
	close(proceed[1])
	// It has given its connection back when nobody is in a transaction but the second one.
	awaitCount(t, look, "the first attempt ends", `
SELECT count(*) FILTER (WHERE n = 1) FROM (
	SELECT count(*) n FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%') a`)
	start := time.Now()
	receive(t, in, id, pixmed.Cancelled)
	if took := time.Since(start); took > time.Second {
		t.Errorf("the case was locked for %v", took)
	}
	close(proceed[2])
	if got, want := enginetest.Await(t, in), (inbox.Stats{Done: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	stop(t, in)
	rows, _ := look.Query(t.Context(), "SELECT attempt FROM effects ORDER BY 1")
	got, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 2}, got); diff != "" { // of the second notification, and of the first
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

// TestSameDelivery sends the same notifications to two replicas at the same time.
func TestSameDelivery(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	r := enginetest.NewRecorder(nil)
	var replicas []*inbox.Inbox
	for range 2 {
		replicas = append(replicas, s.Start(t, r))
	}
	const cases, copies = 30, 6 // of each notification
	var accepted atomic.Int64
	start := make(chan struct{})
	var wg sync.WaitGroup
	for range cases {
		id := enginetest.NewTransaction()
		for i := range copies {
			wg.Go(func() {
				<-start
				err := replicas[i%2].Receive(t.Context(), enginetest.Notification(id, pixmed.Debited))
				switch {
				case err == nil:
					accepted.Add(1)
				case !errors.Is(err, pixmed.ErrDuplicate):
					t.Errorf("Receive: %v", err)
				}
			})
		}
	}
	close(start)
	wg.Wait()
	if n := accepted.Load(); n != cases {
		t.Errorf("%d were accepted instead of %d", n, cases)
	}
	enginetest.Await(t, replicas[0])
	for _, in := range replicas {
		stop(t, in) // after the last callback
	}
	calls := make(map[string]int)
	for range cases {
		calls[r.Next(t).TransactionID]++
	}
	r.None(t)
	if len(calls) != cases {
		t.Errorf("%d cases were called for instead of %d", len(calls), cases)
	}
}

// finishedCases returns an inbox that is not started, and cases whose only event
// is done, in the order of their ids.
func finishedCases(t *testing.T, s *enginetest.Store, pool *pgxpool.Pool, n int) (in *inbox.Inbox, ids []string) {
	t.Helper()
	r := enginetest.NewRecorder(nil)
	worker := s.Start(t, r)
	for range n {
		ids = append(ids, enginetest.NewTransaction())
		receive(t, worker, ids[len(ids)-1], pixmed.Acknowledged)
	}
	enginetest.Await(t, worker)
	stop(t, worker)
	slices.Sort(ids)
	return open(t, pool, r), ids
}

// checkAccepted checks that a case has one pending event, with a live job.
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
	if count(t, look, "SELECT count(*) FROM pixmed_inbox.cases JOIN pixmed_inbox.river_job ON id = live_job WHERE transaction_id = $1::text::uuid", id) != 1 {
		t.Error("the case has no live job")
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

// TestAcceptAfterPurge has an accept come while a purge has deleted its case and
// not yet the events: the accept waits, and begins a new case.
func TestAcceptAfterPurge(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	p := newPauser(".events WHERE transaction_id = ANY")
	in, ids := finishedCases(t, s, newPool(t, s, func(c *pgxpool.Config) { c.ConnConfig.Tracer = p }), 1)
	p.armed.Store(true)
	purge := goPurge(t, in)
	await(t, "the purge has deleted the case", p.reached)
	accept := goReceive(t, in, ids[0], pixmed.Acknowledged)
	awaitBlocked(t, look, "%")
	close(p.proceed)
	if got, want := await(t, "the purge", purge), (purged{n: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := await(t, "the accept", accept); err != nil {
		t.Errorf("Receive: %v", err) // what was purged is no longer known as a duplicate
	}
	checkAccepted(t, in, look, ids[0], inbox.Pending)
}

// TestAcceptDuringPurge has an accept commit when a purge has taken its snapshot,
// and has not come to that case yet.
func TestAcceptDuringPurge(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	in, ids := finishedCases(t, s, newPool(t, s, func(c *pgxpool.Config) {
		// A plan that takes one case after the other, so that it can be stopped between two.
		for _, name := range []string{"enable_hashjoin", "enable_mergejoin", "enable_seqscan", "enable_material"} {
			c.ConnConfig.RuntimeParams[name] = "off"
		}
	}), 2)
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
CREATE TRIGGER hold BEFORE DELETE ON pixmed_inbox.cases FOR EACH ROW EXECUTE FUNCTION hold()`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	purge := goPurge(t, in)
	awaitBlocked(t, look, "advisory")
	receive(t, in, ids[1], pixmed.Cancelled)
	if err := hold.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := await(t, "the purge", purge), (purged{n: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	checkAccepted(t, in, look, ids[1], inbox.Done, inbox.Pending)
}

// TestLockedCase has somebody hold a case for longer than anybody waits: that
// case alone is busy, whoever is in the same batch.
func TestLockedCase(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"a row":                          "SELECT FROM pixmed_inbox.cases WHERE transaction_id = $1::text::uuid FOR UPDATE",
		"a row that nobody else can see": "INSERT INTO pixmed_inbox.cases (transaction_id) VALUES ($1::text::uuid)",
	}
	for name, lock := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			look := s.Pool(t)
			p := newPauser("COMMIT")
			carried := make(chan struct{}, 100)
			in := open(t, newPool(t, s, func(c *pgxpool.Config) { c.ConnConfig.Tracer = p }), enginetest.NewRecorder(nil), inbox.WithContext(
				func(context.Context) map[string]string {
					carried <- struct{}{}
					return nil
				},
				func(ctx context.Context, _ map[string]string) context.Context { return ctx },
			))
			locked := enginetest.NewTransaction()
			if strings.HasPrefix(lock, "SELECT") {
				receive(t, in, locked, pixmed.Acknowledged)
				<-carried
			}
			hold, err := look.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = hold.Rollback(context.WithoutCancel(t.Context())) }()
			if _, err := hold.Exec(t.Context(), lock, locked); err != nil {
				t.Fatal(err)
			}

			// While one transaction is held up, the next batch gathers.
			p.armed.Store(true)
			first := goReceive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
			await(t, "the first one is about to be committed", p.reached)
			<-carried
			start := time.Now()
			busy := []<-chan error{goReceive(t, in, locked, pixmed.Cancelled), goReceive(t, in, locked, pixmed.Debited)}
			free := []<-chan error{first}
			for range 5 {
				free = append(free, goReceive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged))
			}
			for range len(busy) + len(free) - 1 {
				await(t, "a delivery", carried)
			}
			close(p.proceed)
			for _, c := range free {
				if err := await(t, "a case that nobody holds", c); err != nil {
					t.Errorf("a case that nobody holds: %v", err)
				}
			}
			for _, c := range busy {
				if err := await(t, "the locked case", c); !errors.Is(err, pixmed.ErrBusy) {
					t.Errorf("the locked case: %v, want ErrBusy", err)
				}
			}
			// The lock is waited for two seconds, by each batch anew if they were not all in one.
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if err := hold.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			receive(t, in, locked, pixmed.Cancelled)
			if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.events WHERE transaction_id = $1::text::uuid AND status = 'CANCELLED'", locked); got != 1 {
				t.Errorf("it is there %d times", got)
			}
		})
	}
}

// network is a way to the database that breaks when a transaction is committed.
type network struct {
	mode     atomic.Int32 // what happens to the next COMMIT
	stayAway atomic.Bool  // and whether that is the end
	away     atomic.Bool  // nothing gets through
	cuts     atomic.Int32
}

const (
	loseAnswer  = iota + 1 // it is done, and nobody hears of it
	loseRequest            // it never arrives
)

var errCut = errors.New("the connection was cut")

func (n *network) pool(t *testing.T, s *enginetest.Store) *pgxpool.Pool {
	t.Helper()
	return newPool(t, s, func(c *pgxpool.Config) {
		// In this mode a statement's text is sent whenever it is executed.
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		c.ConnConfig.TLSConfig, c.ConnConfig.Fallbacks = nil, nil
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if n.away.Load() {
				return nil, errCut
			}
			conn, err := dial(ctx, network, address)
			return &wire{Conn: conn, network: n}, err
		}
	})
}

// wire is a connection of a network.
type wire struct {
	net.Conn
	network *network
	lost    atomic.Bool // the next answer is lost
}

func (w *wire) Write(p []byte) (int, error) {
	if w.network.away.Load() {
		_ = w.Conn.Close()
		return 0, errCut
	}
	if !bytes.Contains(p, []byte("COMMIT\x00")) {
		return w.Conn.Write(p)
	}
	mode := w.network.mode.Swap(0)
	if mode != 0 {
		w.network.cuts.Add(1)
		w.network.away.Store(w.network.stayAway.Load())
	}
	switch mode {
	case loseAnswer:
		w.lost.Store(true)
	case loseRequest:
		_ = w.Conn.Close()
		return 0, errCut
	}
	return w.Conn.Write(p)
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.lost.Load() && err == nil {
		// There was an answer: the transaction is committed.
		_ = w.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// TestAmbiguousCommit cuts the connection when an accept is committed.
func TestAmbiguousCommit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode  int32
		away  bool  // the database does not come back at once
		want  error // of Receive
		again error // of a redelivery
	}{
		"the answer is lost":                               {loseAnswer, false, nil, pixmed.ErrDuplicate},
		"the request is lost":                              {loseRequest, false, nil, pixmed.ErrDuplicate},
		"the answer is lost, and the database stays away":  {loseAnswer, true, pixmed.ErrBusy, pixmed.ErrDuplicate},
		"the request is lost, and the database stays away": {loseRequest, true, pixmed.ErrBusy, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			look := s.Pool(t)
			n := &network{}
			in := open(t, n.pool(t, s), enginetest.NewRecorder(nil))
			receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged) // the connection is there

			id := enginetest.NewTransaction()
			n.mode.Store(test.mode)
			n.stayAway.Store(test.away)
			err := in.Receive(t.Context(), enginetest.Notification(id, pixmed.Acknowledged))
			if !errors.Is(err, test.want) {
				t.Errorf("Receive: %v, want %v", err, test.want)
			}
			n.away.Store(false)
			err = in.Receive(t.Context(), enginetest.Notification(id, pixmed.Acknowledged))
			if !errors.Is(err, test.again) {
				t.Errorf("the redelivery: %v, want %v", err, test.again)
			}
			checkAccepted(t, in, look, id, inbox.Pending)
			if got, want := n.cuts.Load(), min(test.mode, 1); got != want {
				t.Errorf("%d connections were cut, want %d", got, want)
			}
		})
	}
}
