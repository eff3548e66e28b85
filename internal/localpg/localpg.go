// Package localpg starts a PostgreSQL server from the binaries on this machine,
// to be thrown away afterwards: for tests and examples that need a real one,
// and one that can be made to crash.
//
// The server is a child of the program. It listens on the loopback interface
// only, where it trusts everyone, so that it is for data that nobody minds
// losing or showing to the other users of the machine. It syncs its log to disk
// as it does in earnest: what it has committed is there after a crash.
//
// On Linux the server ends with the program, however that ends. Elsewhere it
// survives a program that ends without [Server.Close]. Its folder does so
// everywhere.
package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	host = "127.0.0.1"

	pollEvery = 10 * time.Millisecond // for a server that is starting
	portTries = 10                    // how many ports Start tries
	tailLines = 20                    // of a log, in an error
	tailBytes = 8 << 10               // the most that they have

	// patience is how long a server that was told to stop may take before it
	// is killed. PostgreSQL itself gives its processes five seconds.
	patience = 10 * time.Second
)

// errPortTaken is for a server that ended because it could not listen.
var errPortTaken = errors.New("the port is taken")

// defaults are the settings of every server; [WithSetting] comes after them.
var defaults = []string{
	"-c", "listen_addresses=" + host,
	"-c", "unix_socket_directories=", // paths of sockets must be short, and that of the folder may not be
	"-c", "shared_buffers=32MB",
	"-c", "max_connections=100", // initdb may have found that fewer have to do
	"-c", "fsync=on",
}

// settingName is what a setting may be called. With any other character, what
// is given as a name could be read as a name and a value.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// An Option changes how [Start] sets up a server.
type Option func(*config)

// A config is what the options have made.
type config struct {
	settings [][2]string
	temp     string              // where to make the folder
	port     func() (int, error) // finds a port to try
}

// WithSetting sets one of the settings that postgresql.conf may have, such as
// max_connections to 200, over the default of PostgreSQL or of this package.
// Of several values for one name the last holds. The value is as SHOW prints
// it, without quotes. It holds for all starts of the server, and ALTER SYSTEM
// cannot change it.
//
// The settings port, listen_addresses and data_directory cannot be set: that
// they are as [Start] chooses them is what [Server.URL] relies on. [Start]
// returns an error for them, and for a setting that PostgreSQL refuses.
func WithSetting(name, value string) Option {
	return func(c *config) { c.settings = append(c.settings, [2]string{name, value}) }
}

// arguments returns the settings as arguments of postgres. There they need no
// quoting, as they would in postgresql.conf.
func (c *config) arguments() ([]string, error) {
	args := slices.Clip(defaults)
	for _, setting := range c.settings {
		name, value := setting[0], setting[1]
		if !settingName.MatchString(name) {
			return nil, fmt.Errorf("localpg: %q is not the name of a setting: give WithSetting the name and the value apart", name)
		}
		switch strings.ToLower(name) {
		case "port", "listen_addresses", "data_directory":
			return nil, fmt.Errorf("localpg: the setting %s is not for WithSetting: Start chooses it", name)
		}
		args = append(args, "-c", name+"="+value)
	}
	return args, nil
}

// A Server is a PostgreSQL server of this program, running or stopped. Its
// methods may be called from several goroutines; one waits for the other.
type Server struct {
	bin    string   // the folder of the binaries
	args   []string // settings
	user   account
	folder string // holds all below
	data   string // the cluster
	log    string // a file
	port   int    // the same from the end of Start on

	mu     sync.Mutex
	proc   *process // the last one started, nil if there is none
	closed bool
}

