package inbox

import (
	"context"
	"errors"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Attempt describes how an attempt at a notification, or at a reminder, ended, for
// metrics.
type Attempt struct {
	// Reminder is set if it was at a reminder. Key then has a TransactionID alone, and
	// the other fields about a notification are empty.
	Reminder bool
	// EventID is the notification's [Event].ID.
	EventID string
	// Key and Status are the notification's.
	Key    pixmed.Key
	Status pixmed.MEDStatus
	// Number is 1 for the first attempt.
	Number int
	// Result is how it ended.
	Result AttemptResult
	// Err is why it failed; nil if it did not.
	Err error
	// Duration is how long the receiver took.
	Duration time.Duration
	// Age is how long the notification had been stored when the attempt ended, by
	// this process's clock.
	Age time.Duration
}

// AttemptResult is how an [Attempt] ended. Its values suit a metric's label.
type AttemptResult string

// The results of attempts.
const (
	AttemptDone        AttemptResult = "done"        // the notification is done
	AttemptFailed      AttemptResult = "failed"      // there will be another one
	AttemptDead        AttemptResult = "dead"        // it was the last one, or the notification was discarded
	AttemptInterrupted AttemptResult = "interrupted" // by Stop; there will be another one
	AttemptLate        AttemptResult = "late"        // another one has taken over; it does not count
)

// WithObserver sets a function that is called once for each attempt that ended in
// this process and was stored, from the worker's goroutine: it must be quick. It is
// not called for attempts that a killed process left behind or that were given up as
// overdue; the next attempt and [Inbox.Stats] show those.
func WithObserver(observe func(context.Context, Attempt)) Option {
	return option("WithObserver", func(c *config.Config) error {
		if observe == nil {
			return errors.New("the function is nil")
		}
		c.Observer = observe
		return nil
	})
}

// observed tells the observer of an attempt.
func (in *Inbox) observed(ctx context.Context, a *ledger.Attempt, result AttemptResult, err error, duration time.Duration) {
	observe, ok := in.config.Observer.(func(context.Context, Attempt))
	if !ok {
		return
	}
	if a.Reminder {
		observe(ctx, Attempt{Reminder: true, Key: pixmed.Key{TransactionID: a.TransactionID}, Number: a.Failures + 1, Result: result, Err: err, Duration: duration})
		return
	}
	observe(ctx, Attempt{
		EventID:  a.ID,
		Key:      pixmed.Key{TransactionID: a.TransactionID, ExternalID: a.ExternalID},
		Status:   pixmed.MEDStatus(a.Status),
		Number:   a.Attempts + 1,
		Result:   result,
		Err:      err,
		Duration: duration,
		Age:      max(time.Since(a.ReceivedAt), 0),
	})
}
