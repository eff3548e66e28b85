package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Receive stores a notification. A nil error means that it is on disk and will be
// handed to the receiver in its turn. [pixmed.ErrDuplicate] is returned when it was
// accepted before. An error that wraps [pixmed.ErrBusy] is returned when it was not
// accepted, or may not have been, and must be sent again: the queue is full, the
// database does not answer in time, too many notifications of its transaction are
// pending, or the inbox is stopping. A notification may be stored even if ctx ends.
func (in *Inbox) Receive(ctx context.Context, n *pixmed.Notification) error {
	if n == nil {
		return errors.New("the notification is nil")
	}
	if err := n.Validate(); err != nil {
		return err
	}
	event, err := in.newEvent(ctx, n.ReceivedAt)
	if err != nil {
		return err
	}
	key := n.Key()
	event.ExternalID, event.EndToEndID, event.Status, event.Value, event.Raw = key.ExternalID, string(n.EndToEndID), string(n.MEDStatus), int64(n.Value), n.Raw
	if len(event.Raw) == 0 { // it was made by hand
		if event.Raw, err = json.Marshal(n.Infraction); err != nil {
			return err
		}
	}
	if event.Status == "" {
		event.Digest = ledger.NewDigest(event.Raw)
	}
	var verdict ledger.Verdict
	var trimmed bool
	op := &ledger.Op{
		TransactionID: key.TransactionID,
		ExternalID:    &key.ExternalID,
		New:           event,
		Apply: func(c *ledger.Case) {
			verdict = c.Accept(event)
			trimmed = c.Changes().FirstTrim()
		},
	}
	if !n.MEDStatus.Final() { // it most probably opens the case
		op.Guess = func() *ledger.Case { return ledger.NewCase(key.TransactionID, ledger.Row{NextSeq: 1}) }
	}
	err = in.committer.accept(ctx, op)
	var kept *keptError
	switch {
	case errors.As(err, &kept):
		in.log.ErrorContext(ctx, "pixmed: the database rejected a notification; it is quarantined",
			"event_id", event.ID, "transaction_id", key.TransactionID, "error", logText(kept.cause))
		return nil
	case err != nil:
		return err
	case op.Known: // an earlier commit, whose answer was lost
		return nil
	}
	if trimmed {
		in.log.WarnContext(ctx, "pixmed: a transaction has very many notifications; from now on the oldest that are done are deleted",
			"transaction_id", key.TransactionID)
	}
	switch verdict {
	case ledger.Accepted:
		return nil
	case ledger.Duplicate:
		return pixmed.ErrDuplicate
	case ledger.Full:
		in.log.WarnContext(ctx, "pixmed: a notification was answered 503: too many of its transaction are pending",
			"transaction_id", key.TransactionID, "pending", ledger.MaxPending)
		return fmt.Errorf("%w: %d notifications of transaction %s are pending", pixmed.ErrBusy, ledger.MaxPending, key.TransactionID)
	case ledger.Revived:
		in.log.InfoContext(ctx, "pixmed: a redelivery revived a dead notification", "transaction_id", key.TransactionID)
		return nil
	default:
		return errors.New("the notification was not stored: the transaction decided nothing")
	}
}

// Quarantine stores the body of a request that passed verification but not
// validation: [Inbox.List] shows it, and [Inbox.Replay] can accept it later. The same
// body is stored once, with a count. It is for [pixmed.WithInvalid].
func (in *Inbox) Quarantine(ctx context.Context, body []byte, cause error) error {
	event, err := in.newEvent(ctx, time.Time{})
	if err != nil {
		return err
	}
	event.State, event.Raw, event.Digest, event.LastError = ledger.Quarantined, body, ledger.NewDigest(body), invalidText(cause)
	if err := in.committer.accept(ctx, &ledger.Op{Quarantine: event}); err != nil {
		return err
	}
	in.log.WarnContext(ctx, "pixmed: an invalid notification was quarantined", "event_id", event.ID)
	return nil
}

func (in *Inbox) newEvent(ctx context.Context, receivedAt time.Time) (*ledger.Event, error) {
	if receivedAt.IsZero() {
		receivedAt = time.Now()
	}
	event := &ledger.Event{ID: newID(receivedAt), ReceivedAt: receivedAt}
	if in.config.Carry == nil {
		return event, nil
	}
	if carried := in.config.Carry(ctx); len(carried) > 0 {
		var err error
		if event.Metadata, err = json.Marshal(carried); err != nil {
			return nil, fmt.Errorf("WithContext: %w", err)
		}
	}
	return event, nil
}
