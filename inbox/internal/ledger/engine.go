package ledger

import (
	"context"
	"errors"
	"time"
)

// Op is an operation on one case.
type Op struct {
	// TransactionID names the case. An operation without one stores Quarantine, or
	// is a Probe, and has no Apply.
	TransactionID string
	Quarantine    *Event
	Probe         bool // writes something that has no meaning, to see whether it can

	// What Apply needs beside the case's row and its pending events.
	ExternalID *string // the last accepted event with this external id
	Event      string  // the event with this id
	All        bool    // all events of the case

	// Guess, if it is set, returns the case as Apply will most probably find it. An
	// Engine may then do the operation without reading the case, and check that the
	// guess is right. Only two kinds of operations may have one: those that accept New
	// as the first event of a case, and those that settle an attempt that is alone.
	Guess func() *Case

	// New is the event that Apply may add.
	New *Event
	// Create is set when the case is to be created if there is none. It is implied
	// by New.
	Create bool

	// Apply does the operation, before the transaction commits. It runs again if the
	// transaction is tried again.
	Apply func(c *Case)

	// Tried is set by an Engine when a transaction with this operation may have been
	// committed although it failed.
	Tried bool
	// Known is set by an Engine when such a transaction was: New or Quarantine is
	// stored, and Apply was not called again.
	Known bool
	// Wrong is set by an Engine when the guess was wrong: the operation was not done,
	// although Commit succeeded. It has no Guess any more and must be committed again.
	Wrong bool
	// Delayed is set by Apply when its event waits for a retry.
	Delayed bool

	// Err is set when this operation failed and others did not. An Engine sets it to
	// ErrLocked alone.
	Err error
	// Blocks is set beside ErrLocked if the database had to be asked to wait for
	// the case.
	Blocks bool
}

// Errors of an Engine's Commit.
var (
	// ErrRefused means that the database works but rejects the data of one of the
	// operations. Nothing was committed.
	ErrRefused = errors.New("the database rejects it")
	// ErrLocked means that somebody else holds the case of one of the operations.
	// As the error of Commit it means that nothing was committed.
	ErrLocked = errors.New("somebody else holds the case")
	// ErrUnavailable means that the database does not work now. The transaction may
	// have been committed.
	ErrUnavailable = errors.New("the database is unavailable")
	// ErrUnknown means that the answer to a COMMIT was lost.
	ErrUnknown = errors.New("it may have been committed")
)

// ErrNone is returned when there is no such event or case.
var ErrNone = errors.New("there is no such event or case")

// Claim asks for cases that are due, and holds the result.
type Claim struct {
	Max   int           // how many; at least 1
	Lease time.Duration // for how long
	Look  bool          // whether to look for the next one that will be due

	// Made is set when the claim was committed, and with it all that follows.
	Made     bool
	Attempts []*Attempt
	Headless []Headless
	Next     time.Duration // until the next one is due; negative if it is not known
}

// Headless is a case that was claimed although nothing is pending in it.
type Headless struct {
	TransactionID string
	Lease         int64
}

// Cursor is a place in the cases in the order of when they were changed, and of
// their ids.
type Cursor struct {
	At time.Time
	ID string
}

// Engine is where cases are stored: SQLite or PostgreSQL. All times are those of the database's clock.
type Engine interface {
	// Commit does the operations, claims cases unless claim is nil or Made, and
	// returns once all of it is durable. All is one transaction. It is called by one
	// goroutine.
	Commit(ctx context.Context, ops []*Op, claim *Claim) error

	// Session returns what wraps an attempt, nil if the engine adds nothing to one.
	Session() Session

	Reader

	// Purge looks at some cases after a cursor, those changed longest ago first. It
	// deletes those that are not open, were not changed for age, and have no event that
	// is pending or, unless includeDead is set, dead. At the end it deletes resolved
	// events of that age that belong to no case and, if includeDead is set, quarantined
	// ones, and returns the zero cursor.
	Purge(ctx context.Context, after Cursor, age time.Duration, includeDead bool) (deleted int64, next Cursor, err error)

	// Dismiss resolves a quarantined event, if note is set, or else deletes it, also if
	// it is resolved already. It returns ErrNone if there is no such event.
	Dismiss(ctx context.Context, id string, note *Note) error
	// SetDefence sets when cases are due and when reminders are called, for all
	// processes, and plans the reminders of all open cases accordingly.
	SetDefence(ctx context.Context, d Defence) error

	// Start prepares for claims. wake is called when other processes have made
	// something due.
	Start(wake func())
	// Held returns the attempts that a killed process left behind. If other processes
	// may be running attempts, it returns none, since it cannot tell them apart.
	Held(ctx context.Context) ([]*Attempt, error)
	// Close frees what the engine holds.
	Close() error
}

// Reader answers queries for pages and counts.
type Reader interface {
	// Event returns an event, or ErrNone.
	Event(ctx context.Context, id string) (*Event, error)
	// List returns a page of events, the newest first.
	List(ctx context.Context, f Filter) ([]*Event, error)
	// History returns the events of a transaction in their places.
	History(ctx context.Context, transactionID string) ([]*Event, error)
	// Cases returns a page of cases.
	Cases(ctx context.Context, f CaseFilter) ([]*CaseRow, error)
	// Case returns a case, or ErrNone.
	Case(ctx context.Context, transactionID string) (*CaseRow, error)
	// Notes returns the notes of a case or, if transactionID is empty, of an event that
	// belongs to none.
	Notes(ctx context.Context, transactionID, event string) ([]Note, error)
	// Failures groups the events in a state by their error, the largest group first.
	Failures(ctx context.Context, s State, limit int) ([]Failure, error)
	// Stats counts the events.
	Stats(ctx context.Context) (Stats, error)
	// CountReceived counts the events that were received in spans of time.
	CountReceived(ctx context.Context, s Span) ([]Count, error)
}

// Session is an attempt that may have a transaction of its own.
type Session interface {
	// Context returns the callback's context.
	Context(ctx context.Context) context.Context
	// Commit settles in the callback's transaction and commits it. used is false if
	// the callback never asked for one. Apply tells whether the outcome counts; if
	// it does not, nothing is committed. An error means that nothing was committed
	// or, if it is ErrUnknown, that it may have been.
	Commit(ctx context.Context, op *Op) (used bool, err error)
	// Rollback undoes what was not committed.
	Rollback()
}
