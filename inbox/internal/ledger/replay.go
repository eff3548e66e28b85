package ledger

// Replayed is what Replay decided.
type Replayed int

// The decisions.
const (
	_                Replayed = iota // nothing was decided: the operation did not happen
	ReplayStarted                    // it is pending
	ReplayDuplicate                  // a quarantined event repeats the last accepted one
	ReplaySuperseded                 // a newer event of the key is done
	ReplayUnneeded                   // it is neither dead nor quarantined
)

// Replay makes a dead event pending again at its old place, or a quarantined one
// pending at the next place. key holds what parsing its body gave. All events of
// the case and the event itself must be loaded.
func (c *Case) Replay(id string, key Event, force bool) Replayed {
	e := c.events[id]
	if e == nil || (e.State != Dead && e.State != Quarantined) {
		return ReplayUnneeded
	}
	for _, other := range c.events {
		newer := other.Seq > e.Seq
		if e.State == Quarantined {
			newer = other.ReceivedAt.After(e.ReceivedAt)
		}
		if !force && newer && other.State == Done && other.ExternalID == key.ExternalID {
			return ReplaySuperseded
		}
	}
	if e.State == Dead {
		c.restart(e)
		return ReplayStarted
	}
	if last := c.last[key.ExternalID]; !force && last != nil && key.repeats(last) {
		return ReplayDuplicate
	}
	e.ExternalID, e.Status, e.Value = key.ExternalID, key.Status, key.Value
	c.enter(e)
	c.change(e)
	return ReplayStarted
}

// Discarded is what Discard decided.
type Discarded int

// The decisions.
const (
	_               Discarded = iota // nothing was decided: the operation did not happen
	DiscardDone                      // it is dead
	DiscardRunning                   // it runs now
	DiscardUnneeded                  // it is not pending
)

// Discard makes a pending event dead, because an operator says so. The event must
// be loaded.
func (c *Case) Discard(id, reason string) Discarded {
	e := c.events[id]
	switch {
	case e == nil || e.State != Pending:
		return DiscardUnneeded
	case c.row.Held && c.row.Running == e.Seq:
		return DiscardRunning
	}
	first := c.pending[0] == e
	e.Discarded, e.LastError = true, reason
	c.finish(e, Dead)
	c.change(e)
	if first && !c.row.Held {
		c.release(nil, 0) // what comes next does not wait for the retry of this one
	}
	return DiscardDone
}
