package inbox

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// newID returns a UUID of version 7 for a time: ids sort like the times, to a
// quarter of a microsecond.
func newID(t time.Time) string {
	id := firstID(t)
	_, _ = rand.Read(id[8:]) // never fails
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// firstID returns the lowest id of a time.
func firstID(t time.Time) (id uuid.UUID) {
	ms := uint64(max(t.UnixMilli(), 0)) << 16
	fraction := uint64(t.Nanosecond()%1e6) << 12 / 1e6 //nolint:gosec // it is not negative
	binary.BigEndian.PutUint64(id[:], ms|7<<12|fraction)
	id[8] = 0x80
	return id
}
