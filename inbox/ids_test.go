package inbox

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

// Ids are UUIDs of version 7, and sort like their times.
func TestNewID(t *testing.T) {
	t.Parallel()
	last := ""
	for _, at := range []time.Time{{}, time.UnixMilli(0), time.UnixMilli(1), time.UnixMicro(1001), time.UnixMicro(1002), time.UnixMicro(1999), time.UnixMilli(2), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		id := newID(at)
		u, err := uuid.Parse(id)
		if err != nil || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
			t.Errorf("%s: %v, version %d", id, err, u.Version())
		}
		if first := firstID(at).String(); first > id {
			t.Errorf("%s is below %s, the first of its time", id, first)
		}
		if at.UnixMilli() > 0 && id <= last {
			t.Errorf("%s does not come after %s", id, last)
		}
		last = id
	}
	if a, b := newID(time.UnixMilli(5)), newID(time.UnixMilli(5)); a == b {
		t.Error("two ids of a millisecond are the same")
	}
}
