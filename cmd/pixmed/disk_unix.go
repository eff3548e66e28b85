//go:build unix

package main

import "golang.org/x/sys/unix"

// freeDisk returns how many bytes are free on a folder's disk, if that is known.
func freeDisk(dir string) (bytes uint64, known bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return uint64(s.Bavail) * uint64(s.Bsize), true //nolint:unconvert // their types differ between systems
}
