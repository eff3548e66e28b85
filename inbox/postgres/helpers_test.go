package postgres_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	skip    atomic.Int32 // after so many others
}

func newPauser(part string) *pauser {
	return &pauser{part: part, reached: make(chan struct{}), proceed: make(chan struct{})}
}

func (p *pauser) pause(sql string) {
	if strings.Contains(sql, p.part) && p.skip.Add(-1) < 0 && p.armed.CompareAndSwap(true, false) {
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

// pool returns a pool whose statements it may stop.
func (p *pauser) pool(t *testing.T, s *enginetest.Database) *pgxpool.Pool {
	t.Helper()
	return newPool(t, s, func(c *pgxpool.Config) { c.ConnConfig.Tracer = p })
}

// newPool returns a pool for a database whose configuration is changed first.
func newPool(t *testing.T, s *enginetest.Database, modify func(*pgxpool.Config)) *pgxpool.Pool {
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

// newRole returns the pool of a new role, for which some statements are run first.
func newRole(t *testing.T, s *enginetest.Database, statements ...string) *pgxpool.Pool {
	t.Helper()
	admin, role := s.Pool(t), "app_"+strings.ToLower(rand.Text())
	mustExec(t, admin, "CREATE ROLE "+role+" LOGIN PASSWORD 'app'")
	for _, statement := range statements {
		mustExec(t, admin, strings.ReplaceAll(statement, "{role}", role))
	}
	t.Cleanup(func() {
		if _, err := admin.Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	return newPool(t, s, func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, "app" })
}

// open opens an inbox, which is not started.
func open(t *testing.T, pool *pgxpool.Pool, receiver pixmed.Receiver, opts ...inbox.Option) *inbox.Inbox {
	t.Helper()
	in, err := postgres.Open(t.Context(), pool, receiver, append([]inbox.Option{enginetest.Quick(), enginetest.Log(t)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, in) })
	return in
}

// start opens an inbox and starts it.
func start(t *testing.T, pool *pgxpool.Pool, receiver pixmed.Receiver, opts ...inbox.Option) *inbox.Inbox {
	t.Helper()
	in := open(t, pool, receiver, opts...)
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
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

func count(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
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

func mustExec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// runOut ends all leases.
func runOut(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	mustExec(t, pool, "UPDATE pixmed_inbox.cases SET run_at = clock_timestamp() WHERE held")
}

// results collects how attempts end.
type results struct {
	mu  sync.Mutex
	all []inbox.AttemptResult
}

func (r *results) option() inbox.Option {
	return inbox.WithObserver(func(_ context.Context, a inbox.Attempt) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, a.Result)
	})
}

func (r *results) get() []inbox.AttemptResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]inbox.AttemptResult(nil), r.all...)
}

// network is a way to the database that breaks when a transaction is committed.
type network struct {
	mode     atomic.Int32 // what happens to a COMMIT
	skip     atomic.Int32 // after so many others
	stayAway atomic.Bool  // and whether that is the end
	away     atomic.Bool  // nothing gets through
	cuts     atomic.Int32

	mu     sync.Mutex
	silent []*wire // open connections
}

const (
	loseAnswer  = iota + 1 // it is done, and nobody hears of it
	loseRequest            // it never arrives
)

var errCut = errors.New("the connection was cut")

func (n *network) pool(t *testing.T, s *enginetest.Database) *pgxpool.Pool {
	t.Helper()
	return newPool(t, s, n.configure)
}

func (n *network) configure(c *pgxpool.Config) {
	// In this mode a statement's text is sent whenever it is executed.
	c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.ConnConfig.TLSConfig, c.ConnConfig.Fallbacks = nil, nil
	dial := c.ConnConfig.DialFunc
	c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if n.away.Load() {
			return nil, errCut
		}
		conn, err := dial(ctx, network, address)
		w := &wire{Conn: conn, network: n}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.silent = append(n.silent, w)
		return w, err
	}
}

// fallSilent has all open connections swallow what is written, and nothing come
// back, as behind a NAT that has forgotten them.
func (n *network) fallSilent() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.silent {
		w.silent.Store(true)
	}
}

// hangUp closes all connections.
func (n *network) hangUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.silent {
		_ = w.Conn.Close()
	}
}

// wire is a connection of a network.
type wire struct {
	net.Conn
	network *network
	lost    atomic.Bool // the next answer is lost
	silent  atomic.Bool
}

func (w *wire) Write(p []byte) (int, error) {
	if w.silent.Load() {
		return len(p), nil
	}
	if w.network.away.Load() {
		_ = w.Conn.Close()
		return 0, errCut
	}
	if !bytes.Contains(p, []byte("COMMIT\x00")) || (w.network.mode.Load() != 0 && w.network.skip.Add(-1) >= 0) {
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
	for {
		n, err := w.Conn.Read(p)
		switch {
		case err == nil && w.silent.Load():
			continue // until the deadline, or until it is closed
		case err == nil && w.lost.Load():
			// There was an answer: the transaction is committed.
			_ = w.Conn.Close()
			return 0, io.ErrUnexpectedEOF
		}
		return n, err
	}
}

// syncBuilder is a log that may be read while it is written.
type syncBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// option has an inbox log warnings and errors to it, and what is about the database.
func (b *syncBuilder) option() inbox.Option {
	return enginetest.Configure(func(c *config.Config) {
		c.Logger = slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelInfo}))
	})
}

// The cuts at COMMIT: its request is lost, or its answer.
var cuts = map[string]int32{"the answer is lost": loseAnswer, "the request is lost": loseRequest}
