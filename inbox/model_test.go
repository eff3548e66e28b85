package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/rivertype"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// modelSeed repeats the runs of a test that failed, if it is set to the seed that
// the test printed. The operations are the same ones then, in the same order.
const modelSeed = 0

const (
	modelOps     = 60 // of each run
	modelRetries = 3  // attempts until an event is dead
	modelRunning = 4  // attempts at a time
)

// shrinkTime is how long a failure is made shorter.
const shrinkTime = 30 * time.Second

// TestModel does random operations on the tables of an inbox and on a model of
// it, and compares the two after every one. The test plays the workers itself,
// with the inbox's own work function: River's client is never started, so that
// nothing happens that the test does not do. What fails is made shorter by leaving
// out operations.
func TestModel(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		seed := uint64(modelSeed)
		if seed == 0 {
			seed = rand.Uint64()
		}
		runs := map[string]int{"sqlite": 20, "postgres": 24}[s.Engine] // ten seconds or so, with the race detector
		if testing.Short() {
			runs = 10
		}
		m := &modelTest{store: s}
		for i := range runs {
			ops := randomOps(rand.New(rand.NewPCG(seed, uint64(i))))
			err := m.run(t, ops)
			if err == nil {
				continue
			}
			ops, err = shrink(ops, err, func(ops []operation) error { return m.run(t, ops) })
			t.Fatalf("seed %d, run %d, which comes down to %d operations:\n%v", seed, i, len(ops), err)
		}
	})
}

// operation is one of a sequence. Its numbers choose among what is there when its
// turn comes, so that a sequence from which others were left out can still be run.
type operation struct {
	do      func(w *world, o operation) error
	a, b, c int
	yes     bool
}

func randomOps(r *rand.Rand) []operation {
	kinds := []struct {
		weight int
		do     func(*world, operation) error
	}{
		{20, (*world).deliver},
		{6, (*world).redeliver},
		{2, (*world).quarantine},
		{30, (*world).start},
		{24, (*world).finish},
		{8, (*world).report},
		{6, (*world).sweep},
		{6, (*world).retryJob},
		{4, (*world).cancelJob},
		{3, (*world).deleteJob},
		{2, (*world).rescueJob},
		{5, (*world).replay},
		{2, (*world).purge},
		{2, (*world).restart},
	}
	var choices []func(*world, operation) error
	for _, k := range kinds {
		choices = append(choices, slices.Repeat([]func(*world, operation) error{k.do}, k.weight)...)
	}
	ops := make([]operation, modelOps)
	for i := range ops {
		ops[i] = operation{choices[r.IntN(len(choices))], r.IntN(1000), r.IntN(1000), r.IntN(1000), r.IntN(2) == 0}
	}
	return ops
}

// modelTest is the model's test of an engine.
type modelTest struct {
	store    *enginetest.Store
	failures int
}

// shrink leaves out steps for as long as the rest still fails.
func shrink[T any](steps []T, failure error, run func([]T) error) ([]T, error) {
	deadline := time.Now().Add(shrinkTime)
	for size := len(steps) / 2; size > 0; {
		smaller := false
		for at := 0; at+size <= len(steps) && time.Now().Before(deadline); {
			fewer := slices.Delete(slices.Clone(steps), at, at+size)
			if err := run(fewer); err != nil {
				steps, failure, smaller = fewer, err, true
			} else {
				at += size
			}
		}
		if size > 1 || !smaller {
			size /= 2
		}
		if time.Now().After(deadline) {
			break
		}
	}
	return steps, failure
}

// run does the operations in an empty store. Its error tells what was done.
func (m *modelTest) run(t *testing.T, ops []operation) (err error) {
	t.Helper()
	w := &world{t: t, engine: m.store.Engine, jobs: make(map[int64]*modelJob), cases: make(map[string]*modelCase)}
	w.transactions = []string{enginetest.NewTransaction(), enginetest.NewTransaction()}
	defer func() {
		if err = errors.Join(err, w.close()); err != nil {
			m.failures++
			err = fmt.Errorf("%s\n%w", strings.Join(w.log, "\n"), err)
		}
	}()
	if err := w.open(m.store, m.failures); err != nil {
		return err
	}
	for _, o := range ops {
		if err := o.do(w, o); err != nil {
			return err
		}
		if err := w.compare(); err != nil {
			return err
		}
	}
	return w.drain()
}

