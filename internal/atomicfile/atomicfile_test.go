package atomicfile_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/atomicfile"
)

// content returns the files in a directory.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(data)
	}
	return files
}

func write(t *testing.T, path, text string, age time.Duration) {
	t.Helper()
	modified := time.Now().Add(-age)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, modified, modified)); err != nil {
		t.Fatal(err)
	}
}

func TestCommitAndDiscard(t *testing.T) {
	t.Parallel()
	failure := errors.New("bad sector")
	for name, test := range map[string]struct {
		fileSync, dirSync error
		commit            bool
		saved             bool
		want              string // the error
	}{
		"commit":               {nil, nil, true, true, "<nil>"},
		"discard":              {nil, nil, false, false, "<nil>"},
		"file is not synced":   {failure, nil, true, false, "bad sector"},
		"folder is not synced": {nil, failure, true, true, "bad sector"},
		"folder cannot be":     {nil, syscall.EINVAL, true, true, "<nil>"},
		"nor can it here":      {nil, errors.ErrUnsupported, true, true, "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" && test.dirSync != nil {
				test.want = "<nil>" // directories are not synced there
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			write(t, path, "old", 0)
			f, err := atomicfile.Create(path, ".x-", func(f *os.File) error {
				if stat, err := f.Stat(); err != nil || stat.IsDir() {
					return errors.Join(err, test.dirSync)
				}
				return test.fileSync
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.WriteString(f, "first attempt")
			if err := errors.Join(err, f.Reset()); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(f, "new"); err != nil {
				t.Fatal(err)
			}
			if runtime.GOOS != "windows" {
				if stat, err := f.Stat(); err != nil || stat.Mode() != 0o600 {
					t.Errorf("mode %v, %v", stat.Mode(), err)
				}
			}
			saved := false
			if test.commit {
				saved, err = f.Commit()
			}
			f.Discard()
			if saved != test.saved || fmt.Sprint(err) != test.want {
				t.Errorf("saved %v, %v; want %v, %s", saved, err, test.saved, test.want)
			}
			want := map[string]string{"file": "old"}
			if test.saved {
				want["file"] = "new"
			}
			if diff := cmp.Diff(want, content(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCreateWhereNoFileCanBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir:                             dir + " exists and is not a regular file",
		filepath.Join(dir, "no") + "/":  fmt.Sprintf("the path %q does not name a file", filepath.Join(dir, "no")+"/"),
		filepath.Join(dir, "no", "way"): "",
		"a\x00b":                        "",
	} {
		f, err := atomicfile.Create(path, ".x-", (*os.File).Sync)
		if f != nil || err == nil || want != "" && err.Error() != want {
			t.Errorf("%q: %v, want %s", path, err, want)
		}
	}
	if diff := cmp.Diff(map[string]string{}, content(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestRenameFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	f, err := atomicfile.Create(path, ".x-", (*os.File).Sync)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Discard()
	if err := os.MkdirAll(filepath.Join(path, "a folder now"), 0o700); err != nil {
		t.Fatal(err)
	}
	if saved, err := f.Commit(); saved || err == nil {
		t.Errorf("Commit = %v, %v", saved, err)
	}
}

// Old files of the same prefix are removed, and nothing else.
func TestOldFilesAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := map[string]string{}
	for _, name := range []string{".x-.tmp", ".x-1.tmp.bak", ".x-1a.tmp", "x-1.tmp", ".y-1.tmp", ".x-1"} {
		write(t, filepath.Join(dir, name), "another's", 2*time.Hour)
		want[name] = "another's"
	}
	write(t, filepath.Join(dir, ".x-2.tmp"), "young", time.Hour-time.Minute)
	want[".x-2.tmp"] = "young"
	write(t, filepath.Join(dir, ".x-1.tmp"), "old", time.Hour+time.Minute)
	write(t, filepath.Join(dir, ".x-4294967295.tmp"), "old", time.Hour+time.Minute)
	f, err := atomicfile.Create(filepath.Join(dir, "file"), ".x-", (*os.File).Sync)
	if err != nil {
		t.Fatal(err)
	}
	f.Discard()
	if diff := cmp.Diff(want, content(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
