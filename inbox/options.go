package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/config"
)

// Option configures an inbox. Each may be given once. Packages sqlite and postgres
// have further options.
type Option struct {
	name string // that of the function it comes from; "" if it may be given again
	set  func(*config.Config) error
}

func option(name string, set func(*config.Config) error) Option { return Option{name, set} }

// The largest sizes.
const (
	maxWorkers   = 10_000
	maxAttempts  = 1_000_000
	maxQueueSize = 1_000_000
)

// WithWorkers sets how many callbacks run at a time in this process, each for
// another transaction, from 1 to 10000. Default 10.
func WithWorkers(n int) Option {
	return within("WithWorkers", n, maxWorkers, func(c *config.Config) { c.Workers = n })
}

// WithMaxAttempts sets how often a notification is tried before it is dead, from 1
// to 1000000. Default 20, which with the default backoff takes about a day.
func WithMaxAttempts(n int) Option {
	return within("WithMaxAttempts", n, maxAttempts, func(c *config.Config) { c.MaxAttempts = n })
}

// WithBackoff sets how long to wait before a failed notification is tried again:
// first after the first failure, twice as long after each further one, and never
// longer than longest. Each wait is shortened at random by up to half, so that what
// failed together does not come back together. Defaults 1 s and 4 h.
func WithBackoff(first, longest time.Duration) Option {
	return option("WithBackoff", func(c *config.Config) error {
		if first <= 0 {
			return fmt.Errorf("the first delay, %v, is not positive", first)
		}
		c.FirstDelay, c.MaxDelay = first, longest
		return nil
	})
}

// WithAttemptTimeout sets how long one call of the receiver may take until its
// context ends. Default 30 s.
func WithAttemptTimeout(d time.Duration) Option {
	return duration("WithAttemptTimeout", d, func(c *config.Config) { c.AttemptTimeout = d })
}

// WithOverdue sets how long after its beginning an attempt that has not ended is given
// up and run again: its process was killed, or its callback does not return when its
// context ends. It must be at least 1.2 times the attempt timeout. Default 1.5 times
// the attempt timeout, 45 s unless that is set.
func WithOverdue(d time.Duration) Option {
	return duration("WithOverdue", d, func(c *config.Config) { c.Overdue = d })
}

// WithRetention sets how long a case that has ended is kept after something last
// happened to it, which is also how far back a duplicate is recognised. Default 400
// days. Open cases, cases with a dead notification, and what is quarantined are kept;
// see [Inbox.Purge].
func WithRetention(d time.Duration) Option {
	return duration("WithRetention", d, func(c *config.Config) { c.Retention = d })
}

// WithQueueSize sets how many notifications may wait for the database, from 1 to
// 1000000; beyond that the answer is 503. Default 4096.
func WithQueueSize(n int) Option {
	return within("WithQueueSize", n, maxQueueSize, func(c *config.Config) { c.QueueSize = n })
}

// WithLogger sets the logger. Default slog.Default(). No line holds a payload or
// personal data, except for your receiver's errors, of which the first 1 KiB is logged.
func WithLogger(l *slog.Logger) Option {
	return option("WithLogger", func(c *config.Config) error {
		if l == nil {
			return errors.New("the logger is nil")
		}
		c.Logger = l
		return nil
	})
}

// WithContext carries values from the request to the callback, such as a trace:
// carry is called with the handler's context when a notification is accepted, and
// resume with the callback's context and what carry returned, which is stored with
// the notification. Keep it small and free of secrets.
func WithContext(carry func(context.Context) map[string]string, resume func(context.Context, map[string]string) context.Context) Option {
	return option("WithContext", func(c *config.Config) error {
		if carry == nil || resume == nil {
			return errors.New("a function is nil")
		}
		c.Carry, c.Resume = carry, resume
		return nil
	})
}

func within(name string, n, most int, set func(*config.Config)) Option {
	return option(name, func(c *config.Config) error {
		if n < 1 || n > most {
			return fmt.Errorf("%d is not between 1 and %d", n, most)
		}
		set(c)
		return nil
	})
}

// longest bounds durations, so that a sum of a few does not overflow.
const longest = 100 * 365 * 24 * time.Hour

func duration(name string, d time.Duration, set func(*config.Config)) Option {
	return option(name, func(c *config.Config) error {
		if d <= 0 || d > longest {
			return fmt.Errorf("%v is not positive, or longer than 100 years", d)
		}
		set(c)
		return nil
	})
}
