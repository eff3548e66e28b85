package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// TestClaimBesideClaim has one process hold what it is about to claim, and another
// one claim: it takes the rest, and nothing twice.
func TestClaimBesideClaim(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	var mu sync.Mutex
	calls := make(map[string]int)
	r := pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		mu.Lock()
		defer mu.Unlock()
		calls[n.TransactionID]++
		return nil
	})
	p := newPauser("SET lease = $1")
	first, second := open(t, p.pool(t, s), r, inbox.WithWorkers(3)), open(t, s.Pool(t), r, inbox.WithWorkers(3))
	const transactions = 20
	for range transactions {
		receive(t, second, enginetest.NewTransaction(), pixmed.Acknowledged)
	}
	p.armed.Store(true)
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the first is about to claim", p.reached)
	if err := second.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(p.proceed)
	if got, want := enginetest.Await(t, second), (enginetest.Counts{Done: transactions}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	stop(t, first)
	stop(t, second)
	for id, n := range calls {
		if n != 1 {
			t.Errorf("%s was called for %d times", id, n)
		}
	}
	if len(calls) != transactions {
		t.Errorf("%d were called for", len(calls))
	}
}

// TestClaimBesideAccept has an accept hold a case that another process could claim:
// it is claimed afterwards, with what came first.
func TestClaimBesideAccept(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	p := newPauser("WITH added AS") // the case is locked by then
	r := enginetest.NewRecorder(nil)
	accepting := open(t, p.pool(t, s), r)
	id := enginetest.NewTransaction()
	receive(t, accepting, id, pixmed.Acknowledged)
	p.armed.Store(true)
	second := goReceive(t, accepting, id, pixmed.Cancelled)
	await(t, "the accept holds the case", p.reached)
	worker := start(t, s.Pool(t), r)
	receive(t, worker, enginetest.NewTransaction(), pixmed.Debited) // it looks, and finds this one alone
	if n := r.Next(t); n.MEDStatus != pixmed.Debited {
		t.Errorf("the first is %s", n.MEDStatus)
	}
	close(p.proceed)
	if err := await(t, "the accept", second); err != nil {
		t.Fatal(err)
	}
	for _, want := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled} {
		if n := r.Next(t); n.MEDStatus != want {
			t.Errorf("got %s, want %s", n.MEDStatus, want)
		}
	}
}

// TestSettlementBesideClaim has an attempt settle while another process takes its
// case over, whose lease has run out: one of the two counts.
func TestSettlementBesideClaim(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	proceed := make(chan struct{})
	r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
		if n.Attempt == 1 {
			<-proceed
		}
		return nil
	})
	settling := newPauser("FOR NO KEY UPDATE SKIP LOCKED")
	var firstEnded, secondEnded results
	first := start(t, settling.pool(t, s), r, firstEnded.option(), enginetest.Configure(func(c *config.Config) { c.PollInterval = time.Hour }))
	receive(t, first, enginetest.NewTransaction(), pixmed.Acknowledged)
	r.Next(t)
	settling.armed.Store(true)
	close(proceed)
	await(t, "the first is about to settle", settling.reached)
	runOut(t, look)
	second := start(t, s.Pool(t), r, secondEnded.option())
	if n := r.Next(t); n.Attempt != 2 {
		t.Errorf("attempt %d", n.Attempt)
	}
	if got, want := enginetest.Await(t, second), (enginetest.Counts{Done: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	close(settling.proceed)
	stop(t, first)
	stop(t, second)
	if diff := cmp.Diff([]inbox.AttemptResult{inbox.AttemptLate}, firstEnded.get()); diff != "" {
		t.Errorf("the first (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]inbox.AttemptResult{inbox.AttemptDone}, secondEnded.get()); diff != "" {
		t.Errorf("the second (-want +got):\n%s", diff)
	}
}

// TestReplayBesideSettlement has an operator replay an older event while a newer one
// is settled: the older one runs next, whoever comes first.
func TestReplayBesideSettlement(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	proceed := make(chan struct{})
	var mu sync.Mutex
	var order []pixmed.MEDStatus
	first := true
	r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
		if n.MEDStatus == pixmed.Cancelled {
			<-proceed
		}
		mu.Lock()
		defer mu.Unlock()
		if n.MEDStatus == pixmed.Acknowledged && first {
			first = false
			return inbox.Discard(errors.New("no"))
		}
		order = append(order, n.MEDStatus)
		return nil
	})
	settling := newPauser("FOR NO KEY UPDATE SKIP LOCKED")
	worker := start(t, settling.pool(t, s), r)
	operator := open(t, s.Pool(t), r)
	id := enginetest.NewTransaction()
	for _, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited} {
		receive(t, worker, id, status)
	}
	r.Next(t)
	r.Next(t)
	settling.armed.Store(true)
	close(proceed)
	await(t, "the settlement is about to lock", settling.reached)
	history, err := operator.History(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := operator.Replay(t.Context(), history[0].ID); err != nil {
		t.Fatal(err)
	}
	close(settling.proceed)
	enginetest.Await(t, worker)
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]pixmed.MEDStatus{pixmed.Cancelled, pixmed.Acknowledged, pixmed.Debited}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// TestAmbiguousClaim cuts the connection when a claim is committed. Nobody runs
// what it holds: it is released, and not when its lease runs out.
func TestAmbiguousClaim(t *testing.T) {
	t.Parallel()
	for name, mode := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			n := &network{}
			r := enginetest.NewRecorder(nil)
			in := open(t, n.pool(t, s), r, inbox.WithOverdue(10*time.Minute))
			id := enginetest.NewTransaction()
			receive(t, in, id, pixmed.Acknowledged)
			n.mode.Store(mode)
			if err := in.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := r.Next(t); got.Attempt != 1 {
				t.Errorf("attempt %d: an attempt that never was is counted", got.Attempt)
			}
			if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if n.cuts.Load() != 1 {
				t.Error("nothing was cut")
			}
		})
	}
}