// world is the real inbox and the model of it.
type world struct {
	t            *testing.T
	engine       string
	store        *enginetest.Store
	pool         *pgxpool.Pool
	tables       *enginetest.Tables
	replicas     []*inbox.Inbox // one on SQLite
	running      []*attempt
	unreported   []*attempt // that have ended, and River does not know
	transactions []string
	log          []string

	// The model.
	cases   map[string]*modelCase // by transaction
	events  []*modelEvent         // all that there ever were
	jobs    map[int64]*modelJob   // those in the queue, as they were when the last operation had ended
	effects []string
	clock   int64
}

type modelCase struct {
	next    int64
	live    *modelJob
	changed bool // live is new, and its number is not known yet
}

type modelJob struct {
	id    int64
	event *modelEvent
	state rivertype.JobState
}

type modelEvent struct {
	name, id              string // the name is for the log
	transaction, external string
	status                string
	seq                   int64
	state                 string // as stored, or "purged"
	attempts, failures    int
	discarded, hasError   bool
	again                 bool // it was revived or replayed
	received, done        int64
}

// attempt is a call of the work function.
type attempt struct {
	name     string
	job      *modelJob
	event    *modelEvent
	replica  *inbox.Inbox
	early    bool // it begins its transaction before it blocks
	cancel   context.CancelCauseFunc
	canceled bool
	started  chan *pixmed.Notification
	outcome  chan outcome
	ended    chan error
	err      error
}

type attemptKey struct{}

// outcome is what the test has a callback do.
type outcome struct {
	kind   outcomeKind
	effect bool // through postgres.Tx
}

type outcomeKind string

const (
	succeed   outcomeKind = "nil"
	handled   outcomeKind = "ErrDuplicate"
	fail      outcomeKind = "error"
	discard   outcomeKind = "Discard"
	panics    outcomeKind = "panic"
	aborted   outcomeKind = "nil in an aborted transaction"
	interrupt outcomeKind = "an error after Stop ran out of time"
	crash     outcomeKind = "the process was killed"
)

// receive is the receiver: it does what the test tells it to.
func receive(ctx context.Context, n *pixmed.Notification) error {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return errors.New("the context is not the attempt's")
	}
	effect := func(statement string) error {
		ctx := context.WithoutCancel(ctx)
		tx, ok := postgres.Tx(ctx)
		if !ok {
			return errors.New("there is no transaction")
		}
		_, err := tx.Exec(ctx, statement)
		return err
	}
	insert := "INSERT INTO effects (event) VALUES ('" + a.event.name + "')"
	var effectErr error
	if a.early {
		effectErr = effect(insert)
	}
	a.started <- n
	o := <-a.outcome
	if o.effect && !a.early {
		effectErr = effect(insert)
	}
	if effectErr != nil {
		return effectErr
	}
	switch o.kind {
	case handled:
		return pixmed.ErrDuplicate
	case fail, interrupt, crash:
		return errors.New("not now")
	case discard:
		return fmt.Errorf("never: %w", inbox.Discard(errors.New("wrong")))
	case panics:
		panic("oh")
	case aborted:
		_ = effect("SELECT 1 / 0")
	case succeed:
	}
	return nil
}

// open opens the inboxes and empties their store, which is that of the run before
// unless that one failed: who knows what it left.
func (w *world) open(s *enginetest.Store, failures int) error {
	ctx := w.t.Context()
	replicas := 1
	w.store = s
	if s.Engine == "sqlite" {
		w.store = &enginetest.Store{Engine: s.Engine, Path: fmt.Sprintf("%s-%d", s.Path, failures)}
	} else {
		replicas = 2
		c, err := pgxpool.ParseConfig(s.URL)
		if err != nil {
			return err
		}
		c.MaxConns = 20
		if w.pool, err = pgxpool.NewWithConfig(ctx, c); err != nil {
			return err
		}
	}
	for range replicas {
		in, err := w.reopen()
		if err != nil {
			return err
		}
		w.replicas = append(w.replicas, in)
	}
	var err error
	if w.tables, err = w.store.Tables(w.t, w.pool); err != nil {
		return err
	}
	if w.pool == nil {
		return w.tables.Exec(ctx, "DELETE FROM cases; DELETE FROM events; DELETE FROM river_job")
	}
	// Transactions that were left behind hold locks.
	return errors.Join(
		w.tables.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'"),
		w.tables.Exec(ctx, "CREATE TABLE IF NOT EXISTS effects (id bigserial PRIMARY KEY, event text NOT NULL)"),
		w.tables.Exec(ctx, "TRUNCATE effects, pixmed_inbox.cases, pixmed_inbox.events, pixmed_inbox.river_job"),
	)
}

