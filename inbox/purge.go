package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// PurgeOption changes what [Inbox.Purge] does.
type PurgeOption func(*purge) error

type purge struct{ includeDead bool }

// IncludeDead purges what is dead and quarantined too.
func IncludeDead() PurgeOption {
	return func(p *purge) error {
		if p.includeDead {
			return errors.New("IncludeDead is given twice")
		}
		p.includeDead = true
		return nil
	}
}

// Purge deletes the cases to which nothing has happened for at least age, on the
// database's clock, and returns how many events it deleted. It never deletes a case
// that is open or has a pending event or, without [IncludeDead], a dead one. Resolved
// events that were quarantined are deleted too. A started inbox calls Purge once an
// hour, with the age that [WithRetention] sets. A redelivery of what was deleted is no
// longer recognised as a duplicate.
func (in *Inbox) Purge(ctx context.Context, age time.Duration, opts ...PurgeOption) (int64, error) {
	if age < 0 {
		return 0, invalidf("Purge: the age, %v, is negative", age)
	}
	var o purge
	for _, opt := range opts {
		if opt == nil {
			return 0, invalidf("Purge: an option is nil")
		}
		if err := opt(&o); err != nil {
			return 0, invalidf("Purge: %v", err)
		}
	}
	deleted, err := in.purge(ctx, age, o.includeDead)
	if err != nil {
		err = fmt.Errorf("purge: %w", err)
	}
	return deleted, err
}

// purgeTimeout bounds the purge of one batch.
const purgeTimeout = time.Minute

// purge deletes in small batches, between which others get their turn.
func (in *Inbox) purge(ctx context.Context, age time.Duration, includeDead bool) (total int64, err error) {
	for after, more := (ledger.Cursor{}), true; more && err == nil; more = after != (ledger.Cursor{}) {
		if err = ctx.Err(); err != nil {
			break
		}
		var deleted int64
		batch, cancel := context.WithTimeout(ctx, purgeTimeout)
		deleted, after, err = in.engine.Purge(batch, after, age, includeDead)
		cancel()
		total += deleted
	}
	if total > 0 {
		in.log.InfoContext(ctx, "pixmed: old events were purged", "events", total)
	}
	return total, err
}

// purgeLoop purges what is old, until Stop.
func (in *Inbox) purgeLoop() {
	defer close(in.purged)
	tick := time.NewTicker(in.config.PurgeInterval)
	defer tick.Stop()
	for {
		select {
		case <-in.purging.Done():
			return
		case <-tick.C:
		}
		if _, err := in.purge(in.purging, in.config.Retention, false); err != nil && in.purging.Err() == nil {
			in.log.Error("pixmed: old events could not be purged; the next try is in an hour", "error", logText(err))
		}
	}
}
