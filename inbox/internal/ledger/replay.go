package ledger

// Replayed is what Replay decided.
type Replayed int

// The decisions.
const (
	_                Replayed = iota // nothing was decided: the operation did not happen
	ReplayStarted                    // it is pending
	ReplayDuplicate                  // a quarantined event repeats the last accepted one
	ReplaySuperseded                 // a newer event of the key is done
	ReplayUnneeded                   // it is neither dead nor quarantined nor resolved
)

// Replay makes a dead event pending again at its old place, or a quarantined one
// pending at the next place. key holds what parsing its body gave. All events of
// the case and the event itself must be loaded.
func (c *Case) Replay(id string, key Event, force bool) Replayed {
	e := c.events[id]
	if e == nil || !e.replayable() {
		return ReplayUnneeded
	}
	for _, other := range c.events {
		newer := other.Seq > e.Seq
		if e.Seq == 0 {
			newer = other.ReceivedAt.After(e.ReceivedAt)
		}
		if !force && newer && other.State == Done && other.ExternalID == key.ExternalID {
			return ReplaySuperseded
		}
	}
	if e.Seq > 0 {
		c.restart(e)
		return ReplayStarted
	}
	if last := c.last[key.ExternalID]; !force && last != nil && key.repeats(last) {
		return ReplayDuplicate
	}
	e.ExternalID, e.EndToEndID, e.Status, e.Value = key.ExternalID, key.EndToEndID, key.Status, key.Value
	c.enter(e)
	c.change(e)
	return ReplayStarted
}

// replayable reports whether an event is at rest and not done.
func (e *Event) replayable() bool {
	return e.State == Dead || e.State == Quarantined || e.State == Resolved
}
