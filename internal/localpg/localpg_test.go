package localpg_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	need(t)
	temp := tempDir(t)

	// The thread that calls Start ends with its goroutine, which leaves it locked.
	// Linux would end with it what it has started itself.
	var s *localpg.Server
	var caller sync.WaitGroup
	caller.Go(func() {
		runtime.LockOSThread()
		s = start(t, temp)
	})
	caller.Wait()
	if t.Failed() {
		return
	}

	url := s.URL()
	if !regexp.MustCompile(`^postgres://postgres@127\.0\.0\.1:[0-9]+/postgres\?sslmode=disable$`).MatchString(url) {
		t.Errorf("URL: %s", url)
	}
	query(t, s, "CREATE TABLE t (x int)")
	query(t, s, "INSERT INTO t VALUES (1)")
	born := query(t, s, "SELECT pg_postmaster_start_time()")
	if err := s.Resume(limited(t)); err != nil {
		t.Error("Resume while it runs:", err)
	}
	if got := query(t, s, "SELECT pg_postmaster_start_time()"); got != born {
		t.Error("Resume while it runs has started it again")
	}

	if err := s.Restart(limited(t)); err != nil {
		t.Fatal(err)
	}
	if got := query(t, s, "SELECT pg_postmaster_start_time()"); got == born {
		t.Error("Restart has not started it again")
	}
	// What was committed is there, though nothing was written in an orderly end.
	query(t, s, "UPDATE t SET x = x + 1")
	log, err := os.ReadFile(filepath.Join(temp, files(t, temp)[0], "log"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "database system was not properly shut down"; !strings.Contains(string(log), want) {
		t.Errorf("the log has no %q:\n%s", want, log)
	}

	for range 2 { // the second does nothing
		if err := s.Stop(limited(t)); err != nil {
			t.Fatal(err)
		}
	}
	if listens(t, address(t, s.URL())) {
		t.Error("it listens after Stop")
	}
	if err := s.Resume(limited(t)); err != nil {
		t.Fatal(err)
	}
	if s.URL() != url {
		t.Errorf("URL: %s, before %s", s.URL(), url)
	}
	if got := query(t, s, "SELECT x FROM t"); got != "2" {
		t.Errorf("x = %q, want 2", got)
	}

	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left := files(t, temp); left != nil {
		t.Errorf("left after Close: %q", left)
	}
	if listens(t, address(t, s.URL())) {
		t.Error("it listens after Close")
	}
	if err := s.Stop(limited(t)); err != nil {
		t.Error("Stop after Close:", err)
	}
	for name, call := range map[string]func(context.Context) error{"Resume": s.Resume, "Restart": s.Restart} {
		if err := call(limited(t)); err == nil || !strings.Contains(err.Error(), "start a new one") {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	need(t)
	s := start(t, tempDir(t),
		localpg.WithSetting("Max_Connections", "16"),
		localpg.WithSetting("max_connections", "17"),
		localpg.WithSetting("cluster_name", `it's a \ "name"=`),
		localpg.WithSetting("our.setting", "x"))
	for _, tt := range []struct{ query, want string }{
		{"SHOW max_connections", "17"},
		{"SHOW cluster_name", `it's a \ "name"=`},
		{"SHOW our.setting", "x"},
		{"SHOW listen_addresses", "127.0.0.1"},
		{"SHOW unix_socket_directories", ""},
		{"SHOW shared_buffers", "32MB"},
		{"SHOW fsync", "on"},
		{"SHOW server_encoding", "UTF8"},
		{"SHOW lc_messages", "C"},
		{"SELECT current_user", "postgres"},
		{"SELECT current_database()", "postgres"},
		{"SELECT count(*) FROM pg_hba_file_rules WHERE type <> 'local' AND address NOT IN ('127.0.0.1', '::1')", "0"},
		{"SELECT NULL", ""},
		{"SELECT", ""},
	} {
		t.Run(tt.query, func(t *testing.T) {
			t.Parallel()
			if got := query(t, s, tt.query); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	need(t)
	for _, tt := range []struct {
		name string
		opt  localpg.Option
		want string
	}{
		{"unknown setting", localpg.WithSetting("no_such_setting", "1"), `unrecognized configuration parameter "no_such_setting"`},
		{"bad name", localpg.WithSetting("fsync=off", ""), `"fsync=off" is not the name of a setting`},
		{"no name", localpg.WithSetting("", "1"), `"" is not the name of a setting`},
		{"port", localpg.WithSetting("port", "5432"), "the setting port is not for WithSetting"},
		{"addresses", localpg.WithSetting("Listen_Addresses", "*"), "the setting Listen_Addresses is not for WithSetting"},
		{"data", localpg.WithSetting("data_directory", "/"), "the setting data_directory is not for WithSetting"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			temp := tempDir(t)
			s, err := localpg.Start(limited(t), localpg.WithTemp(temp), tt.opt)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if left := files(t, temp); left != nil {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	need(t)
	for _, tt := range []struct {
		name   string
		after  time.Duration
		atPort bool // when a port is wanted, rather than after a time
		want   string
	}{
		{"at once", 0, false, "context"},
		{"during initdb", 200 * time.Millisecond, false, "context"}, // which takes longer, unless the machine is busy or fast
		{"before the server", patience, true, "the server was not ready in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			temp := tempDir(t)
			ctx, cancel := context.WithTimeout(t.Context(), tt.after)
			defer cancel()
			s, err := localpg.Start(ctx, localpg.WithTemp(temp), localpg.WithPorts(func() (int, error) {
				if tt.atPort {
					cancel()
				}
				return localpg.FreePort()
			}))
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if !errors.Is(err, ctx.Err()) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if left := files(t, temp); left != nil {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestNoFolder(t *testing.T) {
	t.Parallel()
	need(t)
	_, err := localpg.Start(limited(t), localpg.WithTemp(filepath.Join(t.TempDir(), "none")))
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// t.TempDir is open to its owner alone: whoever the server runs as, if not the
// caller, cannot get there.
func TestFolderOutOfReach(t *testing.T) {
	t.Parallel()
	need(t)
	if os.Geteuid() != 0 {
		start(t, t.TempDir()) // the server runs as the caller
		return
	}
	_, err := localpg.Start(limited(t), localpg.WithTemp(t.TempDir()))
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "set TMPDIR") {
		t.Error(err)
	}
}

// Another server at the port answers as well as ours would.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	need(t)
	first := start(t, tempDir(t))
	_, taken, err := net.SplitHostPort(address(t, first.URL()))
	if err != nil {
		t.Fatal(err)
	}

	t.Run("at the start, and later", func(t *testing.T) {
		t.Parallel()
		temp := tempDir(t)
		tries := 0
		second := start(t, temp, localpg.WithPorts(func() (int, error) {
			tries++
			if tries <= 2 {
				return strconv.Atoi(taken)
			}
			return localpg.FreePort()
		}))
		if second.URL() == first.URL() || tries != 3 {
			t.Errorf("%s after %d tries, and the other is at %s", second.URL(), tries, first.URL())
		}
		query(t, second, "SELECT 1")
		portTakenWhileStopped(t, second, temp)
	})

	t.Run("at the start, always", func(t *testing.T) {
		t.Parallel()
		_, err := localpg.Start(limited(t), localpg.WithTemp(tempDir(t)), localpg.WithPorts(func() (int, error) {
			return strconv.Atoi(taken)
		}))
		if err == nil || !strings.Contains(err.Error(), "10 ports were free and taken a moment later") || !strings.Contains(err.Error(), "Address already in use") {
			t.Error(err)
		}
	})
}

// portTakenWhileStopped has somebody else listen at the port of a server that is
// stopped, whose folder is in temp.
func portTakenWhileStopped(t *testing.T, s *localpg.Server, temp string) {
	t.Helper()
	if err := s.Stop(limited(t)); err != nil {
		t.Fatal(err)
	}
	squatter, err := new(net.ListenConfig).Listen(limited(t), "tcp", address(t, s.URL()))
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()

	// Whoever waits for a server connects to it: when that happens after one has
	// failed for the port, Resume is at its next try.
	log := filepath.Join(temp, files(t, temp)[0], "log")
	ctx, cancel := context.WithCancel(limited(t))
	defer cancel()
	go func() {
		for {
			conn, err := squatter.Accept()
			if err != nil {
				return
			}
			conn.Close()
			text, err := os.ReadFile(log)
			if err != nil || strings.Contains(string(text), "could not create any TCP/IP sockets") {
				cancel()
			}
		}
	}()
	if err := s.Resume(ctx); err == nil || ctx.Err() == nil {
		t.Fatal("Resume without the port:", err)
	}
	if err := s.Stop(limited(t)); err != nil {
		t.Error("Stop after that:", err)
	}
	squatter.Close()
	if err := s.Resume(limited(t)); err != nil {
		t.Fatal("Resume with the port:", err)
	}
	query(t, s, "SELECT 1")
}

func TestFind(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("to run this test: be on a system where programs need no .exe")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const both = "initdb postgres"

	for _, tt := range []struct {
		name  string
		files map[string]string // folder to programs in it
		links map[string]string // from a program on PATH to another
		want  string
	}{
		{"nothing", nil, nil, ""},
		{"on PATH", map[string]string{"path": both, "versions/15/bin": both}, nil, "path"},
		{"a link on PATH", map[string]string{"real": both, "versions/15/bin": both}, map[string]string{"path/initdb": "real/initdb"}, "real"},
		{"links on PATH", map[string]string{"real": both}, map[string]string{"path/initdb": "real/initdb", "path/postgres": "real/postgres"}, "path"},
		{"initdb alone on PATH", map[string]string{"path": "initdb", "versions/15/bin": both}, nil, "versions/15/bin"},
		{"a link to initdb alone", map[string]string{"real": "initdb", "versions/15/bin": both}, map[string]string{"path/initdb": "real/initdb"}, "versions/15/bin"},
		{"the newest", map[string]string{"versions/15/bin": both, "versions/16/bin": both}, nil, "versions/16/bin"},
		{"the newest, as numbers", map[string]string{"versions/9.6/bin": both, "versions/15/bin": both, "versions/100/bin": both, "versions/99/bin": both}, nil, "versions/100/bin"},
		{"two numbers", map[string]string{"versions/9.6/bin": both, "versions/9.10/bin": both}, nil, "versions/9.10/bin"},
		{"the newest with a server", map[string]string{"versions/15/bin": both, "versions/16/bin": "psql", "versions/17/bin": "initdb", "versions/18/lib": both}, nil, "versions/15/bin"},
		{"no version", map[string]string{"versions/old/bin": both, "versions/15/bin": both, "versions/.x/bin": both}, nil, "versions/15/bin"},
		{"no version at all", map[string]string{"versions/old/bin": both}, nil, ""},
		{"versions before pg_config", map[string]string{"path/configured": both, "versions/15/bin": both}, map[string]string{"path/pg_config": self}, "versions/15/bin"},
		{"pg_config", map[string]string{"path/configured": both}, map[string]string{"path/pg_config": self}, "path/configured"},
		{"pg_config of the clients", map[string]string{"path/configured": "psql"}, map[string]string{"path/pg_config": self}, ""},
		{"pg_config that fails", map[string]string{"path": "pg_config"}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for dir, names := range tt.files {
				for name := range strings.FieldsSeq(names) {
					program(t, filepath.Join(root, dir, name))
				}
			}
			for from, to := range tt.links {
				if !filepath.IsAbs(to) {
					to = filepath.Join(root, to)
				}
				link(t, filepath.Join(root, from), to)
			}
			lookPath := func(name string) (string, error) {
				path := filepath.Join(root, "path", name)
				_, err := os.Stat(path)
				return path, err
			}
			dir, err := localpg.FindIn(lookPath, filepath.Join(root, "versions"))
			want := tt.want
			if want != "" {
				want = filepath.Join(root, want)
			}
			if diff := cmp.Diff(want, dir); diff != "" {
				t.Error("(-want +got)\n", diff)
			}
			if (want == "") != errors.Is(err, localpg.ErrNotFound) {
				t.Error(err)
			}
		})
	}
}

// program makes an executable file, which is empty.
func program(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
}

// link makes a link.
func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(from), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}
