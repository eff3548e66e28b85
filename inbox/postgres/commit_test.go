package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// The cuts at COMMIT: its request is lost, or its answer.
var cuts = map[string]int32{"the answer is lost": loseAnswer, "the request is lost": loseRequest}

// TestAmbiguousAccept cuts the connection when an accept is committed.
func TestAmbiguousAccept(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode  int32
		away  bool  // the database does not come back at once
		want  error // of Receive
		again error // of a redelivery
	}{
		"the answer is lost":                               {loseAnswer, false, nil, pixmed.ErrDuplicate},
		"the request is lost":                              {loseRequest, false, nil, pixmed.ErrDuplicate},
		"the answer is lost, and the database stays away":  {loseAnswer, true, pixmed.ErrBusy, pixmed.ErrDuplicate},
		"the request is lost, and the database stays away": {loseRequest, true, pixmed.ErrBusy, nil},
	}
	for name, test := range tests {
		for _, first := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", a new case", false: ", a case that exists"}[first], func(t *testing.T) {
				t.Parallel()
				s := enginetest.Postgres(t)
				look := s.Pool(t)
				n := &network{}
				in := open(t, n.pool(t, s), enginetest.NewRecorder(nil))
				id := enginetest.NewTransaction()
				want := 1
				if first {
					receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged) // the connection is there
				} else {
					receive(t, in, id, pixmed.Cancelled)
					want = 2
					n.skip.Store(1) // the transaction that finds that the case exists
				}
				n.mode.Store(test.mode)
				n.stayAway.Store(test.away)
				err := in.Receive(t.Context(), enginetest.Notification(id, pixmed.Acknowledged))
				if !errors.Is(err, test.want) {
					t.Errorf("Receive: %v, want %v", err, test.want)
				}
				n.away.Store(false)
				err = in.Receive(t.Context(), enginetest.Notification(id, pixmed.Acknowledged))
				if !errors.Is(err, test.again) {
					t.Errorf("the redelivery: %v, want %v", err, test.again)
				}
				if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.events WHERE transaction_id = $1::text::uuid AND state = 'pending'", id); got != want {
					t.Errorf("%d are pending, want %d", got, want)
				}
				if count(t, look, "SELECT count(*) FROM pixmed_inbox.cases WHERE run_at IS NOT NULL AND transaction_id = $1::text::uuid", id) != 1 {
					t.Error("the case is not due")
				}
				if got := n.cuts.Load(); got != 1 {
					t.Errorf("%d connections were cut", got)
				}
			})
		}
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

// TestAmbiguousSettlement cuts the connection when an attempt is settled. What is
// reported is what happened, and never "late".
func TestAmbiguousSettlement(t *testing.T) {
	t.Parallel()
	for name, mode := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			n := &network{}
			proceed := make(chan struct{})
			r := enginetest.NewRecorder(func(context.Context, *pixmed.Notification) error {
				<-proceed
				return nil
			})
			var ended results
			in := start(t, n.pool(t, s), r, ended.option())
			receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
			r.Next(t)
			n.mode.Store(mode)
			close(proceed)
			enginetest.Await(t, in)
			stop(t, in)
			r.None(t)
			if diff := cmp.Diff([]inbox.AttemptResult{inbox.AttemptDone}, ended.get()); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAmbiguousTx cuts the connection when a callback's transaction commits. What
// it wrote is there once, and an attempt whose transaction was committed is done.
func TestAmbiguousTx(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mode int32
		want []inbox.AttemptResult
	}{
		"the answer is lost":  {loseAnswer, []inbox.AttemptResult{inbox.AttemptDone}},
		"the request is lost": {loseRequest, []inbox.AttemptResult{inbox.AttemptFailed, inbox.AttemptDone}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			look := s.Pool(t)
			mustExec(t, look, "CREATE TABLE effects (attempt int)")
			n := &network{}
			r := enginetest.NewRecorder(func(ctx context.Context, m *pixmed.Notification) error {
				tx, _ := postgres.Tx(ctx)
				_, err := tx.Exec(ctx, "INSERT INTO effects VALUES ($1)", m.Attempt)
				if m.Attempt == 1 {
					n.mode.Store(test.mode) // the next COMMIT is this transaction's: nobody else is at work
				}
				return err
			})
			var ended results
			// Nothing but the first look and the settlement commits.
			in := start(t, n.pool(t, s), r, ended.option(), enginetest.Configure(func(c *config.Config) { c.PollInterval = time.Hour }))
			receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
			enginetest.Await(t, in)
			stop(t, in)
			if got := count(t, look, "SELECT count(*) FROM effects"); got != 1 {
				t.Errorf("%d effects", got)
			}
			if diff := cmp.Diff(test.want, ended.get()); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			if n.cuts.Load() != 1 {
				t.Error("nothing was cut")
			}
		})
	}
}

