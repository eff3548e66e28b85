package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

var ignore = pixmed.ReceiverFunc(pixmed.Ignore)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	text := filepath.Join(folder, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path     string
		receiver pixmed.Receiver
		opts     []inbox.Option
		want     string
	}{
		"no folder":           {filepath.Join(folder, "none", "inbox.db"), ignore, nil, "none"},
		"a folder":            {folder, ignore, nil, folder},
		"no database":         {text, ignore, nil, "not a database"},
		"no receiver":         {filepath.Join(folder, "1"), nil, nil, "receiver is nil"},
		"half a receiver":     {filepath.Join(folder, "2"), pixmed.Callbacks{}, nil, "Callbacks.Other is nil"},
		"of another engine":   {filepath.Join(folder, "3"), ignore, []inbox.Option{postgres.WithPollOnly()}, "an option of package postgres"},
		"a bad option":        {filepath.Join(folder, "4"), ignore, []inbox.Option{inbox.WithRetention(0)}, "WithRetention: 0s is not positive"},
		"overdue too soon":    {filepath.Join(folder, "5"), ignore, []inbox.Option{inbox.WithOverdue(1)}, "less than 1.2 times the attempt timeout, 30s"},
		"delays out of order": {filepath.Join(folder, "6"), ignore, []inbox.Option{inbox.WithBackoff(2, 1)}, "2ns, is above the longest, 1ns"},
		"no delay":            {filepath.Join(folder, "7"), ignore, []inbox.Option{inbox.WithBackoff(0, 1)}, "0s, is not positive"},
		"no logger":           {filepath.Join(folder, "8"), ignore, []inbox.Option{inbox.WithLogger(nil)}, "the logger is nil"},
		"no functions":        {filepath.Join(folder, "9"), ignore, []inbox.Option{inbox.WithContext(nil, nil)}, "a function is nil"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, err := sqlite.Open(t.Context(), test.path, test.receiver, test.opts...)
			if in != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %v, want %q", in, err, test.want)
			}
		})
	}
}

// What could not be opened is not locked for ever.
func TestOpenAfterAFailure(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	if err := os.WriteFile(s.Path, []byte("this is no database, however long one looks at it"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TryOpen(t, ignore); err == nil {
		t.Fatal("a text was opened")
	}
	if err := os.Remove(s.Path); err != nil {
		t.Fatal(err)
	}
	s.Open(t, ignore)
}

// Two inboxes on one file, in one process too.
func TestLocked(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	first := s.Open(t, ignore)
	_, err := s.TryOpen(t, ignore)
	if !errors.Is(err, sqlite.ErrLocked) || !strings.Contains(err.Error(), s.Path) || !strings.Contains(err.Error(), "package postgres") {
		t.Errorf("a second inbox: %v", err)
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Open(t, ignore)
}

// A file has one inbox, whatever it is called.
func TestLockedThroughALink(t *testing.T) {
	t.Parallel()
	for name, existing := range map[string]bool{"file": true, "folder": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			s := &enginetest.Store{Engine: "sqlite", Path: filepath.Join(folder, "inbox.db")}
			s.Open(t, ignore)
			target, link := folder, filepath.Join(t.TempDir(), "link")
			path := filepath.Join(link, "inbox.db")
			if existing {
				target, path = s.Path, link
			}
			if err := os.Symlink(target, link); err != nil {
				needsSymlinks(t, err)
			}
			if _, err := (&enginetest.Store{Engine: "sqlite", Path: path}).TryOpen(t, ignore); !errors.Is(err, sqlite.ErrLocked) {
				t.Errorf("%v, want ErrLocked", err)
			}
		})
	}
}

// A file that is moved away would take everything with it.
func TestFileMovedAway(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("nobody can move an open file on Windows")
	}
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

func TestPaths(t *testing.T) {
	t.Parallel()
	names := []string{"inbox.db", "a b", "100%25", "x#y", "é"}
	if runtime.GOOS != "windows" {
		names = append(names, "what?mode=memory", `back\slash`)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &enginetest.Store{Engine: "sqlite", Path: filepath.Join(t.TempDir(), name)}
			in := s.Open(t, ignore)
			if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
				t.Fatal(err)
			}
			if err := in.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(s.Path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() == 0 {
				t.Error("the file is empty")
			}
			if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
				t.Errorf("its mode is %v: it holds personal data", info.Mode())
			}
			// What is in the -wal file is in the main one after Stop.
			if wal, err := os.Stat(s.Path + "-wal"); err == nil && wal.Size() != 0 {
				t.Errorf("the -wal file has %d bytes", wal.Size())
			}
		})
	}
}

// A relative path is one of the working directory at that time.
func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	s := &enginetest.Store{Engine: "sqlite", Path: "inbox.db"}
	s.Open(t, ignore)
	if _, err := os.Stat("inbox.db"); err != nil {
		t.Error(err)
	}
}

func TestNewerSchema(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	if err := s.Open(t, ignore).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DB(t).ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	_, err := s.TryOpen(t, ignore)
	if err == nil || !strings.Contains(err.Error(), "version 99") || !strings.Contains(err.Error(), "update the program") {
		t.Errorf("Open: %v", err)
	}
}

// Every commit is synced, whoever opened the file before.
func TestDurableSettings(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	s.Open(t, ignore)
	db := s.DB(t)
	for name, want := range map[string]string{"journal_mode": "wal", "user_version": "1"} {
		var got string
		if err := db.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}
