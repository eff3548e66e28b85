package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sums are the SHA-256 of the files in a folder, by name. The file that holds them
// is one that sha256sum -c reads.
type sums struct {
	dir    string
	byName map[string]string
}

const sumsName = "SHA256SUMS"

func readSums(dir string) (*sums, error) {
	s := &sums{dir, map[string]string{}}
	f, err := os.Open(filepath.Join(dir, sumsName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if sum, name, ok := strings.Cut(lines.Text(), "  "); ok {
			s.byName[name] = sum
		}
	}
	return s, lines.Err()
}

// whole reports whether a file is there with the sum that it should have.
func (s *sums) whole(name string) (size int64, sum string, ok bool) {
	f, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		return 0, "", false
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	size, err = io.Copy(hash, f)
	sum = hex.EncodeToString(hash.Sum(nil))
	return size, sum, err == nil && s.byName[name] == sum
}

// set remembers a file's sum, on disk at once, so that an interrupted run leaves
// nothing to be fetched again.
func (s *sums) set(name, sum string) (err error) {
	s.byName[name] = sum
	f, err := os.CreateTemp(s.dir, "."+sumsName+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriter(f)
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		fmt.Fprintf(w, "%s  %s\n", s.byName[name], name)
	}
	if err := errors.Join(w.Flush(), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(s.dir, sumsName))
}
