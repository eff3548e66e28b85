package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// An attempt to open a file that is open must not take the locks away by which
// other processes know that it is: with any descriptor of a file, all locks of the
// process on it go.
func TestSecondOpenKeepsTheLocks(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	in := s.Open(t, ignore)
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
		t.Fatal(err)
	}
	if locksOn(t, s.Path) == 0 {
		t.Skip("needs /proc/locks, with the locks of this process in it")
	}
	if _, err := s.TryOpen(t, ignore); !errors.Is(err, sqlite.ErrLocked) {
		t.Fatalf("a second inbox: %v", err)
	}
	if locksOn(t, s.Path) == 0 { // there may be some for a moment only
		t.Error("no locks are left on the file")
	}
}

func locksOn(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	return strings.Count(string(locks), fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino))
}
