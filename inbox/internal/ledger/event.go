package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// State is the state of an event.
type State string

// The states.
const (
	Pending     State = "pending"
	Done        State = "done"
	Dead        State = "dead"
	Quarantined State = "quarantined"
	Resolved    State = "resolved"
)

// Standing is what an event says about its case.
type Standing int8

// The standings.
const (
	Superseded Standing = iota // a later one of its external id was accepted, or it is in quarantine
	Closed                     // it is the last of its external id, and final, or a person has ended the case
	Open                       // it is the last of its external id, and the case is open for it
)

// Event is one notification as it is stored.
type Event struct {
	ID            string // UUID version 7, made before the first try to store it
	TransactionID string // in lower case; "" while it is quarantined
	ExternalID    string
	EndToEndID    string // while it is accepted: it is stored as a key of its case alone
	Status        string
	Value         int64  // in centavos
	Raw           []byte // not loaded where nobody needs it
	Digest        []byte // of Raw, if it is quarantined or has no status; see [NewDigest]
	Seq           int64  // place in the case from 1; 0 while it is quarantined
	State         State
	Standing      Standing
	Attempts      int  // that have ended
	Failures      int  // among them, since it was accepted, revived or replayed
	Discarded     bool // dead by decision: a redelivery does not revive it
	LastError     string
	ReceivedAt    time.Time
	DoneAt        time.Time // zero unless it is done
	Deliveries    int       // of a quarantined body; 1 for all others
	LastAt        time.Time // the last of them; zero unless it is quarantined
	Metadata      []byte    // JSON

	// For pages.
	NextAttempt time.Time // when it runs next; zero unless it is the first that is pending, and does not run
	Running     bool
}

// NewDigest returns what tells bodies apart that have no status.
func NewDigest(raw []byte) []byte {
	sum := sha256.Sum256(raw)
	return sum[:]
}

// ExternalDigest returns what stands for an external id in an index, which could
// not hold the kilobytes that some gateways send. It is not unique.
func ExternalDigest(externalID string) int64 {
	sum := sha256.Sum256([]byte(externalID))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any 64 bits will do
}

// repeats reports whether an event says the same as another one of its key.
func (e *Event) repeats(last *Event) bool {
	return e.Status == last.Status && e.Value == last.Value && (e.Status != "" || bytes.Equal(e.Digest, last.Digest))
}

// Attempt is an event that was claimed, with what its callback is told, or the
// reminder of a case.
type Attempt struct {
	Event // of a reminder, TransactionID and Failures alone
	Lease int64
	Lost  bool      // the claim before this one ran out
	Alone bool      // nothing else is pending in its case
	Since time.Time // before the claim, on this process's clock

	Reminder bool
	Reminded Reminded // what it is about

	Previous      string    // the status that was done last for the same key
	PreviousValue int64     // and its value
	PreviousAt    time.Time // and when it was done, zero if there is none
	SeenAt        time.Time // when this same status was done last, zero if never
}

// Claimed returns the case of an attempt that is alone in it, as it was claimed, with
// what settling the attempt needs.
func (a *Attempt) Claimed() *Case {
	e := a.Event
	c := NewCase(a.TransactionID, Row{Lease: a.Lease, Held: true, Running: a.Seq, Due: true})
	c.Add(&e)
	return c
}

// Filter selects events for a list, the newest first.
type Filter struct {
	State         State   // "" for all
	TransactionID string  // "" for all
	From, To      string  // ids: From <= id < To, "" for no bound
	Before        string  // only ids below this one: the next page
	Search        *Search // nil for all
	Error         string  // a part of the last error; "" for all
	Group         *string // the Failure.Error of the last error; nil for all
	Limit         int
	Bare          bool // without the bodies
}

// CaseFilter selects cases for a list: those that are open, what opened first
// first, or those that have ended, what changed most recently first.
type CaseFilter struct {
	Ended      bool
	Unanswered bool      // only those that nobody has answered
	DueBefore  time.Time // only those that are due before; zero for all
	State      State     // Pending and Dead for those that hold one, Done for those that hold neither; "" for all
	Search     *Search   // nil for all
	After      Cursor    // only those after this place; the zero cursor for all
	Limit      int
}

// CaseRow is a case in a list.
type CaseRow struct {
	TransactionID string
	UpdatedAt     time.Time
	Summary
	Status, ExternalID string // of the event that Summary.StatusSeq names
	Window             time.Duration
	Reminder           time.Time // when the next one is called, zero if none is
	Pending, Dead      int64
	Events             int64  // how many there are
	Current            *Event // without its body
}

// Note is what a person, or the inbox itself, has done about a case or an event.
type Note struct {
	TransactionID string // "" of a quarantined event
	EventID       string // "" if it is about the case
	At            time.Time
	Action        string
	By, Text      string
}

// FailureText is how many characters of the first line of an error tell failures
// apart, as engines write it into their statements.
const FailureText = "200"

// Failure is how many events failed with one error.
type Failure struct {
	State  State
	Error  string // its beginning
	Events int64
	LastAt time.Time // when the last of them was received
}

// Defence is when cases are due, and when somebody is reminded of it.
type Defence struct {
	Window time.Duration   // after a case opened; 0 for never
	Before []time.Duration // the due time, each once, the longest first
}

// Span is what CountReceived counts in: from a time on, and as many spans as come
// before the second id.
type Span struct {
	FromID, ToID string
	From         time.Time
	Length       time.Duration
}

// Count is how many events of a state were received in a span.
type Count struct {
	Span   int64 // its number, from 0
	State  State
	Events int64
}

// Stats counts events and cases.
type Stats struct {
	Pending, Dead, Quarantined int64
	OldestPending              time.Duration // age on the database's clock; 0 when none is pending

	Open, Blocked    int64 // cases that are open, and the sum of their values
	Overdue          int64 // among them, due and not answered
	NearestDue       time.Time
	RemindersGivenUp int64 // open cases, not answered, with a reminder that was given up
}
