// Package line runs the calls for one key one at a time, in the order in which
// they came, and lets identical calls share one outcome.
package line

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrLate is returned to a call that joined an identical one which failed, and
// whose context had ended by then: another attempt might succeed.
var ErrLate = errors.New("the identical delivery that was being handled ran out of time")

// errUnfinished is what calls get that joined one whose function panicked.
var errUnfinished = errors.New("the identical delivery that was being handled panicked")

// Lines are the calls that are running or waiting, a line for each key. Calls for
// one key with equal values are identical. The zero value is ready to use.
type Lines[K, V comparable] struct {
	mu   sync.Mutex
	last map[K]*call[V] // of each line
}

// call is a place in a line.
type call[V comparable] struct {
	value V
	ahead *call[V]      // the call before it, nil if there was none
	ended bool          // guarded by the Lines' mutex
	done  chan struct{} // closed when it has ended

	// To be read after done.
	err       error // its outcome
	late      bool  // it failed, and its context had ended by then
	abandoned bool  // its context ended before its turn; calls that joined it go on
}

// Do runs f when it is the key's turn. If the last call in the line has the same
// value, Do waits for that one instead, and returns its outcome with joined set.
// It returns the context's error if the context ends first.
//
// Whatever happens in f, a panic or runtime.Goexit included, the line goes on. f
// must not call Do for the same key, since it would wait for itself.
func (l *Lines[K, V]) Do(ctx context.Context, key K, value V, f func() error) (joined bool, err error) {
	c, joined := l.enter(key, value)
	for joined {
		if !wait(ctx, c) {
			return true, ctx.Err()
		}
		switch {
		case c.late:
			return true, fmt.Errorf("%w: %w", ErrLate, c.err)
		case !c.abandoned:
			return true, c.err
		}
		c, joined = l.enter(key, value)
	}

	err = errUnfinished
	defer func() { l.leave(key, c, err) }()
	for ahead := c.ahead; ahead != nil; ahead = ahead.ahead { // more than one if the next was abandoned
		if !wait(ctx, ahead) {
			c.abandoned = true
			err = ctx.Err()
			return false, err
		}
	}
	err = f()
	c.late = err != nil && ctx.Err() != nil
	return false, err
}

// Len returns how many keys have calls.
func (l *Lines[K, V]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.last)
}

// wait reports whether the call ended before the context did.
func wait[V comparable](ctx context.Context, c *call[V]) bool {
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// enter puts a call at the end of a line, or joins the last one there if it has
// the same value. Only the last: joining a call further ahead would drop a value
// that the one in between changes.
func (l *Lines[K, V]) enter(key K, value V) (c *call[V], joined bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.last[key]
	if last != nil && last.value == value {
		return last, true
	}
	if l.last == nil {
		l.last = make(map[K]*call[V])
	}
	c = &call[V]{value: value, ahead: last, done: make(chan struct{})}
	l.last[key] = c
	return c, false
}

// leave ends a call.
func (l *Lines[K, V]) leave(key K, c *call[V], err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c.ahead != nil && c.ahead.ended { // all of them, unless c was abandoned
		c.ahead = c.ahead.ahead
	}
	switch {
	case l.last[key] != c:
	case c.ahead != nil:
		l.last[key] = c.ahead
	default:
		delete(l.last, key)
	}
	c.ended, c.err = true, err
	close(c.done)
}
