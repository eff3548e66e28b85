package inbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// childVariable names the environment variable that makes this program a child:
// it holds a child in JSON.
const childVariable = "PIXMED_CRASH_CHILD"

// childLine begins what a child tells its parent on its standard output, among
// what package testing prints there.
const childLine = "crash child: "

// child says what a child process does: it serves the webhook in front of an
// inbox, and works on what is accepted, until its standard input ends or it is
// killed.
type child struct {
	Database       *enginetest.Database
	Address        string // to listen on
	Effects        string // on SQLite, the file that the callbacks write to
	AttemptTimeout time.Duration
	Overdue        time.Duration
	AcceptOnly     bool // the inbox is not started
	Fail           bool // one callback in ten fails after its effect or, on SQLite, before it
	Block          bool // the first attempt never ends
	Poison         bool // a notification with the status poison ends the process
	MaxAttempts    int  // unless it is 0
}

const poison = pixmed.MEDStatus("POISON")

// TestCrashChild is what a child process runs. In a test run it does nothing.
func TestCrashChild(t *testing.T) {
	t.Parallel()
	text := os.Getenv(childVariable)
	if text == "" {
		return
	}
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	c.run(t)
}

func (c *child) run(t *testing.T) {
	t.Helper()
	opts := []inbox.Option{
		inbox.WithWorkers(8),
		inbox.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))),
	}
	if c.AttemptTimeout != 0 {
		opts = append(opts, inbox.WithAttemptTimeout(c.AttemptTimeout), inbox.WithOverdue(c.Overdue))
	}
	if c.MaxAttempts != 0 {
		opts = append(opts, inbox.WithMaxAttempts(c.MaxAttempts))
	}
	receiver := c.receiver(t)
	var in *inbox.Inbox
	if c.AcceptOnly {
		in = c.Database.Open(t, receiver, opts...)
	} else {
		in = c.Database.Start(t, receiver, opts...)
	}

	handler, err := pixmed.NewHandler(in, pixmed.WithoutVerification(), pixmed.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) {
		s, err := enginetest.TryCount(r.Context(), in)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(s)
	})
	l := listen(t, c.Address)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	say("serving", l.Addr())

	_, _ = io.Copy(io.Discard, os.Stdin) // ends when the parent closes it, and when the parent ends
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func say(words ...any) { fmt.Print("\n" + childLine + fmt.Sprintln(words...)) }

// listen listens on an address that the process before may only just have left.
func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	var l net.Listener
	poll(t, "a free address "+address, func() (ok bool) {
		var err error
		if l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", address); err != nil {
			t.Log(err)
		}
		return err == nil
	})
	return l
}

func (c *child) receiver(t *testing.T) pixmed.Receiver {
	t.Helper()
	var file *os.File
	var mu sync.Mutex
	if c.Effects != "" {
		var err error
		if file, err = os.OpenFile(c.Effects, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
		if c.Poison && n.MEDStatus == poison {
			os.Exit(1) //nolint:revive // that is what it does
		}
		fails := c.Fail && rand.N(10) == 0
		if tx, ok := postgres.Tx(ctx); ok {
			if err := insertEffect(ctx, tx, n); err != nil {
				return err
			}
		} else if !fails {
			mu.Lock()
			err := appendEffect(file, n)
			mu.Unlock()
			if err != nil {
				return err
			}
		}
		if c.Block {
			say("attempt", n.Attempt)
			if n.Attempt == 1 {
				select {}
			}
		}
		// Some work, so that a kill meets callbacks that have had their effect and
		// are not settled.
		work := time.NewTimer(rand.N(5 * time.Millisecond))
		defer work.Stop()
		select {
		case <-work.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if fails {
			return errors.New("this one fails")
		}
		return nil
	})
}

// process is a child process as its parent sees it.
type process struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	output  *childOutput
	ended   chan struct{}
	err     error  // once it has ended
	address string // where it serves
}

// spawn starts a child and does not wait for it. Words in front of its command,
// such as those of a tracer, are given as wrap.
func spawn(t *testing.T, c *child, wrap ...string) *process {
	t.Helper()
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	words := append(slices.Clone(wrap), program, "-test.run=^TestCrashChild$", "-test.count=1", "-test.timeout=1h")
	p := &process{
		cmd:    exec.Command(words[0], words[1:]...), //nolint:noctx // a context would kill it before it could be told to end
		output: &childOutput{lines: make(chan string, 1000)},
		ended:  make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(config))
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("child process %d: %v\n%s", p.cmd.Process.Pid, p.err, p.output.tail())
		}
	})
	return p
}

// serve starts a child and returns when it serves. From then on it has the same
// address, also after the next start.
func serve(t *testing.T, c *child, wrap ...string) *process {
	t.Helper()
	p := spawn(t, c, wrap...)
	p.address = p.next(t, "serving ")
	c.Address = p.address
	return p
}

// next returns what follows a prefix in the next line that begins with it.
func (p *process) next(t *testing.T, prefix string) string {
	t.Helper()
	patience := time.After(enginetest.Patience)
	for {
		select {
		case line := <-p.output.lines:
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return rest
			}
		case <-p.ended:
			t.Fatalf("the child process has ended: %v", p.err)
		case <-patience:
			t.Fatalf("the child process does not say %q", prefix)
		}
	}
}

// kill ends the process without a warning, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails if it has ended
	_ = p.stdin.Close()      // ends a child that is left behind by its tracer
	<-p.ended
}

// stop has the process stop its inbox and end. It fails the test if the process
// fails: its exit status tells of data races too.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(enginetest.Patience):
		t.Fatal("the child process does not stop")
	}
	if p.err != nil {
		t.Fatalf("the child process: %v", p.err)
	}
}

// stats asks the process for its counts. It fails while the process is away.
func (p *process) stats(ctx context.Context) (s enginetest.Counts, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/stats", http.NoBody)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, errors.New(resp.Status)
	}
	err = json.NewDecoder(resp.Body).Decode(&s)
	return s, err
}

// childOutput takes what a process prints: what it tells its parent, line by
// line, and everything, to be shown if the test fails.
type childOutput struct {
	lines chan string

	mu   sync.Mutex
	all  []byte
	rest []byte // of a line that has not ended
}

func (o *childOutput) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, b...)
	o.rest = append(o.rest, b...)
	end := bytes.LastIndexByte(o.rest, '\n') + 1
	scanner := bufio.NewScanner(bytes.NewReader(o.rest[:end]))
	for scanner.Scan() {
		if line, ok := strings.CutPrefix(scanner.Text(), childLine); ok {
			o.lines <- line
		}
	}
	o.rest = bytes.Clone(o.rest[end:])
	return len(b), scanner.Err()
}

// tail returns the end of what the process printed.
func (o *childOutput) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.all[max(0, len(o.all)-16<<10):])
}

// poll waits for something that a test cannot be told of.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(enginetest.Patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
