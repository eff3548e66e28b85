package inbox

import (
	"context"
	"time"
)

// What work returns of an attempt that failed, and of one that came late.
var (
	ErrFailed = errFailed
	ErrLate   = errSuperseded
)

// Work runs the attempt of a job, as a worker does.
func (in *Inbox) Work(ctx context.Context, job int64, event string) error {
	return in.work(ctx, job, event)
}

// Sweep sets right every case whose live job was lost.
func (in *Inbox) Sweep(ctx context.Context, overdue time.Duration) error {
	return in.sweep(ctx, overdue)
}

// Interrupt ends the contexts of the callbacks, as Stop does when it runs out of
// time.
func (in *Inbox) Interrupt() { in.interruptIt() }
