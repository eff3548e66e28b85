package pixmed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

// SaveReceipt fetches the receipt of a transaction into the file at path: it
// writes a temporary file in the same directory, syncs it and renames it, so
// that path holds the whole PDF or what it held before; a symbolic link is
// replaced. The file is readable by its owner only (0600). The directory must
// exist.
//
// A process that is killed may leave its temporary file, .receipt-*.tmp, behind.
// SaveReceipt removes those in the directory that are older than an hour.
//
// Broken downloads are resumed as in [Client.Receipt]. Errors are those of Receipt
// and of the file system.
func (c *Client) SaveReceipt(ctx context.Context, transactionID, path string) (*ReceiptInfo, error) {
	if _, err := c.newReceiptCall(transactionID); err != nil {
		return nil, err
	}
	file, err := createTemp(path) // fails before any request is sent
	if err != nil {
		return nil, fmt.Errorf("cannot save the receipt: %w", err)
	}
	defer os.Remove(file.Name()) // gone already, once renamed
	defer file.Close()           // closed already, once written

	var info ReceiptInfo
	err = c.fetch(ctx, transactionID, func(r *ReceiptReader) error {
		_, err := file.Seek(0, io.SeekStart) // there may have been an attempt before
		if err := errors.Join(err, file.Truncate(0)); err != nil {
			return fmt.Errorf("cannot save the receipt: %w", err)
		}
		_, err = r.WriteTo(file)
		info = r.Info()
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.sync(file), file.Close()); err != nil {
		return nil, fmt.Errorf("cannot save the receipt: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return nil, fmt.Errorf("cannot save the receipt: %w", err)
	}
	if err := c.syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("the receipt is saved, but may not outlast a crash: %w", err)
	}
	return &info, nil
}

// createTemp creates a temporary file that can be renamed to path, and removes old
// ones from its directory.
func createTemp(path string) (*os.File, error) {
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
	removeOld(dir, time.Now().Add(-time.Hour))
	return os.CreateTemp(dir, ".receipt-*.tmp")
}

// tempName matches the names that os.CreateTemp makes.
var tempName = regexp.MustCompile(`^\.receipt-[0-9]+\.tmp$`)

// removeOld removes from a directory the temporary files that were last written
// before a time, by whoever was killed: they hold personal data. It does what it
// can, among 100,000 names.
func removeOld(path string, before time.Time) {
	dir, err := os.Open(path) //nolint:gosec // the caller's own path
	if err != nil {
		return
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(100_000)
	for _, entry := range entries {
		if !tempName.MatchString(entry.Name()) {
			continue
		}
		if stat, err := entry.Info(); err == nil && stat.Mode().IsRegular() && stat.ModTime().Before(before) { // not a link's target
			_ = os.Remove(filepath.Join(path, entry.Name()))
		}
	}
}

// syncDir makes a rename in a directory durable, where the system has that.
func (c *Client) syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path) //nolint:gosec // the caller's own path
	if err != nil {
		return err
	}
	err = c.sync(dir)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) { // some file systems do not
		err = nil
	}
	return errors.Join(err, dir.Close())
}
