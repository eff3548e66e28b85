package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/internal/localpg"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// history is what happens to every transaction of a load, in this order. Each
// status comes once, so that it names its place.
var history = []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, "REOPENED", "UNDER_REVIEW", pixmed.Debited}

// TestProcessKilled kills the only process of an inbox under load, again and
// again.
func TestProcessKilled(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		e := newEffects(t, s)
		c := e.child()
		if s.Engine == "postgres" {
			c.AttemptTimeout, c.Overdue = time.Second, 1500*time.Millisecond
		} // On SQLite recovery must not wait for anything to be overdue: it stays at 45 s.
		p := serve(t, c)
		address := p.address
		l := newLoad(t, func() string { return address })
		for i := range kills() {
			l.await(t, 5+rand.N(30))
			p.kill()
			if i == 1 { // the next one is killed while it starts
				p = spawn(t, c)
				l.awaitTries(t, rand.N(1500))
				p.kill()
			}
			p = serve(t, c)
		}
		l.await(t, 30)
		accepted := l.end(t)
		awaitWorked(t, p.stats, accepted)
		p.stop(t)

		e.check(t, accepted)
		checkStored(t, s, accepted)
	})
}

// TestProcessOfManyKilled kills one of three processes that share a database
// under a load that is spread over all of them.
func TestProcessOfManyKilled(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	e := newEffects(t, s)
	const processes = 3
	var children [processes]*child
	var p [processes]*process
	var addresses []string
	for i := range processes {
		children[i] = e.child()
		children[i].AttemptTimeout, children[i].Overdue = time.Second, 1500*time.Millisecond
		p[i] = serve(t, children[i])
		addresses = append(addresses, p[i].address)
	}
	l := newLoad(t, func() string { return addresses[rand.N(processes)] })
	for i := range kills() / 2 {
		l.await(t, 20+rand.N(60))
		victim := i % processes
		p[victim].kill()
		l.await(t, rand.N(40)) // the others go on
		p[victim] = serve(t, children[victim])
	}
	l.await(t, 30)
	accepted := l.end(t)
	awaitWorked(t, p[0].stats, accepted)
	for _, p := range p {
		p.stop(t)
	}

	e.check(t, accepted)
	checkStored(t, s, accepted)
}

// TestServerCrashes has the database server crash under load. The inbox stays
// open and must find its way back.
func TestServerCrashes(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context())
	localpg.Need(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &enginetest.Database{Engine: "postgres", URL: server.URL()}
	e := newEffects(t, s)
	in := s.Start(t, e.child().receiver(t), inbox.WithWorkers(8),
		inbox.WithAttemptTimeout(time.Second), inbox.WithOverdue(1500*time.Millisecond))
	address := newServer(t, in).Listener.Addr().String()
	l := newLoad(t, func() string { return address })
	for range kills() / 2 {
		l.await(t, 10+rand.N(60))
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.await(t, 30)
	accepted := l.end(t)
	awaitWorked(t, func(ctx context.Context) (enginetest.Counts, error) { return enginetest.TryCount(ctx, in) }, accepted)
	e.check(t, accepted)
}

// TestKilledInCallback kills a process while a callback runs that has had its
// effect. The next process runs the notification again: at once where it can
// know that nobody else does, and otherwise when the attempt is overdue.
func TestKilledInCallback(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		e := newEffects(t, s)
		c := e.child()
		c.Block, c.Fail = true, false
		c.AttemptTimeout, c.Overdue = 2*time.Minute, 3*time.Minute
		if s.Engine == "postgres" {
			c.AttemptTimeout, c.Overdue = 2*time.Second, 3*time.Second
		}
		p := serve(t, c)
		n := enginetest.Notification(enginetest.NewTransaction(), history[0])
		begin := time.Now()
		deliver(t, "http://"+p.address, n.Infraction)
		if got := p.next(t, "attempt "); got != "1" {
			t.Errorf("attempt %s, want 1", got)
		}
		p.kill()

		p = serve(t, c)
		if got := p.next(t, "attempt "); got != "2" {
			t.Errorf("attempt %s, want 2", got)
		}
		if took := time.Since(begin); s.Engine == "postgres" && took < c.Overdue {
			t.Errorf("the second attempt began %v after the notification was sent, and the first was not overdue before %v", took, c.Overdue)
		}
		poll(t, "the second attempt to be done", func() bool {
			got, err := p.stats(t.Context())
			return err == nil && got.Done == 1
		})
		p.stop(t)

		var want []effect
		if s.Engine == "sqlite" { // what the first attempt did stays done
			want = append(want, effect{Transaction: n.TransactionID, Status: history[0], Attempt: 1})
		}
		want = append(want, effect{Transaction: n.TransactionID, Status: history[0], Attempt: 2})
		if diff := cmp.Diff(want, e.read(t), cmpopts.IgnoreFields(effect{}, "Process")); diff != "" {
			t.Errorf("effects (-want +got):\n%s", diff)
		}
	})
}

