//go:build unix

package sqlite_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// Somebody deletes the lock's file, and so two inboxes have one file open: the
// first learns of the second before it does anything more. Nobody can delete an open
// file on Windows.
func TestLockFileDeleted(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	r := enginetest.NewRecorder(nil)
	first := s.Start(t, r)
	if err := os.Remove(s.Path + ".lock"); err != nil {
		t.Fatal(err)
	}
	second := s.Open(t, ignore)
	err := first.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
	if !errors.Is(err, pixmed.ErrBusy) || !strings.Contains(err.Error(), "another process has opened") {
		t.Errorf("the first inbox: %v", err)
	}
	if err := first.Ready(t.Context()); err == nil {
		t.Error("the first inbox is ready")
	}
	if err := second.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
		t.Errorf("the second inbox: %v", err)
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	r.None(t) // what the second accepted
}
