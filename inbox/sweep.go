package inbox

import (
	"context"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// sweepLoop looks for cases whose live job was lost, and purges what is old.
func (in *Inbox) sweepLoop() {
	defer close(in.swept)
	ctx := in.sweeping
	sweep := time.NewTicker(in.config.SweepInterval)
	defer sweep.Stop()
	purge := time.NewTicker(in.config.PurgeInterval)
	defer purge.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			err = in.sweep(ctx, in.config.Overdue)
		case <-purge.C:
			_, err = in.purge(ctx, in.config.Retention, false)
		}
		if err != nil && ctx.Err() == nil {
			in.log.ErrorContext(ctx, "inbox: the sweeper failed; it will try again", "error", err)
		}
	}
}

// sweep sets right every case whose live job was lost.
func (in *Inbox) sweep(ctx context.Context, overdue time.Duration) error {
	reading, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	broken, err := in.store.Broken(reading, overdue)
	if err != nil {
		return err
	}
	for _, id := range broken {
		var recovered bool
		op := &ledger.Op{
			TransactionID: id,
			Job:           true,
			Overdue:       overdue,
		}
		op.Apply = func(c *ledger.Case) { recovered = c.Recover(in.config.MaxAttempts, lostReason) }
		if err := in.committer.commit(ctx, op); err != nil {
			return err
		}
		if recovered {
			in.log.WarnContext(ctx, "inbox: an attempt was lost or cancelled; its case was set right", "transaction_id", id)
		}
	}
	return nil
}

const lostReason = "the attempt was cancelled in the queue, or did not end in time: its process was killed, or its callback does not end with its context"

func (in *Inbox) purge(ctx context.Context, age time.Duration, unfinished bool) (int64, error) {
	var total int64
	for after := ""; ; {
		deleted, next, err := in.purgeBatch(ctx, after, age, unfinished)
		total += deleted
		if err != nil || next == "" {
			if total > 0 {
				in.log.InfoContext(ctx, "inbox: old events were purged", "events", total)
			}
			return total, err
		}
		after = next
	}
}

func (in *Inbox) purgeBatch(ctx context.Context, after string, age time.Duration, unfinished bool) (deleted int64, next string, err error) {
	if err := ctx.Err(); err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	return in.store.Purge(ctx, after, age, unfinished)
}

// sweepTimeout bounds one query of the sweeper's.
const sweepTimeout = time.Minute