// TestFileOpenElsewhere opens a file that another process has open.
func TestFileOpenElsewhere(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	p := serve(t, newEffects(t, s).child())
	_, err := s.TryOpen(t, enginetest.NewRecorder(nil))
	if !errors.Is(err, sqlite.ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	for _, part := range []string{s.Path, "open already, in another process"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q does not say %q", err, part)
		}
	}
	// The one that has it is none the worse for it.
	n := enginetest.Notification(enginetest.NewTransaction(), history[0])
	deliver(t, "http://"+p.address, n.Infraction)
	p.kill()

	in := s.Start(t, enginetest.NewRecorder(nil))
	if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The environment variables that say how often a test kills, and how many
// notifications it delivers at least: hundreds of kills take half an hour, for which
// -timeout has to allow.
const (
	killsVariable      = "PIXMED_TEST_KILLS"
	deliveriesVariable = "PIXMED_TEST_DELIVERIES"
)

// kills is how often a test kills.
func kills() int {
	switch n, err := strconv.Atoi(os.Getenv(killsVariable)); {
	case err == nil:
		return n
	case testing.Short():
		return 2
	default:
		return 6
	}
}

// deliveries is how many notifications a test delivers beyond those that its kills
// need, 0 unless somebody asks for more.
func deliveries() int {
	n, _ := strconv.Atoi(os.Getenv(deliveriesVariable))
	return n
}

// load is sixteen senders that deliver the whole history of one transaction after
// the other, each notification again and again until the answer is 200.
type load struct {
	delivered, tries, allowed atomic.Int64
	failed                    atomic.Int64 // answers 500
	stopping                  chan struct{}
	senders                   sync.WaitGroup

	mu       sync.Mutex
	accepted []string // transactions with their whole history
}

// slack is how many more notifications than a test has asked for are accepted:
// so many that the load goes on while the test kills, and not more, since they
// take far longer to work than to accept.
const slack = 40

// newLoad starts a load. The function says where to send the next request.
func newLoad(t *testing.T, address func() string) *load {
	t.Helper()
	// A delivery that is given up while it is under way could still be accepted
	// after the next status, as a new event: that is not what is tested here.
	g := pixmedtest.NewGateway(pixmedtest.WithDeliveryTimeout(time.Minute))
	l := &load{stopping: make(chan struct{})}
	l.allowed.Store(slack)
	for range 16 {
		l.senders.Go(func() { l.send(t, g, address) })
	}
	t.Cleanup(func() {
		g.Close()
		l.senders.Wait()
	})
	return l
}

func (l *load) send(t *testing.T, g *pixmedtest.Gateway, address func() string) {
	t.Helper()
	for {
		select {
		case <-l.stopping:
			return
		case <-t.Context().Done():
			return
		default:
		}
		id := enginetest.NewTransaction()
		for _, status := range history {
			if !l.deliver(t, g, address, enginetest.Notification(id, status).Raw) {
				return
			}
		}
		l.mu.Lock()
		l.accepted = append(l.accepted, id)
		l.mu.Unlock()
	}
}

func (l *load) deliver(t *testing.T, g *pixmedtest.Gateway, address func() string, body []byte) bool {
	t.Helper()
	for {
		if l.delivered.Load() < l.allowed.Load() {
			l.tries.Add(1)
			a := g.Post(t.Context(), "http://"+address(), body)
			switch a.StatusCode {
			case http.StatusOK:
				l.delivered.Add(1)
				return true
			case http.StatusInternalServerError:
				l.failed.Add(1)
			case 0, http.StatusServiceUnavailable:
			default:
				t.Errorf("an answer that does not ask to come again: %v", a)
				return false
			}
		}
		again := time.NewTimer(5 * time.Millisecond)
		select {
		case <-again.C:
		case <-t.Context().Done():
			again.Stop()
			return false
		}
	}
}

// await waits until so many more notifications were answered 200.
func (l *load) await(t *testing.T, more int) {
	t.Helper()
	l.allowed.Store(l.delivered.Load() + int64(more) + slack)
	want := l.delivered.Load() + int64(more)
	poll(t, "notifications to be accepted", func() bool { return l.delivered.Load() >= want })
}

// awaitTries waits until the senders, whose server is away, have tried so many
// more times, or the server is there and works.
func (l *load) awaitTries(t *testing.T, more int) {
	t.Helper()
	l.allowed.Store(l.delivered.Load() + slack)
	want := l.tries.Load() + int64(more)
	poll(t, "tries", func() bool { return l.tries.Load() >= want || l.delivered.Load() >= l.allowed.Load() })
}

// end lets the senders finish their transactions, and returns these.
func (l *load) end(t *testing.T) (accepted []string) {
	t.Helper()
	close(l.stopping)
	l.allowed.Store(math.MaxInt64)
	l.senders.Wait()
	t.Logf("%d notifications of %d transactions were accepted in %d tries", l.delivered.Load(), len(l.accepted), l.tries.Load())
	return l.accepted
}

// deliver sends one notification until it is answered 200.
func deliver(t *testing.T, url string, i pixmed.Infraction) {
	t.Helper()
	g := pixmedtest.NewGateway()
	defer g.Close()
	if _, err := g.Deliver(t.Context(), url, i); err != nil {
		t.Fatal(err)
	}
}

// awaitWorked waits until everything in an inbox is done. Under the race detector and
// on a busy machine that may take long, so it gives up only when nothing gets done any
// more.
func awaitWorked(t *testing.T, stats func(context.Context) (enginetest.Counts, error), accepted []string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond) // counting costs
	defer tick.Stop()
	patience := time.NewTimer(enginetest.Patience)
	defer patience.Stop()
	var got enginetest.Counts
	for {
		before := got.Done
		s, err := stats(t.Context()) // fails on a connection to a server that has crashed
		if err == nil {
			got = s
		}
		if err == nil && got.Pending == 0 {
			break
		}
		if got.Done > before {
			patience.Reset(enginetest.Patience)
		}
		select {
		case <-tick.C:
		case <-patience.C:
			t.Fatalf("nothing is done any more: %+v, %v", got, err)
		}
	}
	if want := (enginetest.Counts{Done: int64(len(accepted) * len(history))}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// checkStored looks at what is left in a database that nobody has open any more.
func checkStored(t *testing.T, s *enginetest.Database, accepted []string) {
	t.Helper()
	in := s.Open(t, enginetest.NewRecorder(nil))
	type event struct {
		Seq    int64
		Status pixmed.MEDStatus
		State  inbox.State
	}
	var want []event
	for i, status := range history {
		want = append(want, event{int64(i) + 1, status, inbox.Done})
	}
	for _, id := range accepted {
		events, err := in.History(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var got []event
		for _, e := range events {
			got = append(got, event{e.Seq, e.Status, e.State})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events of %s (-want +got):\n%s", id, diff)
		}
	}
}

// effect is what a callback leaves behind.
type effect struct {
	Transaction string
	Status      pixmed.MEDStatus
	Attempt     int
	Process     int // its id
}

// effects is where callbacks leave their effects: in a table, in the transaction
// of the inbox, or in a file.
type effects struct {
	database *enginetest.Database
	file     string
	pool     *pgxpool.Pool
}

func newEffects(t *testing.T, s *enginetest.Database) *effects {
	t.Helper()
	if s.Engine == "sqlite" {
		return &effects{database: s, file: filepath.Join(t.TempDir(), "effects")}
	}
	e := &effects{database: s, pool: s.Pool(t)}
	_, err := e.pool.Exec(t.Context(), `CREATE TABLE effects (
		seq bigserial PRIMARY KEY, transaction_id text NOT NULL, status text NOT NULL, attempt integer NOT NULL, process integer NOT NULL)`)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// child returns a child whose callbacks leave their effects here.
func (e *effects) child() *child { return &child{Database: e.database, Effects: e.file, Fail: true} }

func insertEffect(ctx context.Context, tx pgx.Tx, n *pixmed.Notification) error {
	_, err := tx.Exec(ctx, "INSERT INTO effects (transaction_id, status, attempt, process) VALUES ($1, $2, $3, $4)",
		n.TransactionID, string(n.MEDStatus), n.Attempt, os.Getpid())
	return err
}

// appendEffect writes a line that cannot be taken for a whole one if only a part
// of it was written, and that does not spoil the one after it.
func appendEffect(f *os.File, n *pixmed.Notification) error {
	if _, err := fmt.Fprintf(f, "\n%s %s %d %d .\n", n.TransactionID, n.MEDStatus, n.Attempt, os.Getpid()); err != nil {
		return err
	}
	return f.Sync()
}

// read returns the effects in the order in which they happened.
func (e *effects) read(t *testing.T) (all []effect) {
	t.Helper()
	if e.pool != nil {
		rows, _ := e.pool.Query(t.Context(), "SELECT transaction_id, status, attempt, process FROM effects ORDER BY seq")
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[effect])
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	text, err := os.ReadFile(e.file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var one effect
		if _, err := fmt.Sscanf(string(line), "%s %s %d %d .\n", &one.Transaction, &one.Status, &one.Attempt, &one.Process); err == nil {
			all = append(all, one)
		}
	}
	return all
}

// check compares the effects with what was accepted: all of it, in its order,
// once. Where an effect is not part of the inbox's transaction, what a killed
// process had not settled comes once more, from another process.
func (e *effects) check(t *testing.T, accepted []string) {
	t.Helper()
	got := make(map[string][]effect)
	for _, one := range e.read(t) {
		got[one.Transaction] = append(got[one.Transaction], one)
	}
	repeated, wrong := 0, 0
	for _, id := range accepted {
		var statuses []pixmed.MEDStatus
		for i, one := range got[id] {
			if e.pool == nil && i > 0 && got[id][i-1].Status == one.Status && got[id][i-1].Process != one.Process {
				repeated++
				continue
			}
			statuses = append(statuses, one.Status)
		}
		if !slices.Equal(statuses, history) {
			if wrong++; wrong > 5 {
				delete(got, id)
				continue // the first few say enough
			}
			t.Errorf("transaction %s: got the effects %v, want %v in this order", id, got[id], history)
		}
		delete(got, id)
	}
	if wrong > 5 {
		t.Errorf("so it is with %d transactions of %d", wrong, len(accepted))
	}
	for id, effects := range got {
		t.Errorf("transaction %s was never accepted and has the effects %v", id, effects)
	}
	t.Logf("%d effects were repeated", repeated)
}

// newServer serves the webhook in front of a receiver.
func newServer(t *testing.T, receiver pixmed.Receiver, opts ...pixmed.HandlerOption) *httptest.Server {
	t.Helper()
	opts = append([]pixmed.HandlerOption{pixmed.WithoutVerification(), pixmed.WithLogger(enginetest.Logger(t))}, opts...)
	handler, err := pixmed.NewHandler(receiver, opts...)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}