func (w *world) reopen() (*inbox.Inbox, error) {
	opts := []inbox.Option{
		enginetest.Quick, inbox.WithMaxAttempts(modelRetries), inbox.WithAttemptTimeout(time.Hour),
		inbox.WithLogger(slog.New(slog.DiscardHandler)),
	}
	if w.pool != nil {
		return postgres.Open(w.t.Context(), w.pool, pixmed.ReceiverFunc(receive), opts...)
	}
	return sqlite.Open(w.t.Context(), w.store.Path, pixmed.ReceiverFunc(receive), opts...)
}

// close ends everything, also when the run has failed.
func (w *world) close() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), enginetest.Patience)
	defer cancel()
	for _, a := range w.running {
		a.outcome <- outcome{kind: crash}
		_, endErr := wait(a.ended)
		err = errors.Join(err, endErr)
	}
	for _, in := range w.replicas {
		err = errors.Join(err, in.Stop(ctx))
	}
	if w.tables != nil {
		err = errors.Join(err, w.tables.Close())
	}
	if w.pool == nil {
		return err
	}
	if n := w.pool.Stat().AcquiredConns(); n > 0 {
		// Close would wait for them.
		go w.pool.Close()
		return errors.Join(err, fmt.Errorf("%d connections of the pool were never given back", n))
	}
	w.pool.Close()
	return err
}

// wait is a receive that does not wait for ever.
func wait[T any](c <-chan T) (v T, err error) {
	timeout := time.NewTimer(enginetest.Patience)
	defer timeout.Stop()
	select {
	case v = <-c:
		return v, nil
	case <-timeout.C:
		return v, errors.New("an attempt does not go on")
	}
}

func (w *world) logf(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func want(what string, got, wanted error) error {
	if errors.Is(got, wanted) || (got == nil && wanted == nil) {
		return nil
	}
	return fmt.Errorf("%s: the error is %q, and must be %q", what, fmt.Sprint(got), fmt.Sprint(wanted))
}

func (w *world) replica(n int) *inbox.Inbox { return w.replicas[n%len(w.replicas)] }

// The operations. Each does the same to the inbox and to the model.

func (w *world) deliver(o operation) error {
	externals := []string{"", "\u00e9 order"}
	statuses := []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, "SOMETHING_NEW"}
	return w.accept(w.replica(o.a), w.transactions[o.b%len(w.transactions)], externals[o.b/100%len(externals)], string(statuses[o.c%len(statuses)]))
}

// redeliver sends what was sent before once more.
func (w *world) redeliver(o operation) error {
	if len(w.events) == 0 {
		return nil
	}
	e := w.events[o.b%len(w.events)]
	return w.accept(w.replica(o.a), e.transaction, e.external, e.status)
}

func notification(transaction, external, status string) *pixmed.Notification {
	n := enginetest.Notification(transaction, pixmed.MEDStatus(status))
	n.ExternalID, n.ReceivedAt = external, time.Now()
	n.Raw = pixmedtest.Payload(n.Infraction)
	return n
}

func (w *world) accept(in *inbox.Inbox, transaction, external, status string) error {
	w.logf("deliver %s %q %s", transaction, external, status)
	err := in.Receive(w.t.Context(), notification(transaction, external, status))
	var wanted error
	last := w.last(transaction, external)
	switch {
	case last == nil || last.status != status:
		w.enter(w.newEvent(transaction, external, status))
	case last.state == "dead" && !last.discarded:
		w.again(last)
	default:
		wanted = pixmed.ErrDuplicate
	}
	return want("Receive", err, wanted)
}

func (w *world) quarantine(o operation) error {
	transaction, external := w.transactions[o.b%len(w.transactions)], ""
	w.logf("quarantine one of %s", transaction)
	n := enginetest.Notification(transaction, pixmed.Cancelled)
	n.ExternalID = external
	e := w.newEvent(transaction, external, string(pixmed.Cancelled))
	e.state, e.hasError = "quarantined", true
	return w.replica(o.a).Invalid(w.t.Context(), pixmedtest.Payload(n.Infraction), errors.New("odd"))
}

