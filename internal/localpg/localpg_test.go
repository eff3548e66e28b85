//go:build unix

package localpg_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

// patience is for what takes a second or two on an idle machine.
const patience = time.Minute

// childTemp names the variable that makes this program start a server in a folder
// and wait to be killed.
const childTemp = "LOCALPG_TEST_CHILD_TEMP"

func TestMain(m *testing.M) {
	if temp := os.Getenv(childTemp); temp != "" {
		s, err := localpg.Start(context.Background(), localpg.WithTemp(temp))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.URL())
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends, if it does not kill this program
	}
	os.Exit(m.Run())
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	temp := tempDir(t)
	s, closeNow := start(t, localpg.WithTemp(temp))
	address := s.URL()
	const bornQuery = "SELECT pg_postmaster_start_time()"
	query(t, s, "CREATE TABLE t AS SELECT 1 AS x")
	born := query(t, s, bornQuery)

	if err := s.Restart(limited(t)); err != nil {
		t.Fatal(err)
	}
	if query(t, s, bornQuery) == born {
		t.Error("Restart did not start a new server")
	}
	log, err := os.ReadFile(filepath.Join(folder(t, s), "log"))
	if want := "database system was not properly shut down"; !strings.Contains(string(log), want) {
		t.Errorf("the log does not contain %q: %v\n%s", want, err, log)
	}

	query(t, s, "UPDATE t SET x = x + 1")
	if err := s.Stop(limited(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := psql(t, s.URL(), "SELECT"); err == nil {
		t.Error("the server answers after Stop")
	}
	if err := s.Stop(limited(t)); err == nil || !strings.Contains(err.Error(), "Is server running?") {
		t.Errorf("Stop of a stopped server: got %v", err)
	}
	if err := s.Resume(limited(t)); err != nil {
		t.Fatal(err)
	}
	if s.URL() != address {
		t.Errorf("the URL was %s and is now %s", address, s.URL())
	}
	if got := query(t, s, "SELECT x FROM t"); got != "2" {
		t.Errorf("got x = %s, want 2", got)
	}

	closeNow()
	checkEmpty(t, temp)
	if err := s.Resume(limited(t)); err == nil {
		t.Error("Resume after Close: no error")
	}
}

func TestCloseStopped(t *testing.T) {
	t.Parallel()
	temp := tempDir(t)
	s, closeNow := start(t, localpg.WithTemp(temp))
	if err := s.Stop(limited(t)); err != nil {
		t.Fatal(err)
	}
	closeNow()
	checkEmpty(t, temp)
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s, _ := start(t,
		localpg.WithSetting("max_connections", "16"),
		localpg.WithSetting("max_connections", "17"),
		localpg.WithSetting("cluster_name", `it's a \ "name"=`),
		localpg.WithSetting("listen_addresses", "*"),
		localpg.WithSetting("port", "5433"))
	for _, tt := range []struct{ query, want string }{
		{"SHOW max_connections", "17"},
		{"SHOW cluster_name", `it's a \ "name"=`},
		{"SHOW listen_addresses", ""},
		{"SHOW port", "5432"},
		{"SHOW fsync", "on"},
		{"SHOW server_encoding", "UTF8"},
		{"SHOW lc_messages", "C"},
		{"SELECT current_user", "postgres"},
		{"SELECT current_database()", "postgres"},
		{"SELECT DISTINCT auth_method FROM pg_hba_file_rules", "scram-sha-256"},
	} {
		if got := query(t, s, tt.query); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.query, got, tt.want)
		}
	}
}

// TestPassword proves that only who has the URL can connect, and that nothing else
// shows its password.
func TestPassword(t *testing.T) {
	t.Parallel()
	temp := tempDir(t)

	// While the server starts, look at the arguments of all processes and at the
	// modes of what there is.
	var seen bytes.Buffer
	started := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			ps := exec.CommandContext(limited(t), "ps", "-A", "-o", "args")
			ps.Stdout = &seen
			if err := ps.Run(); err != nil {
				t.Errorf("ps: %v", err)
			}
			for name, want := range map[string]fs.FileMode{"": 0o700, "password": 0o600, "log": 0o600, "data": 0o700} {
				paths, _ := filepath.Glob(filepath.Join(temp, "localpg-*", name))
				for _, path := range paths {
					if info, err := os.Stat(path); err == nil && info.Mode().Perm() != want {
						t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
					}
				}
			}
			select {
			case <-started:
				return
			default:
			}
		}
	}()
	s, _ := start(t, localpg.WithTemp(temp))
	close(started)
	<-watched
	if !strings.Contains(seen.String(), "--pwfile=password") {
		t.Errorf("initdb was not seen at work:\n%s", &seen)
	}

	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	if len(password) < 26 {
		t.Fatalf("the password %q is too short", password)
	}
	for _, wrong := range []string{"", "postgres", password[1:]} {
		u.User = url.UserPassword("postgres", wrong)
		out, err := psql(t, u.String(), "SELECT 1")
		if err == nil || !strings.Contains(out, "password") {
			t.Errorf("with the password %q: got %v and %q, want an error about the password", wrong, err, out)
		}
	}

	running := s.Resume(limited(t)) // fails and shows the log
	if running == nil || !strings.Contains(running.Error(), "password authentication failed") {
		t.Errorf("Resume of a running server: got %v, want an error with the log", running)
	}
	if strings.Contains(fmt.Sprint(running), password) {
		t.Error("the password is in an error")
	}
	if strings.Contains(seen.String(), password) {
		t.Error("the password is in the arguments of a process")
	}
	query(t, s, "CHECKPOINT")
	files := 0
	err = fs.WalkDir(os.DirFS(temp), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.Type().IsRegular() {
			return nil
		}
		text, readErr := os.ReadFile(filepath.Join(temp, path))
		if errors.Is(readErr, fs.ErrNotExist) {
			return nil // the server has just removed it
		}
		err = errors.Join(err, readErr)
		files++
		if bytes.Contains(text, []byte(password)) {
			t.Errorf("the password is in %s", path)
		}
		return err
	})
	if err != nil || files < 100 {
		t.Errorf("searched %d files: %v", files, err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	long := filepath.Join(tempDir(t), strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	work, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(work, tempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, temp string
		opt        localpg.Option
		want       string
	}{
		{"unknown setting", tempDir(t), localpg.WithSetting("no_such_setting", "1"), `unrecognized configuration parameter "no_such_setting"`},
		{"bad value", tempDir(t), localpg.WithSetting("max_connections", "many"), `invalid value for parameter "max_connections": "many"`},
		{"not a name", tempDir(t), localpg.WithSetting("fsync=off", ""), "syntax error in file"},
		{"relative folder", relative, localpg.WithSetting("fsync", "on"), "set TMPDIR to another folder"},
		{"long folder", long, localpg.WithSetting("fsync", "on"), "set TMPDIR to another folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := localpg.Start(limited(t), localpg.WithTemp(tt.temp), tt.opt)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			checkEmpty(t, tt.temp)
		})
	}
}

func TestNoFolder(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	_, err := localpg.Start(limited(t), localpg.WithTemp(filepath.Join(t.TempDir(), "none")))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}

// TestFolderOutOfReach has a folder that only the caller can reach, which is
// enough unless the caller is root.
func TestFolderOutOfReach(t *testing.T) {
	t.Parallel()
	temp := tempDir(t)
	if err := os.Chmod(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		start(t, localpg.WithTemp(temp))
		return
	}
	needPrograms(t)
	_, err := localpg.Start(limited(t), localpg.WithTemp(temp))
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "set TMPDIR") {
		t.Errorf("got %v, want ErrPermission and advice", err)
	}
	checkEmpty(t, temp)
}

