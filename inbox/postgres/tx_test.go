package postgres_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// effects makes a table for what callbacks write, and returns a function that
// reads it.
func effects(t *testing.T, s *enginetest.Database) (read func() []string) {
	t.Helper()
	pool := s.Pool(t)
	if _, err := pool.Exec(t.Context(), "CREATE TABLE effects (what text, note text UNIQUE DEFERRABLE INITIALLY DEFERRED)"); err != nil {
		t.Fatal(err)
	}
	return func() []string {
		t.Helper()
		rows, _ := pool.Query(t.Context(), "SELECT what FROM effects ORDER BY what")
		var got []string
		var what string
		if _, err := pgx.ForEachRow(rows, []any{&what}, func() error {
			got = append(got, what)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
}

func write(ctx context.Context, what string) error {
	tx, ok := postgres.Tx(ctx)
	if !ok {
		return errors.New("there is no transaction")
	}
	_, err := tx.Exec(ctx, "INSERT INTO effects (what) VALUES ($1)", what)
	return err
}

// What a callback writes is there when it returned nil, and only then.
func TestTxIsTheCallbacks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		callback  func(ctx context.Context, n *pixmed.Notification) error
		want      []string
		attempts  int
		lastError string // of the first attempt
	}{
		"nil": {
			func(ctx context.Context, _ *pixmed.Notification) error { return write(ctx, "x") },
			[]string{"x"},
			1, "",
		},
		"error": {
			func(ctx context.Context, n *pixmed.Notification) error {
				return errors.Join(write(ctx, "x"), failFirst(n))
			},
			[]string{"x"},
			2, "the first fails",
		},
		"panic": {
			func(ctx context.Context, n *pixmed.Notification) error {
				err := write(ctx, "x")
				if n.Attempt == 1 {
					panic("oh")
				}
				return err
			},
			[]string{"x"},
			2, "panic: oh",
		},
		"discarded": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				if err := write(ctx, "x"); err != nil {
					return err
				}
				return inbox.Discard(errors.New("no"))
			},
			nil, 1, "no",
		},
		"aborted": {
			func(ctx context.Context, n *pixmed.Notification) error {
				err := write(ctx, "x")
				if n.Attempt == 1 {
					tx, _ := postgres.Tx(ctx)
					_, _ = tx.Exec(ctx, "SELECT 1/0") // and the error is not looked at
				}
				return err
			},
			[]string{"x"},
			2, "the transaction of the callback could not be committed: a statement failed in it, which has aborted it",
		},
		"refused at commit": {
			func(ctx context.Context, n *pixmed.Notification) error {
				tx, _ := postgres.Tx(ctx)
				notes := []string{"same", "same"}
				if n.Attempt > 1 {
					notes[1] = "other"
				}
				for _, note := range notes {
					if _, err := tx.Exec(ctx, "INSERT INTO effects VALUES ('x', $1)", note); err != nil {
						return err
					}
				}
				return nil
			},
			[]string{"x", "x"},
			2, "",
		},
		"ended inside": {
			func(ctx context.Context, n *pixmed.Notification) error {
				tx, _ := postgres.Tx(ctx)
				if n.Attempt == 1 {
					_, err := tx.Exec(ctx, "ROLLBACK")
					return err
				}
				return write(ctx, "x")
			},
			[]string{"x"},
			2, "the transaction of the callback could not be committed: it was ended by a statement of the callback's",
		},
		"savepoint": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				tx, _ := postgres.Tx(ctx)
				inner, err := tx.Begin(ctx)
				if err != nil {
					return err
				}
				if _, err := inner.Exec(ctx, "SELECT 1/0"); err == nil {
					return errors.New("no error")
				}
				return errors.Join(inner.Rollback(ctx), write(ctx, "x"))
			},
			[]string{"x"},
			1, "",
		},
		"Commit and Rollback": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				tx, _ := postgres.Tx(ctx)
				if !errors.Is(tx.Commit(ctx), postgres.ErrTxManaged) || !errors.Is(tx.Rollback(ctx), postgres.ErrTxManaged) {
					return errors.New("it may be committed")
				}
				return write(ctx, "x")
			},
			[]string{"x"},
			1, "",
		},
		"twice": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				return errors.Join(write(ctx, "x"), write(ctx, "y"))
			},
			[]string{"x", "y"},
			1, "",
		},
		"batch and copy": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				tx, _ := postgres.Tx(ctx)
				var batch pgx.Batch
				batch.Queue("INSERT INTO effects VALUES ('b')")
				err := tx.SendBatch(ctx, &batch).Close()
				_, copyErr := tx.CopyFrom(ctx, pgx.Identifier{"effects"}, []string{"what"}, pgx.CopyFromRows([][]any{{"c"}}))
				rows, queryErr := tx.Query(ctx, "INSERT INTO effects VALUES ('q') RETURNING what")
				rows.Close()
				var one int
				rowErr := tx.QueryRow(ctx, "SELECT 1").Scan(&one)
				_, prepareErr := tx.Prepare(ctx, "p", "SELECT 1")
				return errors.Join(err, copyErr, queryErr, rowErr, prepareErr)
			},
			[]string{"b", "c", "q"},
			1, "",
		},
		"not used": {
			func(context.Context, *pixmed.Notification) error { return nil }, nil, 1, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			read := effects(t, s)
			var in *inbox.Inbox
			r := enginetest.NewRecorder(nil)
			errs := make(chan string, 10)
			opened := make(chan struct{})
			r.Answer = func(ctx context.Context, n *pixmed.Notification) error {
				<-opened
				if n.Attempt == 2 {
					events, err := in.History(ctx, n.TransactionID)
					if err != nil {
						return err
					}
					errs <- events[0].LastError
				}
				return test.callback(ctx, n)
			}
			in = s.Start(t, r)
			close(opened)
			id := enginetest.NewTransaction()
			if err := in.Receive(t.Context(), enginetest.Notification(id, pixmed.Acknowledged)); err != nil {
				t.Fatal(err)
			}
			enginetest.Await(t, in)
			if diff := cmp.Diff(test.want, read()); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			events, err := in.History(t.Context(), id)
			if err != nil || events[0].Attempts != test.attempts {
				t.Errorf("%v, %v, want %d attempts", events, err, test.attempts)
			}
			if test.attempts > 1 && test.lastError != "" {
				if got := <-errs; got != test.lastError {
					t.Errorf("the first attempt's error: %q, want %q", got, test.lastError)
				}
			}
		})
	}
}