// start fetches a job, whichever it is, and runs its attempt.
func (w *world) start(o operation) error {
	var available []*modelJob
	for _, id := range w.jobIDs() {
		j := w.jobs[id]
		if j.state == rivertype.JobStateAvailable && (o.b%3 == 0 || w.isLive(j)) {
			available = append(available, j)
		}
	}
	if len(available) == 0 || len(w.running) >= modelRunning {
		return nil
	}
	return w.begin(o, available[o.a%len(available)])
}

func (w *world) begin(o operation, j *modelJob) error {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(w.t.Context()))
	a := &attempt{
		name: fmt.Sprintf("the attempt of job %d for %s", j.id, j.event.name),
		job:  j, event: j.event, replica: w.replica(o.c), cancel: cancel, early: w.pool != nil && o.yes,
		started: make(chan *pixmed.Notification, 1), outcome: make(chan outcome, 1), ended: make(chan error, 1),
	}
	w.logf("start %s", a.name)
	if err := w.tables.Fetch(ctx, j.id); err != nil {
		return err
	}
	go func() { a.ended <- a.replica.Work(context.WithValue(ctx, attemptKey{}, a), j.id, j.event.id) }()
	timeout := time.NewTimer(enginetest.Patience)
	defer timeout.Stop()
	select {
	case <-timeout.C:
		return errors.New("the attempt does not start")
	case err := <-a.ended:
		cancel(nil)
		if w.isLive(j) {
			return fmt.Errorf("the live job was not run: %w", err)
		}
		w.unreported = append(w.unreported, a)
		return want("a job that is not live", err, nil)
	case n := <-a.started:
		w.running = append(w.running, a)
		if !w.isLive(j) {
			return errors.New("a job that is not live was run")
		}
		return w.check(a.event, n)
	}
}

// check compares what a callback gets.
func (w *world) check(e *modelEvent, n *pixmed.Notification) error {
	type facts struct {
		Key              pixmed.Key
		Status, Previous pixmed.MEDStatus
		Seen             bool
		Attempt          int
	}
	got := facts{n.Key(), n.MEDStatus, n.Previous, !n.SeenAt.IsZero(), n.Attempt}
	wanted := facts{Key: pixmed.Key{TransactionID: e.transaction, ExternalID: e.external}, Status: pixmed.MEDStatus(e.status), Attempt: e.attempts + 1}
	var latest int64
	for _, other := range w.events {
		if other.state != "done" || other.transaction != e.transaction || other.external != e.external {
			continue
		}
		if other.done > latest {
			latest, wanted.Previous = other.done, pixmed.MEDStatus(other.status)
		}
		wanted.Seen = wanted.Seen || other.status == e.status
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		return fmt.Errorf("the callback of %s (-want +got):\n%s", e.name, diff)
	}
	return nil
}

func (w *world) finish(o operation) error {
	if len(w.running) == 0 {
		return nil
	}
	kinds := []outcomeKind{succeed, succeed, succeed, succeed, fail, fail, fail, handled, discard, panics}
	if w.pool != nil {
		kinds = append(kinds, aborted)
	}
	return w.end(o.a%len(w.running), outcome{kinds[o.b%len(kinds)], w.pool != nil && o.yes}, o.c%4 > 0)
}

// end has a running attempt end. If reported is set, River learns of it.
func (w *world) end(i int, o outcome, reported bool) error {
	a := w.running[i]
	w.running = slices.Delete(w.running, i, i+1)
	w.logf("end %s: %s (effect %t, cancelled %t)", a.name, o.kind, o.effect || a.early, a.canceled)
	a.outcome <- o
	err, stuck := wait(a.ended)
	a.cancel(nil)
	if stuck != nil {
		return stuck
	}
	a.err = err
	var wanted error
	switch {
	case o.kind == crash:
		return want("the attempt", err, inbox.ErrFailed)
	case !w.isLive(a.job) || a.event.state != "pending":
		wanted = inbox.ErrLate
	default:
		if o.kind != succeed && o.kind != handled {
			wanted = inbox.ErrFailed
		}
		w.settle(a, o)
	}
	w.unreported = append(w.unreported, a)
	if reported {
		if err := w.tell(len(w.unreported) - 1); err != nil {
			return err
		}
	}
	return want("the attempt", err, wanted)
}

