package localpg

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound says that there are no PostgreSQL binaries on this machine, and
// how to get them.
var ErrNotFound = errors.New("localpg: no PostgreSQL on this machine: install it (apt-get install postgresql), " +
	"put the folder of its initdb on PATH, or give the URL of a server that runs elsewhere")

// Skippable reports whether a test that could not start a server for this reason
// may be skipped: there is no PostgreSQL on this machine, and this is not CI, where
// nothing is skipped (the environment variable CI is set).
func Skippable(err error) bool {
	return errors.Is(err, ErrNotFound) && os.Getenv("CI") == ""
}

// Find returns the folder of the PostgreSQL binaries that [Start] uses, or
// [ErrNotFound]. It has initdb and postgres, and is the first of these:
//
//   - that of the initdb on PATH or, if it is a link to a folder where postgres
//     is, that folder;
//   - /usr/lib/postgresql/*/bin, of the newest version that has them: Debian
//     and its like keep the servers there, off PATH;
//   - what the pg_config on PATH says.
func Find() (bindir string, err error) {
	return find(exec.LookPath, "/usr/lib/postgresql")
}

// find is Find with a way to search PATH, and the folder of the versions.
func find(lookPath func(string) (string, error), versions string) (string, error) {
	if initdb, err := lookPath("initdb"); err == nil {
		if dir := filepath.Dir(initdb); complete(dir) {
			return filepath.Abs(dir)
		}
		if target, err := filepath.EvalSymlinks(initdb); err == nil && complete(filepath.Dir(target)) {
			return filepath.Abs(filepath.Dir(target))
		}
	}
	for _, version := range newestFirst(versions) {
		if dir := filepath.Join(versions, version, "bin"); complete(dir) {
			return dir, nil
		}
	}
	if pgConfig, err := lookPath("pg_config"); err == nil {
		cmd := exec.Command(pgConfig, "--bindir") //nolint:gosec,noctx // it is from PATH, and does nothing but print
		if output, err := cmd.Output(); err == nil {
			if dir := strings.TrimSpace(string(output)); complete(dir) {
				return filepath.Abs(dir)
			}
		}
	}
	return "", ErrNotFound
}

// complete reports whether all that is needed is in a folder. Where only the
// clients are installed, it is not.
func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		// With a path, LookPath looks there alone, for an executable file.
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// newestFirst returns the names in a folder that are versions, 16 before 9.6.
func newestFirst(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // it is not there: PostgreSQL is not installed, or elsewhere
	}
	type version struct {
		name    string
		numbers []int
	}
	var found []version
	for _, entry := range entries {
		if numbers, ok := parseVersion(entry.Name()); ok {
			found = append(found, version{entry.Name(), numbers})
		}
	}
	slices.SortFunc(found, func(a, b version) int { return slices.Compare(b.numbers, a.numbers) })
	names := make([]string, len(found))
	for i, v := range found {
		names[i] = v.name
	}
	return names
}

// parseVersion returns the numbers of a version, which are one since 10 and two
// before.
func parseVersion(name string) ([]int, bool) {
	var numbers []int
	for part := range strings.SplitSeq(name, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}