func failFirst(n *pixmed.Notification) error {
	if n.Attempt == 1 {
		return errors.New("the first fails")
	}
	return nil
}

func TestTxElsewhere(t *testing.T) {
	t.Parallel()
	if tx, ok := postgres.Tx(t.Context()); ok || tx != nil {
		t.Errorf("got %v", tx)
	}
}

// A callback that leaves something behind that goes on writing writes nothing.
func TestTxAfterTheCallback(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	read := effects(t, s)
	kept := make(chan pgx.Tx, 1)
	in := s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
		tx, _ := postgres.Tx(ctx)
		kept <- tx
		return nil
	}))
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
		t.Fatal(err)
	}
	enginetest.Await(t, in)
	tx, ctx := <-kept, t.Context()
	_, beginErr := tx.Begin(ctx)
	_, execErr := tx.Exec(ctx, "INSERT INTO effects VALUES ('x')")
	rows, queryErr := tx.Query(ctx, "SELECT 1")
	_, copyErr := tx.CopyFrom(ctx, pgx.Identifier{"effects"}, []string{"what"}, pgx.CopyFromRows([][]any{{"c"}}))
	_, prepareErr := tx.Prepare(ctx, "p", "SELECT 1")
	var one int
	for name, err := range map[string]error{
		"Begin": beginErr, "Exec": execErr, "Query": queryErr, "CopyFrom": copyErr, "Prepare": prepareErr,
		"QueryRow":  tx.QueryRow(ctx, "SELECT 1").Scan(&one),
		"SendBatch": tx.SendBatch(ctx, &pgx.Batch{}).Close(),
		"rows":      rows.Err(),
	} {
		if !errors.Is(err, pgx.ErrTxClosed) {
			t.Errorf("%s: %v, want ErrTxClosed", name, err)
		}
	}
	if rows.Next() || tx.Conn() != nil {
		t.Error("there is a row, or a connection")
	}
	if got := read(); len(got) != 0 {
		t.Errorf("effects: %v", got)
	}
}

