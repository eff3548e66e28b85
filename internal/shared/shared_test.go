package shared_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pixmed-go/pixmed/internal/shared"
)

var errBroken = errors.New("broken")

func newValue(keep time.Duration, compute func(context.Context) (int, error)) *shared.Value[int] {
	return &shared.Value[int]{Keep: keep, Timeout: time.Minute, Now: time.Now, Compute: compute}
}

func get(ctx context.Context, v *shared.Value[int]) (int, error) {
	n, _, err := v.Get(ctx)
	return n, err
}

func TestValue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		s := newValue(3*time.Second, func(context.Context) (int, error) {
			time.Sleep(time.Second)
			return int(calls.Add(1)), nil
		})
		var waiting sync.WaitGroup
		ask := func(want int) {
			waiting.Go(func() {
				if n, err := get(t.Context(), s); n != want || err != nil {
					t.Errorf("got %d, %v, want %d", n, err, want)
				}
			})
		}
		for range 100 {
			ask(1) // all at once
		}
		waiting.Wait()
		ask(1) // it is kept
		waiting.Wait()
		time.Sleep(3 * time.Second)
		ask(2)
		synctest.Wait()
		s.Forget() // while it is computed: who asks from now on gets one that began later
		ask(3)
		waiting.Wait()
		s.Forget()
		ask(4)
		waiting.Wait()
	})
}

// Who hangs up does not end what others wait for, and need not wait for it.
func TestHangUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newValue(time.Hour, func(ctx context.Context) (int, error) {
			time.Sleep(time.Second)
			return 1, ctx.Err()
		})
		gone, hangUp := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := get(gone, s)
			first <- err
		}()
		synctest.Wait()
		second := make(chan error, 1)
		go func() {
			_, err := get(gone, s)
			second <- err
		}()
		synctest.Wait()
		hangUp()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if n, err := get(t.Context(), s); n != 1 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// An error is not kept, and a panic leaves nobody waiting.
func TestFails(t *testing.T) {
	t.Parallel()
	var calls int
	s := newValue(time.Hour, func(context.Context) (int, error) {
		switch calls++; calls {
		case 1:
			return 0, errBroken
		case 2:
			panic("broken")
		}
		return calls, nil
	})
	if _, err := get(t.Context(), s); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		_, _ = get(t.Context(), s)
	}()
	if n, err := get(t.Context(), s); n != 3 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

// A computation has a deadline, and a value knows when it was computed.
func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newValue(time.Hour, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		start := time.Now()
		_, at, err := v.Get(t.Context())
		if took := time.Since(start); took != time.Minute || !at.Equal(start) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v, %v", took, at, err)
		}
	})
}
