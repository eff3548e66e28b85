package inbox_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// TestDiskFull makes every write fail that lengthens a file of the database, as on a
// full disk, in the middle of a load: through the system's limit on the size of a
// process's files.
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
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d were answered 500, and a full disk is a 503", n)
	}
	awaitWorked(t, p.stats, accepted)
	p.stop(t)
	e.check(t, accepted)
	checkStored(t, s, accepted)
}

// TestFolderThatCannotBeSynced has every sync of the inbox's folder fail. A file
// whose name is not on disk would be gone after a power cut.
func TestFolderThatCannotBeSynced(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	c := newEffects(t, s).child()
	p := spawn(t, c, tracer(t), "-f", "-qq", "-o", os.DevNull, "-P", filepath.Dir(s.Path), "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
	<-p.ended
	if text := p.output.tail(); p.err == nil || !strings.Contains(text, "sync the folder") {
		t.Errorf("%v, and it says %s", p.err, text)
	}
}

// TestLeftUnsynced has every sync of the -wal file fail, after a killed process has
// left something there: nothing is answered before that is on disk.
func TestLeftUnsynced(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	c := newEffects(t, s).child()
	c.AcceptOnly = true
	p := serve(t, c)
	deliver(t, "http://"+p.address, enginetest.Notification(enginetest.NewTransaction(), history[0]).Infraction)
	p.kill()
	p = spawn(t, c, tracer(t), "-f", "-qq", "-o", os.DevNull, "-P", s.Path+"-wal", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
	<-p.ended
	if text := p.output.tail(); p.err == nil || !strings.Contains(text, "has left in the -wal file") {
		t.Errorf("%v, and it says %s", p.err, text)
	}
}

// TestCheckpointThatFails has every sync of the database fail, which happens when
// what is in the -wal file is moved there. What is accepted is safe in the -wal file;
// the log names the disk, and not a reader, since there is none.
func TestCheckpointThatFails(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	if err := s.Open(t, enginetest.NewRecorder(nil)).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := newEffects(t, s).child()
	c.AcceptOnly = true
	p := serve(t, c, tracer(t), "-f", "--seccomp-bpf", "-qq", "-o", os.DevNull, "-P", s.Path, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
	padding := bytes.Repeat([]byte{' '}, 60<<10)
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for range 50 { // more than the -wal file may have
				body := append(bytes.Clone(enginetest.Notification(enginetest.NewTransaction(), history[0]).Raw), padding...)
				r, err := http.Post("http://"+p.address, "application/json", bytes.NewReader(body)) //nolint:noctx // it ends with the process
				if err != nil {
					t.Error(err)
					return
				}
				if r.Body.Close(); r.StatusCode != http.StatusOK {
					t.Error(r.Status)
				}
			}
		})
	}
	senders.Wait()
	text := p.output.tail()
	if !strings.Contains(text, "could not be moved into the database: its disk is failing") || strings.Contains(text, "could not be started over") {
		t.Errorf("it says %s", text)
	}
	p.kill()
}

// TestReaderBesideAServer reads the file of a process that serves.
func TestReaderBesideAServer(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	p := serve(t, newEffects(t, s).child())
	n := enginetest.Notification(enginetest.NewTransaction(), history[0])
	deliver(t, "http://"+p.address, n.Infraction)
	r, err := sqlite.OpenReader(t.Context(), s.Path)
	if err != nil {
		t.Fatal(err)
	}
	events, err := r.History(t.Context(), n.TransactionID)
	if err != nil || len(events) != 1 {
		t.Errorf("%v, %v", events, err)
	}
	deliver(t, "http://"+p.address, enginetest.Notification(enginetest.NewTransaction(), history[0]).Infraction)
	if _, err := s.TryOpen(t, enginetest.NewRecorder(nil)); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("%v, want ErrLocked", err)
	}
	p.stop(t)
}

// TestReadOnly opens a file that may not be written, and one in a folder that may
// not.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for name, readOnly := range map[string]func(*enginetest.Database) (path string, mode os.FileMode){
		"the file":   func(s *enginetest.Database) (string, os.FileMode) { return s.Path, 0o400 },
		"the folder": func(s *enginetest.Database) (string, os.FileMode) { return filepath.Dir(s.Path), 0o500 },
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
			p := spawn(t, &child{Database: s}, ordinaryUser(t)...)
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

// ordinaryUser returns what to put in front of a command so that file permissions apply
// to it: they do not to root.
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
