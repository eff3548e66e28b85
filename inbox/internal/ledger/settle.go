package ledger

import "time"

// Outcome says how an attempt ended.
type Outcome struct {
	Done        bool
	Discard     bool          // dead at once
	Interrupted bool          // by a shutdown: not the event's fault
	Released    bool          // it never began: nothing is counted
	PutOff      bool          // it cannot be done yet: nothing is counted
	Error       string        // unless Done
	MaxFailures int           // with this many the event is dead
	Delay       time.Duration // before the next attempt
}

// Settlement is what Settle decided.
type Settlement int

// The decisions.
const (
	_       Settlement = iota // nothing was decided: the operation did not happen
	Settled                   // the outcome counts
	Before                    // an outcome of this attempt was stored before: its COMMIT was not answered
	Late                      // another attempt has taken over: the outcome does not count
)

// Settle ends the attempt that has a lease.
func (c *Case) Settle(lease int64, event string, o Outcome) Settlement {
	e := c.events[event]
	switch {
	case c.row.Lease != lease:
		return Late
	case !c.row.Held:
		return Before
	case c.row.Running == TheReminder, e == nil || e.State != Pending:
		return Late
	}
	if o.Released {
		c.release(e, 0)
		return Settled
	}
	if o.PutOff {
		e.LastError = o.Error
		c.change(e)
		c.release(e, o.Delay)
		return Settled
	}
	e.Attempts++
	e.LastError = o.Error
	switch {
	case o.Done:
		c.finish(e, Done)
	case o.Discard:
		e.Failures++
		e.Discarded = true
		c.finish(e, Dead)
	case o.Interrupted:
		o.Delay = 0
	default:
		e.Failures++
		if e.Failures >= o.MaxFailures {
			c.finish(e, Dead)
		}
	}
	c.change(e)
	c.release(e, o.Delay)
	return Settled
}
