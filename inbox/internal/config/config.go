// Package config holds what the options of an inbox set, for the packages that
// open one.
package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config is the configuration of an inbox.
type Config struct {
	Workers        int // 0 unless it was set
	MaxAttempts    int
	FirstDelay     time.Duration
	MaxDelay       time.Duration
	AttemptTimeout time.Duration
	Overdue        time.Duration
	Retention      time.Duration
	QueueSize      int
	Logger         *slog.Logger
	Carry          func(context.Context) map[string]string
	Resume         func(context.Context, map[string]string) context.Context
	Observer       any // a func(context.Context, inbox.Attempt), nil for none

	// For one engine only.
	Schema      string
	PollOnly    bool
	MinFreeDisk *uint64

	// Not options: tests and benchmarks change them.
	MaxBatch      int
	MaxBatchBytes int
	CommitTimeout time.Duration
	SweepInterval time.Duration
	PurgeInterval time.Duration
	PollInterval  time.Duration
}

// DefaultWorkers is how many workers there are unless it is set.
const DefaultWorkers = 10

// Option changes a Config.
type Option func(*Config) error

// New returns the defaults, changed by the options.
func New(opts []Option) (*Config, error) {
	c := &Config{
		MaxAttempts:    20,
		FirstDelay:     time.Second,
		MaxDelay:       4 * time.Hour,
		AttemptTimeout: 30 * time.Second,
		Retention:      400 * 24 * time.Hour,
		QueueSize:      4096,
		Logger:         slog.Default(),

		MaxBatch:      256,
		MaxBatchBytes: 4 << 20,
		CommitTimeout: 5 * time.Second,
		PurgeInterval: time.Hour,
		PollInterval:  100 * time.Millisecond,
	}
	var errs []error
	for _, opt := range opts {
		if opt == nil {
			errs = append(errs, errors.New("inbox: an option is nil"))
			continue
		}
		errs = append(errs, opt(c))
	}
	if c.Overdue == 0 {
		c.Overdue = c.AttemptTimeout + c.AttemptTimeout/2
	}
	if c.SweepInterval == 0 { // what is overdue is found soon enough
		c.SweepInterval = min(max(c.Overdue/9, 50*time.Millisecond), 5*time.Second)
	}
	if c.Overdue <= c.AttemptTimeout {
		errs = append(errs, fmt.Errorf("inbox: WithOverdue: %v is not above the attempt timeout, %v: an attempt that is still running would be run again", c.Overdue, c.AttemptTimeout))
	}
	if c.FirstDelay > c.MaxDelay {
		errs = append(errs, fmt.Errorf("inbox: WithBackoff: the first delay, %v, is above the longest, %v", c.FirstDelay, c.MaxDelay))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}
