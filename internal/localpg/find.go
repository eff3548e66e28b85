package localpg

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// debian is where Debian and its derivatives have the server's programs, which
// they keep off PATH.
const debian = "/usr/lib/postgresql/[1-9][0-9]/bin"

// ErrNotFound is returned by [Start] when it does not find PostgreSQL's programs.
var ErrNotFound = errors.New("there is no PostgreSQL on this machine: install it (apt-get install postgresql), " +
	"add the folder of its initdb and pg_ctl to PATH, or give the URL of a running server")

// URLVariable names the environment variable with the URL of a running server, for
// tests. Its user must be allowed to create databases.
const URLVariable = "PIXMED_TEST_DATABASE_URL"

// test is what Need takes of a testing.TB.
type test interface {
	Helper()
	Skip(...any)
	Fatal(...any)
}

// Need ends a test that could not start a server because of err. The test is skipped
// if PostgreSQL is not installed and this is not CI (the environment variable CI is
// empty), or if no server can be started on this system.
func Need(tb test, err error) {
	tb.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound) && os.Getenv("CI") == "", errors.Is(err, errors.ErrUnsupported):
		tb.Skip(err, "("+URLVariable+" has such a URL)")
	default:
		tb.Fatal(err)
	}
}

// find returns the first folder of path, or else the last that matches a pattern,
// that has initdb and pg_ctl.
func find(path, pattern string) (string, error) {
	versions, err := filepath.Glob(pattern) // sorted
	if err != nil {
		return "", err
	}
	slices.Reverse(versions)
	for _, dir := range append(filepath.SplitList(path), versions...) {
		_, noInitdb := exec.LookPath(filepath.Join(dir, "initdb"))
		_, noCtl := exec.LookPath(filepath.Join(dir, "pg_ctl"))
		if filepath.IsAbs(dir) && noInitdb == nil && noCtl == nil {
			return dir, nil
		}
	}
	return "", ErrNotFound
}
