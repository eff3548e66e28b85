package main

import (
	"bufio"
	"bytes"
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
	"sync"

	"github.com/pixmed-go/pixmed/internal/atomicfile"
)

// sums are the SHA-256 of the files in a folder, by name. The file that holds them
// is one that sha256sum -c reads.
type sums struct {
	dir string

	mu     sync.Mutex
	byName map[string]string
}

const sumsName = "SHA256SUMS"

func readSums(dir string) (*sums, error) {
	s := &sums{dir: dir, byName: map[string]string{}}
	f, err := openRegular(filepath.Join(dir, sumsName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), " ")
		if ok && len(name) > 1 { // a blank or, from those who read in binary, an asterisk
			s.byName[name[1:]] = sum
		}
	}
	return s, lines.Err()
}

// whole returns a file's size and sum if it is there, is a PDF and has the sum that
// it should have; no sum if not; and an error if something else is in its place.
func (s *sums) whole(name string) (size int64, sum string, err error) {
	path := filepath.Join(s.dir, name)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, "", nil
	case err != nil:
		return 0, "", err
	case !info.Mode().IsRegular():
		return 0, "", &fs.PathError{Op: "save", Path: path, Err: errNotRegular}
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReaderSize(f, 64<<10)
	if !beginsPDF(in) { // whatever its sum
		return 0, "", nil
	}
	hash := sha256.New()
	if size, err = io.Copy(hash, in); err != nil {
		return 0, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum = hex.EncodeToString(hash.Sum(nil)); s.byName[name] != sum {
		return 0, "", nil
	}
	return size, sum, nil
}

// beginsPDF reports whether what is read has a PDF's header where readers of PDF look
// for it. It takes nothing away.
func beginsPDF(in *bufio.Reader) bool {
	head, _ := in.Peek(1024)
	return bytes.Contains(head, []byte("%PDF-"))
}

// set remembers a file's sum, on disk at once, so that an interrupted run leaves
// nothing to be fetched again.
func (s *sums) set(name, sum string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byName[name] = sum
	f, err := atomicfile.Create(filepath.Join(s.dir, sumsName), "."+sumsName+"-", (*os.File).Sync)
	if err != nil {
		return err
	}
	defer f.Discard()
	w := bufio.NewWriter(f)
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		fmt.Fprintf(w, "%s  %s\n", s.byName[name], name)
	}
	if err := errors.Join(w.Flush(), f.Chmod(0o644)); err != nil {
		return err
	}
	_, err = f.Commit()
	return err
}
