package ledger

import "github.com/pixmed-go/pixmed"

// MaxPending is how many events of one transaction may be pending at a time.
const MaxPending = 64

// A case keeps the done events of its last maxEvents places. What is older goes,
// trimStep places at a time.
const (
	maxEvents = 960
	trimStep  = 64
)

// Verdict is what Accept decided.
type Verdict int

// The verdicts.
const (
	_         Verdict = iota // nothing was decided: the operation did not happen
	Accepted                 // it is a new event
	Revived                  // its event had failed for good and is pending again
	Duplicate                // it repeats the last accepted event of its key
	Full                     // too many of this transaction are pending
)

// Accept takes a new event. The last accepted event of its key must be loaded.
func (c *Case) Accept(e *Event) Verdict {
	if last := c.last[e.ExternalID]; last != nil && e.repeats(last) {
		if last.State != Dead || last.Discarded {
			return Duplicate
		}
		c.restart(last)
		return Revived
	}
	if len(c.pending) >= MaxPending {
		return Full
	}
	c.enter(e)
	c.changes.Added = append(c.changes.Added, e)
	if next := c.row.NextSeq; next%trimStep == 0 && next > maxEvents {
		if c.changes.TrimTo == 0 {
			c.changes.TrimFrom = next - maxEvents - trimStep
		}
		c.changes.TrimTo = next - maxEvents
	}
	return Accepted
}

// enter gives an event the next place.
func (c *Case) enter(e *Event) {
	e.TransactionID = c.TransactionID
	e.Seq, e.State = c.row.NextSeq, Pending
	e.Failures, e.Discarded = 0, false
	c.row.NextSeq++
	c.changes.RowChanged = true
	c.changes.Entered = append(c.changes.Entered, e)
	c.events[e.ID] = e
	if last := c.last[e.ExternalID]; last != nil {
		last.Standing = Superseded
		c.change(last)
	}
	c.last[e.ExternalID] = e
	c.insert(e)
	if !c.row.Due { // or a retry would lose its delay
		c.schedule(0)
	}
	e.Standing = Open
	if pixmed.MEDStatus(e.Status).Final() {
		e.Standing = Closed
	}
	c.summarize(e.ReceivedAt, "")
}

// FirstTrim reports whether the changes are the first that make a case forget.
func (c *Changes) FirstTrim() bool { return c.TrimTo > 0 && c.TrimFrom == 0 }
