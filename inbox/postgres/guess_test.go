package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

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
