package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// committer is the one goroutine that writes: accepts, settlements and claims, all
// in one transaction. While one transaction commits, the next batch gathers.
// Nothing waits for a timer, so a request that comes alone waits for nobody.
type committer struct {
	engine  ledger.Engine
	config  *config.Config
	log     *slog.Logger
	accepts chan *request // bounded: full means busy
	own     chan *request // of the inbox itself: never refused
	look    chan struct{} // something may be due
	quit    chan struct{}
	ended   chan struct{}

	claiming sync.Mutex // held from a claim until its attempts have begun
	workers  *workers   // nil unless attempts may begin

	// The goroutine's own.
	again    []*request // those whose guess was wrong
	parked   []*request // whose case somebody else holds
	nextDue  time.Time  // when something will be due, as far as is known
	busy     bool       // no worker was free to claim for
	failing  time.Time  // when the database became unavailable; zero while it works
	refusals int        // how many notifications were not stored since then

	mu      sync.RWMutex
	refused bool
}

type request struct {
	op   *ledger.Op
	size int
	done chan error

	// While it is parked.
	since  time.Time // when it was first tried
	blocks bool      // whether a transaction that tries it waits
}

var errStopping = fmt.Errorf("%w: the inbox is stopping", pixmed.ErrBusy)

func newCommitter(engine ledger.Engine, c *config.Config) *committer {
	co := &committer{
		engine: engine, config: c, log: c.Logger,
		accepts: make(chan *request, c.QueueSize),
		own:     make(chan *request),
		look:    make(chan struct{}, 1),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go co.run()
	return co
}

// accept commits the operation of a sender, unless the queue is full. If ctx ends
// first, the operation may still be committed.
func (co *committer) accept(ctx context.Context, op *ledger.Op) error {
	r := newRequest(op)
	co.mu.RLock()
	if co.refused {
		co.mu.RUnlock()
		return errStopping
	}
	select {
	case co.accepts <- r:
		co.mu.RUnlock()
	default:
		co.mu.RUnlock()
		return fmt.Errorf("%w: %d notifications wait for the database", pixmed.ErrBusy, cap(co.accepts))
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: the database has not answered yet: %w", pixmed.ErrBusy, context.Cause(ctx))
	}
}

// commit commits one of the inbox's own operations.
func (co *committer) commit(ctx context.Context, op *ledger.Op) error {
	r := newRequest(op)
	select {
	case co.own <- r:
	case <-co.ended:
		return errStopping
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newRequest(op *ledger.Op) *request {
	r := &request{op: op, done: make(chan error, 1)}
	for _, e := range []*ledger.Event{op.New, op.Quarantine} {
		if e != nil {
			r.size += len(e.Raw) + len(e.ExternalID)
		}
	}
	return r
}

// claimFor starts claiming what is due for workers; nil stops it. When it returns,
// every attempt that was claimed before has begun.
func (co *committer) claimFor(w *workers) {
	co.claiming.Lock()
	co.workers = w
	co.claiming.Unlock()
	co.wake()
}

// wake makes the committer look for what is due. It never blocks.
func (co *committer) wake() {
	select {
	case co.look <- struct{}{}:
	default: // it is about to look
	}
}

// refuses reports whether accepts fail.
func (co *committer) refuses() bool {
	co.mu.RLock()
	defer co.mu.RUnlock()
	return co.refused
}

// refuse makes every further accept fail.
func (co *committer) refuse() {
	co.mu.Lock()
	defer co.mu.Unlock()
	co.refused = true
}

// stop commits what is queued and ends the goroutine. It must be called once,
// after refuse and the last commit.
func (co *committer) stop() {
	close(co.quit)
	<-co.ended
}

func (co *committer) run() {
	defer close(co.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var first *request
		var look bool
		if len(co.again) == 0 {
			select {
			case first = <-co.own:
				// Callbacks that have begun together and are quick return together.
				runtime.Gosched()
			case first = <-co.accepts:
			case <-co.look:
				look = true
			case <-timer.C:
				look = true
			case <-co.quit:
				select {
				case first = <-co.accepts:
				default:
					for _, r := range co.parked {
						r.done <- errStopping
					}
					return
				}
			}
		}
		co.write(co.gather(first), look)
		timer.Reset(co.pause())
	}
}

// gather takes what is there, without waiting.
func (co *committer) gather(first *request) []*request {
	batch, size := co.again, 0
	co.again = nil
	for r := first; ; {
		if r == nil {
			select {
			case r = <-co.own:
			default:
				select {
				case r = <-co.accepts:
				default:
					return batch
				}
			}
		}
		if alone(r) {
			co.write([]*request{r}, false)
		} else {
			batch, size = append(batch, r), size+r.size
		}
		if len(batch) >= co.config.MaxBatch || size >= co.config.MaxBatchBytes {
			return batch
		}
		r = nil
	}
}

// alone reports whether an operation needs a transaction of its own: one that
// loads all events of its case would miss those that other operations add.
func alone(r *request) bool { return r.op.All || r.op.Event != "" }

// write commits a batch, claims what is due for the workers that are free, and
// begins what was claimed.
func (co *committer) write(batch []*request, look bool) {
	co.claiming.Lock()
	defer co.claiming.Unlock()
	batch, blocked := co.unpark(batch)
	look = look || (!co.nextDue.IsZero() && !time.Now().Before(co.nextDue)) ||
		slices.ContainsFunc(batch, func(r *request) bool { return r.op.Delayed })
	var claim *ledger.Claim
	if free := co.workers.free(); free > 0 {
		claim = &ledger.Claim{Max: min(free, co.config.MaxBatch), Lease: co.config.Overdue, Look: look}
	}
	if len(batch) > 0 || claim != nil {
		co.commitBatch(batch, claim)
	}
	if len(blocked) > 0 {
		co.commitBatch(blocked, claim)
	}
	if co.busy = claim == nil; !co.busy && claim.Made {
		co.claimed(claim)
	}
	if slices.ContainsFunc(blocked, func(r *request) bool { return r.op.Delayed && r.op.Err == nil }) {
		co.nextDue = time.Now() // the claim came before them
	}
}

// unpark returns a batch with what is parked. Requests that would make the whole
// batch wait are returned apart, those of one case at a time.
func (co *committer) unpark(batch []*request) (free, blocked []*request) {
	if len(co.parked) == 0 || slices.ContainsFunc(batch, alone) {
		return batch, nil
	}
	blocks := make(map[string]bool)
	for _, r := range co.parked {
		if r.blocks {
			blocks[r.op.TransactionID] = true
		}
	}
	all := slices.Concat(co.parked, batch)
	co.parked = nil
	for _, r := range all {
		switch id := r.op.TransactionID; {
		case !blocks[id] || id == "":
			free = append(free, r)
		case len(blocked) == 0, blocked[0].op.TransactionID == id && !alone(blocked[0]) && !alone(r):
			blocked = append(blocked, r)
		default:
			co.parked = append(co.parked, r)
		}
	}
	return free, blocked
}

// commitBatch commits requests and answers those that need not be tried again.
func (co *committer) commitBatch(batch []*request, claim *ledger.Claim) {
	ops := make([]*ledger.Op, len(batch))
	for i, r := range batch {
		ops[i] = r.op
		r.op.Err, r.op.Blocks, r.op.Wrong = nil, false, false
	}
	start := time.Now()
	err := co.commitAll(ops, claim)
	co.noteOutage(err, ops, start)
	for _, r := range batch {
		switch {
		case r.op.Wrong:
			co.again = append(co.again, r)
		case !errors.Is(r.op.Err, ledger.ErrLocked) || !co.park(r, start):
			r.done <- outcome(r.op.Err)
		}
	}
}

// claimed begins what was claimed.
func (co *committer) claimed(claim *ledger.Claim) {
	if claim.Look {
		co.nextDue = time.Time{}
		if claim.Next >= 0 {
			co.nextDue = time.Now().Add(claim.Next + time.Millisecond)
		}
	}
	for _, a := range claim.Attempts {
		co.workers.begin(a)
	}
	for _, h := range claim.Headless {
		co.log.Error("pixmed: a case was due although nothing is pending in it; it was repaired", "transaction_id", h.TransactionID)
		co.parked = append(co.parked, newRequest(&ledger.Op{TransactionID: h.TransactionID, Apply: func(c *ledger.Case) { c.Repair(h.Lease) }}))
	}
	if len(claim.Attempts) == claim.Max { // there may be more than it could take
		co.nextDue = time.Now()
	}
}

// commitAll commits operations and sets their errors. An operation that the database
// rejects, or whose case somebody else holds, fails alone. It returns an error if the
// database is unavailable.
func (co *committer) commitAll(ops []*ledger.Op, claim *ledger.Claim) error {
	ctx, cancel := context.WithTimeout(context.Background(), co.config.CommitTimeout)
	err := co.engine.Commit(ctx, ops, claim)
	cancel()
	refused, locked := errors.Is(err, ledger.ErrRefused), errors.Is(err, ledger.ErrLocked)
	switch {
	case err == nil:
		return nil
	case len(ops) > 1 && (refused || locked && differ(ops)):
		half := len(ops) / 2
		if err := co.commitAll(ops[:half], claim); err != nil {
			fail(ops[half:], err)
			return err
		}
		return co.commitAll(ops[half:], claim)
	case refused && len(ops) == 1 && ops[0].New != nil:
		kept := quarantined(ops[0].New, err)
		if again := co.commitAll([]*ledger.Op{kept}, claim); again != nil {
			fail(ops, again)
			return again
		}
		if ops[0].Err = kept.Err; kept.Err == nil {
			ops[0].Err = &keptError{err}
		}
		return nil
	}
	fail(ops, err)
	if refused || locked {
		for _, op := range ops {
			op.Blocks = locked
		}
		return nil
	}
	return err
}

// differ reports whether operations are on more than one case.
func differ(ops []*ledger.Op) bool {
	return slices.ContainsFunc(ops, func(op *ledger.Op) bool { return op.TransactionID != ops[0].TransactionID })
}

func fail(ops []*ledger.Op, err error) {
	for _, op := range ops {
		op.Err = err
	}
}

// quarantined returns the operation that keeps an event whose data the database
// rejects: its body as it came, outside any case.
func quarantined(e *ledger.Event, cause error) *ledger.Op {
	return &ledger.Op{Quarantine: &ledger.Event{
		ID: e.ID, Raw: e.Raw, Digest: ledger.NewDigest(e.Raw), State: ledger.Quarantined, ReceivedAt: e.ReceivedAt, Metadata: e.Metadata,
		LastError: errorText(cause),
	}}
}

// keptError is the error of an operation whose event went to quarantine.
type keptError struct{ cause error }

func (e *keptError) Error() string { return "it was quarantined: " + e.cause.Error() }

// park keeps a request, whose case somebody else holds, for the next transaction,
// unless it has waited too long.
func (co *committer) park(r *request, now time.Time) bool {
	if r.since.IsZero() {
		r.since = now
	}
	if time.Since(r.since) >= co.config.LockPatience {
		return false
	}
	r.blocks = r.op.Blocks || alone(r)
	co.parked = append(co.parked, r)
	return true
}

// parkPause is how long parked requests wait before they are tried again.
const parkPause = 20 * time.Millisecond

// pause returns how long to wait for something to do.
func (co *committer) pause() time.Duration {
	pause := co.config.PollInterval
	pause += rand.N(pause/5+1) - pause/10 //nolint:gosec // so that processes do not all look at once
	if len(co.parked) > 0 {
		pause = min(pause, parkPause)
	}
	if !co.nextDue.IsZero() && !co.busy && co.failing.IsZero() {
		pause = min(pause, max(time.Until(co.nextDue), 0))
	}
	return pause
}

// noteOutage logs when an outage of the database begins, when notifications are first
// refused in it, and when it ends.
func (co *committer) noteOutage(err error, ops []*ledger.Op, start time.Time) {
	refused := 0
	for _, op := range ops {
		if op.New != nil || op.Quarantine != nil {
			refused++
		}
	}
	switch {
	case err == nil && !co.failing.IsZero():
		co.log.Info("pixmed: the database works again", "after", time.Since(co.failing).Round(time.Millisecond), "refused", co.refusals)
		co.failing, co.refusals = time.Time{}, 0
	case err == nil:
	case refused > 0 && co.refusals == 0:
		co.log.Error("pixmed: notifications cannot be stored; their senders are answered 503 until the database works again",
			"error", logText(err), "took", time.Since(start).Round(time.Millisecond))
	case co.failing.IsZero():
		co.log.Error("pixmed: the database fails; the inbox tries again until it works", "error", logText(err))
	}
	if err != nil {
		co.refusals += refused
		if co.failing.IsZero() {
			co.failing = start
		}
	}
}

// outcome returns what the caller of an operation is told.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ledger.ErrLocked), errors.Is(err, ledger.ErrUnavailable):
		return fmt.Errorf("%w: %w", pixmed.ErrBusy, err)
	default:
		return fmt.Errorf("not stored: %w", err)
	}
}
