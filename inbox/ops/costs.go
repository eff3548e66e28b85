package ops

import (
	"context"
	"sync"
	"time"
)

// shared is computed by one request at a time, for all that ask meanwhile, and kept
// for a while.
type shared[T any] struct {
	keep    time.Duration
	timeout time.Duration // of a computation
	now     func() time.Time
	compute func(context.Context) (T, error)

	mu   sync.Mutex
	last *computation[T] // which may be going on
}

type computation[T any] struct {
	done  chan struct{}
	stale bool // something was changed since it began

	value T
	err   error
	at    time.Time
}

// get returns the value and when it was computed.
func (s *shared[T]) get(ctx context.Context) (T, time.Time, error) {
	for {
		c, mine := s.current()
		if mine {
			s.run(ctx, c)
			return c.value, c.at, c.err
		}
		select {
		case <-c.done:
		case <-ctx.Done():
			var none T
			return none, time.Time{}, ctx.Err()
		}
		s.mu.Lock()
		stale := c.stale
		s.mu.Unlock()
		if !stale {
			return c.value, c.at, c.err
		}
	}
}

// current returns the computation to wait for. If it is mine, the caller has to run
// it.
func (s *shared[T]) current() (c *computation[T], mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.last; c != nil {
		select {
		case <-c.done:
			if age := s.now().Sub(c.at); c.err == nil && !c.stale && age >= 0 && age < s.keep {
				return c, false
			}
		default:
			return c, false
		}
	}
	s.last = &computation[T]{done: make(chan struct{})}
	return s.last, true
}

// run computes. Others wait for it, so it does not end when its own client hangs up.
func (s *shared[T]) run(ctx context.Context, c *computation[T]) {
	defer close(c.done)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	c.at = s.now()
	c.err = context.Canceled // should it panic
	c.value, c.err = s.compute(ctx)
}

// forget has the value computed again when it is asked for next.
func (s *shared[T]) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil {
		s.last.stale = true
	}
}

// turn lets one at a time through.
type turn chan struct{}

// wait waits for it, and returns what to call at the end.
func (t turn) wait(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
