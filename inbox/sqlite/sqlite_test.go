package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

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
		"no folder":         {filepath.Join(folder, "none", "inbox.db"), ignore, nil, "none"},
		"a folder":          {folder, ignore, nil, folder},
		"no database":       {text, ignore, nil, "not a database"},
		"no receiver":       {filepath.Join(folder, "1"), nil, nil, "receiver is nil"},
		"of another engine": {filepath.Join(folder, "3"), ignore, []inbox.Option{postgres.WithPollOnly()}, "an option of package postgres"},
		"a bad option":      {filepath.Join(folder, "4"), ignore, []inbox.Option{inbox.WithRetention(0)}, "WithRetention: 0s is not positive"},
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

func TestPaths(t *testing.T) {
	t.Parallel()
	names := []string{"inbox.db", "a b", "100%25", "x#y", "é"}
	if runtime.GOOS != "windows" {
		names = append(names, "what?mode=memory", `back\slash`)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &enginetest.Database{Engine: "sqlite", Path: filepath.Join(t.TempDir(), name)}
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
	s := &enginetest.Database{Engine: "sqlite", Path: "inbox.db"}
	s.Open(t, ignore)
	if _, err := os.Stat("inbox.db"); err != nil {
		t.Error(err)
	}
}

// Absolute paths of every system, none of whose parts is taken for a host, a
// parameter or a fragment.
func TestDSN(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/var/lib/inbox.db":    "file:///var/lib/inbox.db?",
		"C:/data/inbox.db":     "file:///C:/data/inbox.db?",
		"//server/share/in.db": "file:////server/share/in.db?",
		"/a b/x?y#z%25.db":     "file:///a%20b/x%3Fy%23z%2525.db?",
	} {
		if got := sqlite.DSN(path); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s…", path, got, want)
		}
	}
}
