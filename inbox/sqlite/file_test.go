package sqlite_test

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// makeDatabase makes a database with the given statements.
func makeDatabase(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Somebody else's database is refused before anything is written to it.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		statements []string
		want       string
	}{
		"tables":                  {[]string{"CREATE TABLE books (id)"}, "somebody else's database"},
		"tables, write-ahead log": {[]string{"PRAGMA journal_mode = WAL", "CREATE TABLE books (id)"}, "somebody else's database"},
		"a version":               {[]string{"PRAGMA user_version = 3"}, "somebody else's database"},
		"a negative version":      {[]string{"PRAGMA user_version = -1"}, "somebody else's database"},
		"another application":     {[]string{"PRAGMA application_id = 5"}, "somebody else's database"},
		"ours, negative":          {[]string{"PRAGMA application_id = 1886940516", "PRAGMA user_version = -1"}, "version -1"},
		"ours, newer":             {[]string{"PRAGMA application_id = 1886940516", "PRAGMA user_version = 99"}, "version 99"},
		"before v0.1.0":           {[]string{"CREATE TABLE river_job (id)", "CREATE TABLE cases (id, live_job)", "PRAGMA user_version = 1"}, "River"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.SQLite(t)
			makeDatabase(t, s.Path, test.statements...)
			before, err := os.ReadFile(s.Path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.TryOpen(t, ignore); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Open: %v, want %q", err, test.want)
			}
			after, err := os.ReadFile(s.Path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

// A file of no bytes, and a database without tables, are new.
func TestNewFiles(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]func(t *testing.T, path string){
		"no bytes": func(t *testing.T, path string) {
			t.Helper()
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"no tables": func(t *testing.T, path string) {
			t.Helper()
			makeDatabase(t, path, "CREATE TABLE t (id)", "DROP TABLE t")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.SQLite(t)
			create(t, s.Path)
			in := s.Open(t, ignore)
			if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPathsThatAreRefused(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"": "empty", ":memory:": "in memory", ":memory:?x": "in memory", "file:x?mode=rwc": "URI", "file:/x": "URI",
	} {
		in, err := sqlite.Open(t.Context(), path, ignore)
		if in != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}

// A link to a file that is not there yet leads to one lock before and after it is.
func TestLockedThroughADanglingLink(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	target, link, second := filepath.Join(folder, "inbox.db"), filepath.Join(t.TempDir(), "link"), filepath.Join(folder, "second")
	for from, to := range map[string]string{link: second, second: "inbox.db"} {
		if err := os.Symlink(to, from); err != nil {
			needsSymlinks(t, err)
		}
	}
	(&enginetest.Database{Engine: "sqlite", Path: link}).Open(t, ignore)
	for _, path := range []string{link, target} {
		if _, err := (&enginetest.Database{Engine: "sqlite", Path: path}).TryOpen(t, ignore); !errors.Is(err, sqlite.ErrLocked) {
			t.Errorf("%s: %v, want ErrLocked", path, err)
		}
	}
	loop := filepath.Join(folder, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), loop, ignore); err == nil {
		t.Error("a link to itself was opened")
	}
}

// A crash while the file is created leaves a journal that has to be rolled back
// before the file can be read.
func TestLeftInTheJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inbox.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	for _, statement := range []string{
		"PRAGMA cache_size = 1", // so that it writes before it commits
		"BEGIN",
		"CREATE TABLE anything (b)",
		"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO anything SELECT randomblob(1000) FROM n",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	s := copyFiles(t, path, "-journal")
	if info, err := os.Stat(s.Path); err != nil || info.Size() == 0 {
		t.Fatalf("the file has nothing to roll back: %v, %v", info, err)
	}
	in := s.Open(t, ignore)
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
		t.Error(err)
	}
}

// needsSymlinks ends a test that could not make a symbolic link. Only Windows asks
// for a right that a user may not have; anywhere else, and in CI, it fails.
func needsSymlinks(t *testing.T, err error) {
	t.Helper()
	if runtime.GOOS != "windows" || os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skipf("needs the right to make symbolic links: %v", err)
}

// A file has one inbox, whatever it is called.
func TestLockedThroughALink(t *testing.T) {
	t.Parallel()
	for name, existing := range map[string]bool{"file": true, "folder": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			s := &enginetest.Database{Engine: "sqlite", Path: filepath.Join(folder, "inbox.db")}
			s.Open(t, ignore)
			target, link := folder, filepath.Join(t.TempDir(), "link")
			path := filepath.Join(link, "inbox.db")
			if existing {
				target, path = s.Path, link
			}
			if err := os.Symlink(target, link); err != nil {
				needsSymlinks(t, err)
			}
			if _, err := (&enginetest.Database{Engine: "sqlite", Path: path}).TryOpen(t, ignore); !errors.Is(err, sqlite.ErrLocked) {
				t.Errorf("%v, want ErrLocked", err)
			}
		})
	}
}
