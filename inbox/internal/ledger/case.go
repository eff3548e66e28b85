package ledger

import (
	"cmp"
	"slices"
	"time"
)

// MaxPending is how many events of one transaction may be pending at a time.
const MaxPending = 64

// issuing stands for the number of a job that is still to be inserted.
const issuing = -1

// Case is what is known of one transaction: its row, locked, its pending events,
// and whatever else an operation asked for.
type Case struct {
	TransactionID string

	nextSeq   int64
	liveJob   int64 // 0 for none
	liveEvent string
	events    map[string]*Event // by id, all that are loaded
	pending   []*Event          // by Seq
	last      map[string]*Event // by external id: the last accepted one
	job       Job

	added, changed []*Event
	issued         *Issue
	rowChanged     bool
}

// Issue is a job to insert.
type Issue struct {
	Event string        // its id
	Delay time.Duration // before it may run
}

// NewCase returns the case with the given row.
func NewCase(transactionID string, nextSeq, liveJob int64, liveEvent string) *Case {
	return &Case{
		TransactionID: transactionID,
		nextSeq:       nextSeq, liveJob: liveJob, liveEvent: liveEvent,
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

// SetJob sets what the queue knows of the live job, for Recover.
func (c *Case) SetJob(j Job) { c.job = j }

// Empty reports whether nothing was ever accepted.
func (c *Case) Empty() bool { return c.nextSeq == 1 }

// LiveJob returns the number of the live job, 0 if there is none.
func (c *Case) LiveJob() int64 { return c.liveJob }

// Verdict is what Accept decided.
type Verdict int

// The verdicts.
const (
	_         Verdict = iota // nothing was decided: the operation did not happen
	Accepted                 // it is a new event
	Revived                  // its event had failed for good and is pending again
	Duplicate                // the last accepted event of its key has the same status
	Full                     // too many of this transaction are pending
)

// Accept takes a new event. The last accepted event of its key must be loaded.
func (c *Case) Accept(e *Event) Verdict {
	if last := c.last[e.ExternalID]; last != nil && last.Status == e.Status {
		if last.State != Dead || last.Discarded {
			return Duplicate
		}
		c.restart(last)
		return Revived
	}
	if len(c.pending) >= MaxPending {
		return Full
	}
	e.TransactionID = c.TransactionID
	c.enter(e)
	c.added = append(c.added, e)
	return Accepted
}

// enter gives an event the next place.
func (c *Case) enter(e *Event) {
	e.Seq, e.State = c.nextSeq, Pending
	e.Failures, e.Discarded = 0, false
	c.nextSeq++
	c.rowChanged = true
	c.events[e.ID] = e
	c.last[e.ExternalID] = e
	c.insert(e)
	c.chain()
}

// restart makes a dead event pending again at its old place.
func (c *Case) restart(e *Event) {
	e.State, e.Failures, e.Discarded = Pending, 0, false
	c.change(e)
	c.insert(e)
	c.chain()
}

// Outcome says how an attempt ended.
type Outcome struct {
	Done        bool
	Discard     bool          // dead at once
	Interrupted bool          // by a shutdown: not the event's fault
	Error       string        // unless Done
	MaxFailures int           // with this many the event is dead
	Delay       time.Duration // before the next attempt
}

// Settle ends the attempt of a job. It reports false when that job is not the
// live one: another attempt has taken over, and this one has no say.
func (c *Case) Settle(job int64, event string, o Outcome) bool {
	e := c.events[event]
	if job == 0 || c.liveJob != job || e == nil || e.State != Pending {
		return false
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
		c.issue(e, o.Delay)
	default:
		e.Failures++
		if e.Failures >= o.MaxFailures {
			c.finish(e, Dead)
			break
		}
		c.issue(e, o.Delay)
	}
	c.change(e)
	return true
}

// Recover sets a case right whose live job was lost, was cancelled or never was.
// It reports whether there was anything to do.
func (c *Case) Recover(maxFailures int, reason string) bool {
	if len(c.pending) == 0 {
		if c.liveJob == 0 {
			return false
		}
		c.clear()
		return true
	}
	if c.liveJob == 0 {
		c.chain()
		return true
	}
	e := c.events[c.liveEvent]
	if e == nil || e.State != Pending {
		c.clear()
		c.chain()
		return true
	}
	if c.liveJob == issuing {
		return false // another operation has just given it a new one
	}
	switch c.job {
	case JobCancelled:
		e.Discarded = true
		e.LastError = reason
		c.finish(e, Dead)
	case JobLost:
		e.Attempts++
		e.Failures++
		e.LastError = reason
		if e.Failures >= maxFailures {
			c.finish(e, Dead)
		} else {
			c.issue(e, 0)
		}
	default:
		return false
	}
	c.change(e)
	return true
}

// Replayed is what Replay decided.
type Replayed int

// The decisions.
const (
	_                Replayed = iota // nothing was decided: the operation did not happen
	ReplayStarted                    // it is pending
	ReplayDuplicate                  // a quarantined event's status is the last accepted one
	ReplaySuperseded                 // a newer event of the key is done
	ReplayUnneeded                   // it is neither dead nor quarantined
)

// Replay makes a dead event pending again at its old place, or a quarantined one
// pending at the next place; key holds what parsing it gave. All events of the
// case and the event itself must be loaded.
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
	if last := c.last[key.ExternalID]; !force && last != nil && last.Status == key.Status {
		return ReplayDuplicate
	}
	e.TransactionID, e.ExternalID, e.Status = c.TransactionID, key.ExternalID, key.Status
	c.enter(e)
	c.change(e)
	return ReplayStarted
}

// Changes is what is to be written of a case.
type Changes struct {
	NextSeq        int64
	LiveJob        int64  // unless Issue is set: then the new job's number
	LiveEvent      string // "" for none
	Issue          *Issue // a job to insert, nil for none
	RowChanged     bool
	Added, Changed []*Event
}

// Changes returns what the operations changed.
func (c *Case) Changes() Changes {
	return Changes{
		NextSeq: c.nextSeq, LiveJob: c.liveJob, LiveEvent: c.liveEvent,
		Issue: c.issued, RowChanged: c.rowChanged, Added: c.added, Changed: c.changed,
	}
}

func (c *Case) insert(e *Event) {
	at, _ := slices.BinarySearchFunc(c.pending, e, func(a, b *Event) int { return cmp.Compare(a.Seq, b.Seq) })
	c.pending = slices.Insert(c.pending, at, e)
}

// finish ends an event and lets the next one run.
func (c *Case) finish(e *Event, s State) {
	e.State = s
	c.pending = slices.DeleteFunc(c.pending, func(p *Event) bool { return p == e })
	c.clear()
	c.chain()
}

// chain gives a case that has something pending a live job, if it has none.
func (c *Case) chain() {
	if c.liveJob == 0 && len(c.pending) > 0 {
		c.issue(c.pending[0], 0)
	}
}

func (c *Case) issue(e *Event, delay time.Duration) {
	c.liveJob, c.liveEvent = issuing, e.ID
	c.issued = &Issue{Event: e.ID, Delay: delay}
	c.rowChanged = true
}

func (c *Case) clear() {
	c.liveJob, c.liveEvent, c.issued = 0, "", nil
	c.rowChanged = true
}

func (c *Case) change(e *Event) {
	if !slices.Contains(c.changed, e) && !slices.Contains(c.added, e) {
		c.changed = append(c.changed, e)
	}
}
