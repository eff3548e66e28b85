package inbox

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Inbox is a durable inbox. It is a [pixmed.Receiver] to put behind the handler,
// and it calls another one, yours, from its workers. Open one with package sqlite
// or postgres. Its methods may be called concurrently.
type Inbox struct {
	store     ledger.Store
	receiver  pixmed.Receiver
	config    *config.Config
	log       *slog.Logger
	committer *committer

	mu     sync.Mutex // held while starting and stopping
	state  lifecycle
	swept  chan struct{} // closed when the sweeper has ended
	ended  chan struct{} // closed when Stop has done everything
	endErr error

	// They end when the sweeper must, when Stop runs out of time, and then when the
	// callbacks must.
	sweeping, hurry, interrupted       context.Context //nolint:containedctx // nobody calls what they are for
	stopSweeping, hurryUp, interruptIt context.CancelFunc
}

type lifecycle int

const (
	opened lifecycle = iota
	started
	stopping
)

// New returns an inbox on an engine; it takes over store and closes it, also on
// error. It is for the packages sqlite and postgres.
func New(store ledger.Store, receiver pixmed.Receiver, c *config.Config) (*Inbox, error) {
	if err := CheckReceiver(receiver); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	in := &Inbox{
		store: store, receiver: receiver, config: c, log: c.Logger,
		committer: newCommitter(store, c),
		swept:     make(chan struct{}), ended: make(chan struct{}),
	}
	in.sweeping, in.stopSweeping = context.WithCancel(context.Background())
	in.hurry, in.hurryUp = context.WithCancel(context.Background())
	in.interrupted, in.interruptIt = context.WithCancel(context.Background())
	return in, nil
}

// Store returns the engine. It is for the packages sqlite and postgres.
func (in *Inbox) Store() ledger.Store { return in.store }

// CheckReceiver reports a receiver that is nil or incomplete. It is for the
// packages sqlite and postgres.
func CheckReceiver(receiver pixmed.Receiver) error {
	v := reflect.ValueOf(receiver)
	if !v.IsValid() || ((v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil()) {
		return errors.New("inbox: the receiver is nil")
	}
	if v, ok := receiver.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// Receive stores a notification. A nil error says that it is on disk and will be
// worked, in its turn; [pixmed.ErrDuplicate] that it was accepted before; an
// error that wraps [pixmed.ErrBusy] that it is not accepted, or not known to be,
// and has to be sent again: the queue is full, the database does not answer in
// time, too many notifications of its transaction are pending, or the inbox is
// stopping. A notification whose context ends may still be stored.
func (in *Inbox) Receive(ctx context.Context, n *pixmed.Notification) error {
	if err := n.Validate(); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	event, err := in.newEvent(ctx, n.ReceivedAt)
	if err != nil {
		return err
	}
	key := n.Key()
	event.ExternalID, event.Status, event.Raw = key.ExternalID, string(n.MEDStatus), n.Raw
	if len(event.Raw) == 0 { // it was made by hand
		if event.Raw, err = json.Marshal(n.Infraction); err != nil {
			return fmt.Errorf("inbox: %w", err)
		}
	}
	var verdict ledger.Verdict
	op := &ledger.Op{
		TransactionID: key.TransactionID,
		ExternalID:    &key.ExternalID,
		New:           event,
		Apply:         func(c *ledger.Case) { verdict = c.Accept(event) },
	}
	switch err := in.committer.accept(ctx, op); {
	case err != nil:
		return err
	case op.Kept:
		in.log.ErrorContext(ctx, "inbox: the database refuses a notification; it is in quarantine",
			"event_id", event.ID, "transaction_id", key.TransactionID)
		return nil
	case verdict == ledger.Accepted:
		return nil
	case verdict == ledger.Duplicate:
		return pixmed.ErrDuplicate
	case verdict == ledger.Full:
		in.log.WarnContext(ctx, "inbox: a notification was refused: too many of its transaction are pending",
			"transaction_id", key.TransactionID, "pending", ledger.MaxPending)
		return fmt.Errorf("%w: %d notifications of transaction %s are pending", pixmed.ErrBusy, ledger.MaxPending, key.TransactionID)
	case verdict == ledger.Revived:
		in.log.InfoContext(ctx, "inbox: a redelivery revives a dead notification", "transaction_id", key.TransactionID)
		return nil
	}
	return errors.New("inbox: not stored: nothing was decided")
}

// Invalid stores the body of a request that passed verification but not
// validation, in quarantine, where [Inbox.List] shows it and [Inbox.Replay] can
// take it up again. It is for [pixmed.WithInvalid].
func (in *Inbox) Invalid(ctx context.Context, body []byte, cause error) error {
	event, err := in.newEvent(ctx, time.Time{})
	if err != nil {
		return err
	}
	event.State, event.Raw, event.LastError = ledger.Quarantined, body, errorText(cause)
	if err := in.committer.accept(ctx, &ledger.Op{Quarantine: event}); err != nil {
		return err
	}
	in.log.WarnContext(ctx, "inbox: an invalid notification is in quarantine", "event_id", event.ID)
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
			return nil, fmt.Errorf("inbox: WithContext: %w", err)
		}
	}
	return event, nil
}

