//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Something else in the place of a receipt, or of SHA256SUMS, is left alone, and
// nobody waits for it.
func TestReceiptsOfNoFiles(t *testing.T) {
	t.Parallel()
	gateway, dir := newGateway(t), t.TempDir()
	ids, _ := addReceipts(gateway, 4)
	path := func(i int) string { return filepath.Join(dir, ids[i]+".pdf") }
	if err := errors.Join(syscall.Mkfifo(path(0), 0o600), os.Mkdir(path(1), 0o700), os.Symlink("/etc/passwd", path(2))); err != nil {
		t.Fatal(err)
	}
	got := tryReceipts(t, gateway.URL(), "", false, append([]string{"--receipts", dir}, ids...)...)
	if got.code != exitFailed || strings.Count(got.err, "it is not a regular file") != 3 || !strings.Contains(got.err, "1 saved, 0 already there, 3 failed") {
		t.Errorf("%+v", got)
	}
	if n := len(gateway.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	dir = t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, sumsName), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tryReceipts(t, gateway.URL(), "", false, ids[3], "--receipts", dir); got.code != exitFailed || !strings.Contains(got.err, "it is not a regular file") {
		t.Errorf("%+v", got)
	}
	fifo := filepath.Join(dir, "ids")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tryReceipts(t, gateway.URL(), "", false, "--ids", fifo); got.code != exitUsage || !strings.Contains(got.err, "--ids: ") || !strings.Contains(got.err, "it is not a regular file") {
		t.Errorf("%+v", got)
	}
}
