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

// owns reports whether a file is this user's, as far as one can tell.
func owns(fs.FileInfo) bool { return true }

// knowsModes reports whether the mode of a file says who may read it.
const knowsModes = false

// syncFolder syncs the names in a folder, which Windows does by itself.
func syncFolder(string) error { return nil }
