package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// checkFile fails when the file is no longer at its path: SQLite goes on writing to a
// file that was moved or deleted, and the next start does not find what it wrote.
func (s *engine) checkFile() error {
	if file, err := os.Stat(s.path); err != nil || !os.SameFile(file, s.file) {
		return fmt.Errorf("%s is no longer the file that was opened: it was moved or deleted; put it back, or restart the process", s.path)
	}
	return nil
}

// diskCheckEvery is how old the last look at the disk may be.
const diskCheckEvery = 500 * time.Millisecond

// checkDisk fails when there is little room on the disk.
func (s *engine) checkDisk() error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if now := time.Now(); now.Sub(s.disk.at) >= diskCheckEvery {
		s.disk.at, s.disk.err = now, s.lookAtDisk()
	}
	return s.disk.err
}

func (s *engine) lookAtDisk() error {
	floor := uint64(defaultMinFreeDisk)
	if s.config.MinFreeDisk != nil {
		floor = *s.config.MinFreeDisk
	}
	if floor == 0 {
		return nil
	}
	if free, err := freeDisk(filepath.Dir(s.path)); err == nil && free < floor {
		return fmt.Errorf("%w: only %d MiB are free on the disk of %s, at least %d MiB are required: free some space, or change sqlite.WithMinFreeDisk",
			ledger.ErrUnavailable, free>>20, s.path, floor>>20)
	}
	return nil
}
