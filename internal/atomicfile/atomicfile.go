// Package atomicfile writes files that appear as a whole or not at all.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	suffix = ".tmp"

	// maxAge is how long after its last write a temporary file is removed: whoever
	// wrote it was killed.
	maxAge = time.Hour

	// maxNames is how many names of a directory are looked at to find old files.
	maxNames = 100_000
)

// File is a temporary file, readable by its owner only, that takes another one's
// place. Exactly one of Commit and Discard must follow Create; Discard may follow
// Commit.
type File struct {
	*os.File
	path string
	sync func(*os.File) error
}

// Create creates a temporary file in path's directory, which must exist, with a
// name of prefix, digits and ".tmp". It removes those there that are older than an
// hour, since they may hold personal data. sync makes a file or a directory durable,
// as os.File.Sync does.
//
// It returns an error if path exists and is not a regular file.
func Create(path, prefix string, sync func(*os.File) error) (*File, error) {
	switch stat, err := os.Stat(path); {
	case err == nil && !stat.Mode().IsRegular():
		return nil, fmt.Errorf("%s exists and is not a regular file", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist): // it could not be renamed to that either
		return nil, err
	}
	dir, name := filepath.Split(path)
	if name == "" {
		return nil, fmt.Errorf("the path %q does not name a file", path)
	}
	dir = filepath.Clean(dir)
	removeOld(dir, prefix)
	f, err := os.CreateTemp(dir, prefix+"*"+suffix)
	if err != nil {
		return nil, err
	}
	return &File{f, path, sync}, nil
}

// removeOld removes what killed processes have left in a directory, as far as it
// can.
func removeOld(path, prefix string) {
	dir, err := os.Open(path) //nolint:gosec // the caller's own path
	if err != nil {
		return
	}
	defer dir.Close()
	before := time.Now().Add(-maxAge)
	entries, _ := dir.ReadDir(maxNames)
	for _, entry := range entries {
		rest, hasPrefix := strings.CutPrefix(entry.Name(), prefix)
		digits, hasSuffix := strings.CutSuffix(rest, suffix)
		if !hasPrefix || !hasSuffix || digits == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		if stat, err := entry.Info(); err == nil && stat.Mode().IsRegular() && stat.ModTime().Before(before) { // not a link's target
			_ = os.Remove(filepath.Join(path, entry.Name()))
		}
	}
}

// Reset drops what was written.
func (f *File) Reset() error {
	_, err := f.Seek(0, io.SeekStart)
	return errors.Join(err, f.Truncate(0))
}

// Commit gives the file its name, after syncing it. A symbolic link of that name
// is replaced. saved reports whether the file has its name, as it has if only the
// directory could not be synced.
func (f *File) Commit() (saved bool, err error) {
	if err := errors.Join(f.sync(f.File), f.Close()); err != nil {
		return false, err
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return false, err
	}
	return true, f.syncDir()
}

// syncDir makes the rename durable, where the system has that.
func (f *File) syncDir() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	err = f.sync(dir)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) { // some file systems do not
		err = nil
	}
	return errors.Join(err, dir.Close())
}

// Discard removes the file, unless Commit gave it its name.
func (f *File) Discard() {
	_ = f.Close()
	_ = os.Remove(f.Name())
}