// settle is the model's.
func (w *world) settle(a *attempt, o outcome) {
	e := a.event
	e.attempts++
	e.hasError = true
	switch {
	case o.kind == succeed || o.kind == handled:
		w.clock++
		e.state, e.done, e.hasError = "done", w.clock, false
		if o.effect || a.early {
			w.effects = append(w.effects, e.name)
		}
		w.next(e.transaction)
	case o.kind == discard || a.canceled:
		e.failures++
		e.state, e.discarded = "dead", true
		w.next(e.transaction)
	case o.kind == interrupt:
		w.issue(e)
	default:
		w.failed(e)
	}
}

// failed counts a failure.
func (w *world) failed(e *modelEvent) {
	e.failures++
	if e.failures < modelRetries {
		w.issue(e)
		return
	}
	e.state = "dead"
	w.next(e.transaction)
}

// report has River learn of an attempt that ended before.
func (w *world) report(o operation) error {
	if len(w.unreported) == 0 {
		return nil
	}
	return w.tell(o.a % len(w.unreported))
}

// tell does to a job what River does when its work function has returned, also
// if it has been given to another worker since.
func (w *world) tell(i int) error {
	a := w.unreported[i]
	w.unreported = slices.Delete(w.unreported, i, i+1)
	state := rivertype.JobStateDiscarded
	switch {
	case a.err == nil:
		state = rivertype.JobStateCompleted
	case a.canceled:
		state = rivertype.JobStateCancelled
	}
	w.logf("report %s: %s", a.name, state)
	return w.tables.End(w.t.Context(), a.job.id, state)
}

func (w *world) sweep(o operation) error {
	overdue := time.Duration(0)
	if o.b%4 == 0 {
		overdue = time.Hour
	}
	return w.sweepOn(w.replica(o.a), overdue)
}

func (w *world) sweepOn(in *inbox.Inbox, overdue time.Duration) error {
	w.logf("sweep, overdue %v", overdue)
	for _, c := range w.cases {
		if c.live == nil {
			continue
		}
		e := c.live.event
		j := w.jobs[c.live.id]
		switch {
		case j != nil && j.state == rivertype.JobStateCancelled:
			e.state, e.discarded, e.hasError = "dead", true, true
			w.next(e.transaction)
		case j == nil || j.state == rivertype.JobStateCompleted || j.state == rivertype.JobStateDiscarded || (j.state == rivertype.JobStateRunning && overdue == 0):
			e.attempts++
			e.hasError = true
			w.failed(e)
		}
	}
	return in.Sweep(w.t.Context(), overdue)
}

