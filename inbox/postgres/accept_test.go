package postgres_test

import (
	"errors"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
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