// TestLockedCase has somebody hold a case for longer than anybody waits: that case
// alone is busy, and nobody else waits for it.
func TestLockedCase(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"a row":                          "SELECT FROM pixmed_inbox.cases WHERE transaction_id = $1::text::uuid FOR UPDATE",
		"a row that nobody else can see": "INSERT INTO pixmed_inbox.cases (transaction_id) VALUES ($1::text::uuid)",
	}
	for name, lock := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			look := s.Pool(t)
			in := open(t, s.Pool(t), enginetest.NewRecorder(nil))
			locked := enginetest.NewTransaction()
			if strings.HasPrefix(lock, "SELECT") {
				receive(t, in, locked, pixmed.Acknowledged)
			}
			hold, err := look.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = hold.Rollback(context.WithoutCancel(t.Context())) }()
			if _, err := hold.Exec(t.Context(), lock, locked); err != nil {
				t.Fatal(err)
			}
			var busy []<-chan error
			for _, status := range []pixmed.MEDStatus{pixmed.Cancelled, pixmed.Cancelled, pixmed.Debited, "A", "B", "C"} {
				busy = append(busy, goReceive(t, in, locked, status))
			}
			// While those wait, others are accepted one after the other, and none of them
			// waits for as long as those do.
			begin, others := time.Now(), 0
			for ; time.Since(begin) < time.Second; others++ {
				receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
			}
			if others < 3 {
				t.Errorf("%d others were accepted within a second", others)
			}
			for _, c := range busy {
				if err := await(t, "the locked case", c); !errors.Is(err, pixmed.ErrBusy) {
					t.Errorf("the locked case: %v, want ErrBusy", err)
				}
			}
			if err := hold.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			receive(t, in, locked, pixmed.Cancelled)
			if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.events WHERE transaction_id = $1::text::uuid AND status = 'CANCELLED'", locked); got != 1 {
				t.Errorf("it is there %d times", got)
			}
		})
	}
}

