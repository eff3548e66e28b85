package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// fileCheck remembers what was found, so that not every transaction asks.
type fileCheck struct {
	at  time.Time
	err error
}

const fileCheckEvery = 500 * time.Millisecond

// checkFile fails when there is nothing left of the disk, or of the file: SQLite
// goes on writing to one that was moved or deleted, and whatever it writes is gone
// at the next start.
func (s *store) checkFile() error {
	s.checkMu.Lock()
	defer s.checkMu.Unlock()
	if now := time.Now(); now.Sub(s.checked.at) >= fileCheckEvery {
		s.checked = fileCheck{at: now}
		if err := s.lookAtFile(); err != nil {
			s.checked.err = fmt.Errorf("%w: %w", ledger.ErrBusy, err)
		}
	}
	return s.checked.err
}

func (s *store) lookAtFile() error {
	if file, err := os.Stat(s.path); err != nil || !os.SameFile(file, s.file) {
		return fmt.Errorf("%s is not the file any more that was opened: it was moved or deleted; put it back, or restart the process", s.path)
	}
	floor := uint64(defaultMinFreeDisk)
	if s.config.MinFreeDisk != nil {
		floor = *s.config.MinFreeDisk
	}
	if floor == 0 {
		return nil
	}
	if free, err := freeDisk(filepath.Dir(s.path)); err == nil && free < floor {
		return fmt.Errorf("%d MiB are free on the disk of %s, and %d MiB must be: make room, or change sqlite.WithMinFreeDisk", free>>20, s.path, floor>>20)
	}
	return nil
}
