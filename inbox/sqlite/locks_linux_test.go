package sqlite_test

import (
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// An attempt to open a file that is open must not take the locks away by which
// other processes know that it is: with any descriptor of a file, all locks of the
// process on it go.
func TestSecondOpenKeepsTheLocks(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	// This descriptor as well: it is closed after the inbox is.
	file, err := os.OpenFile(s.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	s.Open(t, ignore)
	if !locked(t, file) {
		t.Fatal("an open inbox holds no lock on its file")
	}
	if _, err := s.TryOpen(t, ignore); !errors.Is(err, sqlite.ErrLocked) {
		t.Fatalf("a second inbox: %v", err)
	}
	if !locked(t, file) {
		t.Error("no lock is left on the file")
	}
}

// locked asks whether the file could be locked whole by a descriptor that is not
// the process's: unlike F_GETLK, F_OFD_GETLK sees the process's own locks.
func locked(t *testing.T, file *os.File) bool {
	t.Helper()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		t.Fatal(err)
	}
	return lock.Type != unix.F_UNLCK
}
