package localpg_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

// patience is for what takes a second or two on an idle machine.
const patience = time.Minute

// childTemp is the variable that makes this program start a server in the folder
// that it names, say where, and wait to be killed.
const childTemp = "LOCALPG_TEST_CHILD_TEMP"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "pg_config" { // TestFind has linked it so
		fmt.Println(filepath.Join(filepath.Dir(os.Args[0]), "configured"))
		return
	}
	if temp := os.Getenv(childTemp); temp != "" {
		s, err := localpg.Start(context.Background(), localpg.WithTemp(temp))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.URL())
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test, should that fail to kill us
		return
	}
	// Keeps the main thread, which is where this runs so far, from the tests: it is
	// the one that does not end with a goroutine. See TestLifecycle.
	runtime.LockOSThread()
	m.Run()
}

// need skips a test that takes PostgreSQL if there is none.
func need(t *testing.T) {
	t.Helper()
	_, err := localpg.Find()
	if localpg.Skippable(err) {
		t.Skip("to run this test: apt-get install postgresql")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// start starts a server in a folder, for the time of the test.
func start(t *testing.T, temp string, opts ...localpg.Option) *localpg.Server {
	t.Helper()
	s, err := localpg.Start(limited(t), append(opts, localpg.WithTemp(temp))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// tempDir is t.TempDir for a server of another user.
func tempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// limited returns a context that ends before the tests' own time does.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// address returns host:port of a URL.
func address(t *testing.T, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// query returns what a server answers.
func query(t *testing.T, s *localpg.Server, sql string) string {
	t.Helper()
	value, err := localpg.Ask(limited(t), address(t, s.URL()), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// listens reports whether somebody listens at an address.
func listens(t *testing.T, address string) bool {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(limited(t), "tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// files returns the names in a folder.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
