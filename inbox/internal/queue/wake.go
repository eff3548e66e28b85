package queue

import (
	"context"
	"sync"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
)

// waker wakes the workers of this process at once. By themselves they learn of
// new jobs from the database: from PostgreSQL by a notification that is left out
// when another was sent just before, from SQLite by asking every 50 ms.
type waker struct{ wake chan struct{} }

// Wake makes the workers look for jobs. It never blocks.
func (w *waker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default: // it is about to happen
	}
}

// wakeDriver wraps a driver. Only its listener is replaced, by that of another one,
// and everything else is passed on, since River does not promise that the
// interface stays as it is.
type wakeDriver[T any] struct {
	riverdriver.Driver[T]
	listen riverdriver.Driver[T]
	waker  *waker
}

func (d *wakeDriver[T]) GetListener(params *riverdriver.GetListenenerParams) riverdriver.Listener {
	return &listener{Listener: d.listen.GetListener(params), waker: d.waker}
}

// listener adds the waker's calls to a driver's notifications.
type listener struct {
	riverdriver.Listener
	waker *waker

	mu      sync.Mutex
	waiting *wait // the driver's wait, which may outlive several of ours
}

type wait struct {
	cancel context.CancelFunc
	done   chan struct{}
	got    *riverdriver.Notification
	err    error
}

// newJobs is the notification that River's own inserts send.
func newJobs() *riverdriver.Notification {
	return &riverdriver.Notification{Topic: "river_insert", Payload: `{"queue": "` + river.QueueDefault + `"}`}
}

// WaitForNotification implements [riverdriver.Listener].
func (l *listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	w := l.begin()
	select {
	case <-l.waker.wake:
		return newJobs(), nil
	case <-w.done:
		l.end(w)
		return w.got, w.err
	case <-ctx.Done():
		// The connection must be free when we return.
		w.cancel()
		<-w.done
		l.end(w)
		if w.got != nil {
			return w.got, nil
		}
		return nil, ctx.Err()
	}
}

func (l *listener) begin() *wait {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting != nil {
		return l.waiting
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &wait{cancel: cancel, done: make(chan struct{})}
	l.waiting = w
	go func() {
		defer close(w.done)
		w.got, w.err = l.Listener.WaitForNotification(ctx)
	}()
	return w
}

func (l *listener) end(w *wait) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.cancel()
	if l.waiting == w {
		l.waiting = nil
	}
}

// Close implements [riverdriver.Listener].
func (l *listener) Close(ctx context.Context) error {
	l.mu.Lock()
	w := l.waiting
	l.mu.Unlock()
	if w != nil {
		w.cancel()
		<-w.done
		l.end(w)
	}
	return l.Listener.Close(ctx)
}
