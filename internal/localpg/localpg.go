// Package localpg starts a throwaway PostgreSQL server from the binaries on this
// machine, for tests and examples that need a real server, or one that crashes.
//
// The server listens only on a Unix socket, in a folder that is closed to other
// users, and asks for a random password, which [Server.URL] carries. It syncs its
// log to disk, so what it has committed survives a crash.
//
// When the program ends, in whatever way, a shell that waits for this stops the
// server and removes the folder.
package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"
)

const (
	port       = "5432" // only a part of the name of the socket
	maxSocket  = 103    // bytes in the path of a socket on macOS; Linux allows 107
	maxExcerpt = 2 << 10

	// patience is the most that initdb or pg_ctl may take.
	patience = time.Minute
)

// guard is a shell script that waits until this program closes the pipe between
// them, or ends, which closes it too. Then it stops the server, if it runs, and
// removes the folder. Its arguments are the paths of pg_ctl and of the folder.
const guard = `read -r _
"$0" stop -s -D data -m immediate || ! "$0" status -s -D data || exit
rm -rf "$1"`

// An Option changes how [Start] sets up a server.
type Option func(*config)

type config struct {
	settings strings.Builder // a configuration file
	temp     string          // where to make the folder
}

// WithSetting sets a parameter of PostgreSQL's, such as max_connections to 200. The
// value is as SHOW prints it, without quotes. If a parameter is set twice, the last
// value holds. Where the server listens cannot be changed.
func WithSetting(name, value string) Option {
	value = strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(value)
	return func(c *config) { fmt.Fprintf(&c.settings, "%s = '%s'\n", name, value) }
}

// An account is who runs PostgreSQL's programs, and how.
type account struct {
	as       string // " as user NAME", for errors, or "" for the caller
	uid, gid int    // -1 for the caller
	attr     *syscall.SysProcAttr
}

// A Server is a PostgreSQL server, running or stopped. Except for URL, its methods
// must not be called concurrently.
type Server struct {
	bin      string   // where PostgreSQL's programs are
	user     account  // who runs them
	folder   string   // where they run
	log      *os.File // what they print
	password string

	guard *exec.Cmd
	alive io.Closer // the pipe that the guard reads from
}

