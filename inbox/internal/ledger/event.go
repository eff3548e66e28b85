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
)

// Event is one notification as it is stored.
type Event struct {
	ID            string // UUID version 7, made before the first try to store it
	TransactionID string // in lower case; "" while it is quarantined
	ExternalID    string
	Status        string
	Value         int64  // in centavos
	Raw           []byte // not loaded where nobody needs it
	Digest        []byte // of Raw, if it is quarantined or has no status; see [NewDigest]
	Seq           int64  // place in the case from 1; 0 while it is quarantined
	State         State
	Attempts      int  // that have ended
	Failures      int  // among them, since it was accepted, revived or replayed
	Discarded     bool // dead by decision: a redelivery does not revive it
	LastError     string
	ReceivedAt    time.Time
	DoneAt        time.Time // zero unless it is done
	Deliveries    int       // of a quarantined body; 1 for all others
	LastAt        time.Time // the last of them; zero unless it is quarantined
	Metadata      []byte    // JSON
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

// Attempt is an event that was claimed, with what its callback is told.
type Attempt struct {
	Event
	Lease int64
	Lost  bool      // the claim before this one ran out
	Since time.Time // before the claim, on this process's clock

	Previous      string    // the status that was done last for the same key
	PreviousValue int64     // and its value
	PreviousAt    time.Time // and when it was done, zero if there is none
	SeenAt        time.Time // when this same status was done last, zero if never
}

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

// Stats counts events.
type Stats struct {
	Pending, Dead, Quarantined int64
	OldestPending              time.Duration // age on the database's clock; 0 when none is pending
}
