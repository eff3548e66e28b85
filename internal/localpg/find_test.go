package localpg_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

func TestFind(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the files of this test are no programs on Windows")
	}
	for _, tt := range []struct {
		name  string
		files []string
		want  string // a folder, or "" for ErrNotFound
	}{
		{"nothing", nil, ""},
		{"on PATH", []string{"b/initdb", "b/pg_ctl", "15/bin/initdb", "15/bin/pg_ctl"}, "b"},
		{"twice on PATH", []string{"b/initdb", "b/pg_ctl", "a/initdb", "a/pg_ctl"}, "a"},
		{"apart on PATH", []string{"a/initdb", "b/pg_ctl"}, ""},
		{"one on PATH", []string{"a/initdb", "15/bin/initdb", "15/bin/pg_ctl"}, "15/bin"},
		{"the newest version", []string{"15/bin/initdb", "15/bin/pg_ctl", "16/bin/initdb", "16/bin/pg_ctl", "17/bin/psql"}, "16/bin"},
		{"no version", []string{"old/bin/initdb", "old/bin/pg_ctl"}, ""},
		{"in a relative folder", []string{"relative/initdb", "relative/pg_ctl"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for _, file := range tt.files {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, nil, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			work, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			relative, err := filepath.Rel(work, filepath.Join(root, "relative"))
			if err != nil {
				t.Fatal(err)
			}
			path := strings.Join([]string{"", relative, filepath.Join(root, "a"), filepath.Join(root, "b")}, string(filepath.ListSeparator))
			dir, err := localpg.FindIn(path, filepath.Join(root, "[1-9][0-9]", "bin"))
			want := tt.want
			if want != "" {
				want = filepath.Join(root, want)
			}
			if dir != want || (want == "") != errors.Is(err, localpg.ErrNotFound) {
				t.Errorf("got %q, %v, want %q", dir, err, want)
			}
		})
	}
}

// ending records how a test would have ended.
type ending struct{ how string }

func (e *ending) Helper()      {}
func (e *ending) Skip(...any)  { e.how = "skipped" }
func (e *ending) Fatal(...any) { e.how = "failed" }

//nolint:paralleltest // it sets an environment variable
func TestNeed(t *testing.T) {
	for _, tt := range []struct {
		err         error
		local, inCI string
	}{
		{nil, "", ""},
		{errors.New("initdb failed"), "failed", "failed"},
		{fmt.Errorf("start: %w", localpg.ErrNotFound), "skipped", "failed"},
		{fmt.Errorf("start: %w", errors.ErrUnsupported), "skipped", "skipped"},
	} {
		for ci, want := range map[string]string{"": tt.local, "true": tt.inCI} {
			t.Setenv("CI", ci)
			var got ending
			if localpg.Need(&got, tt.err); got.how != want {
				t.Errorf("CI=%s, %v: %q, want %q", ci, tt.err, got.how, want)
			}
		}
	}
}
