package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// fakeEngine refuses what is called "bad", keeps nothing of what is called
// "hopeless", finds what is called "locked" locked for so many times, has to wait
// for what is called "blocking", and may be gone.
type fakeEngine struct {
	ledger.Engine

	mu      sync.Mutex
	gate    chan struct{} // what each commit waits for
	gone    bool
	locked  int
	done    []string // operations that were committed, in order
	batches [][]string
}

func name(op *ledger.Op) string {
	if op.Quarantine != nil {
		return "quarantine " + string(op.Quarantine.Raw)
	}
	return op.TransactionID
}

func (s *fakeEngine) Commit(_ context.Context, ops []*ledger.Op, claim *ledger.Claim) error {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []string
	for _, op := range ops {
		batch = append(batch, name(op))
	}
	s.batches = append(s.batches, batch)
	if s.gone {
		return fmt.Errorf("%w: gone", ledger.ErrUnavailable)
	}
	for _, op := range ops {
		switch {
		case strings.HasPrefix(name(op), "bad"), name(op) == "hopeless", name(op) == "quarantine hopeless":
			return fmt.Errorf("%w: no", ledger.ErrRefused)
		case name(op) == "blocking" && s.locked > 0:
			s.locked--
			return fmt.Errorf("%w: after a while", ledger.ErrLocked)
		}
	}
	for _, op := range ops {
		if name(op) == "locked" && s.locked > 0 {
			s.locked--
			op.Err = ledger.ErrLocked
			continue
		}
		if op.Guess != nil {
			op.Wrong, op.Guess = true, nil
			continue
		}
		s.done = append(s.done, name(op))
		if op.Apply != nil {
			op.Apply(ledger.NewCase(op.TransactionID, ledger.Row{NextSeq: 1}))
		}
	}
	if claim != nil {
		claim.Made, claim.Next = true, -1
	}
	return nil
}

func newTestCommitter(t *testing.T, s *fakeEngine, log *slog.Logger, change ...func(*config.Config)) *committer {
	t.Helper()
	c := config.Default()
	c.Logger, c.PollInterval = log, time.Hour
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, f := range change {
		f(c)
	}
	co := newCommitter(s, c)
	t.Cleanup(func() {
		co.refuse()
		co.stop()
	})
	return co
}

func newOp(id string) *ledger.Op {
	op := &ledger.Op{TransactionID: id, Apply: func(*ledger.Case) {}}
	if id != "bad settlement" {
		op.New = &ledger.Event{ID: id, Raw: []byte(id)}
	}
	return op
}