// Start initialises a cluster in a new temporary folder, starts a server on it
// and returns when that answers queries. That takes about a second. The context
// is for Start alone: the server goes on after its end.
//
// PostgreSQL refuses to run as root. If the caller is root, the server runs as
// the user postgres or, if there is no such user, nobody, who must be able to
// reach the system's folder for temporary files.
//
// The error is [ErrNotFound] if there is no PostgreSQL on this machine. If the
// server ends at once, it has the last lines of its log. There is nothing to be
// closed or removed after an error.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	c := config{temp: os.TempDir(), port: freePort}
	for _, opt := range opts {
		opt(&c)
	}
	args, err := c.arguments()
	if err != nil {
		return nil, err
	}
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	user, err := serverUser()
	if err != nil {
		return nil, err
	}
	temp, err := filepath.Abs(c.temp) // as the server will report the folder of its data
	if err != nil {
		return nil, fmt.Errorf("localpg: the folder for temporary files: %w", err)
	}
	folder, err := os.MkdirTemp(temp, "localpg-")
	if err != nil {
		return nil, fmt.Errorf("localpg: no folder for the server: %w", err)
	}
	s := &Server{
		bin:    bin,
		args:   args,
		user:   user,
		folder: folder,
		data:   filepath.Join(folder, "data"),
		log:    filepath.Join(folder, "log"),
	}
	err = s.initialise(ctx)
	if err == nil {
		err = s.startAnywhere(ctx, c.port)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// URL returns where the server is, running or not, for a driver to connect as
// its superuser: postgres://postgres@127.0.0.1:PORT/postgres?sslmode=disable.
func (s *Server) URL() string {
	return "postgres://postgres@" + s.address() + "/postgres?sslmode=disable"
}

// Restart makes the server crash, as Stop does, and starts it again, as Resume
// does.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(ctx); err != nil {
		return err
	}
	return s.resume(ctx)
}

// Stop stops the server at once, as in a crash: without a word to its clients,
// and without writing to the data files what is only in the log yet. The data
// are kept, for Resume. It does nothing if the server does not run.
//
// If the context ends first, the server may still run for a while; the next
// call waits for its end.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(ctx)
}

// Resume starts the server again after Stop, or after it has ended by itself,
// with the same data at the same URL, and returns when it has recovered and
// answers queries. It does nothing if the server runs. The port may have been
// taken in the meantime; then Resume waits for it until the context ends.
//
// After an error the server is stopped, and Resume may be called again.
func (s *Server) Resume(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resume(ctx)
}

// Close stops the server as Stop does and removes its folder. It may be called
// again, which does nothing if the call before has returned nil. All other
// calls but that of URL are in vain after it.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.proc != nil {
		s.proc.end()
	}
	if err := os.RemoveAll(s.folder); err != nil {
		return fmt.Errorf("localpg: the server is stopped, but its folder is there yet: %w", err)
	}
	return nil
}

// stop is Stop, for who holds the lock.
func (s *Server) stop(ctx context.Context) error {
	if s.proc == nil {
		return nil
	}
	s.proc.quit()
	select {
	case <-s.proc.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("localpg: the server was told to stop, but has not yet: %w", context.Cause(ctx))
	}
}

// resume is Resume, for who holds the lock.
func (s *Server) resume(ctx context.Context) error {
	if s.closed {
		return errors.New("localpg: the server is closed, and its data are gone: start a new one")
	}
	if s.proc != nil {
		if !s.proc.ended() && !s.proc.quitting {
			return nil
		}
		if err := s.stop(ctx); err != nil {
			return err
		}
	}
	for {
		err := s.launch(ctx)
		if !errors.Is(err, errPortTaken) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollEvery):
		}
	}
}

// initialise makes the cluster.
func (s *Server) initialise(ctx context.Context) error {
	// MkdirTemp leaves it to the caller alone, who may not be the server's user.
	err := os.Chmod(s.folder, 0o755) //nolint:gosec // G302: the data in it are closed to others
	if err == nil {
		err = os.Mkdir(s.data, 0o700)
	}
	if err == nil {
		err = s.user.own(s.data)
	}
	if err != nil {
		return fmt.Errorf("localpg: the folder for the data: %w", err)
	}

	//nolint:gosec // G204: the program is PostgreSQL's, wherever that is
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), "-D", s.data, "-U", "postgres",
		"--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	// When the context ends, initdb is killed. Its children hold the output too
	// and end soon after; before that the folder cannot be removed.
	cmd.WaitDelay = patience
	p, err := s.spawn(cmd)
	if err != nil {
		return err
	}
	<-p.done
	if ctx.Err() != nil {
		return fmt.Errorf("localpg: initdb did not finish: %w", context.Cause(ctx))
	}
	if p.err != nil {
		return fmt.Errorf("localpg: initdb failed%s: %w%s", s.user.as(), p.err, tail(output.Bytes(), "it said"))
	}
	return nil
}

