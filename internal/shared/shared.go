// Package shared computes a value once for all concurrent callers and keeps it for
// a while, so that counts cost many callers what they cost one.
package shared

import (
	"context"
	"sync"
	"time"
)

// Value is computed by one goroutine at a time. Its fields are set before it is used.
type Value[T any] struct {
	// Compute returns the value. Its context ends after Timeout, and not when the
	// first caller's ends: others wait for it.
	Compute func(context.Context) (T, error)
	// Keep is how long a value is given out. An error is not kept.
	Keep time.Duration
	// Timeout is how long Compute may take.
	Timeout time.Duration
	// Now is the clock.
	Now func() time.Time

	mu   sync.Mutex
	last *computation[T] // which may be going on
}

type computation[T any] struct {
	done  chan struct{}
	stale bool // Forget was called since it began

	value T
	err   error
	at    time.Time
}

// Get returns the value and when its computation began. It returns the context's
// error if that ends while another goroutine computes.
func (v *Value[T]) Get(ctx context.Context) (T, time.Time, error) {
	for {
		c, mine := v.current()
		if mine {
			v.run(ctx, c)
			return c.value, c.at, c.err
		}
		select {
		case <-c.done:
		case <-ctx.Done():
			var none T
			return none, time.Time{}, ctx.Err()
		}
		if !v.isStale(c) {
			return c.value, c.at, c.err
		}
	}
}

// Forget marks the value as stale, so that the next Get computes it again.
func (v *Value[T]) Forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last != nil {
		v.last.stale = true
	}
}

func (v *Value[T]) isStale(c *computation[T]) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return c.stale
}

// current returns the computation to wait for. If it is mine, the caller has to run
// it.
func (v *Value[T]) current() (c *computation[T], mine bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c := v.last; c != nil {
		select {
		case <-c.done:
			if age := v.Now().Sub(c.at); c.err == nil && !c.stale && age >= 0 && age < v.Keep {
				return c, false
			}
		default:
			return c, false
		}
	}
	v.last = &computation[T]{done: make(chan struct{})}
	return v.last, true
}

func (v *Value[T]) run(ctx context.Context, c *computation[T]) {
	defer close(c.done)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.Timeout)
	defer cancel()
	c.at = v.Now()
	c.err = context.Canceled // should Compute panic
	c.value, c.err = v.Compute(ctx)
}
