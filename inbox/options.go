package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/config"
)

// Option configures an inbox. The packages sqlite and postgres have some more
// of their own.
type Option = config.Option

// WithWorkers sets how many callbacks run at a time in this process, each for
// another transaction. At most 10000. On PostgreSQL the pool must have four
// connections more than that. Default 10, on PostgreSQL fewer if the pool is
// smaller.
func WithWorkers(n int) Option {
	return func(c *config.Config) error {
		if n < 1 || n > 10_000 {
			return fmt.Errorf("inbox: WithWorkers: %d is not between 1 and 10000", n)
		}
		c.Workers = n
		return nil
	}
}

// WithMaxAttempts sets how often a notification is tried before it is dead.
// Default 20, which with the default backoff takes about a day.
func WithMaxAttempts(n int) Option {
	return func(c *config.Config) error {
		if n < 1 {
			return fmt.Errorf("inbox: WithMaxAttempts: %d is below 1", n)
		}
		c.MaxAttempts = n
		return nil
	}
}

// WithBackoff sets how long to wait before a failed notification is tried again:
// first after the first failure, twice as long after each further one, and never
// longer than longest. Each wait is cut short at random by up to half, so that
// what failed together does not come back together. Defaults 1 s and 4 h.
func WithBackoff(first, longest time.Duration) Option {
	return func(c *config.Config) error {
		if first <= 0 {
			return fmt.Errorf("inbox: WithBackoff: the first delay, %v, is not positive", first)
		}
		c.FirstDelay, c.MaxDelay = first, longest
		return nil
	}
}

// WithAttemptTimeout sets how long one call of the receiver may take until its
// context ends. Default 30 s.
func WithAttemptTimeout(d time.Duration) Option {
	return positive("WithAttemptTimeout", d, func(c *config.Config) { c.AttemptTimeout = d })
}

// WithOverdue sets after how long an attempt that has not ended is given up, and
// its notification is run again: its process was killed, or its callback does
// not end with its context. It must be above the attempt timeout. Default one
// and a half times that timeout, which is 45 s unless it is set. What is overdue
// is looked for nine times in that time, and every 5 s at least.
func WithOverdue(d time.Duration) Option {
	return positive("WithOverdue", d, func(c *config.Config) { c.Overdue = d })
}

// WithRetention sets for how long finished cases are kept after the last thing
// that happened to them: that is also how far back a duplicate is recognised.
// Default 400 days. Cases that hold something dead are kept, and so is what is
// quarantined; see [Inbox.Purge].
func WithRetention(d time.Duration) Option {
	return positive("WithRetention", d, func(c *config.Config) { c.Retention = d })
}

// WithQueueSize sets how many notifications may wait for the database; with more
// the answer is 503. Default 4096.
func WithQueueSize(n int) Option {
	return func(c *config.Config) error {
		if n < 1 {
			return fmt.Errorf("inbox: WithQueueSize: %d is below 1", n)
		}
		c.QueueSize = n
		return nil
	}
}

// WithLogger sets the logger. Default slog.Default(). No line holds a payload
// or personal data; the receiver's own errors are logged as they are.
func WithLogger(l *slog.Logger) Option {
	return func(c *config.Config) error {
		if l == nil {
			return errors.New("inbox: WithLogger: the logger is nil")
		}
		c.Logger = l
		return nil
	}
}

// WithContext carries values from the request to the callback, such as a trace:
// carry is called with the handler's context when a notification is accepted,
// and resume with the callback's context and what carry returned, which is
// stored with the notification. Keep it small and free of secrets.
func WithContext(carry func(context.Context) map[string]string, resume func(context.Context, map[string]string) context.Context) Option {
	return func(c *config.Config) error {
		if carry == nil || resume == nil {
			return errors.New("inbox: WithContext: a function is nil")
		}
		c.Carry, c.Resume = carry, resume
		return nil
	}
}

func positive(name string, d time.Duration, set func(*config.Config)) Option {
	return func(c *config.Config) error {
		if d <= 0 {
			return fmt.Errorf("inbox: %s: %v is not positive", name, d)
		}
		set(c)
		return nil
	}
}
