package sqlite

import (
	"io/fs"

	"golang.org/x/sys/windows"
)

// freeDisk returns how many bytes this user may still write.
func freeDisk(dir string) (free uint64, err error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	err = windows.GetDiskFreeSpaceEx(path, &free, nil, nil)
	return free, err
}

// links returns how many names a file has, as far as one can tell.
func links(fs.FileInfo) uint64 { return 1 }
