package pixmed

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Deduplicate returns a [Receiver] that calls next once for each notification:
// a delivery whose medStatus equals the last one recorded for its transactionId
// and externalId is answered 200 without calling next; any change is delivered,
// even back to an earlier status, because dropping a re-opened case would cost
// the money. It sets Previous and SeenAt.
//
// A notification for which next fails leaves no trace, so its redelivery is
// handled; one that next itself knows as a duplicate is recorded like one that
// it has handled. Identical deliveries that are in flight at once call next once
// and share its outcome; where that one runs out of time, the others get
// [ErrBusy].
//
// The durable inbox of module github.com/pixmed-go/pixmed/inbox judges duplicates
// by itself and needs no Deduplicate in front.
func Deduplicate(store StatusStore, next Receiver) Receiver {
	return &deduplicator{store, next}
}

// StatusStore remembers which status was handled last for each case, for
// [Deduplicate].
type StatusStore interface {
	// Do runs fn unless status is the last one recorded for key, and records it
	// when fn returns nil. duplicate is true when fn was not run because the
	// status is recorded, or because an identical call that was in flight has
	// just recorded it; err is fn's, or the store's own. Calls for one key never
	// overlap, whatever their status. fn gets the last recorded status ("" if
	// there is none) and when the given one was last recorded (zero if never).
	// It must not call Do for the same key, since it would wait for itself.
	Do(ctx context.Context, key Key, status MEDStatus, fn func(previous MEDStatus, seenAt time.Time) error) (duplicate bool, err error)
}

type deduplicator struct {
	store StatusStore
	next  Receiver
}

func (d *deduplicator) Validate() error {
	if isNil(d.store) || isNil(d.next) {
		return errors.New("Deduplicate: the StatusStore or the Receiver is nil")
	}
	return errors.Join(validate(d.store), validate(d.next))
}

