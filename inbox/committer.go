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

// committer is the one goroutine that writes. While one transaction commits, the
// next batch gathers; nothing waits for a timer, so that a request that comes
// alone waits for nobody.
type committer struct {
	store   ledger.Store
	config  *config.Config
	log     *slog.Logger
	accepts chan *request // bounded: full means busy
	own     chan *request // of the inbox itself: never refused
	quit    chan struct{}
	ended   chan struct{}

	mu      sync.RWMutex
	refused bool
}

type request struct {
	op   *ledger.Op
	size int
	done chan error
}

var errStopping = fmt.Errorf("%w: the inbox is stopping", pixmed.ErrBusy)

func newCommitter(store ledger.Store, c *config.Config) *committer {
	co := &committer{
		store: store, config: c, log: c.Logger,
		accepts: make(chan *request, c.QueueSize),
		own:     make(chan *request),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go co.run()
	return co
}

// accept commits an operation of a sender's, unless the queue is full. When ctx
// ends first, the operation may still be committed.
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

// commit commits an operation of the inbox's own.
func (co *committer) commit(ctx context.Context, op *ledger.Op) error {
	r := newRequest(op)
	select {
	case co.own <- r:
	case <-co.ended:
		return errStopping
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-r.done // it is being committed: its outcome is worth the wait
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
	for {
		var first *request
		select {
		case first = <-co.own:
		case first = <-co.accepts:
		case <-co.quit:
			select {
			case first = <-co.accepts:
			default:
				return
			}
		}
		co.write(co.gather(first))
	}
}

// gather takes what is there, without waiting.
func (co *committer) gather(first *request) []*request {
	batch, size := []*request{first}, first.size
	for !alone(first) && len(batch) < co.config.MaxBatch && size < co.config.MaxBatchBytes {
		var r *request
		select {
		case r = <-co.own:
		default:
			select {
			case r = <-co.accepts:
			default:
				return batch
			}
		}
		if alone(r) {
			co.write([]*request{r})
			continue
		}
		batch, size = append(batch, r), size+r.size
	}
	return batch
}

// alone reports whether an operation needs a transaction of its own: one that
// loads all events of its case would miss those that others add beside it.
func alone(r *request) bool { return r.op.All || r.op.Event != "" }

func (co *committer) write(batch []*request) {
	ops := make([]*ledger.Op, len(batch))
	for i, r := range batch {
		ops[i] = r.op
	}
	ctx, cancel := context.WithTimeout(context.Background(), co.config.CommitTimeout)
	defer cancel()
	start := time.Now()
	err := co.store.Commit(ctx, ops)
	if err != nil {
		co.log.ErrorContext(ctx, "inbox: notifications could not be stored; the senders are told to come again",
			"operations", len(ops), "error", err, "took", time.Since(start))
	}
	for _, r := range batch {
		r.done <- outcome(err, r.op.Err)
	}
}

// outcome is what the caller of an operation learns.
func outcome(all, own error) error {
	err := all
	if err == nil {
		err = own
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ledger.ErrBusy):
		return fmt.Errorf("%w: %w", pixmed.ErrBusy, err)
	default:
		return fmt.Errorf("inbox: not stored: %w", err)
	}
}
