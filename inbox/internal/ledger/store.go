package ledger

import (
	"context"
	"errors"
	"time"
)

// Op is an operation on one case.
type Op struct {
	// TransactionID names the case. An operation without one stores Quarantine
	// and has no Apply.
	TransactionID string
	Quarantine    *Event

	// What Apply needs beside the case's row and its pending events.
	ExternalID *string // the last accepted event with this external id
	Event      string  // the event with this id
	All        bool    // all events of the case
	Job        bool    // the live job's state
	Overdue    time.Duration

	// New is the event that Apply may add. After a commit whose outcome was not
	// learnt, its id says whether the operation has happened.
	New *Event

	// Apply does the operation; the transaction's fate is not known yet. It runs
	// again when the transaction is tried again.
	Apply func(c *Case)

	// Err is set by a Store when this operation failed and others did not.
	Err error
	// Kept is set by a Store when the database refused the data of New, which was
	// put into quarantine.
	Kept bool
}

// ErrBusy is the operation's error when its case is locked by somebody else for
// too long, and the transaction's when it is not known whether it was committed.
var ErrBusy = errors.New("busy")

// ErrNone says that there is no such event, or that the job is not the live one.
var ErrNone = errors.New("there is no such event")

// Work runs the attempt of a job. Its error is for the queue's own page only.
type Work func(ctx context.Context, job int64, event string) error

// Store is an engine. All times are those of the database's clock.
type Store interface {
	// Commit does the operations in one transaction and returns once it is
	// durable. It is called by one goroutine.
	Commit(ctx context.Context, ops []*Op) error

	// Attempt returns what the worker of a job needs, and ErrNone if the job is
	// not the live one.
	Attempt(ctx context.Context, job int64, event string) (*Attempt, error)

	// Session wraps an attempt, nil if the engine adds nothing to one.
	Session() Session

	// Broken returns the transactions whose live job may be lost, cancelled or
	// missing; Recover decides, under the lock.
	Broken(ctx context.Context, overdue time.Duration) ([]string, error)

	// Event returns an event, or ErrNone.
	Event(ctx context.Context, id string) (*Event, error)
	// List returns a page of events, those received last first.
	List(ctx context.Context, f Filter) ([]*Event, error)
	// History returns the events of a transaction in their places.
	History(ctx context.Context, transactionID string) ([]*Event, error)
	// Cases returns a page of cases, those changed last first.
	Cases(ctx context.Context, f CaseFilter) ([]*CaseRow, error)
	// Stats counts the events.
	Stats(ctx context.Context) (Stats, error)
	// Received counts the events that were received in spans of time.
	Received(ctx context.Context, s Span) ([]Count, error)
	// Ready fails if Commit would.
	Ready(ctx context.Context) error

	// Purge deletes the cases after the given one, in order, in which nothing
	// has happened for that long and nothing is pending or, unless asked for,
	// dead; then quarantined events of that age, if asked for. It returns where
	// to go on, "" at the end.
	Purge(ctx context.Context, after string, age time.Duration, unfinished bool) (deleted int64, next string, err error)

	// Start begins to call work.
	Start(ctx context.Context, work Work) error
	// StopWork takes up nothing new and waits for the running attempts, until ctx
	// ends.
	StopWork(ctx context.Context) error
	// CancelWork cancels the running attempts and waits for them.
	CancelWork() error
	// Shared reports whether other processes may be at work.
	Shared() bool
	// Close frees what the store holds.
	Close() error
}

// Session is an attempt that may have a transaction of its own.
type Session interface {
	// Context returns the callback's context.
	Context(ctx context.Context) context.Context
	// Commit settles in the callback's transaction and commits it. ended is false
	// if the callback never asked for one, and true as well if another attempt has
	// taken over, and nothing was committed. An error means that nothing was
	// committed, or that it is not known, and that the attempt failed.
	Commit(ctx context.Context, op *Op) (ended bool, err error)
	// Rollback undoes what was not committed.
	Rollback()
}

// Isolate commits operations and, when the database refuses the data of one of
// them, the others without it. What is refused is kept in quarantine.
func Isolate(ops []*Op, refused func(error) bool, commit func([]*Op) error) error {
	err := commit(ops)
	if !refused(err) || (len(ops) == 1 && ops[0].New == nil) {
		return err
	}
	for _, op := range ops {
		op.Err = err
		if len(ops) > 1 {
			op.Err = nil
			if err := commit([]*Op{op}); err != nil { // and not what commit may set itself
				op.Err = err
			}
		}
		if op.New != nil && refused(op.Err) {
			kept := quarantine(op.New, op.Err)
			if op.Err = commit([]*Op{kept}); op.Err == nil {
				op.Err = kept.Err
			}
			op.Kept = op.Err == nil
		}
	}
	return nil
}

// quarantine returns the operation that keeps an event whose data the database
// refuses: its body as it came, outside of any case.
func quarantine(e *Event, cause error) *Op {
	return &Op{Quarantine: &Event{
		ID: e.ID, Raw: e.Raw, State: Quarantined, ReceivedAt: e.ReceivedAt, Metadata: e.Metadata,
		LastError: "the database refuses it: " + cause.Error(),
	}}
}
