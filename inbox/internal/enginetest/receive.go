package enginetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// Patience is how long a test waits for what has to happen.
const Patience = 30 * time.Second

// Notification returns a notification for a transaction, with its body.
func Notification(transactionID string, status pixmed.MEDStatus) *pixmed.Notification {
	return pixmedtest.NewNotification(func(n *pixmed.Notification) {
		n.TransactionID, n.MEDStatus = transactionID, status
		n.Raw = pixmedtest.Payload(n.Infraction)
	})
}

// NewTransaction returns a transaction id.
func NewTransaction() string { return uuid.NewString() }

// Recorder is a receiver that sends what it gets into a channel, and returns what
// Answer says, nil without one.
type Recorder struct {
	Got    chan *pixmed.Notification
	Answer func(ctx context.Context, n *pixmed.Notification) error
}

// NewRecorder returns a recorder.
func NewRecorder(answer func(ctx context.Context, n *pixmed.Notification) error) *Recorder {
	return &Recorder{make(chan *pixmed.Notification, 1000), answer}
}

// Receive implements [pixmed.Receiver].
func (r *Recorder) Receive(ctx context.Context, n *pixmed.Notification) error {
	r.Got <- n
	if r.Answer == nil {
		return nil
	}
	return r.Answer(ctx, n)
}

// Next returns the next notification.
func (r *Recorder) Next(tb testing.TB) *pixmed.Notification {
	tb.Helper()
	select {
	case n := <-r.Got:
		return n
	case <-time.After(Patience):
		tb.Fatal("no callback came")
		return nil
	}
}

// None fails the test if something came that nobody waited for.
func (r *Recorder) None(tb testing.TB) {
	tb.Helper()
	select {
	case n := <-r.Got:
		tb.Errorf("an unexpected callback: %v", n)
	default:
	}
}

// Counts counts events by state.
type Counts struct{ Pending, Done, Dead, Quarantined int64 }

// Count counts the events of an inbox.
func Count(tb testing.TB, in *inbox.Inbox) Counts {
	tb.Helper()
	c, err := TryCount(context.WithoutCancel(tb.Context()), in)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// TryCount is Count with an error.
func TryCount(ctx context.Context, in *inbox.Inbox) (Counts, error) {
	received, err := in.CountReceived(ctx, time.UnixMilli(0), 200*365*24*time.Hour, 1)
	if err != nil {
		return Counts{}, err
	}
	r := received[0]
	return Counts{r.Pending, r.Done, r.Dead, r.Quarantined}, nil
}

// Await waits until nothing is pending.
func Await(tb testing.TB, in *inbox.Inbox) Counts {
	tb.Helper()
	return AwaitCounts(tb, in, func(c Counts) bool { return c.Pending == 0 })
}

// AwaitCounts waits until the counts are as the test wants them.
func AwaitCounts(tb testing.TB, in *inbox.Inbox, ok func(Counts) bool) Counts {
	tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Patience)
	for {
		c := Count(tb, in)
		if ok(c) {
			return c
		}
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("the inbox does not get there: %+v", c)
		}
	}
}
