package pixmed

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pixmed-go/pixmed/internal/line"
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

	now   func() time.Time // nil for time.Now
	lines line.Lines[caseID, Recorded]

	mu    sync.Mutex
	cases map[caseID]*list.Element // of *memoryCase
	byAge list.List                // the oldest record first
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

	id := caseID(sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(key.TransactionID), key.TransactionID, key.ExternalID))) // a|bc is not ab|c
	known := false
	joined, err := s.lines.Do(ctx, id, r, func() error {
		previous, previousAt, seenAt := s.lookup(id, r.Status)
		if known = previous == r && !previousAt.IsZero(); known {
			return nil
		}
		err := fn(previous, previousAt, seenAt)
		if err == nil {
			s.record(id, r)
		}
		return err
	})
	if joined && errors.Is(err, line.ErrLate) {
		err = fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return known || joined && err == nil, err
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
	maxCases, maxAge := cmp.Or(s.MaxCases, DefaultMaxCases), cmp.Or(s.MaxAge, DefaultMaxAge)
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
