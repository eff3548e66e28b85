package ledger

// Acted is what an operator's operation on an event has come to.
type Acted int

// What it has come to.
const (
	_             Acted = iota // nothing was decided: the operation did not happen
	Acts                       // it is done
	ActsRunning                // not done: it runs now
	ActsUnneeded               // not done: it is not in a state for that
	ActsNotInTurn              // not done: it waits for others
)

// Discard makes a pending event dead, because an operator says so. The event must
// be loaded.
func (c *Case) Discard(id, reason string) Acted {
	e := c.events[id]
	switch {
	case e == nil || e.State != Pending:
		return ActsUnneeded
	case c.runsEvent() && c.row.Running == e.Seq:
		return ActsRunning
	}
	first := c.pending[0] == e
	e.Discarded, e.LastError = true, reason
	c.finish(e, Dead)
	c.change(e)
	if first && !c.runsEvent() {
		c.reschedule(nil, 0) // what comes next does not wait for the retry of this one
	}
	return Acts
}

// Resolve ends a dead event that a person has settled. The event must be loaded.
func (c *Case) Resolve(id string) Acted {
	e := c.events[id]
	if e == nil || e.State != Dead {
		return ActsUnneeded
	}
	c.leaveDead(e)
	e.State = Resolved
	c.change(e)
	return Acts
}

// RetryNow makes a pending event run at once that waits for its next attempt. The
// event must be loaded.
func (c *Case) RetryNow(id string) Acted {
	e := c.events[id]
	switch {
	case e == nil || e.State != Pending:
		return ActsUnneeded
	case c.runsEvent() && c.row.Running == e.Seq:
		return ActsRunning
	case c.runsEvent() || c.pending[0] != e:
		return ActsNotInTurn
	}
	c.schedule(0)
	return Acts
}

// Delete deletes the case with all that is in it, unless something is pending and
// it is not forced.
func (c *Case) Delete(force bool) Acted {
	switch {
	case c.Empty():
		return ActsUnneeded
	case len(c.pending) > 0 && !force:
		return ActsRunning
	}
	c.changes.Deleted, c.changes.RowChanged = true, true
	return Acts
}