// anyJob returns a job in one of the states or, without them, any, a live one more
// often than others.
func (w *world) anyJob(o operation, states ...rivertype.JobState) *modelJob {
	var jobs []*modelJob
	for _, id := range w.jobIDs() {
		j := w.jobs[id]
		if slices.Contains(states, j.state) || (len(states) == 0 && (o.b%2 == 0 || w.isLive(j))) {
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	return jobs[o.a%len(jobs)]
}

func (w *world) retryJob(o operation) error {
	// Those that were not worked yet stay as they are.
	return w.onPage(o, "retry", w.tables.Queue.JobRetry, rivertype.JobStateCompleted, rivertype.JobStateDiscarded, rivertype.JobStateCancelled)
}

func (w *world) deleteJob(o operation) error {
	return w.onPage(o, "delete", w.tables.Queue.JobDelete)
}

func (w *world) cancelJob(o operation) error {
	return w.onPage(o, "cancel", func(ctx context.Context, job int64) (*rivertype.JobRow, error) {
		for _, a := range w.running { // as the client does that works the job
			if a.job.id == job {
				a.canceled = true
				a.cancel(rivertype.ErrJobCancelledRemotely)
			}
		}
		return w.tables.Queue.JobCancel(ctx, job)
	})
}

func (w *world) onPage(o operation, name string, do func(context.Context, int64) (*rivertype.JobRow, error), states ...rivertype.JobState) error {
	j := w.anyJob(o, states...)
	if j == nil {
		return nil
	}
	w.logf("%s job %d of %s, which is %s", name, j.id, j.event.name, j.state)
	_, err := do(w.t.Context(), j.id)
	if errors.Is(err, rivertype.ErrJobRunning) {
		return nil
	}
	return err
}

// rescueJob does what River's rescuer does to a job that has been running for a
// day: its attempt may still run.
func (w *world) rescueJob(o operation) error {
	j := w.anyJob(o)
	if j == nil || j.state != rivertype.JobStateRunning {
		return nil
	}
	w.logf("rescue job %d of %s", j.id, j.event.name)
	return w.tables.End(w.t.Context(), j.id, rivertype.JobStateDiscarded)
}

func (w *world) replay(o operation) error {
	if len(w.events) == 0 {
		return nil
	}
	e := w.events[o.b%len(w.events)]
	for i := range w.events { // rather one that can be replayed
		if other := w.events[(o.b+i)%len(w.events)]; other.state == "dead" || other.state == "quarantined" {
			e = other
			break
		}
	}
	if o.c%5 == 0 {
		e = w.events[o.b%len(w.events)]
	}
	w.logf("replay %s, force %t", e.name, o.yes)
	var opts []inbox.ReplayOption
	if o.yes {
		opts = append(opts, inbox.Force())
	}
	err := w.replica(o.a).Replay(w.t.Context(), e.id, opts...)

	newer := false
	for _, other := range w.events {
		if other.state == "done" && other.transaction == e.transaction && other.external == e.external {
			newer = newer || (e.state == "dead" && other.seq > e.seq) || (e.state == "quarantined" && other.received > e.received)
		}
	}
	last := w.last(e.transaction, e.external)
	var wanted error
	switch {
	case e.state == "purged":
		wanted = inbox.ErrNotFound
	case e.state != "dead" && e.state != "quarantined":
		wanted = inbox.ErrNotReplayable
	case newer && !o.yes:
		wanted = inbox.ErrSuperseded
	case e.state == "dead":
		w.again(e)
	case last != nil && last.status == e.status && !o.yes:
		wanted = pixmed.ErrDuplicate
	default:
		w.enter(e)
	}
	return want("Replay", err, wanted)
}

func (w *world) purge(o operation) error {
	w.logf("purge, unfinished too %t", o.yes)
	var opts []inbox.PurgeOption
	if o.yes {
		opts = append(opts, inbox.Unfinished())
	}
	deleted, err := w.replica(o.a).Purge(w.t.Context(), 0, opts...)
	var wanted int64
	gone := func(e *modelEvent) {
		e.state = "purged"
		wanted++
	}
	for id := range w.cases {
		keep := false
		for _, e := range w.of(id) {
			keep = keep || e.state == "pending" || (e.state == "dead" && !o.yes)
		}
		if keep {
			continue
		}
		for _, e := range w.of(id) {
			gone(e)
		}
		delete(w.cases, id)
	}
	for _, e := range w.events {
		if e.state == "quarantined" && o.yes {
			gone(e)
		}
	}
	if err == nil && deleted != wanted {
		err = fmt.Errorf("%d events were purged instead of %d", deleted, wanted)
	}
	return err
}

// restart ends a process and begins another one. Stop would let the attempts end:
// here it has run out of time, or the process was killed.
func (w *world) restart(o operation) error {
	i := o.a % len(w.replicas)
	in := w.replicas[i]
	w.logf("restart, interrupted %t", o.yes)
	stop := func() error {
		ctx, cancel := context.WithTimeout(w.t.Context(), enginetest.Patience)
		defer cancel()
		return in.Stop(ctx)
	}
	kind := crash
	if o.yes {
		kind = interrupt
		in.Interrupt()
	} else if err := stop(); err != nil {
		return err
	}
	for k, a := range slices.Backward(w.running) {
		if a.replica != in {
			continue
		}
		if err := w.end(k, outcome{kind: kind}, kind == interrupt); err != nil {
			return err
		}
		// The next one finds the case as this one has left it.
		if err := w.compare(); err != nil {
			return err
		}
	}
	if o.yes {
		if err := stop(); err != nil {
			return err
		}
	}
	in, err := w.reopen()
	if err != nil {
		return err
	}
	w.replicas[i] = in
	if w.pool != nil {
		return nil
	}
	return w.sweepOn(in, 0) // as Start does where nobody else can be at work
}

// The model's rules.

func (w *world) newEvent(transaction, external, status string) *modelEvent {
	w.clock++
	e := &modelEvent{name: fmt.Sprintf("e%d", len(w.events)+1), transaction: transaction, external: external, status: status, received: w.clock}
	w.events = append(w.events, e)
	return e
}

// of returns the events of a transaction by their places.
func (w *world) of(transaction string) []*modelEvent {
	var events []*modelEvent
	for _, e := range w.events {
		if e.transaction == transaction && e.seq > 0 && e.state != "purged" {
			events = append(events, e)
		}
	}
	slices.SortFunc(events, func(a, b *modelEvent) int { return int(a.seq - b.seq) })
	return events
}

// last returns the event of a key that was accepted last.
func (w *world) last(transaction, external string) (last *modelEvent) {
	for _, e := range w.of(transaction) {
		if e.external == external {
			last = e
		}
	}
	return last
}

// enter gives an event the next place of its case.
func (w *world) enter(e *modelEvent) {
	c := w.cases[e.transaction]
	if c == nil {
		c = &modelCase{next: 1}
		w.cases[e.transaction] = c
	}
	e.seq, e.state = c.next, "pending"
	c.next++
	if c.live == nil {
		w.issue(e)
	}
}

// again makes a dead event pending.
func (w *world) again(e *modelEvent) {
	e.state, e.failures, e.discarded, e.again = "pending", 0, false, true
	if w.cases[e.transaction].live == nil {
		w.issue(e)
	}
}

// issue gives a case a new live job.
func (w *world) issue(e *modelEvent) {
	c := w.cases[e.transaction]
	c.live, c.changed = &modelJob{event: e}, true
}

// next goes on with the lowest place that is pending.
func (w *world) next(transaction string) {
	w.cases[transaction].live = nil
	for _, e := range w.of(transaction) {
		if e.state == "pending" {
			w.issue(e)
			return
		}
	}
}

func (w *world) isLive(j *modelJob) bool {
	c := w.cases[j.event.transaction]
	return c != nil && c.live != nil && c.live.id == j.id
}

func (w *world) jobIDs() []int64 {
	ids := make([]int64, 0, len(w.jobs))
	for id := range w.jobs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// compare compares the tables with the model, and learns the ids and numbers of
// what is new in them.
func (w *world) compare() error {
	ctx := w.t.Context()
	events, err := w.tables.Events(ctx)
	if err != nil {
		return err
	}
	cases, err := w.tables.Cases(ctx)
	if err != nil {
		return err
	}
	jobs, err := w.tables.Jobs(ctx)
	if err != nil {
		return err
	}
	names, err := w.compareEvents(events)
	if err != nil {
		return err
	}
	if err := w.compareCases(names, cases, jobs); err != nil {
		return err
	}
	if w.pool == nil {
		return nil
	}
	effects, err := w.tables.Strings(ctx, "SELECT event FROM effects")
	if err != nil {
		return err
	}
	slices.Sort(effects)
	if diff := cmp.Diff(slices.Sorted(slices.Values(w.effects)), effects, cmpopts.EquateEmpty()); diff != "" {
		return fmt.Errorf("effects (-model +tables):\n%s", diff)
	}
	return nil
}

// compareEvents returns the events by id.
func (w *world) compareEvents(rows []enginetest.EventRow) (map[string]*modelEvent, error) {
	byID := make(map[string]*modelEvent)
	var model, found []string
	show := func(r *enginetest.EventRow, name string) string {
		return fmt.Sprintf("%s %s#%d %q %s: %s %d/%d discarded=%t error=%t", name, r.TransactionID, r.Seq, r.ExternalID, r.Status, r.State, r.Attempts, r.Failures, r.Discarded, r.HasError)
	}
	known := make(map[string]bool)
	for _, r := range rows {
		known[r.ID] = true
	}
	var unknown *modelEvent
	for _, e := range w.events {
		if e.id == "" {
			unknown = e // there is one at most
		} else {
			byID[e.id] = e
		}
		if e.state == "purged" {
			continue
		}
		r := enginetest.EventRow{
			TransactionID: e.transaction, ExternalID: e.external, Status: e.status, Seq: e.seq, State: e.state,
			Attempts: e.attempts, Failures: e.failures, Discarded: e.discarded, HasError: e.hasError,
		}
		if e.state == "quarantined" {
			r.TransactionID, r.ExternalID, r.Status = "", "", ""
		}
		model = append(model, show(&r, e.name))
	}
	for _, r := range rows {
		e := byID[r.ID]
		if e == nil && unknown != nil {
			e, unknown.id, unknown = unknown, r.ID, nil
			byID[r.ID] = e
		}
		name := "unknown"
		if e != nil {
			name = e.name
		}
		found = append(found, show(&r, name))
	}
	slices.Sort(model)
	slices.Sort(found)
	if diff := cmp.Diff(model, found, cmpopts.EquateEmpty()); diff != "" {
		return nil, fmt.Errorf("events (-model +tables):\n%s", diff)
	}
	return byID, w.checkOrder(byID, rows)
}

// checkOrder is about what was neither revived nor replayed: it is done in the
// order in which it was accepted.
func (w *world) checkOrder(byID map[string]*modelEvent, rows []enginetest.EventRow) error {
	for _, a := range rows {
		for _, b := range rows {
			if a.TransactionID == b.TransactionID && a.State == "done" && b.State == "done" && a.Seq < b.Seq && a.DoneAt > b.DoneAt &&
				!byID[a.ID].again && !byID[b.ID].again {
				return fmt.Errorf("%s was done before %s, which was accepted before it", byID[b.ID].name, byID[a.ID].name)
			}
		}
	}
	return nil
}

func (w *world) compareCases(byID map[string]*modelEvent, rows map[string]enginetest.CaseRow, jobs []enginetest.JobRow) error {
	before := w.jobs
	w.jobs = make(map[int64]*modelJob)
	fresh := 0 // jobs that were not there before
	for _, r := range jobs {
		j := before[r.ID]
		if j == nil {
			j = &modelJob{id: r.ID, event: byID[r.Event]}
			fresh++
		}
		if j.event == nil || j.event.id != r.Event {
			return fmt.Errorf("job %d is for %s, which is no event", r.ID, r.Event)
		}
		j.state = r.State
		w.jobs[r.ID] = j
	}
	for id, row := range rows {
		c := w.cases[id]
		if c == nil {
			c = &modelCase{next: 1} // what comes late may leave a row for a case that was purged
		}
		if err := w.compareCase(c, row, byID); err != nil {
			return fmt.Errorf("case %s: %w", id, err)
		}
		if c.changed {
			j := w.jobs[row.LiveJob]
			if j == nil || before[row.LiveJob] != nil || j.event != c.live.event || j.state != rivertype.JobStateAvailable {
				return fmt.Errorf("case %s: the live job, %d, is no new one for %s: %+v", id, row.LiveJob, c.live.event.name, j)
			}
			c.live, c.changed = j, false
			fresh--
		}
	}
	for id, c := range w.cases {
		if _, ok := rows[id]; !ok {
			return fmt.Errorf("case %s is gone", id)
		}
		if c.live != nil {
			continue
		}
		for _, e := range w.of(id) {
			if e.state == "pending" {
				return fmt.Errorf("%s is pending, and its case has no live job", e.name)
			}
		}
	}
	if fresh != 0 {
		return fmt.Errorf("%d more jobs were inserted than are live", fresh)
	}
	return nil
}

func (w *world) compareCase(c *modelCase, row enginetest.CaseRow, byID map[string]*modelEvent) error {
	if row.NextSeq != c.next {
		return fmt.Errorf("the next place is %d instead of %d", row.NextSeq, c.next)
	}
	if c.live == nil {
		if row.LiveJob != 0 || row.LiveEvent != "" {
			return fmt.Errorf("job %d is live, and nothing is pending", row.LiveJob)
		}
		return nil
	}
	if e := byID[row.LiveEvent]; e != c.live.event {
		return fmt.Errorf("the live event is %+v instead of %s", e, c.live.event.name)
	}
	if !c.changed && row.LiveJob != c.live.id {
		return fmt.Errorf("the live job is %d instead of %d", row.LiveJob, c.live.id)
	}
	return nil
}

// drain lets everything end well: nothing may be stuck.
func (w *world) drain() error {
	for range 500 {
		switch {
		case len(w.running) > 0:
			if err := w.end(0, outcome{kind: succeed}, true); err != nil {
				return err
			}
		case len(w.unreported) > 0:
			if err := w.tell(0); err != nil {
				return err
			}
		default:
			var live []*modelJob
			for _, id := range w.transactions {
				if c := w.cases[id]; c != nil && c.live != nil {
					live = append(live, c.live)
				}
			}
			if len(live) == 0 {
				return nil
			}
			var err error
			if j := w.jobs[live[0].id]; j != nil && j.state == rivertype.JobStateAvailable {
				err = w.begin(operation{}, j)
			} else {
				err = w.sweepOn(w.replicas[0], 0)
			}
			if err != nil {
				return err
			}
		}
		if err := w.compare(); err != nil {
			return err
		}
	}
	return errors.New("it does not come to an end")
}
