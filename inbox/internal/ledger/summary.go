package ledger

import (
	"time"
)

// What is noted, beside what package inbox notes.
const (
	NoteAnswered = "answered"
	NoteEnded    = "ended"
	NoteReminded = "reminded"
	NoteReminder = "reminder given up"
)

// summarize computes what a case is as a whole from what its events say, all that
// matter of which must be loaded: the last of each external id, as far as one of
// them may be the case's status or value. at is when what has changed came, by is
// the person who has ended the case.
func (c *Case) summarize(at time.Time, by string) {
	standing, status := Closed, (*Event)(nil)
	for _, e := range c.events {
		if e.Standing == Open {
			standing = Open
		}
	}
	s := &c.row.Summary
	s.Value = 0
	for _, e := range c.events {
		if e.Standing != standing {
			continue
		}
		s.Value = max(s.Value, e.Value)
		if status == nil || e.Seq > status.Seq {
			status = e
		}
	}
	was := s.Open
	s.Open, s.StatusSeq = standing == Open, status.Seq
	switch {
	case s.Open && !was:
		*s = Summary{Open: true, StatusSeq: s.StatusSeq, Value: s.Value, OpenedAt: at}
		c.remind(RemindNext, 0)
	case !s.Open && (was || s.EndedAt.IsZero()):
		s.EndedAt, s.EndedBy = at, by
		c.remind(RemindNever, 0)
	}
	c.changes.SummaryChanged, c.changes.RowChanged = true, true
}

func (c *Case) remind(what Remind, delay time.Duration) {
	c.changes.Remind, c.changes.RemindDelay = what, delay
	c.changes.SummaryChanged, c.changes.RowChanged = true, true
}

// Decided is what an operator's operation on a case has come to.
type Decided int

// What it has come to.
const (
	_               Decided = iota // nothing was decided: the operation did not happen
	Decides                        // it is done
	DecidedNothing                 // there is no such case
	DecidedAnswered                // the case was answered before
	DecidedEnded                   // the case has ended
)

// MarkAnswered keeps that a person has answered the case.
func (c *Case) MarkAnswered(by, note string) Decided {
	s := &c.row.Summary
	switch {
	case c.Empty():
		return DecidedNothing
	case !s.Open:
		return DecidedEnded
	case !s.AnsweredAt.IsZero():
		return DecidedAnswered
	}
	s.AnsweredAt, s.AnsweredBy = c.row.Now, by
	c.remind(RemindNever, 0)
	c.Note(Note{Action: NoteAnswered, By: by, Text: note})
	return Decides
}

// End ends the case because a person says so. All its events must be loaded.
func (c *Case) End(by, note string) Decided {
	switch {
	case c.Empty():
		return DecidedNothing
	case !c.row.Open:
		return DecidedEnded
	}
	for _, e := range c.events {
		if e.Standing == Open {
			e.Standing = Closed
			c.change(e)
		}
	}
	c.summarize(c.row.Now, by)
	c.Note(Note{Action: NoteEnded, By: by, Text: note})
	return Decides
}

// Reminded is what a reminder is about.
type Reminded struct {
	OpenedAt  time.Time // when its case opened
	ClaimedAt time.Time // on the database's clock; zero if that is not known
}

// SettleReminder ends the attempt at a reminder that has a lease. failures are those
// before it.
func (c *Case) SettleReminder(lease int64, r Reminded, failures int, o Outcome) Settlement {
	switch {
	case c.row.Lease != lease:
		return Late
	case !c.row.Held:
		return Before
	case c.row.Running != TheReminder:
		return Late
	}
	c.letGo()
	s := &c.row.Summary
	switch {
	case !s.Open || !s.AnsweredAt.IsZero():
		c.remind(RemindNever, 0)
		return Settled
	case !s.OpenedAt.Equal(r.OpenedAt), o.Released, o.Interrupted: // it is planned already
		return Settled
	case r.ClaimedAt.IsZero():
		r.ClaimedAt = c.row.RemindAt // it was claimed then, or later
	}
	note := Note{Action: NoteReminded}
	switch {
	case o.Done:
		s.RemindedAt, s.TriedAt, s.Failures = r.ClaimedAt, time.Time{}, 0
		c.remind(RemindNext, 0)
	case o.Discard, !o.PutOff && failures+1 >= o.MaxFailures:
		s.RemindedAt, s.TriedAt, s.Failures = r.ClaimedAt, time.Time{}, 0
		s.GivenUp++
		c.remind(RemindNext, 0)
		note.Action, note.Text = NoteReminder, o.Error
	default:
		s.TriedAt, s.Failures = r.ClaimedAt, failures
		if !o.PutOff {
			s.Failures++
		}
		c.remind(RemindRetry, o.Delay)
		return Settled
	}
	c.Note(note)
	return Settled
}