// A transaction that cannot be begun is a failed attempt, whatever the callback
// makes of it.
func TestTxThatCannotBegin(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	errs := make(chan error, 10)
	in := s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
		if n.Attempt == 1 {
			over, cancel := context.WithCancel(ctx)
			cancel()
			tx, _ := postgres.Tx(over)
			_, err := tx.Exec(ctx, "SELECT 1")
			errs <- err
		}
		return nil
	}))
	id := enginetest.NewTransaction()
	if err := in.Receive(t.Context(), enginetest.Notification(id, pixmed.Acknowledged)); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("Exec: %v", err)
	}
	enginetest.Await(t, in)
	if events, err := in.History(t.Context(), id); err != nil || events[0].Attempts != 2 {
		t.Errorf("%v, %v, want 2 attempts", events, err)
	}
}

// A callback that hangs in its transaction loses it before the attempt is given up.
func TestTxDoesNotHang(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	read := effects(t, s)
	release := make(chan struct{})
	defer close(release) // before the pool is closed
	in := s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
		err := write(ctx, "x")
		if n.Attempt == 1 {
			<-release
		}
		return err
	}), inbox.WithAttemptTimeout(200*time.Millisecond), inbox.WithOverdue(10*time.Minute))
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
		t.Fatal(err)
	}
	// Its lock goes, although the callback does not return.
	deadline := time.After(enginetest.Patience)
	for {
		var open int
		if err := s.DB(t).QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'").Scan(&open); err != nil {
			t.Fatal(err)
		}
		if open == 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the transaction stays open")
		default:
		}
	}
	if got := read(); len(got) != 0 {
		t.Errorf("effects: %v", got)
	}
}

// What a reminder writes in its transaction happens once, whatever becomes of its
// attempts: one fails, and the answer to the next one's COMMIT is lost.
func TestReminderInTransaction(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	mustExec(t, look, "CREATE TABLE public.mails (transaction_id text)")
	var n network
	var calls atomic.Int32
	ended := make(chan inbox.Attempt, 10)
	remind := func(ctx context.Context, c *inbox.Case) error {
		tx, ok := postgres.Tx(ctx)
		if !ok {
			return errors.New("there is no transaction")
		}
		if _, err := tx.Exec(ctx, "INSERT INTO public.mails VALUES ($1)", c.TransactionID); err != nil {
			return err
		}
		if calls.Add(1) == 1 {
			return errors.New("after it has written")
		}
		n.mode.Store(loseAnswer)
		return nil
	}
	in := start(t, n.pool(t, s), pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, remind, day),
		inbox.WithObserver(func(_ context.Context, a inbox.Attempt) {
			if a.Reminder {
				ended <- a
			}
		}))
	notification := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	notification.ReceivedAt = time.Now().Add(time.Hour - 7*day)
	if err := in.Receive(t.Context(), notification); err != nil {
		t.Fatal(err)
	}
	for _, want := range []inbox.AttemptResult{inbox.AttemptFailed, inbox.AttemptDone} {
		if a := await(t, "a reminder", ended); a.Result != want {
			t.Errorf("an attempt is %+v, want %s", a, want)
		}
	}
	if got := count(t, look, "SELECT count(*) FROM public.mails"); got != 1 || n.cuts.Load() != 1 {
		t.Errorf("it was written %d times, with %d cuts", got, n.cuts.Load())
	}
	if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.notes WHERE action = 'reminded'"); got != 1 {
		t.Errorf("it was noted %d times", got)
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
