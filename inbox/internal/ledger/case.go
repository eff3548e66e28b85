package ledger

import (
	"cmp"
	"slices"
	"time"
)

// Row is what the row of a case holds.
type Row struct {
	NextSeq int64 // the place that the next event gets
	Lease   int64 // the number that the last claim drew, 0 for none
	Held    bool  // by the attempt of that claim, until it is settled
	Running int64 // the place of the event that is leased; 0 unless it is held
	Due     bool  // it has a run_at, past or future
}

// Case is a transaction: its row, locked, its pending events, and whatever else an
// operation asked for.
type Case struct {
	TransactionID string

	row     Row
	events  map[string]*Event // by id, all that are loaded
	pending []*Event          // by Seq
	last    map[string]*Event // by external id: the last accepted one

	changes Changes
}

// Changes is what is to be written of a case.
type Changes struct {
	RowChanged bool
	NextSeq    int64
	Due        Due // unless it is kept, nobody holds the case any more
	Delay      time.Duration

	Added, Changed []*Event
	TrimFrom       int64 // done events in these places are deleted,
	TrimTo         int64 // unless they are the last of their external id
}

// Due is what becomes of the time from which a case may be claimed.
type Due int

// What becomes of it.
const (
	Kept  Due = iota // as it was, and so is who holds it
	Never            // nothing is pending
	After            // Delay from now
)

// NewCase returns the case with the given row. The row of a case that is not
// stored yet has a NextSeq of 1.
func NewCase(transactionID string, row Row) *Case {
	return &Case{
		TransactionID: transactionID, row: row,
		events: make(map[string]*Event), last: make(map[string]*Event),
	}
}

// Add adds a stored event that was loaded. One event may be loaded twice.
func (c *Case) Add(e *Event) {
	if _, ok := c.events[e.ID]; ok {
		return
	}
	c.events[e.ID] = e
	if e.State == Pending {
		c.insert(e)
	}
	if e.TransactionID == c.TransactionID && (c.last[e.ExternalID] == nil || c.last[e.ExternalID].Seq < e.Seq) {
		c.last[e.ExternalID] = e
	}
}

// Empty reports whether nothing was ever accepted.
func (c *Case) Empty() bool { return c.row.NextSeq == 1 }

// Waits reports whether something is pending that nobody runs.
func (c *Case) Waits() bool { return !c.row.Held && len(c.pending) > 0 }

// Event returns an event that was loaded, nil if it was not.
func (c *Case) Event(id string) *Event { return c.events[id] }

// Changes returns what the operations changed.
func (c *Case) Changes() *Changes {
	c.changes.NextSeq = c.row.NextSeq
	return &c.changes
}

// Repair ends a claim that found nothing pending, which contradicts I1.
func (c *Case) Repair(lease int64) {
	if c.row.Held && c.row.Lease == lease {
		c.release(nil, 0)
	}
}

// insert puts an event among the pending ones.
func (c *Case) insert(e *Event) {
	at, _ := slices.BinarySearchFunc(c.pending, e, func(a, b *Event) int { return cmp.Compare(a.Seq, b.Seq) })
	c.pending = slices.Insert(c.pending, at, e)
}

// finish takes an event from the pending ones.
func (c *Case) finish(e *Event, s State) {
	e.State = s
	c.pending = slices.DeleteFunc(c.pending, func(p *Event) bool { return p == e })
}

// restart makes a dead event pending again at its old place. If that is the lowest
// one, it runs before what waits for its retry.
func (c *Case) restart(e *Event) {
	e.State, e.Failures, e.Discarded = Pending, 0, false
	c.change(e)
	c.insert(e)
	if !c.row.Held && c.pending[0] == e {
		c.schedule(0)
	}
}

// release ends the claim of an event's attempt. If the event is the lowest pending
// one still, it waits for the delay.
func (c *Case) release(e *Event, delay time.Duration) {
	c.row.Held, c.row.Running = false, 0
	switch {
	case len(c.pending) == 0:
		c.row.Due = false
		c.changes.Due, c.changes.Delay, c.changes.RowChanged = Never, 0, true
	case c.pending[0] == e:
		c.schedule(delay)
	default:
		c.schedule(0)
	}
}

func (c *Case) schedule(delay time.Duration) {
	c.row.Due = true
	c.changes.Due, c.changes.Delay, c.changes.RowChanged = After, delay, true
}

func (c *Case) change(e *Event) {
	if !slices.Contains(c.changes.Changed, e) && !slices.Contains(c.changes.Added, e) {
		c.changes.Changed = append(c.changes.Changed, e)
	}
}
