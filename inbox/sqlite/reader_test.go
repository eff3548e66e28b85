package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

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
		if history, err := r.History(t.Context(), id); err != nil || len(history) != 1 {
			t.Errorf("%s: History: %v, %v", name, history, err)
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