func (d *deduplicator) Receive(ctx context.Context, n *Notification) error {
	var known error
	duplicate, err := d.store.Do(ctx, n.Key(), n.MEDStatus, func(previous MEDStatus, seenAt time.Time) error {
		n.Previous, n.SeenAt = previous, seenAt
		err := d.next.Receive(ctx, n)
		if isDuplicate(err) { // the case has this status now, whoever saw to it
			known, err = err, nil
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case duplicate:
		return ErrDuplicate
	}
	return known
}

// Defaults of a [MemoryStore].
const (
	// DefaultMaxCases is how many cases are remembered.
	DefaultMaxCases = 1 << 16
	// DefaultMaxAge is how long a case is remembered after its last record.
	DefaultMaxAge = 90 * 24 * time.Hour
)

// MemoryStore is a [StatusStore] in memory, bounded in size and age. The zero
// value is ready to use, concurrently too; its fields must not change then.
//
// It is for a single process that may forget on restart: what it forgot is
// delivered again. With two replicas it would not only repeat work but could
// drop a re-opened case, of which the other replica saw the end: replicas need
// a StatusStore in a database that they share, or the durable inbox.
type MemoryStore struct {
	// MaxCases is how many cases are remembered; the one whose last record is
	// the oldest goes first. Zero means DefaultMaxCases, which take
	// about 17 MB with one status each and 24 MB with three.
	MaxCases int
	// MaxAge is how long a case is remembered after its last record. Zero means
	// DefaultMaxAge: a MED request may come up to 80 days after the Pix.
	MaxAge time.Duration

	now func() time.Time // nil for time.Now

	mu    sync.Mutex
	cases map[caseID]*list.Element // of *memoryCase
	byAge list.List                // the oldest record first
	lines map[caseID][]*memoryCall // the calls of a case, the running one first
}

// caseID is a digest of the key, so that a long external id costs no memory.
type caseID [sha256.Size]byte

type memoryCase struct {
	id   caseID
	seen []seenStatus // each status once, the last recorded one last
}

type seenStatus struct {
	status MEDStatus
	at     time.Time
}

// maxSeen bounds the statuses that are remembered for a case: far more than
// there are.
const maxSeen = 16

// memoryCall is a call of Do in its case's line.
type memoryCall struct {
	status MEDStatus
	turn   chan struct{} // closed when the call is first in line
	done   chan struct{} // closed when it has ended

	// To be read after done.
	err       error // its outcome
	late      bool  // it failed, and its context had ended by then
	abandoned bool  // its context ended before its turn; who joined it goes on
}

// Validate reports negative limits. [NewHandler] calls it.
func (s *MemoryStore) Validate() error {
	if s.MaxCases < 0 || s.MaxAge < 0 {
		return fmt.Errorf("MemoryStore: MaxCases %d or MaxAge %v is negative", s.MaxCases, s.MaxAge)
	}
	return nil
}

// Do implements [StatusStore].
func (s *MemoryStore) Do(ctx context.Context, key Key, status MEDStatus, fn func(previous MEDStatus, seenAt time.Time) error) (duplicate bool, err error) {
	id := newCaseID(key)
	call, joined := s.enter(id, status)
	for joined {
		select {
		case <-call.done:
			if call.late {
				return false, fmt.Errorf("%w: the identical delivery that was being handled ran out of time: %w", ErrBusy, call.err)
			}
			if !call.abandoned {
				return call.err == nil, call.err
			}
			call, joined = s.enter(id, status)
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}

	// Whatever happens in fn, a panic or runtime.Goexit included, the line goes on.
	err = errUnfinished
	defer func() { s.leave(id, call, err) }()
	select {
	case <-call.turn:
	case <-ctx.Done():
		call.abandoned = true
		err = ctx.Err()
		return false, err
	}
	previous, seenAt, recorded := s.lookup(id, status)
	if recorded && previous == status {
		err = nil
		return true, nil
	}
	if err = fn(previous, seenAt); err == nil {
		s.record(id, status)
	} else {
		call.late = ctx.Err() != nil
	}
	return false, err
}

// errUnfinished is what identical deliveries in flight get when the first of
// them panics.
var errUnfinished = errors.New("the identical delivery that was being handled panicked")

// enter puts a call at the end of the case's line, or joins the one that is
// there when it has the same status. Only that one: joining a call further ahead
// would drop a status that the one in between changes.
func (s *MemoryStore) enter(id caseID, status MEDStatus) (call *memoryCall, joined bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := s.lines[id]
	if n := len(line); n > 0 && line[n-1].status == status {
		return line[n-1], true
	}
	call = &memoryCall{status: status, turn: make(chan struct{}), done: make(chan struct{})}
	if len(line) == 0 {
		close(call.turn)
	}
	if s.lines == nil {
		s.lines = make(map[caseID][]*memoryCall)
	}
	s.lines[id] = append(line, call)
	return call, false
}

// leave ends a call, wherever in the line it stands.
func (s *MemoryStore) leave(id caseID, call *memoryCall, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := s.lines[id]
	at := slices.Index(line, call)
	line = slices.Delete(line, at, at+1)
	switch {
	case len(line) == 0:
		delete(s.lines, id)
	case at == 0:
		close(line[0].turn)
		fallthrough
	default:
		s.lines[id] = line
	}
	call.err = err
	close(call.done)
}

func (s *MemoryStore) lookup(id caseID, status MEDStatus) (previous MEDStatus, seenAt time.Time, recorded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(s.time())
	e, ok := s.cases[id]
	if !ok {
		return "", time.Time{}, false
	}
	seen := e.Value.(*memoryCase).seen
	if i := slices.IndexFunc(seen, func(x seenStatus) bool { return x.status == status }); i >= 0 {
		seenAt = seen[i].at
	}
	return seen[len(seen)-1].status, seenAt, true
}

func (s *MemoryStore) record(id caseID, status MEDStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.time()
	e, ok := s.cases[id]
	if !ok {
		if s.cases == nil {
			s.cases = make(map[caseID]*list.Element)
		}
		e = s.byAge.PushBack(&memoryCase{id: id})
		s.cases[id] = e
	}
	s.byAge.MoveToBack(e)
	c := e.Value.(*memoryCase)
	c.seen = slices.DeleteFunc(c.seen, func(x seenStatus) bool { return x.status == status })
	if len(c.seen) == maxSeen {
		c.seen = slices.Delete(c.seen, 0, 1)
	}
	c.seen = append(c.seen, seenStatus{status, now})
	s.forget(now)
}

// forget drops the cases that are over the limits.
func (s *MemoryStore) forget(now time.Time) {
	maxCases, maxAge := s.MaxCases, s.MaxAge
	if maxCases == 0 {
		maxCases = DefaultMaxCases
	}
	if maxAge == 0 {
		maxAge = DefaultMaxAge
	}
	for e := s.byAge.Front(); e != nil; e = s.byAge.Front() {
		c := e.Value.(*memoryCase)
		if s.byAge.Len() <= maxCases && now.Sub(c.seen[len(c.seen)-1].at) <= maxAge {
			return
		}
		s.byAge.Remove(e)
		delete(s.cases, c.id)
	}
}

func (s *MemoryStore) time() time.Time {
	if s.now != nil {
		return s.now()
	}
	return time.Now()
}

func newCaseID(k Key) caseID {
	b := make([]byte, 0, 128)
	b = binary.AppendUvarint(b, uint64(len(k.TransactionID))) // tells a|bc from ab|c
	b = append(b, k.TransactionID...)
	b = append(b, k.ExternalID...)
	return sha256.Sum256(b)
}
