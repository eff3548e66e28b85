package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// WithDefence sets when a case is due, a window after it opened, and calls remind at
// each of the given times before that, unless the case was answered
// ([Inbox.MarkAnswered]) or has ended by then. Institutions close a case
// against whoever does not answer within some days, and the webhook does not say when.
//
// remind gets the case with its notifications. An error or a panic is a failed
// attempt, and is retried as [WithMaxAttempts] and [WithBackoff] say. After the last
// attempt an error is logged, [Stats].RemindersGivenUp counts the case, and the next
// reminder stays planned. Reminders that were missed, because no process was running
// or the case opened late, become one call. remind never runs at the same time as a
// callback of the same case, and a notification that is due comes first. It is called
// at least once for each reminder, and what it writes through postgres.Tx happens
// exactly once. A restart neither repeats a reminder nor forgets one.
//
// Each of before is positive and less than window, and no two are equal. Without any,
// remind must be nil: cases are due and nobody is reminded. The window and the times
// are kept in the database and apply to all processes; if they differ from what was
// set before, all open cases move. A process that was opened without WithDefence leaves
// reminders to others, and checks once a minute whether one is due that nobody has
// called. To turn reminders off, open the inbox once with WithDefence and no times; with
// WithDefence(0, nil) no case is due any more.
func WithDefence(window time.Duration, remind func(context.Context, *Case) error, before ...time.Duration) Option {
	return option("WithDefence", func(c *config.Config) error {
		before := slices.SortedFunc(slices.Values(before), func(a, b time.Duration) int { return int(min(max(b-a, -1), 1)) })
		switch {
		case window == 0 && remind == nil && len(before) == 0:
		case window < time.Second || window > longest || window%time.Microsecond != 0:
			return fmt.Errorf("the window, %v, is shorter than a second or longer than 100 years, or not a whole number of microseconds", window)
		case (remind == nil) != (len(before) == 0):
			return errors.New("give a function and times to call it at, or neither")
		case len(before) > maxReminders:
			return fmt.Errorf("%d reminders are given: at most %d are allowed", len(before), maxReminders)
		}
		for i, b := range before {
			switch {
			case b%time.Microsecond != 0:
				return fmt.Errorf("%v is not a whole number of microseconds", b)
			case b <= 0 || b >= window:
				return fmt.Errorf("%v is not between 0 and the window, %v", b, window)
			case i > 0 && b == before[i-1]:
				return fmt.Errorf("%v is given twice", b)
			}
		}
		c.Defence, c.Window, c.Before = true, window, before
		if remind != nil {
			c.Remind = remind
		}
		return nil
	})
}

const maxReminders = 100

// putOff is how long a process that has no function to call leaves a reminder to
// others.
const putOff = time.Minute

var errNobodyToRemind = errors.New("a reminder is due, and this process was opened without WithDefence")

// remind calls the function for a reminder, unless that is no longer needed.
func (in *Inbox) remind(ctx context.Context, a *ledger.Attempt) error {
	remind, ok := in.config.Remind.(func(context.Context, *Case) error)
	if !ok {
		in.notReminding.Do(func() {
			in.log.WarnContext(ctx, "pixmed: reminders are due, and this process was opened without WithDefence; it leaves them to others")
		})
		return errNobodyToRemind
	}
	c, err := in.Case(ctx, a.TransactionID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the case: %w", err)
	}
	if !c.Open || !c.AnsweredAt.IsZero() || !c.OpenedAt.Equal(a.Reminded.OpenedAt) {
		return nil // it was settled meanwhile
	}
	if c.Events, err = in.History(ctx, a.TransactionID); err != nil {
		return fmt.Errorf("read the case: %w", err)
	}
	return in.guard(ctx, a.TransactionID, func() error { return remind(ctx, c) })
}
