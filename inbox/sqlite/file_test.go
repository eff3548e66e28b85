package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
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
	(&enginetest.Store{Engine: "sqlite", Path: link}).Open(t, ignore)
	for _, path := range []string{link, target} {
		if _, err := (&enginetest.Store{Engine: "sqlite", Path: path}).TryOpen(t, ignore); !errors.Is(err, sqlite.ErrLocked) {
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

// A file with two names would have two locks, and two -wal files.
func TestHardLink(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("hard links are not counted on Windows")
	}
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

// Somebody deletes the lock's file, and so two inboxes have one file open: the
// first learns of the second before it does anything more.
func TestLockFileDeleted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("nobody can delete an open file on Windows")
	}
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

// Files that others may read are made private, which the log says.
func TestModes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
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

// What a killed process has left in the -wal file, and perhaps never synced, is
// brought to disk before anything is answered: the main file alone has it.
func TestLeftInTheWAL(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	in := s.Open(t, ignore)
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	if err := in.Receive(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	after := copyFiles(t, s.Path, "-wal")
	in = after.Open(t, ignore)
	if err := in.Receive(t.Context(), n); !errors.Is(err, pixmed.ErrDuplicate) {
		t.Fatalf("Receive: %v, want ErrDuplicate", err)
	}
	main := filepath.Join(t.TempDir(), "inbox.db")
	b, err := os.ReadFile(after.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(main, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+main+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var events int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM events").Scan(&events); err != nil || events != 1 {
		t.Errorf("the main file has %d events, %v: the rest is in a file that nobody has synced", events, err)
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

// copyFiles copies a database and the file beside it that ends in suffix, as they
// are when the process is killed.
func copyFiles(t *testing.T, path, suffix string) *enginetest.Store {
	t.Helper()
	s := enginetest.SQLite(t)
	for _, suffix := range []string{"", suffix} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.Path+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Recovery is one transaction, however many attempts were cut off.
func TestRecoveryIsOneTransaction(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	const attempts = 100
	begun := make(chan struct{}, attempts)
	first := s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}), inbox.WithWorkers(attempts), inbox.WithAttemptTimeout(time.Hour), inbox.WithOverdue(2*time.Hour))
	for range attempts {
		if err := first.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
			t.Fatal(err)
		}
	}
	for range attempts {
		<-begun
	}
	after := copyFiles(t, s.Path, "-wal")
	r := enginetest.NewRecorder(nil)
	in := after.Open(t, r, inbox.WithMaxAttempts(2))
	before := commits(t, after.Path)
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range attempts {
		if n := r.Next(t); n.Attempt != 2 {
			t.Fatalf("attempt %d", n.Attempt)
		}
	}
	if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: attempts}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// One recovers all; then come those that claim and settle, several at a time.
	if got := commits(t, after.Path) - before; got > attempts/2 {
		t.Errorf("%d transactions", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// commits returns how many transactions are in a -wal file.
func commits(t *testing.T, path string) (n int) {
	t.Helper()
	b, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	const header, frame = 32, 24 + 4096
	for at := header; at+frame <= len(b); at += frame {
		if !bytes.Equal(b[at+4:at+8], make([]byte, 4)) { // the size of the database after a commit
			n++
		}
	}
	return n
}

// A reader looks into a file that is in use, and into one that is not, and leaves
// nothing behind.
func TestOpenReader(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	if _, err := sqlite.OpenReader(t.Context(), s.Path); err == nil {
		t.Error("a file that is not there was opened")
	}
	in := s.Open(t, ignore)
	id := enginetest.NewTransaction()
	if err := in.Receive(t.Context(), enginetest.Notification(id, pixmed.Acknowledged)); err != nil {
		t.Fatal(err)
	}
	idle := enginetest.SQLite(t)
	left := make(map[string][]byte)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(s.Path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		left[suffix] = b
	}
	if err := in.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(idle.Path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	crashed := enginetest.SQLite(t) // its process was killed
	for suffix, b := range left {
		if err := os.WriteFile(crashed.Path+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string][]string{idle.Path: {""}, crashed.Path: {"", "-shm", "-wal"}} {
		name := path
		r, err := sqlite.OpenReader(t.Context(), path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		stats, err := r.Stats(t.Context())
		if err != nil || stats.Pending != 1 {
			t.Errorf("%s: Stats: %+v, %v", name, stats, err)
		}
		history, err := r.History(t.Context(), id)
		if err != nil || len(history) != 1 {
			t.Fatalf("%s: History: %v, %v", name, history, err)
		}
		if e, err := r.Get(t.Context(), history[0].ID); err != nil || e.Status != pixmed.Acknowledged {
			t.Errorf("%s: Get: %v, %v", name, e, err)
		}
		cases, err := r.Cases(t.Context(), inbox.CaseFilter{})
		if err != nil || len(cases) != 1 {
			t.Errorf("%s: Cases: %v, %v", name, cases, err)
		}
		if events, err := r.List(t.Context(), inbox.Filter{State: inbox.Pending}); err != nil || len(events) != 1 {
			t.Errorf("%s: List: %v, %v", name, events, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		files, err := filepath.Glob(path + "*")
		var suffixes []string
		for _, f := range files {
			suffixes = append(suffixes, strings.TrimPrefix(f, path))
		}
		if diff := cmp.Diff(want, suffixes); err != nil || diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", name, diff)
		}
	}
}

func TestOpenReaderRefuses(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	foreign, empty := filepath.Join(folder, "foreign"), filepath.Join(folder, "empty")
	makeDatabase(t, foreign, "CREATE TABLE books (id)")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		foreign: "somebody else's", empty: "version 0", folder: "not a file", ":memory:": "in memory",
	} {
		if r, err := sqlite.OpenReader(t.Context(), path); r != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
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