// TestFrozenBeforeCommit has a process freeze while it holds a case: the server
// ends its transaction, and others go on.
func TestFrozenBeforeCommit(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	quick := enginetest.Configure(func(c *config.Config) { c.CommitTimeout = 500 * time.Millisecond })
	p := newPauser("WITH added AS") // the case is locked by then
	frozen := open(t, p.pool(t, s), enginetest.NewRecorder(nil), quick)
	id := enginetest.NewTransaction()
	receive(t, frozen, id, pixmed.Acknowledged)
	p.armed.Store(true)
	first := goReceive(t, frozen, id, pixmed.Cancelled)
	await(t, "it holds the case", p.reached)
	other := open(t, s.Pool(t), enginetest.NewRecorder(nil), quick)
	receive(t, other, id, pixmed.Debited) // within the two seconds that it waits
	close(p.proceed)
	if err := await(t, "the frozen one", first); !errors.Is(err, pixmed.ErrBusy) { // its time is over
		t.Errorf("when it goes on: %v, want ErrBusy", err)
	}
	receive(t, frozen, id, pixmed.Cancelled) // again
	history, err := other.History(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var got []pixmed.MEDStatus
	for _, e := range history {
		got = append(got, e.Status)
	}
	if diff := cmp.Diff([]pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Debited, pixmed.Cancelled}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAcceptBeforeSettlement has a settlement come while an accept holds the case:
// what the accept adds must run after it.
func TestAcceptBeforeSettlement(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context) error{
		"plain": func(context.Context) error { return nil },
		"in the callback's transaction": func(ctx context.Context) error {
			tx, _ := postgres.Tx(ctx)
			_, err := tx.Exec(ctx, "SELECT 1")
			return err
		},
	}
	for name, callback := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			proceed := make(chan struct{})
			r := enginetest.NewRecorder(func(ctx context.Context, n *pixmed.Notification) error {
				if n.MEDStatus == pixmed.Acknowledged {
					<-proceed
				}
				return callback(ctx)
			})
			settling := newPauser("FOR NO KEY UPDATE")
			worker := start(t, settling.pool(t, s), r)
			p := newPauser("WITH added AS") // the case is locked by then
			accepting := open(t, p.pool(t, s), r)
			id := enginetest.NewTransaction()

			receive(t, accepting, id, pixmed.Acknowledged)
			r.Next(t)
			p.armed.Store(true)
			second := goReceive(t, accepting, id, pixmed.Cancelled)
			await(t, "the accept is about to commit", p.reached)
			settling.armed.Store(true)
			close(proceed)
			await(t, "the settlement is about to lock", settling.reached)
			close(settling.proceed)
			close(p.proceed)
			if err := await(t, "the accept", second); err != nil {
				t.Fatal(err)
			}
			if n := r.Next(t); n.MEDStatus != pixmed.Cancelled || n.Previous != pixmed.Acknowledged {
				t.Errorf("the next callback is for %s after %q", n.MEDStatus, n.Previous)
			}
			if got, want := enginetest.Await(t, worker), (enginetest.Counts{Done: 2}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestOvertakenTx has an attempt return nil after its lease ran out: what it wrote
// is not committed, and it leaves nothing locked.
func TestOvertakenTx(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	mustExec(t, look, "CREATE TABLE effects (attempt int)")
	proceed := make(chan struct{})
	written := make(chan int, 10)
	r := enginetest.NewRecorder(nil)
	r.Answer = func(ctx context.Context, n *pixmed.Notification) error {
		tx, ok := postgres.Tx(ctx)
		if !ok {
			return errors.New("no transaction")
		}
		if _, err := tx.Exec(ctx, "INSERT INTO effects VALUES ($1)", n.Attempt); err != nil {
			return err
		}
		written <- n.Attempt
		if n.Attempt == 1 {
			<-proceed
		}
		return nil
	}
	var ended results
	in := start(t, s.Pool(t), r, ended.option())
	receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
	await(t, "the first attempt", written)
	runOut(t, look)
	// The first is settled as one that did not end, so the next is the second.
	if n := await(t, "the second attempt", written); n != 2 {
		t.Fatalf("the attempt is %d", n)
	}
	enginetest.Await(t, in)
	close(proceed)
	stop(t, in)
	if got := count(t, look, "SELECT sum(attempt) FROM effects"); got != 2 {
		t.Errorf("the effects' attempts make %d: those of the second alone count", got)
	}
	if diff := cmp.Diff([]inbox.AttemptResult{inbox.AttemptDone, inbox.AttemptLate}, ended.get()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

// TestFullDisk has the server refuse every write as it does on a full disk.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	in := open(t, s.Pool(t), enginetest.NewRecorder(nil))
	if err := in.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustExec(t, look, `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$`)
	for _, table := range []string{"settings", "cases", "events"} {
		mustExec(t, look, "CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON pixmed_inbox."+table+" FOR EACH ROW EXECUTE FUNCTION full_disk()")
	}
	if err := in.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "No space left") {
		t.Errorf("Ready: %v", err)
	}
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); !errors.Is(err, pixmed.ErrBusy) {
		t.Errorf("Receive: %v, want ErrBusy", err)
	}
	for _, table := range []string{"settings", "cases", "events"} {
		mustExec(t, look, "DROP TRIGGER full_disk ON pixmed_inbox."+table)
	}
	if err := in.Ready(t.Context()); err != nil {
		t.Errorf("Ready, when there is room again: %v", err)
	}
}