// TestContextEnds ends the context of Start as soon as a file is there.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	for _, tt := range []struct{ name, file, want string }{
		{"at once", "", ""},
		{"during initdb", "localpg-*/data/PG_VERSION", "run initdb"},
		{"while the server starts", "localpg-*/.s.PGSQL.5432.lock", "run pg_ctl"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			temp := tempDir(t)
			ctx, cancel := context.WithCancel(limited(t))
			defer cancel()
			if tt.file == "" {
				cancel()
			}
			go func() {
				defer cancel()
				poll(ctx, func() bool {
					paths, _ := filepath.Glob(filepath.Join(temp, tt.file))
					return len(paths) > 0
				})
			}()
			s, err := localpg.Start(ctx, localpg.WithTemp(temp))
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			checkEmpty(t, temp)
		})
	}
}

// TestKilled kills a program, and all of its process group, while its server runs.
func TestKilled(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// All processes of the server inherit the pipe, so it is closed when the last has
	// ended.
	alive, inherited, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	temp := tempDir(t)
	child := exec.CommandContext(limited(t), self)
	child.Env = append(os.Environ(), childTemp+"="+temp)
	child.ExtraFiles = []*os.File{inherited}
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = child.Start()
	inherited.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer child.Wait()         //nolint:errcheck // it is killed
	defer child.Process.Kill() //nolint:errcheck // if the test has failed before

	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "postgres://") {
		t.Fatalf("%q, %v", line, err)
	}
	if out, err := psql(t, strings.TrimSpace(line), "SELECT 1"); err != nil {
		t.Fatal(out, err)
	}
	if err := syscall.Kill(-child.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := alive.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := alive.Read(make([]byte, 1)); err != io.EOF {
		t.Error("a process of the server is left:", err)
	}
	checkEmpty(t, temp)
}

// needPrograms skips a test that takes PostgreSQL if there is none.
func needPrograms(t *testing.T) (bin string) {
	t.Helper()
	bin, err := localpg.Programs()
	localpg.Need(t, err)
	return bin
}

// start starts a server, which is closed at the end of the test unless the test
// does that.
func start(t *testing.T, opts ...localpg.Option) (s *localpg.Server, closeNow func()) {
	t.Helper()
	needPrograms(t)
	s, err := localpg.Start(limited(t), opts...)
	if err != nil {
		t.Fatal(err)
	}
	closeNow = sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(closeNow)
	return s, closeNow
}

// tempDir returns a new folder that is open to the server's user and has a path
// that is short enough for a socket.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg-") //nolint:usetesting // the path of t.TempDir is long, and closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// limited returns a context that ends before the time of the tests does.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// poll waits until the condition is met or the context ends.
func poll(ctx context.Context, condition func() bool) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// folder returns the folder of a server.
func folder(t *testing.T, s *localpg.Server) string {
	t.Helper()
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("host")
}

// query returns what a server answers.
func query(t *testing.T, s *localpg.Server, sql string) string {
	t.Helper()
	out, err := psql(t, s.URL(), sql)
	if err != nil {
		t.Fatalf("%s: %v: %s", sql, err, out)
	}
	return out
}

// psql returns what psql prints, without showing the password to other users.
func psql(t *testing.T, address, sql string) (string, error) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	initdb, err := filepath.EvalSymlinks(filepath.Join(needPrograms(t), "initdb"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(limited(t), filepath.Join(filepath.Dir(initdb), "psql"), "-XAtqw", "-d", u.String(), "-c", sql)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "PGPASSFILE="+filepath.Join(t.TempDir(), "none"))
	out, err := cmd.CombinedOutput()
	return strings.TrimSuffix(string(out), "\n"), err
}

// checkEmpty checks that nothing is left in a folder.
func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in %s: %v, %v", dir, entries, err)
	}
}
