package line_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/line"
)

type outcome struct {
	Joined bool
	Err    error
}

// lines makes calls for one key and notes in which order they ran.
type lines struct {
	line.Lines[string, string]
	ran []string
}

// call makes a call in a goroutine, and returns once the call runs or waits.
func (l *lines) call(ctx context.Context, value string, f func() error) <-chan outcome {
	ended := make(chan outcome, 1)
	go func() {
		result := outcome{Err: errExited}
		defer func() {
			if recover() != nil {
				result.Err = errPanicked
			}
			ended <- result
		}()
		result.Joined, result.Err = l.Do(ctx, "key", value, func() error {
			l.ran = append(l.ran, value)
			return f()
		})
	}()
	synctest.Wait()
	return ended
}

var errBoom, errPanicked, errExited = errors.New("boom"), errors.New("panicked"), errors.New("exited")

// takes returns a function that takes a while, on the bubble's clock.
func takes(d time.Duration, err error) func() error {
	return func() error {
		time.Sleep(d)
		return err
	}
}

func TestCallsStandInLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lines
		calls := []<-chan outcome{
			l.call(t.Context(), "a", takes(time.Second, nil)),
			l.call(t.Context(), "a", takes(time.Second, nil)), // joins the first
			l.call(t.Context(), "b", takes(time.Second, errBoom)),
			l.call(t.Context(), "a", takes(time.Second, nil)), // does not: b is between them
			l.call(t.Context(), "a", takes(time.Second, nil)), // joins the one before
		}
		if n := l.Len(); n != 1 {
			t.Errorf("%d lines, want 1", n)
		}
		for i, want := range []outcome{{false, nil}, {true, nil}, {false, errBoom}, {false, nil}, {true, nil}} {
			if got := <-calls[i]; got != want {
				t.Errorf("call %d: %v, want %v", i, got, want)
			}
		}
		if diff := cmp.Diff([]string{"a", "b", "a"}, l.ran); diff != "" || l.Len() != 0 {
			t.Errorf("%d lines are left; order (-want +got):\n%s", l.Len(), diff)
		}
	})
}

// However a call ends, those that joined it get an outcome, and the line goes on.
func TestOutcomesAreShared(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end           func() error
		first, joined string
	}{
		"success": {func() error { return nil }, "<nil>", "<nil>"},
		"error":   {func() error { return errBoom }, "boom", "boom"},
		"panic":   {func() error { panic("boom") }, "panicked", "the identical delivery that was being handled panicked"},
		"Goexit":  {func() error { runtime.Goexit(); return nil }, "exited", "the identical delivery that was being handled panicked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var l lines
				slow := func() error {
					time.Sleep(time.Second)
					return test.end()
				}
				first, joined, next := l.call(t.Context(), "a", slow), l.call(t.Context(), "a", slow), l.call(t.Context(), "b", takes(0, nil))
				if got := <-first; got.Joined || fmt.Sprint(got.Err) != test.first {
					t.Errorf("the first: %v, want %s", got, test.first)
				}
				if got := <-joined; !got.Joined || fmt.Sprint(got.Err) != test.joined {
					t.Errorf("the one that joined: %v, want %s", got, test.joined)
				}
				if got := <-next; got != (outcome{}) || l.Len() != 0 {
					t.Errorf("the next: %v; %d lines are left", got, l.Len())
				}
			})
		})
	}
}

func TestLateFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lines
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := l.call(ctx, "a", takes(2*time.Second, errBoom))
		joined := l.call(t.Context(), "a", takes(0, nil))
		if got := <-first; got.Err != errBoom {
			t.Errorf("the first: %v", got)
		}
		if got := <-joined; !got.Joined || !errors.Is(got.Err, line.ErrLate) || !errors.Is(got.Err, errBoom) {
			t.Errorf("the one that joined: %v, want ErrLate", got)
		}
	})
}

// A call that gives up leaves the calls around it in their order. One that joined
// it takes its place at the end, and nothing can join what has given up.
func TestAbandonedCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lines
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		long, cancelLong := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancelLong()
		calls := []<-chan outcome{
			l.call(t.Context(), "1", takes(2*time.Second, nil)),
			l.call(short, "2", takes(0, nil)),                   // gives up after a second
			l.call(t.Context(), "2", takes(0, nil)),             // had joined it
			l.call(short, "2", takes(0, nil)),                   // had joined it, and gives up too
			l.call(t.Context(), "3", takes(2*time.Second, nil)), // runs after 1
			l.call(long, "4", takes(0, nil)),                    // gives up while 3 runs
		}
		for i, want := range []error{nil, context.DeadlineExceeded, nil, context.DeadlineExceeded, nil, context.DeadlineExceeded} {
			if got := <-calls[i]; got.Err != want {
				t.Errorf("call %d: %v, want %v", i, got, want)
			}
		}
		if got := <-l.call(t.Context(), "4", takes(0, nil)); got != (outcome{}) || l.Len() != 0 {
			t.Errorf("a later call: %v; %d lines are left", got, l.Len())
		}
		if diff := cmp.Diff([]string{"1", "3", "2", "4"}, l.ran); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestKeysDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	var l line.Lines[int, int]
	_, err := l.Do(t.Context(), 1, 0, func() error {
		_, err := l.Do(t.Context(), 2, 0, func() error { return errBoom })
		return err
	})
	if err != errBoom {
		t.Errorf("got %v", err)
	}
}

func TestUnderLoad(t *testing.T) {
	t.Parallel()
	const keys = 3
	var (
		l       line.Lines[int, int]
		running [keys]atomic.Int32
		ran     atomic.Int32
		alone   atomic.Int32
		wg      sync.WaitGroup
	)
	for g := range 100 {
		wg.Go(func() {
			for i := range 50 {
				key := (g + i) % keys
				joined, err := l.Do(t.Context(), key, (g/keys+i)%4, func() error {
					if n := running[key].Add(1); n != 1 {
						t.Errorf("%d calls for one key at once", n)
					}
					defer running[key].Add(-1)
					runtime.Gosched()
					ran.Add(1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if !joined {
					alone.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if ran.Load() != alone.Load() || l.Len() != 0 {
		t.Errorf("%d calls ran for %d that did not join; %d lines are left", ran.Load(), alone.Load(), l.Len())
	}
}
