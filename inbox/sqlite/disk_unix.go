//go:build unix

package sqlite

import "golang.org/x/sys/unix"

// freeDisk returns how many bytes an ordinary user may still write.
func freeDisk(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil //nolint:unconvert,gosec // the types differ between systems; both are sizes
}