// startAnywhere starts the server for the first time, on a port that find
// finds. Between that and the start, others may take the port.
func (s *Server) startAnywhere(ctx context.Context, find func() (int, error)) error {
	var err error
	for range portTries {
		s.port, err = find()
		if err != nil {
			return fmt.Errorf("localpg: no port for the server: %w", err)
		}
		err = s.launch(ctx)
		if !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return fmt.Errorf("localpg: %d ports were free and taken a moment later: start again when fewer servers do; the last: %w", portTries, err)
}

// launch starts the server and waits for it. After an error it does not run.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("localpg: the server's log: %w", err)
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("localpg: the server's log: %w", err)
	}

	args := append([]string{"-D", s.data, "-p", strconv.Itoa(s.port)}, s.args...)
	// The server survives the context of the call that starts it.
	//nolint:gosec // G204: the program is PostgreSQL's, the settings are the caller's
	cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(s.bin, "postgres"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := s.spawn(cmd)
	if err != nil {
		return err
	}
	s.proc = p

	last := s.await(ctx, p)
	if last == nil {
		return nil
	}
	ended := p.ended()
	p.end()
	text := readTail(log, before)
	switch {
	case !ended:
		return fmt.Errorf("localpg: the server was not ready in time: %w; at last: %w%s", context.Cause(ctx), last, tail(text, "its log ends"))
	case bytes.Contains(text, []byte("could not create any TCP/IP sockets")):
		return fmt.Errorf("localpg: the server could not listen at %s: %w%s", s.address(), errPortTaken, tail(text, "its log ends"))
	default:
		return fmt.Errorf("localpg: the server ended at its start: %w%s", p.result(), tail(text, "its log ends"))
	}
}

// await returns nil when the server, which is p, answers queries, or what was
// wrong last when p or the context has ended.
func (s *Server) await(ctx context.Context, p *process) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends the attempt when there is nothing more to hope for
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	last := errors.New("no answer")
	for {
		// Who answers may be another server, if ours has not got the port and is
		// about to say so.
		data, err := ask(ctx, s.address(), "SHOW data_directory")
		switch {
		case err == nil && data == filepath.ToSlash(s.data):
			return nil
		case err == nil:
			last = fmt.Errorf("the server at %s is another, with its data in %s", s.address(), data)
		case ctx.Err() == nil:
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-ticker.C:
		}
	}
}

// spawn starts cmd, one of PostgreSQL's programs, as the server's user.
func (s *Server) spawn(cmd *exec.Cmd) (*process, error) {
	cmd.Dir = s.folder // the caller's may be closed to that user
	cmd.SysProcAttr = s.user.attributes()
	p, err := spawn(cmd)
	switch {
	case errors.Is(err, fs.ErrPermission) && s.user.name != "":
		return nil, fmt.Errorf("localpg: cannot run %s%s, who must be able to reach it and %s (set TMPDIR to have that elsewhere): %w", cmd.Path, s.user.as(), s.folder, err)
	case err != nil:
		return nil, fmt.Errorf("localpg: cannot run %s: %w", cmd.Path, err)
	}
	return p, nil
}

// address returns host:port of the server.
func (s *Server) address() string { return net.JoinHostPort(host, strconv.Itoa(s.port)) }

// freePort returns a port that nobody listened on a moment ago.
func freePort() (int, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// readTail returns the end of what a log has after an offset. Of a log that
// cannot be read there is nothing to show.
func readTail(log *os.File, after int64) []byte {
	end, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil
	}
	after = max(after, end-tailBytes)
	text := make([]byte, end-after)
	n, _ := log.ReadAt(text, after)
	return text[:n]
}

// tail returns the last lines of an output, indented, for the end of an error.
func tail(output []byte, intro string) string {
	output = output[max(0, len(output)-tailBytes):]
	output = bytes.TrimSpace(bytes.ToValidUTF8(output, nil))
	if len(output) == 0 {
		return ""
	}
	lines := strings.Split(string(output), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	return "; " + intro + ":\n\t" + strings.Join(lines, "\n\t")
}
