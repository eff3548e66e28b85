//go:build unix

package sqlite_test

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// A file that is moved away would take everything with it. Nobody can move an open file
// on Windows.
func TestFileMovedAway(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	in := s.Open(t, ignore)
	accept := func() error {
		return in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
	}
	until := func(what string, ok func(error) bool) {
		t.Helper()
		deadline := time.After(enginetest.Patience)
		for !ok(accept()) {
			select {
			case <-deadline:
				t.Fatal(what)
			default:
			}
		}
	}
	if err := accept(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.Path, s.Path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := accept(); !errors.Is(err, pixmed.ErrBusy) || !strings.Contains(err.Error(), "moved or deleted") {
		t.Errorf("the first after it: %v, want ErrBusy", err)
	}
	if err := in.Ready(t.Context()); err == nil {
		t.Error("it is ready")
	}
	if err := os.Rename(s.Path+".away", s.Path); err != nil {
		t.Fatal(err)
	}
	until("it does not accept again", func(err error) bool { return err == nil })
}

// A file with two names would have two locks, and two -wal files.
func TestHardLink(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	if err := s.Open(t, ignore).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(s.Path, s.Path+".other"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TryOpen(t, ignore); err == nil || !strings.Contains(err.Error(), "2 hard links") {
		t.Errorf("Open: %v", err)
	}
	if err := os.Remove(s.Path + ".other"); err != nil {
		t.Fatal(err)
	}
	s.Open(t, ignore)
}

// Files that others may read are made private, which the log says.
func TestModes(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	in := s.Open(t, ignore)
	names := []string{s.Path, s.Path + "-wal", s.Path + "-shm"}
	copies := make(map[string][]byte)
	for _, name := range names { // as a killed process leaves them
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		copies[name] = b
	}
	if err := in.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, b := range copies {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	s.Open(t, ignore, inbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	for _, name := range append(names, s.Path+".lock") {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if got := strings.Count(log.String(), "its mode is 0600 now"); got != 3 {
		t.Errorf("%d lines: %s", got, log.String())
	}
}
