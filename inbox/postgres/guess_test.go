package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

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

// What was guessed right is stored by the first transaction, and what was guessed wrong
// by the next. Nothing is stored twice when one of them is cut off.
func TestGuessesCutOff(t *testing.T) {
	t.Parallel()
	for name, mode := range cuts {
		for _, commit := range []int32{0, 1} { // which of the two
			t.Run(fmt.Sprintf("%s, commit %d", name, commit), func(t *testing.T) {
				t.Parallel()
				n := &network{}
				engine := openEngine(t, n.pool(t, enginetest.Postgres(t)))
				ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
				defer cancel()
				accept := func(transaction string, verdict *ledger.Verdict) *ledger.Op { // as the first of its case
					id := uuid.Must(uuid.NewV7()).String()
					e := &ledger.Event{ID: id, ExternalID: "x", Status: id, Raw: []byte("{}"), ReceivedAt: time.Now()}
					return &ledger.Op{
						TransactionID: transaction, ExternalID: &e.ExternalID, New: e, Apply: func(c *ledger.Case) { *verdict = c.Accept(e) },
						Guess: func() *ledger.Case { return ledger.NewCase(transaction, ledger.Row{NextSeq: 1}) },
					}
				}
				known, unknown := uuid.NewString(), uuid.NewString()
				var verdicts [3]ledger.Verdict
				if err := engine.Commit(ctx, []*ledger.Op{accept(known, &verdicts[0])}, nil); err != nil {
					t.Fatal(err)
				}
				n.skip.Store(commit)
				n.mode.Store(mode)
				ops := []*ledger.Op{accept(known, &verdicts[1]), accept(unknown, &verdicts[2])}
				// Until the server has noticed the cut, the old session holds the case.
				for again := ops; len(again) > 0; {
					for _, op := range again {
						op.Wrong = false
					}
					if err := engine.Commit(ctx, again, nil); err != nil {
						t.Fatalf("Commit: %v", err)
					}
					again = slices.DeleteFunc(slices.Clone(again), func(op *ledger.Op) bool { return !op.Wrong && !errors.Is(op.Err, ledger.ErrLocked) })
				}
				if got := n.cuts.Load(); got != 1 {
					t.Errorf("%d connections were cut", got)
				}
				for i, op := range ops {
					if op.Err != nil || !op.Known && verdicts[i+1] != ledger.Accepted {
						t.Errorf("operation %d: %v, known: %t, verdict %d", i, op.Err, op.Known, verdicts[i+1])
					}
				}
				for transaction, want := range map[string]int{known: 2, unknown: 1} {
					if history, err := engine.History(ctx, transaction); err != nil || len(history) != want {
						t.Errorf("%d events, %v, want %d", len(history), err, want)
					}
				}
			})
		}
	}
}

// TestSettleBesideOthers has another process change a case when a settlement's
// statement has read it and not locked it yet: the settlement is done only if nothing
// has changed that matters to it.
func TestSettleBesideOthers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		between func(a *ledger.Attempt) (*ledger.Op, *ledger.Claim)
		wrong   bool
	}{
		"nothing happens": {func(*ledger.Attempt) (*ledger.Op, *ledger.Claim) { return nil, nil }, false},
		"an event is accepted": {func(a *ledger.Attempt) (*ledger.Op, *ledger.Claim) {
			e := &ledger.Event{ID: uuid.NewString(), ExternalID: "y", Status: "B", Raw: []byte("{}"), ReceivedAt: time.Now()}
			return &ledger.Op{ExternalID: &e.ExternalID, New: e, Apply: func(c *ledger.Case) { c.Accept(e) }}, nil
		}, true},
		"it is settled": {func(a *ledger.Attempt) (*ledger.Op, *ledger.Claim) {
			return &ledger.Op{Apply: func(c *ledger.Case) { c.Settle(a.Lease, a.ID, ledger.Outcome{PutOff: true, Delay: time.Hour}) }}, nil
		}, true},
		"it is settled, and claimed again": {func(a *ledger.Attempt) (*ledger.Op, *ledger.Claim) {
			return &ledger.Op{Apply: func(c *ledger.Case) { c.Settle(a.Lease, a.ID, ledger.Outcome{Interrupted: true}) }}, &ledger.Claim{Max: 1, Lease: time.Hour}
		}, true},
		"it is answered": {func(*ledger.Attempt) (*ledger.Op, *ledger.Claim) {
			return &ledger.Op{Apply: func(c *ledger.Case) { c.MarkAnswered("ana", "") }}, nil
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			look := s.Pool(t)
			other := openEngine(t, look)
			mustExec(t, look, `CREATE FUNCTION public.hold() RETURNS boolean LANGUAGE plpgsql SET lock_timeout = 0 AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN true; END $$`)
			held := &mutator{in: "(transaction_id, lease, seq", old: "WHERE c.held AND", with: "WHERE (SELECT public.hold()) AND c.held AND"}
			engine := openEngine(t, newPool(t, s, func(c *pgxpool.Config) { c.ConnConfig.Tracer = held }))

			transaction := uuid.NewString()
			e := &ledger.Event{ID: uuid.NewString(), ExternalID: "x", Status: "A", Raw: []byte("{}"), ReceivedAt: time.Now()}
			accept := &ledger.Op{TransactionID: transaction, ExternalID: &e.ExternalID, New: e, Apply: func(c *ledger.Case) { c.Accept(e) }}
			claim := &ledger.Claim{Max: 1, Lease: time.Hour}
			if err := engine.Commit(t.Context(), []*ledger.Op{accept}, claim); err != nil || len(claim.Attempts) != 1 {
				t.Fatalf("%d attempts, %v", len(claim.Attempts), err)
			}
			a := claim.Attempts[0]

			hold := begin(t, look, "SELECT pg_advisory_xact_lock(42)")
			var got ledger.Settlement
			settle := &ledger.Op{TransactionID: transaction, Guess: a.Claimed, Apply: func(c *ledger.Case) { got = c.Settle(a.Lease, a.ID, ledger.Outcome{Done: true}) }}
			result := make(chan error, 1)
			go func() { result <- engine.Commit(t.Context(), []*ledger.Op{settle}, nil) }()
			awaitCount(t, look, "the settlement has its snapshot", `
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'`)
			if op, claim := test.between(a); op != nil {
				op.TransactionID = transaction
				if err := other.Commit(t.Context(), []*ledger.Op{op}, claim); err != nil || op.Err != nil {
					t.Fatal(err, op.Err)
				}
			}
			if err := hold.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := await(t, "the settlement", result); err != nil {
				t.Fatal(err)
			}
			if settle.Wrong != test.wrong {
				t.Errorf("the guess was wrong: %t, and it was settled: %t", settle.Wrong, got == ledger.Settled)
			}
			event, err := engine.Event(t.Context(), a.ID)
			if err != nil {
				t.Fatal(err)
			}
			if done := event.State == ledger.Done; done == test.wrong {
				t.Errorf("the event is %s", event.State)
			}
		})
	}
}
