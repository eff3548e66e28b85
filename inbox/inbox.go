package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Inbox is a durable inbox. It is a [pixmed.Receiver] for the handler, and its workers
// call your receiver. Open it with package sqlite or postgres. Its methods may be
// called concurrently.
type Inbox struct {
	reads

	engine    ledger.Engine
	receiver  pixmed.Receiver
	config    *config.Config
	log       *slog.Logger
	committer *committer
	workers   *workers

	notReminding sync.Once // logs that this process calls no reminders

	mu       sync.Mutex
	state    lifecycle
	starting chan struct{} // closed when Start has returned; nil before it is called
	purged   chan struct{} // closed when the purge loop has ended
	ended    chan struct{} // closed when Stop has done everything
	endErr   error

	// They end when the purge loop must end, when Stop runs out of time, and when the
	// callbacks must end.
	purging, hurry, interrupted       context.Context //nolint:containedctx // they are signals
	stopPurging, hurryUp, interruptIt context.CancelFunc
}

type lifecycle int

const (
	opened lifecycle = iota
	started
	stopping
)

// newInbox returns an inbox that owns its engine.
func newInbox(engine ledger.Engine, receiver pixmed.Receiver, c *config.Config) *Inbox {
	in := &Inbox{
		reads: reads{engine}, engine: engine, receiver: receiver, config: c, log: c.Logger,
		committer: newCommitter(engine, c),
		purged:    make(chan struct{}), ended: make(chan struct{}),
	}
	in.workers = &workers{max: c.Workers, work: in.work}
	in.purging, in.stopPurging = context.WithCancel(context.Background())
	in.hurry, in.hurryUp = context.WithCancel(context.Background())
	in.interrupted, in.interruptIt = context.WithCancel(context.Background())
	return in
}

// Ready returns nil if notifications are accepted. Otherwise the error says why not:
// the inbox is stopping, the database does not answer or is read-only, or the disk is
// full. To find out it commits something, in one transaction with whatever else is
// being committed. It is for readiness checks: give it a context with a short timeout.
func (in *Inbox) Ready(ctx context.Context) error {
	if in.committer.refuses() {
		return errStopping
	}
	return in.committer.commit(ctx, &ledger.Op{Probe: true})
}

// Start begins to call the receiver, for what this process and others accept from now
// on and for what earlier ones left unfinished. Notifications are accepted before Start
// too. The workers run until Stop, not until ctx ends.
func (in *Inbox) Start(ctx context.Context) error {
	in.mu.Lock()
	switch {
	case in.state == stopping:
		in.mu.Unlock()
		return errors.New("start: the inbox is stopped; open it again")
	case in.starting != nil:
		in.mu.Unlock()
		return errors.New("start: the inbox is already started")
	}
	starting := make(chan struct{})
	in.starting = starting
	in.mu.Unlock()
	defer close(starting)

	err := in.recover(ctx)
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case err != nil:
		in.starting = nil // it may be tried again
		return fmt.Errorf("start: %w", err)
	case in.state == stopping:
		return errors.New("start: the inbox was stopped meanwhile")
	}
	in.state = started
	in.engine.Start(in.committer.wake)
	in.committer.claimFor(in.workers)
	go in.purgeLoop()
	return nil
}

// recover settles the attempts that a killed process left behind, if no other process
// can be running them: each counts as failed and is run again at once.
func (in *Inbox) recover(ctx context.Context) error {
	attempts, err := in.engine.Held(ctx)
	if err != nil || len(attempts) == 0 {
		return err
	}
	ops := make([]*ledger.Op, len(attempts))
	lost := ledger.Outcome{Error: lostReason, MaxFailures: in.config.MaxAttempts}
	for i, a := range attempts {
		ops[i] = &ledger.Op{TransactionID: a.TransactionID, Apply: func(c *ledger.Case) { settle(c, a, lost) }}
	}
	in.committer.claiming.Lock() // nobody else writes meanwhile
	defer in.committer.claiming.Unlock()
	if err := in.engine.Commit(ctx, ops, nil); err != nil {
		return err
	}
	in.log.WarnContext(ctx, "pixmed: the last process ended during attempts; they will run again", "attempts", len(ops))
	return nil
}

// Stop ends the inbox without losing anything. From then on Receive returns an error
// that wraps [pixmed.ErrBusy]. Stop stores what was already being accepted, waits for
// running callbacks, and closes the inbox; the pool that was given to package postgres
// stays open. When ctx ends, Stop cancels the contexts of the callbacks that still run
// and waits up to 5 s for them; they will run again. It returns nil once everything
// has ended. It may be called again, to wait for the rest, and on an inbox that was
// never started.
func (in *Inbox) Stop(ctx context.Context) error {
	in.committer.refuse()
	in.mu.Lock()
	was, starting := in.state, in.starting
	in.state = stopping
	in.mu.Unlock()
	if was != stopping {
		go in.end(was, starting)
	}
	select {
	case <-in.ended:
		return in.endErr
	case <-ctx.Done():
	}
	in.hurryUp()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-in.ended:
		return in.endErr
	case <-grace.C:
		return fmt.Errorf("stop: a callback ignores its context, or the database does not answer: %w", ctx.Err())
	}
}

// stopGrace is how long Stop waits for callbacks that it has cancelled.
const stopGrace = 5 * time.Second

func (in *Inbox) end(was lifecycle, starting chan struct{}) {
	defer close(in.ended)
	in.stopPurging()
	if starting != nil {
		<-starting
	}
	if was == started {
		<-in.purged
		in.committer.claimFor(nil)
		idle := make(chan struct{})
		go func() { in.workers.attempts.Wait(); close(idle) }()
		select {
		case <-idle:
		case <-in.hurry.Done():
			in.interruptIt()
			<-idle
		}
	}
	in.committer.stop() // after the last settlement
	in.hurryUp()
	in.interruptIt()
	in.endErr = in.engine.Close()
}
