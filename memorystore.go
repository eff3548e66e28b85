package pixmed

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Defaults of a [MemoryStore].
const (
	// DefaultMaxCases is how many cases are remembered.
	DefaultMaxCases = 1 << 16
	// DefaultMaxAge is how long a case is remembered after its last record.
	DefaultMaxAge = 90 * 24 * time.Hour
)

// MemoryStore is a [StatusStore] in memory, bounded in size and age. The zero
// value is ready to use and safe for concurrent use; its fields must not change
// after the first use.
//
// It is for a single process that may forget on restart: what it forgot is
// delivered again. With two replicas it would not only repeat work but could
// drop a reopened case whose end the other replica saw: replicas need a
// StatusStore in a database that they share, or the durable inbox.
type MemoryStore struct {
	// MaxCases is how many cases are remembered; the one with the oldest last
	// record is forgotten first. Zero means DefaultMaxCases, which take about
	// 22 MiB with two of the gateway's statuses each, and at most 72 MiB whatever
	// is sent.
	MaxCases int
	// MaxAge is how long a case is remembered after its last record. Zero means
	// DefaultMaxAge: a MED request may come up to 80 days after the Pix.
	MaxAge time.Duration

	now func() time.Time // nil for time.Now

	mu    sync.Mutex
	cases map[caseID]*list.Element // of *memoryCase
	byAge list.List                // the oldest record first
	lines map[caseID]*memoryCall   // the last call of each case that is running or waits
}

// caseID is a digest of the key, so that a long external id costs no memory.
type caseID [sha256.Size]byte

type memoryCase struct {
	id   caseID
	last Recorded
	seen []seenStatus // each status once, the last recorded one last
}

type seenStatus struct {
	status MEDStatus
	at     time.Time
}

// maxSeen is how many statuses are remembered for a case: more than the gateway
// has.
const maxSeen = 8

// memoryCall is a call of Do in its case's line.
type memoryCall struct {
	record Recorded
	ahead  *memoryCall   // the call before it in line, nil if there was none
	done   chan struct{} // closed when it has ended

	// To be read after done.
	err       error // its outcome
	late      bool  // it failed, and its context had ended by then
	abandoned bool  // its context ended before its turn; calls that joined it go on
}

// Validate returns an error if a limit is negative. [NewHandler] calls it.
func (s *MemoryStore) Validate() error {
	if s.MaxCases < 0 || s.MaxAge < 0 {
		return fmt.Errorf("MemoryStore: MaxCases %d or MaxAge %v is negative", s.MaxCases, s.MaxAge)
	}
	return nil
}

// Do implements [StatusStore].
func (s *MemoryStore) Do(ctx context.Context, key Key, r Recorded, fn func(previous Recorded, previousAt, seenAt time.Time) error) (duplicate bool, err error) {
	if len(r.Status) > maxStatus || len(r.Digest) > 2*sha256.Size {
		return false, fmt.Errorf("MemoryStore: the status or the digest has more than %d bytes", maxStatus)
	}
	// The strings may be parts of something large.
	r.Status, r.Digest = MEDStatus(strings.Clone(string(r.Status))), strings.Clone(r.Digest)

	id := newCaseID(key)
	call, joined := s.enter(id, r)
	for joined {
		select {
		case <-call.done:
			if call.late {
				return false, fmt.Errorf("%w: the identical delivery that was being handled ran out of time: %w", ErrBusy, call.err)
			}
			if !call.abandoned {
				return call.err == nil, call.err
			}
			call, joined = s.enter(id, r)
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}

	// Whatever happens in fn, a panic or runtime.Goexit included, the line goes on.
	err = errUnfinished
	defer func() { s.leave(id, call, err) }()
	for ahead := call.ahead; ahead != nil; ahead = ahead.ahead { // more than one if the next was abandoned
		select {
		case <-ahead.done:
		case <-ctx.Done():
			call.abandoned = true
			err = ctx.Err()
			return false, err
		}
	}
	previous, previousAt, seenAt := s.lookup(id, r.Status)
	if previous == r && !previousAt.IsZero() {
		err = nil
		return true, nil
	}
	if err = fn(previous, previousAt, seenAt); err == nil {
		s.record(id, r)
	} else {
		call.late = ctx.Err() != nil
	}
	return false, err
}

// errUnfinished is what identical deliveries in flight get if the first of them
// panics.
var errUnfinished = errors.New("the identical delivery that was being handled panicked")

// enter puts a call at the end of the case's line, or joins the last one there
// if it has the same record. Only the last: joining a call further ahead would
// drop a status that the one in between changes.
func (s *MemoryStore) enter(id caseID, r Recorded) (call *memoryCall, joined bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.lines[id]
	if last != nil && last.record == r {
		return last, true
	}
	if s.lines == nil {
		s.lines = make(map[caseID]*memoryCall)
	}
	call = &memoryCall{record: r, ahead: last, done: make(chan struct{})}
	s.lines[id] = call
	return call, false
}

// leave ends a call.
func (s *MemoryStore) leave(id caseID, call *memoryCall, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for call.ahead != nil && call.ahead.hasEnded() { // all of them, unless call was abandoned
		call.ahead = call.ahead.ahead
	}
	switch {
	case s.lines[id] != call:
	case call.ahead != nil:
		s.lines[id] = call.ahead
	default:
		delete(s.lines, id)
	}
	call.err = err
	close(call.done)
}

func (c *memoryCall) hasEnded() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (s *MemoryStore) lookup(id caseID, status MEDStatus) (previous Recorded, previousAt, seenAt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(s.time())
	e, ok := s.cases[id]
	if !ok {
		return previous, previousAt, seenAt
	}
	c := e.Value.(*memoryCase)
	if i := slices.IndexFunc(c.seen, func(x seenStatus) bool { return x.status == status }); i >= 0 {
		seenAt = c.seen[i].at
	}
	return c.last, c.recordedAt(), seenAt
}

// recordedAt returns when the case's last record was made.
func (c *memoryCase) recordedAt() time.Time { return c.seen[len(c.seen)-1].at }

func (s *MemoryStore) record(id caseID, r Recorded) {
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
	c.last = r
	c.seen = slices.DeleteFunc(c.seen, func(x seenStatus) bool { return x.status == r.Status })
	if len(c.seen) == maxSeen {
		c.seen = slices.Delete(c.seen, 0, 1)
	}
	c.seen = append(c.seen, seenStatus{r.Status, now})
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
		if s.byAge.Len() <= maxCases && now.Sub(c.recordedAt()) <= maxAge {
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
