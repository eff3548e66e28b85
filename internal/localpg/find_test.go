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

//nolint:paralleltest // it sets an environment variable
func TestSkippable(t *testing.T) {
	for _, tt := range []struct {
		err         error
		local, inCI bool
	}{
		{nil, false, false},
		{errors.New("initdb failed"), false, false},
		{fmt.Errorf("start: %w", localpg.ErrNotFound), true, false},
		{fmt.Errorf("start: %w", errors.ErrUnsupported), true, true},
	} {
		t.Setenv("CI", "")
		if got := localpg.Skippable(tt.err); got != tt.local {
			t.Errorf("Skippable(%v) = %t, want %t", tt.err, got, tt.local)
		}
		t.Setenv("CI", "true")
		if got := localpg.Skippable(tt.err); got != tt.inCI {
			t.Errorf("in CI, Skippable(%v) = %t, want %t", tt.err, got, tt.inCI)
		}
	}
}
