package inbox_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// No payload, and nobody's data, is in a log line or in the queue.
func TestNothingPersonalLeaks(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		var log syncBuilder
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		const canary = "CANARY"
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Debited {
				return errors.New("the ledger is closed")
			}
			return nil
		}), inbox.WithLogger(logger), inbox.WithMaxAttempts(2))
		deliver := func(id string, status pixmed.MEDStatus) {
			n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
				n.TransactionID, n.MEDStatus = id, status
				n.ExternalID, n.EndToEndID = canary+"-order", canary+"-e2e"
				n.Raw = pixmedtest.Payload(n.Infraction)
			})
			mustReceive(t, in, n)
		}
		id := enginetest.NewTransaction()
		deliver(id, pixmed.Acknowledged)
		deliver(id, pixmed.Debited)
		if err := in.Quarantine(t.Context(), []byte(canary), errors.New("medStatus: found "+canary)); err != nil {
			t.Fatal(err)
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Dead == 1 })
		events, err := in.List(t.Context(), inbox.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			logger.Info("an event", "event", e, "text", e.String())
			if e.State == inbox.Dead {
				if err := in.Replay(t.Context(), e.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Dead == 1 })
		mustStop(t, in)
		text := log.String()
		if strings.Contains(text, canary) {
			t.Errorf("the log holds a payload:\n%s", text)
		}
		for _, want := range []string{"an attempt failed", "the ledger is closed", "a notification is dead", "was quarantined", "replayed", id} {
			if !strings.Contains(text, want) {
				t.Errorf("the log does not say %q:\n%s", want, text)
			}
		}
	})
}

// syncBuilder is a strings.Builder for many goroutines.
type syncBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuilder) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// option has an inbox log to it.
func (s *syncBuilder) option() inbox.Option {
	return enginetest.Configure(func(c *config.Config) { c.Logger = slog.New(slog.NewTextHandler(s, nil)) })
}

func (s *syncBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestStopLetsCallbacksEnd(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		release := make(chan struct{})
		r := enginetest.NewRecorder(func(ctx context.Context, _ *pixmed.Notification) error {
			<-release
			return ctx.Err()
		})
		in := s.Start(t, r)
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		r.Next(t)
		stopped := make(chan error)
		go func() { stopped <- in.Stop(t.Context()) }()
		for { // it refuses from now on
			err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
			if errors.Is(err, pixmed.ErrBusy) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		close(release)
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		mustStop(t, in) // again
		events := historyOf(t, s.Open(t, r), id)
		if e := events[0]; e.State != inbox.Done || e.Attempts != 1 {
			t.Errorf("the event is %v, want it done at the first attempt", e)
		}
	})
}

// Callbacks that Stop cuts off run again, and it is not counted against them.
func TestStopCutsCallbacksOff(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(func(ctx context.Context, n *pixmed.Notification) error {
			if n.Attempt == 1 {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		in := s.Start(t, r, inbox.WithMaxAttempts(1))
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		r.Next(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := in.Stop(ctx); err != nil {
			t.Fatalf("Stop: %v", err)
		}
		in = s.Start(t, r, inbox.WithMaxAttempts(1))
		enginetest.Await(t, in)
		if e := historyOf(t, in, id)[0]; e.State != inbox.Done || e.Attempts != 2 {
			t.Errorf("the event is %v, want it done at the second attempt", e)
		}
	})
}

func TestStartAndStopMisused(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Start(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if err := in.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "already started") {
		t.Errorf("a second Start: %v", err)
	}
	mustStop(t, in)
	if err := in.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("Start after Stop: %v", err)
	}
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Debited)); !errors.Is(err, pixmed.ErrBusy) {
		t.Errorf("Receive after Stop: %v, want ErrBusy", err)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore))
		if err := in.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := in.Ready(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		if err := in.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := in.Ready(t.Context()); !errors.Is(err, pixmed.ErrBusy) {
			t.Errorf("after Stop: %v, want ErrBusy", err)
		}
	})
}

// Logs stay short, whatever is in a notification and in the errors about it.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	var log syncBuilder
	long := strings.Repeat("x", 60<<10)
	r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
		if n.Attempt%2 == 0 {
			panic(long)
		}
		return errors.New(long)
	})
	const attempts = 20
	in := s.Start(t, r, inbox.WithMaxAttempts(attempts), log.option())
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	n.ExternalID, n.Raw = long, nil
	mustReceive(t, in, n)
	enginetest.Await(t, in)
	mustStop(t, in)
	if size := len(log.String()); size > attempts*16<<10 {
		t.Errorf("%d KiB of log", size>>10)
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if err := in.Receive(t.Context(), nil); err == nil || errors.Is(err, pixmed.ErrBusy) {
		t.Errorf("Receive(nil): %v", err)
	}
	id := enginetest.NewTransaction()
	if err := in.Replay(t.Context(), id, nil); !errors.Is(err, inbox.ErrInvalidArgument) {
		t.Errorf("Replay: %v", err)
	}
	if err := in.Replay(t.Context(), id, twice(inbox.Force())...); !errors.Is(err, inbox.ErrInvalidArgument) {
		t.Errorf("Replay: %v", err)
	}
	if _, err := in.Purge(t.Context(), 0, nil); !errors.Is(err, inbox.ErrInvalidArgument) {
		t.Errorf("Purge: %v", err)
	}
	if _, err := in.Purge(t.Context(), 0, twice(inbox.IncludeDead())...); !errors.Is(err, inbox.ErrInvalidArgument) {
		t.Errorf("Purge: %v", err)
	}
}

func twice[T any](option T) []T { return []T{option, option} }
