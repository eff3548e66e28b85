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
	Running int64 // what is leased: the place of an event, or TheReminder; 0 unless it is held
	Due     bool  // something is pending: it has an event_at, past or future

	Summary
	RemindAt time.Time // when the next reminder is called, or tried again; zero for none
	Now      time.Time // when it was read, on the database's clock
}

// TheReminder is what runs when it is no event.
const TheReminder = -1

// Summary is what a case is as a whole.
type Summary struct {
	Open       bool
	StatusSeq  int64 // the place of the event whose status is the case's
	Value      int64 // in centavos
	OpenedAt   time.Time
	AnsweredAt time.Time
	AnsweredBy string
	EndedAt    time.Time // zero while it is open
	EndedBy    string    // the person; "" if a notification has ended it

	RemindedAt time.Time // up to when reminders are done, or given up
	TriedAt    time.Time // when the last attempt at one that failed was claimed; zero if none has since
	Failures   int       // of those attempts
	GivenUp    int       // reminders, since it opened
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
	Pending    int64 // how many events are pending,
	Head       int64 // and the place of the first of them; 0 for none
	Due        Due
	Delay      time.Duration
	Released   bool  // nobody holds the case any more
	Dead       int64 // events that became dead, less those that are so no longer

	SummaryChanged bool // and with it what follows
	Summary        Summary
	Remind         Remind
	RemindDelay    time.Duration

	Notes   []Note
	Deleted bool // all of it

	Added, Changed []*Event
	Entered        []*Event // those of both that got a place
	TrimFrom       int64    // done events in these places are deleted,
	TrimTo         int64    // unless they are the last of their external id
}

// Due is what becomes of the time at which the lowest pending event runs.
type Due int

// What becomes of it.
const (
	Kept  Due = iota // as it was
	Never            // nothing is pending
	After            // Delay from now
)

// Remind is what becomes of the time of the next reminder.
type Remind int

// What becomes of it.
const (
	RemindKept  Remind = iota // as it was
	RemindNever               // none is called
	RemindNext                // the first that is planned after RemindedAt
	RemindRetry               // RemindDelay from now, or the first that is planned after TriedAt
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
func (c *Case) Empty() bool { return c.row.NextSeq <= 1 }

// Lease returns the number of the case's last claim.
func (c *Case) Lease() int64 { return c.row.Lease }

// Waits reports whether something is pending that nobody runs.
func (c *Case) Waits() bool { return !c.row.Held && len(c.pending) > 0 }

// Summary returns what the case is as a whole.
func (c *Case) Summary() Summary { return c.row.Summary }

// Event returns an event that was loaded, nil if it was not.
func (c *Case) Event(id string) *Event { return c.events[id] }

// Changes returns what the operations changed.
func (c *Case) Changes() *Changes {
	c.changes.NextSeq, c.changes.Pending, c.changes.Summary = c.row.NextSeq, int64(len(c.pending)), c.row.Summary
	c.changes.Head = 0
	if len(c.pending) > 0 {
		c.changes.Head = c.pending[0].Seq
	}
	return &c.changes
}

// OnlyAccepted reports whether the changes are those of a new case in which nothing
// was done but to accept.
func (c *Changes) OnlyAccepted() bool {
	return c.Due == After && c.Dead == 0 && len(c.Notes) == 0 && c.Summary.AnsweredAt.IsZero() && (c.Remind == RemindNext) == c.Summary.Open
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
	if s == Dead {
		c.changes.Dead++
		c.changes.RowChanged = true
	}
	c.pending = slices.DeleteFunc(c.pending, func(p *Event) bool { return p == e })
}

// leaveDead takes a dead event from the dead ones.
func (c *Case) leaveDead(e *Event) {
	if e.State == Dead {
		c.changes.Dead--
		c.changes.RowChanged = true
	}
}

// restart makes a dead event pending again at its old place. If that is the lowest
// one, it runs before what waits for its retry.
func (c *Case) restart(e *Event) {
	c.leaveDead(e)
	e.State, e.Failures, e.Discarded = Pending, 0, false
	c.change(e)
	c.insert(e)
	c.changes.RowChanged = true
	if !c.runsEvent() && c.pending[0] == e {
		c.schedule(0)
	}
}

// runsEvent reports whether an event is leased, which has its event_at then.
func (c *Case) runsEvent() bool { return c.row.Held && c.row.Running > 0 }

// release ends the claim of an event's attempt. If the event is the lowest pending
// one still, it waits for the delay.
func (c *Case) release(e *Event, delay time.Duration) {
	c.letGo()
	c.reschedule(e, delay)
}

// letGo ends the claim.
func (c *Case) letGo() {
	c.row.Held, c.row.Running = false, 0
	c.changes.Released, c.changes.RowChanged = true, true
}

// reschedule plans the lowest pending event: at once, unless it is e.
func (c *Case) reschedule(e *Event, delay time.Duration) {
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

// Note keeps what was done.
func (c *Case) Note(n Note) {
	n.TransactionID, n.At = c.TransactionID, c.row.Now
	c.changes.Notes = append(c.changes.Notes, n)
}
