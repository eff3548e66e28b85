package sqlite

import (
	"fmt"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// diskCheck remembers how much was free on the disk, so that not every
// transaction asks for it.
type diskCheck struct {
	at  time.Time
	err error
}

const diskCheckEvery = 500 * time.Millisecond

// checkDisk fails when the disk is nearly full.
func (s *store) checkDisk() error {
	floor := uint64(defaultMinFreeDisk)
	if s.config.MinFreeDisk != nil {
		floor = *s.config.MinFreeDisk
	}
	if floor == 0 {
		return nil
	}
	s.freeMu.Lock()
	defer s.freeMu.Unlock()
	if now := time.Now(); now.Sub(s.free.at) >= diskCheckEvery {
		s.free = diskCheck{at: now}
		if free, err := freeDisk(s.dir); err == nil && free < floor {
			s.free.err = fmt.Errorf("%w: %d MiB are free on the disk of %s, and %d MiB must be: make room, or change sqlite.WithMinFreeDisk",
				ledger.ErrBusy, free>>20, s.dir, floor>>20)
		}
	}
	return s.free.err
}