// Start makes a database cluster in a new temporary folder, starts a server and
// returns when it accepts connections, after a second or two. The server does not
// stop when the context ends.
//
// PostgreSQL refuses to run as root. If the caller is root, the server runs as the
// user postgres or, if there is none, nobody.
//
// Start returns [ErrNotFound] if there is no PostgreSQL on this machine, and
// [errors.ErrUnsupported] on Windows. If PostgreSQL fails, for instance because it
// rejects a setting, the error ends with the last lines of its log. After an error
// there is nothing to close or remove.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	c := config{temp: os.TempDir()}
	c.settings.WriteString("include 'data/postgresql.conf'\nshared_buffers = 32MB\n")
	for _, opt := range opts {
		opt(&c)
	}
	fmt.Fprintf(&c.settings, "listen_addresses = ''\nunix_socket_directories = '..'\nport = %s\n", port) // .. is seen from data
	user, err := serverUser()
	if err != nil {
		return nil, err
	}
	bin, err := find(os.Getenv("PATH"), debian)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(c.temp, "localpg-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the server: %w", err)
	}
	s := &Server{bin: bin, user: user, folder: folder, password: rand.Text()}
	if err := s.prepare(ctx, c.settings.String()); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare a folder for the server: %w", err), s.remove())
	}
	if err := s.initialise(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// URL returns the address of the database postgres, for a driver to connect as the
// superuser: postgres://postgres:PASSWORD@/postgres?host=FOLDER&port=5432. It stays
// the same when the server is started again.
func (s *Server) URL() string {
	query := url.Values{"host": {s.folder}, "port": {port}}
	return "postgres://postgres:" + s.password + "@/postgres?" + query.Encode()
}

// Stop stops the server as a crash does: it ends all connections without notice
// and does not write to the data files what only the log has. The data remain, for
// Resume. If the context ends first, the server may stop later.
func (s *Server) Stop(ctx context.Context) error {
	return s.run(ctx, "pg_ctl", "stop", "-s", "-D", "data", "-m", "immediate")
}

// Resume starts a stopped server again and returns when it has recovered and
// accepts connections.
func (s *Server) Resume(ctx context.Context) error {
	return s.run(ctx, "pg_ctl", "start", "-s", "-w", "-D", "data", "-l", "log", "-o", "-c config_file=settings")
}

// Restart stops the server as Stop does and starts it again as Resume does.
func (s *Server) Restart(ctx context.Context) error {
	return s.run(ctx, "pg_ctl", "restart", "-s", "-w", "-D", "data", "-m", "immediate", "-l", "log")
}

// Close stops the server as Stop does, if it runs, and removes its folder. Call it
// once, and no method after it.
func (s *Server) Close() error {
	_ = s.alive.Close() // if that failed, so does the guard
	if err := s.guard.Wait(); err != nil {
		return fmt.Errorf("stop the server: %w; end it and remove %s%s", err, s.folder, s.excerpt())
	}
	return s.remove()
}

// prepare fills the folder, hands it to the server's user and starts the guard.
func (s *Server) prepare(ctx context.Context, settings string) (err error) {
	if socket := s.path(".s.PGSQL." + port); !filepath.IsAbs(socket) || len(socket) > maxSocket {
		return fmt.Errorf("the socket %s needs an absolute path of at most %d bytes: set TMPDIR to another folder", socket, maxSocket)
	}
	for name, text := range map[string]string{"log": "", "password": s.password, "settings": settings} {
		err = errors.Join(err, os.WriteFile(s.path(name), []byte(text), 0o600), os.Chown(s.path(name), s.user.uid, s.user.gid))
	}
	log, openErr := os.OpenFile(s.path("log"), os.O_WRONLY|os.O_APPEND, 0)
	s.log = log
	if err := errors.Join(err, openErr, os.Chown(s.folder, s.user.uid, s.user.gid)); err != nil {
		return err
	}
	s.guard = s.command(context.WithoutCancel(ctx), "/bin/sh", "-c", guard, filepath.Join(s.bin, "pg_ctl"), s.folder)
	if s.alive, err = s.guard.StdinPipe(); err != nil {
		return err
	}
	err = s.guard.Start()
	if errors.Is(err, fs.ErrPermission) && s.user.as != "" {
		return fmt.Errorf("run a program%s, who cannot reach the folder: set TMPDIR to one that all users can reach: %w", s.user.as, err)
	}
	return err
}

// initialise makes the cluster and starts the server for the first time.
func (s *Server) initialise(ctx context.Context) error {
	err := s.run(ctx, "initdb", "-D", "data", "-U", "postgres", "--pwfile=password", "--auth=scram-sha-256",
		"--encoding=UTF8", "--no-locale", "--no-sync")
	err = errors.Join(err, os.Remove(s.path("password")), s.log.Truncate(0)) // initdb prints advice that does not apply
	if err != nil {
		return err
	}
	return s.Resume(ctx)
}

// run runs one of PostgreSQL's programs.
func (s *Server) run(ctx context.Context, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := s.command(ctx, filepath.Join(s.bin, program), args...)
	// Interrupted, initdb and pg_ctl also end what they have started.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("not done in time: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("run %s%s: %w%s", program, s.user.as, err, s.excerpt())
	}
	return nil
}

// command returns a command that the server's user runs in the folder.
func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // G204: the program is PostgreSQL's, or a shell for the script above
	cmd.Dir = s.folder
	cmd.SysProcAttr = s.user.attr
	cmd.Stdout, cmd.Stderr = s.log, s.log
	return cmd
}

// path returns the path of a file in the folder.
func (s *Server) path(name string) string { return filepath.Join(s.folder, name) }

// excerpt returns the end of the log, for the end of an error.
func (s *Server) excerpt() string {
	log, _ := os.ReadFile(s.log.Name()) // without a log, the error has to do
	if len(log) == 0 {
		return ""
	}
	text := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, string(log[max(0, len(log)-maxExcerpt):]))
	return "; the log ends:\n\t" + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n\t")
}

// remove removes the folder. The guard cannot do so itself if its user may not
// write to the folder above.
func (s *Server) remove() error {
	_ = s.log.Close() // it may be nil, after an error
	return os.RemoveAll(s.folder)
}
