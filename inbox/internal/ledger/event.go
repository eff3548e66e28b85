// Package ledger holds the rules of the inbox: what becomes of a case when a
// notification is accepted, when an attempt at it ends, when an attempt is lost,
// when an operator replays one. It does no I/O: an engine loads the cases of a
// transaction under their locks, applies operations, and writes what changed.
//
// The rules, which hold after every operation:
//   - A pending event implies that its case has a live job.
//   - Only the live job settles its event, once. Every attempt has a job of its
//     own, so a number that moves on is all the fence that is needed: whoever
//     comes late finds another number there.
//   - A case's events get their places (Seq) in the order in which they were
//     accepted, and run one at a time, the lowest pending place first.
package ledger

import "time"

// State is where an event stands.
type State string

// The states.
const (
	Pending     State = "pending"
	Done        State = "done"
	Dead        State = "dead"
	Quarantined State = "quarantined"
)

// Event is one notification as it is stored.
type Event struct {
	ID            string // UUID version 7, made before the first try to store it
	TransactionID string // in lower case; "" while it is quarantined
	ExternalID    string
	Status        string
	Raw           []byte // not loaded where nobody needs it
	Seq           int64  // place in the case from 1; 0 while it is quarantined
	State         State
	Attempts      int  // that have ended
	Failures      int  // among them, since it was accepted, revived or replayed
	Discarded     bool // dead by decision: a redelivery does not revive it
	LastError     string
	ReceivedAt    time.Time
	DoneAt        time.Time // zero unless it is done
	Metadata      []byte    // JSON
}

// Attempt is what a worker needs to know of the event that it was given.
type Attempt struct {
	Event
	Previous string    // the status that was done last for the same key
	SeenAt   time.Time // when this same status was done last, zero if never
}

// Job is the state of a case's live job at the queue.
type Job string

// What becomes of a job.
const (
	JobAlive     Job = "alive"     // it will run, or runs and is not overdue
	JobLost      Job = "lost"      // it is gone, or ended without settling, or is overdue
	JobCancelled Job = "cancelled" // an operator cancelled it
)

// Filter selects events for a list, the newest first.
type Filter struct {
	State         State  // "" for all
	TransactionID string // "" for all
	From, To      string // ids: From <= id < To, "" for no bound
	Before        string // only ids below this one: the next page
	Search        string // the external id, or a part of the body; "" for all
	Limit         int
}

// CaseFilter selects cases for a list, those changed last first.
type CaseFilter struct {
	State         State     // Done for those that hold nothing else; "" for all
	Search        string    // as in Filter; "" for all
	TransactionID string    // what Search would be as such, "" if it is none
	Before        time.Time // only cases changed before this, or at this time and with
	BeforeID      string    // a lower transaction id: the next page; "" for no bound
	Limit         int
}

// CaseRow is a case in a list.
type CaseRow struct {
	TransactionID string
	UpdatedAt     time.Time
	Events        []*Event // by Seq
}

// Span is what Received counts in: from a time on, and so many spans as come
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

// Stats is a count of the events.
type Stats struct {
	Pending, Done, Dead, Quarantined int64
	OldestPending                    time.Duration // age on the database's clock; 0 when none is pending
}
