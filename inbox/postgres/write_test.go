package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/modeltest"
)

// Rows are written as arrays, and none is lost or mixed up with another.
func TestBatches(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	defer cancel()
	if err := modeltest.Batches(ctx, openEngine(t, enginetest.Postgres(t).Pool(t))); err != nil {
		t.Error(err)
	}
}

// A case that becomes due again is due from now on, whenever its time was: claims do
// not look further back than where the last of them were.
func TestDueFromNowOn(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	in := open(t, s.Pool(t), pixmed.ReceiverFunc(pixmed.Ignore))
	id := enginetest.NewTransaction()
	receive(t, in, id, pixmed.Acknowledged)
	mustExec(t, look, "UPDATE pixmed_inbox.cases SET event_at = event_at - interval '1 hour', run_at = run_at - interval '1 hour'")
	var before time.Time
	if err := look.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&before); err != nil {
		t.Fatal(err)
	}
	receive(t, in, id, pixmed.Cancelled)
	if got := count(t, look, "SELECT count(*) FROM pixmed_inbox.cases WHERE run_at BETWEEN $1 AND clock_timestamp() AND event_at < $1 - interval '59 minutes'", before); got != 1 {
		t.Errorf("%d cases are due from now on, want 1", got)
	}
}
