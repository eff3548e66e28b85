package inbox_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// TestDiskFull has every write to the database that makes a file longer fail, as
// on a full disk, in the middle of a load: with the limit that the system has for
// the size of a process's files.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	e := newEffects(t, s)
	p := serve(t, e.child())
	l := newLoad(t, func() string { return p.address })
	limit := func(size uint64) {
		t.Helper()
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		l.await(t, 50)
		file, err := os.Stat(s.Path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		limit(uint64(file.Size()))
		before := l.tries.Load() - l.delivered.Load()
		l.awaitTries(t, 100)
		if failed := l.tries.Load() - l.delivered.Load() - before; failed < 10 {
			t.Errorf("%d deliveries failed while the disk was full", failed)
		}
		limit(unix.RLIM_INFINITY)
	}
	l.await(t, 30)
	accepted := l.end(t)
	awaitWorked(t, p.stats, accepted)
	p.stop(t)
	e.check(t, accepted)
	checkStored(t, s, accepted)
}

// TestReadOnly opens a file that may not be written, and one in a folder that may
// not.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for name, readOnly := range map[string]func(*enginetest.Store) (path string, mode os.FileMode){
		"the file":   func(s *enginetest.Store) (string, os.FileMode) { return s.Path, 0o400 },
		"the folder": func(s *enginetest.Store) (string, os.FileMode) { return filepath.Dir(s.Path), 0o500 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.SQLite(t)
			in := s.Open(t, enginetest.NewRecorder(nil))
			n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
			if err := in.Receive(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if err := in.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(s.Path + ".lock"); err != nil {
				t.Fatal(err)
			}
			path, mode := readOnly(s)
			chmod(t, path, mode)
			p := spawn(t, &child{Store: s}, ordinaryUser(t)...)
			<-p.ended
			text := p.output.tail()
			if p.err == nil || !strings.Contains(text, s.Path) || !strings.Contains(text, "permission denied") {
				t.Errorf("%v, and it says %s", p.err, text)
			}
			chmod(t, path, 0o700)
			in = s.Start(t, enginetest.NewRecorder(nil))
			if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// ordinaryUser returns the words in front of a command that has permissions hold
// for it: they do not for root.
func ordinaryUser(t *testing.T) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatalf("root may write everywhere, and there is no setpriv (of util-linux) to change that: %v", err)
	}
	return []string{setpriv, "--bounding-set", "-dac_override,-dac_read_search"}
}
