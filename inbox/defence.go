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

// WithDefence sets until when a case has to be answered, a window after it opened,
// and has remind called at each of the given times before that, unless the case was
// answered ([Inbox.MarkAnswered]) or has ended by then. Institutions close a case
// against whoever does not answer within some days, and the webhook does not say when.
//
// remind gets the case with its notifications. An error or a panic is a failed
// attempt; there are as many, and they are as far apart, as [WithMaxAttempts] and
// [WithBackoff] say. After the last one an error is logged, [Stats].RemindersGivenUp
// counts the case, and the next reminder stays planned. Times that were missed,
// since nothing ran or because the case opened late, are one call. remind never runs
// beside a callback of the same case, and a notification that is due comes first.
// It is called at least once for each time, and what it writes through postgres.Tx
// happens exactly once. A restart neither repeats nor forgets one.
//
// before are positive, less than window, and no two are alike. Without any, remind
// must be nil: cases are due and nobody is reminded. The window and the times are
// kept in the database, and apply there to all processes; where they differ from
// what was set before, all open cases move. A process that was opened without
// WithDefence calls nobody, leaves reminders to others, and looks again each minute
// whether one is due that nobody has called; open the inbox once without any times to
// remove them.
func WithDefence(window time.Duration, remind func(context.Context, *Case) error, before ...time.Duration) Option {
	return option("WithDefence", func(c *config.Config) error {
		before := slices.SortedFunc(slices.Values(before), func(a, b time.Duration) int { return int(min(max(b-a, -1), 1)) })
		switch {
		case window < time.Second || window > longest || window%time.Microsecond != 0:
			return fmt.Errorf("the window, %v, is shorter than a second or longer than 100 years, or not a whole number of microseconds", window)
		case (remind == nil) != (len(before) == 0):
			return errors.New("the function and the times to call it at are given together or not at all")
		case len(before) > maxReminders:
			return fmt.Errorf("%d reminders are more than %d", len(before), maxReminders)
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
		c.Window, c.Before = window, before
		if remind != nil {
			c.Remind = remind
		}
		return nil
	})
}

const maxReminders = 100

// putOff is how long a process without a function for it leaves a reminder to
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
	return in.guard(ctx, a.TransactionID, func() error { return remind(ctx, c) })
}