// newID returns a UUID of version 7 for a time: ids sort like the times, to a
// quarter of a microsecond.
func newID(t time.Time) string {
	id := firstID(t)
	_, _ = rand.Read(id[8:]) // never fails
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// firstID returns what no id of a time is below.
func firstID(t time.Time) (id uuid.UUID) {
	ms := uint64(max(t.UnixMilli(), 0)) << 16
	fraction := uint64(t.Nanosecond()%1e6) << 12 / 1e6 //nolint:gosec // it is not negative
	binary.BigEndian.PutUint64(id[:], ms|7<<12|fraction)
	id[8] = 0x80
	return id
}

// Ready returns nil if notifications are accepted, as far as one can tell without
// one, and otherwise why not: the inbox is stopping, the database does not answer
// or is read-only, the disk is full. It is for readiness checks; give it a context
// that ends soon.
func (in *Inbox) Ready(ctx context.Context) error {
	if in.committer.refuses() {
		return errStopping
	}
	if err := in.store.Ready(ctx); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	return nil
}

// Start begins to work what is accepted, here and by other processes, and what
// was left when the last process ended. Accepting needs no Start. It ends with
// Stop, not with ctx.
func (in *Inbox) Start(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch in.state {
	case opened:
	case started:
		return errors.New("inbox: Start: it is started already")
	case stopping:
		return errors.New("inbox: Start: it is stopped; open it anew")
	}
	if !in.store.Shared() {
		// Nobody else can be at work: what is marked as running was cut off.
		if err := in.sweep(ctx, 0); err != nil {
			return fmt.Errorf("inbox: Start: %w", err)
		}
	}
	if err := in.store.Start(ctx, in.work); err != nil {
		return fmt.Errorf("inbox: Start: %w", err)
	}
	in.state = started
	go in.sweepLoop()
	return nil
}

// Stop ends the inbox and loses nothing. From here on Receive returns an error
// that wraps [pixmed.ErrBusy]. Stop stores what was on its way, lets the running
// callbacks end, and closes the inbox; the pool that was given to package
// postgres stays open. When ctx ends, Stop cancels the contexts of the callbacks
// that still run, and waits for them a little; they will run again. It returns
// nil if everything has ended. It may be called again, to wait for the rest, and
// on an inbox that was never started.
func (in *Inbox) Stop(ctx context.Context) error {
	in.committer.refuse()
	in.mu.Lock()
	was := in.state
	in.state = stopping
	in.mu.Unlock()
	if was != stopping {
		go in.end(was)
	}
	select {
	case <-in.ended:
		return in.endErr
	case <-ctx.Done():
	}
	in.hurryUp()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-in.ended:
		return in.endErr
	case <-grace.C:
		return fmt.Errorf("inbox: Stop: something has not ended yet, a callback that does not heed its context or a database that does not answer: %w", ctx.Err())
	}
}

// stopGrace is how long Stop waits for callbacks that it has cancelled.
const stopGrace = 5 * time.Second

func (in *Inbox) end(was lifecycle) {
	defer close(in.ended)
	var errs []error
	in.stopSweeping()
	if was == started {
		<-in.swept
		if in.store.StopWork(in.hurry) != nil {
			// Only now, when the workers take nothing new, or one job more at most.
			in.interruptIt()
			errs = append(errs, in.store.CancelWork())
		}
	}
	in.committer.stop() // after the last settlement
	in.hurryUp()
	in.interruptIt()
	in.endErr = errors.Join(append(errs, in.store.Close())...)
}
