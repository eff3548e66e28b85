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
	Workers        int
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

	// The defence.
	Defence bool            // whether WithDefence was given
	Window  time.Duration   // 0 if cases are never due
	Before  []time.Duration // the longest first
	Remind  any             // a func(context.Context, *inbox.Case) error, nil for none

	// For one engine only.
	Schema      string
	PollOnly    bool
	MinFreeDisk *uint64

	// Not options: tests and benchmarks change them.
	MaxBatch      int
	MaxBatchBytes int
	CommitTimeout time.Duration // of one transaction
	LockPatience  time.Duration // how long an operation waits for its case
	WALPatience   time.Duration // how long writers wait for readers to start SQLite's -wal file over
	PurgeInterval time.Duration
	PollInterval  time.Duration // between looks for what is due; 0 for the engine's own
}

// Default returns the defaults.
func Default() *Config {
	return &Config{
		Workers:        10,
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
		LockPatience:  2 * time.Second,
		WALPatience:   500 * time.Millisecond,
		PurgeInterval: time.Hour,
	}
}

// Validate completes and checks the configuration.
func (c *Config) Validate() error {
	var errs []error
	if c.Overdue == 0 {
		c.Overdue = c.AttemptTimeout + c.AttemptTimeout/2
	}
	if c.Overdue < c.AttemptTimeout+c.AttemptTimeout/5 {
		errs = append(errs, fmt.Errorf("WithOverdue: %v is less than 1.2 times the attempt timeout, %v: an attempt that still runs would be run again", c.Overdue, c.AttemptTimeout))
	}
	if c.FirstDelay > c.MaxDelay {
		errs = append(errs, fmt.Errorf("WithBackoff: the first delay, %v, is above the longest, %v", c.FirstDelay, c.MaxDelay))
	}
	return errors.Join(errs...)
}
