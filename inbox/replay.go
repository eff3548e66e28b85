package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Errors of what operators do. Ask with errors.Is.
var (
	// ErrInvalidArgument is returned when an id is not a UUID, or a filter, a cursor,
	// a limit or an option is not valid. The text says which.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrNotFound is returned when there is no event with the given id.
	ErrNotFound = errors.New("there is no such event")
	// ErrNotReplayable is returned by Replay when the event is neither dead nor
	// quarantined.
	ErrNotReplayable = errors.New("the event is neither dead nor quarantined")
	// ErrSuperseded is returned by Replay when a newer notification of the case was
	// done since: replaying an old one could undo it. Look first, then use [Force].
	ErrSuperseded = errors.New("a newer notification of the case is done; replaying this one could undo it")
	// ErrNotPending is returned by Discard when the event is not pending.
	ErrNotPending = errors.New("the event is not pending")
	// ErrRunning is returned by Discard when the receiver is called for the event
	// right now.
	ErrRunning = errors.New("the event is running now")
)

// ReplayOption changes what [Inbox.Replay] does.
type ReplayOption func(*replay) error

type replay struct{ force bool }

// Force replays an event although a newer one of its case is done or, if it is
// quarantined, although it repeats the last accepted one.
func Force() ReplayOption {
	return func(r *replay) error {
		if r.force {
			return errors.New("Force is given twice")
		}
		r.force = true
		return nil
	}
}

// Replay makes a dead event pending again at its old place, with all its attempts
// before it, or takes a quarantined one up if it has become valid, as after an
// update of this module. It returns [ErrNotFound], [ErrNotReplayable],
// [ErrSuperseded], [pixmed.ErrDuplicate] for a quarantined event that repeats the
// last accepted one of its case, or why a quarantined body is not valid.
func (in *Inbox) Replay(ctx context.Context, id string, opts ...ReplayOption) error {
	var o replay
	for _, opt := range opts {
		if opt == nil {
			return invalidf("Replay: an option is nil")
		}
		if err := opt(&o); err != nil {
			return invalidf("Replay: %v", err)
		}
	}
	e, err := in.get(ctx, id)
	if err != nil {
		return err
	}
	key := *e
	switch e.State {
	case ledger.Quarantined:
		infraction, err := pixmed.ParseInfraction(e.Raw)
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		k := infraction.Key()
		key.TransactionID, key.ExternalID, key.Status, key.Value = k.TransactionID, k.ExternalID, string(infraction.MEDStatus), int64(infraction.Value)
	case ledger.Dead:
	default:
		return fmt.Errorf("%w: %s is %s", ErrNotReplayable, e.ID, e.State)
	}
	result := ledger.ReplayUnneeded
	op := &ledger.Op{TransactionID: key.TransactionID, Event: e.ID, All: true}
	op.Create = e.State == ledger.Quarantined
	op.Apply = func(c *ledger.Case) {
		if r := c.Replay(e.ID, key, o.force); result != ledger.ReplayStarted || r != ledger.ReplayUnneeded {
			result = r // and not what it left behind, if its COMMIT was not answered
		}
	}
	if err := in.committer.commit(ctx, op); err != nil {
		return err
	}
	switch result {
	case ledger.ReplaySuperseded:
		return fmt.Errorf("%w: %s", ErrSuperseded, e.ID)
	case ledger.ReplayDuplicate:
		return pixmed.ErrDuplicate
	case ledger.ReplayUnneeded:
		return fmt.Errorf("%w: %s", ErrNotReplayable, e.ID)
	default:
	}
	in.log.InfoContext(ctx, "pixmed: a notification is replayed", "event_id", e.ID, "transaction_id", key.TransactionID, "forced", o.force)
	return nil
}

// Discard makes a pending event dead without calling the receiver again, and lets
// those of its transaction that wait for it run. A redelivery does not revive it;
// Replay does. It returns [ErrNotFound], [ErrNotPending], or [ErrRunning] while
// the receiver is called for it. To discard from within the receiver, see the
// function of this name.
func (in *Inbox) Discard(ctx context.Context, id string) error {
	e, err := in.get(ctx, id)
	if err != nil {
		return err
	}
	if e.State != ledger.Pending {
		return fmt.Errorf("%w: %s is %s", ErrNotPending, e.ID, e.State)
	}
	result := ledger.DiscardUnneeded
	op := &ledger.Op{TransactionID: e.TransactionID, Event: e.ID}
	op.Apply = func(c *ledger.Case) {
		if r := c.Discard(e.ID, "discarded by an operator"); result != ledger.DiscardDone || r != ledger.DiscardUnneeded {
			result = r
		}
	}
	if err := in.committer.commit(ctx, op); err != nil {
		return err
	}
	switch result {
	case ledger.DiscardRunning:
		return fmt.Errorf("%w: %s", ErrRunning, e.ID)
	case ledger.DiscardUnneeded:
		return fmt.Errorf("%w: %s", ErrNotPending, e.ID)
	default:
	}
	in.log.WarnContext(ctx, "pixmed: a notification is dead: an operator discarded it", "event_id", e.ID, "transaction_id", e.TransactionID)
	return nil
}