// What the database rejects is left out and kept in quarantine, what is locked is
// tried again, and nothing is answered as done that was not.
func TestIsolation(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ops    []string
		gone   bool
		locked int
		want   []string // what becomes of each
		done   []string
	}{
		"all well":              {[]string{"a", "b"}, false, 0, []string{"done", "done"}, []string{"a", "b"}},
		"one refused":           {[]string{"a", "bad", "b"}, false, 0, []string{"done", "kept", "done"}, []string{"a", "b", "quarantine bad"}},
		"alone and refused":     {[]string{"bad"}, false, 0, []string{"kept"}, []string{"quarantine bad"}},
		"several refused":       {[]string{"bad 1", "a", "bad 2", "b", "bad 3"}, false, 0, []string{"kept", "done", "kept", "done", "kept"}, []string{"a", "b", "quarantine bad 1", "quarantine bad 2", "quarantine bad 3"}},
		"nothing to keep":       {[]string{"a", "bad settlement"}, false, 0, []string{"done", "refused"}, []string{"a"}},
		"cannot be kept":        {[]string{"a", "hopeless"}, false, 0, []string{"done", "refused"}, []string{"a"}},
		"gone":                  {[]string{"a", "bad"}, true, 0, []string{"busy", "busy"}, nil},
		"locked for a while":    {[]string{"a", "locked", "b"}, false, 3, []string{"done", "done", "done"}, []string{"a", "b", "locked"}},
		"locked for too long":   {[]string{"a", "locked"}, false, 1 << 30, []string{"done", "busy"}, []string{"a"}},
		"blocking for a while":  {[]string{"a", "blocking", "b"}, false, 3, []string{"done", "done", "done"}, []string{"a", "b", "blocking"}},
		"blocking for too long": {[]string{"a", "blocking"}, false, 1 << 30, []string{"done", "busy"}, []string{"a"}},
		"locked beside refused": {[]string{"bad", "locked", "a"}, false, 1, []string{"kept", "done", "done"}, []string{"a", "locked", "quarantine bad"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &fakeEngine{gate: make(chan struct{}), gone: test.gone, locked: test.locked}
			co := newTestCommitter(t, s, nil, func(c *config.Config) { c.LockPatience = 200 * time.Millisecond })
			// While the first one is committed, the others gather.
			first := make(chan error, 1)
			go func() { first <- co.accept(t.Context(), newOp("first")) }()
			s.gate <- struct{}{}
			results := make([]chan error, len(test.ops))
			for i, id := range test.ops {
				r := newRequest(newOp(id))
				co.accepts <- r
				results[i] = r.done
			}
			close(s.gate)
			if err := <-first; err != nil && !test.gone {
				t.Error(err)
			}
			var got []string
			for _, result := range results {
				err := <-result
				var kept *keptError
				switch {
				case err == nil:
					got = append(got, "done")
				case errors.As(err, &kept):
					got = append(got, "kept")
				case errors.Is(err, pixmed.ErrBusy):
					got = append(got, "busy")
				case errors.Is(err, ledger.ErrRefused):
					got = append(got, "refused")
				default:
					got = append(got, err.Error())
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			done := slices.DeleteFunc(slices.Clone(s.done), func(n string) bool { return n == "first" })
			slices.Sort(done)
			if diff := cmp.Diff(test.done, done); diff != "" {
				t.Errorf("committed (-want +got):\n%s", diff)
			}
		})
	}
}

// What has to be waited for is tried apart: others are never in a transaction with
// it again.
func TestBlockingIsApart(t *testing.T) {
	t.Parallel()
	s := &fakeEngine{locked: 1 << 30}
	co := newTestCommitter(t, s, nil, func(c *config.Config) { c.LockPatience = 300 * time.Millisecond })
	blocked := make(chan error, 2)
	for range 2 {
		go func() { blocked <- co.accept(t.Context(), newOp("blocking")) }()
	}
	for i := 0; len(blocked) < 2; i++ {
		if err := co.accept(t.Context(), newOp(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mixed := 0
	for _, b := range s.batches {
		if slices.Contains(b, "blocking") && slices.ContainsFunc(b, func(n string) bool { return n != "blocking" }) {
			mixed++
		}
	}
	if mixed > 2 { // until it is known of each
		t.Errorf("%d of %d transactions had others in them", mixed, len(s.batches))
	}
}

// An operation that loads all of its case is in a transaction of its own, even when
// others are tried again.
func TestAlone(t *testing.T) {
	t.Parallel()
	s := &fakeEngine{locked: 1 << 30}
	co := newTestCommitter(t, s, nil, func(c *config.Config) { c.LockPatience = 200 * time.Millisecond })
	locked := make(chan error, 1)
	go func() { locked <- co.accept(t.Context(), newOp("locked")) }()
	for len(locked) == 0 {
		op := newOp("alone")
		op.New, op.All = nil, true
		if err := co.commit(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		if slices.Contains(b, "alone") && len(b) > 1 {
			t.Fatalf("a transaction of %v", b)
		}
	}
}

// What was guessed wrong is in the next transaction, together with what has come
// meanwhile, and is answered when that is committed, also while the inbox stops.
func TestWrongGuess(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]bool{"others come": false, "the inbox stops": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &fakeEngine{gate: make(chan struct{})}
				c := config.Default()
				c.Logger, c.PollInterval = slog.New(slog.DiscardHandler), time.Hour
				co := newCommitter(s, c)
				results := make(chan error, 2)
				guessed := newOp("guessed")
				guessed.Guess = func() *ledger.Case { return nil }
				go func() { results <- co.accept(t.Context(), guessed) }()
				synctest.Wait()
				want := [][]string{{"guessed"}, {"guessed"}}
				if !stop {
					go func() { results <- co.accept(t.Context(), newOp("other")) }()
					want[1] = append(want[1], "other")
				}
				synctest.Wait()
				if stop {
					co.refuse()
					go co.stop()
					synctest.Wait()
				}
				close(s.gate)
				for range want[1] {
					if err := <-results; err != nil {
						t.Error(err)
					}
				}
				if !stop {
					co.refuse()
					co.stop()
				}
				if diff := cmp.Diff(want, s.batches); diff != "" {
					t.Errorf("transactions (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Stop answers what waits for a case that somebody holds.
func TestStopWithParked(t *testing.T) {
	t.Parallel()
	s := &fakeEngine{locked: 1 << 30}
	c := config.Default()
	c.Logger, c.PollInterval, c.LockPatience = slog.New(slog.DiscardHandler), time.Hour, time.Hour
	co := newCommitter(s, c)
	result := make(chan error, 1)
	go func() { result <- co.accept(t.Context(), newOp("locked")) }()
	for {
		s.mu.Lock()
		tried := len(s.batches)
		s.mu.Unlock()
		if tried > 0 {
			break
		}
	}
	co.refuse()
	co.stop()
	if err := <-result; !errors.Is(err, pixmed.ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
	if err := co.commit(t.Context(), newOp("late")); !errors.Is(err, pixmed.ErrBusy) {
		t.Errorf("after it: %v, want ErrBusy", err)
	}
}

// plannedEngine has reminders at some times, and nothing else.
type plannedEngine struct {
	ledger.Engine
	at []time.Time
}

func (e *plannedEngine) Commit(_ context.Context, _ []*ledger.Op, claim *ledger.Claim) error {
	claim.Made, claim.Next = true, -1
	if len(e.at) > 0 && !e.at[0].After(time.Now()) {
		e.at, claim.Attempts = e.at[1:], []*ledger.Attempt{{Reminder: true}}
	}
	if len(e.at) > 0 {
		claim.Next = time.Until(e.at[0])
	}
	return nil
}

// A reminder begins when its time comes, days from now, and not when the inbox next
// looks.
func TestCommitterWaitsForReminders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		due := time.Now().Add(7 * 24 * time.Hour)
		planned := []time.Time{due.Add(-72*time.Hour - 20*time.Minute), due.Add(-24*time.Hour + time.Second), due.Add(-25 * time.Minute)}
		c := config.Default()
		c.Logger, c.PollInterval = slog.New(slog.DiscardHandler), time.Hour
		co := newCommitter(&plannedEngine{at: slices.Clone(planned)}, c)
		began := make(chan time.Time, 10)
		co.claimFor(&workers{max: 1, work: func(*ledger.Attempt, func()) { began <- time.Now() }})
		for i, want := range planned {
			if late := (<-began).Sub(want); late < 0 || late > time.Second {
				t.Errorf("reminder %d began %v after its time", i, late)
			}
		}
		co.claimFor(nil)
		co.refuse()
		co.stop()
	})
}

// retryEngine holds the case of one settlement for a while. Once that is settled, its
// retry is due a second later.
type retryEngine struct {
	ledger.Engine
	held  int
	retry time.Time
}

func (e *retryEngine) Commit(_ context.Context, ops []*ledger.Op, claim *ledger.Claim) error {
	if len(ops) > 0 && e.held > 0 {
		e.held--
		return ledger.ErrLocked
	}
	if len(ops) > 0 {
		e.retry = time.Now().Add(time.Second)
	}
	if claim == nil || claim.Made {
		return nil
	}
	claim.Made, claim.Next = true, -1
	switch {
	case e.retry.IsZero():
	case e.retry.After(time.Now()):
		claim.Next = time.Until(e.retry)
	default:
		e.retry, claim.Attempts = time.Time{}, []*ledger.Attempt{{}}
	}
	return nil
}

// A retry begins in time also when it was settled apart, after the claim.
func TestRetryOfWhatWasHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := config.Default()
		c.Logger, c.PollInterval = slog.New(slog.DiscardHandler), time.Hour
		co := newCommitter(&retryEngine{held: 3}, c)
		began := make(chan struct{})
		co.claimFor(&workers{max: 1, work: func(*ledger.Attempt, func()) { close(began) }})
		if err := co.commit(t.Context(), &ledger.Op{TransactionID: "x", Delayed: true}); err != nil {
			t.Error(err)
		}
		start := time.Now()
		<-began
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it began after %v", took)
		}
		co.claimFor(nil)
		co.refuse()
		co.stop()
	})
}

// queueEngine has events that become due at some times.
type queueEngine struct {
	ledger.Engine
	due []time.Time
}

func (e *queueEngine) Commit(_ context.Context, _ []*ledger.Op, claim *ledger.Claim) error {
	if claim == nil || claim.Made {
		return nil
	}
	claim.Made, claim.Next = true, -1
	for len(e.due) > 0 && len(claim.Attempts) < claim.Max && !e.due[0].After(time.Now()) {
		e.due, claim.Attempts = e.due[1:], append(claim.Attempts, &ledger.Attempt{})
	}
	if claim.Look && len(e.due) > 0 {
		claim.Next = time.Until(e.due[0])
	}
	return nil
}

// What will be due is not forgotten while all workers are busy.
func TestDueAfterAllWereBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := config.Default()
		c.Logger, c.PollInterval = slog.New(slog.DiscardHandler), time.Hour
		co := newCommitter(&queueEngine{due: []time.Time{start, start.Add(3 * time.Second)}}, c)
		began := make(chan time.Time, 2)
		co.claimFor(&workers{max: 1, work: func(_ *ledger.Attempt, returned func()) {
			began <- time.Now()
			time.Sleep(2 * time.Second)
			returned()
			if err := co.commit(context.Background(), &ledger.Op{TransactionID: "x"}); err != nil {
				t.Error(err)
			}
		}})
		<-began
		if got := (<-began).Sub(start); got < 3*time.Second || got > 4*time.Second {
			t.Errorf("the second began after %v, and was due after 3s", got)
		}
		time.Sleep(time.Minute)
		co.claimFor(nil)
		co.refuse()
		co.stop()
	})
}
