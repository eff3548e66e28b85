//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// dial connects to a server as somebody who writes HTTP by hand.
func dial(t *testing.T, url string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// head is what comes before a notification's body.
func head(version, length string) string {
	return "POST " + webhookPath + " HTTP/" + version + "\r\nHost: merchant.example\r\nX-Webhook-Secret: " + webhookSecret +
		"\r\nContent-Type: application/json\r\n" + length + "\r\n\r\n"
}

func payload(change ...func(*pixmed.Infraction)) string {
	return string(pixmedtest.Payload(pixmedtest.NewInfraction(change...)))
}

func whole(body string) string {
	return head("1.1", fmt.Sprintf("Content-Length: %d", len(body))) + body
}

// readAnswer reads a response, and tells whether it ends the connection.
func readAnswer(t *testing.T, r *bufio.Reader) (status int, last bool) {
	t.Helper()
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
	return response.StatusCode, response.Close
}

// hostileServer starts a server that has nobody to get receipts from, and returns
// what checks that it goes on: a notification is delivered and worked.
func hostileServer(t *testing.T) (s *server, goesOn func()) {
	t.Helper()
	gateway := newGateway(t)
	i := pixmedtest.NewInfraction()
	gateway.AddReceipt(i)
	s = start(t, settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir()))
	return s, func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if attempts, err := gateway.Deliver(ctx, s.webhook+webhookPath, i); err != nil || len(attempts) != 1 {
			t.Errorf("a notification at the same time: %v, %v", attempts, err)
		}
		awaitDone(t, s.admin, 1)
	}
}

// Hundreds of senders write their headers, or their bodies, a byte at a time. Each
// is hung up on, and others are served meanwhile.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	s, goesOn := hostileServer(t)
	const senders = 300
	ended := make(chan error, senders)
	for n := range senders {
		c := dial(t, s.webhook)
		text := "POST " + webhookPath + " HTTP/1.1\r\nHost: merchant.example\r\nX-Filler: " + strings.Repeat("a", 1000)
		if n%3 == 0 {
			text = whole(payload())
		}
		go func() {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			hungUp := make(chan struct{})
			go func() {
				_, _ = io.Copy(io.Discard, c) // what is answered, a 408 or nothing
				close(hungUp)
			}()
			for i := range len(text) {
				select {
				case <-tick.C:
					_, _ = io.WriteString(c, text[i:i+1])
				case <-hungUp:
					ended <- nil
					return
				}
			}
			ended <- fmt.Errorf("sender %d was allowed %v", n, time.Duration(len(text))*200*time.Millisecond)
		}()
	}
	goesOn()
	for range senders {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	s.end(t)
}

// Ten thousand connections are idle. The server is a process of its own, since the
// two sides together have more of them open than one process may.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	connections := int(min(10_000, limit.Cur-min(limit.Cur, 500)))
	if connections < 10_000 {
		t.Logf("only %d: no more files may be open", connections)
	}
	gateway := newGateway(t)
	i := pixmedtest.NewInfraction()
	gateway.AddReceipt(i)
	s := startProcess(t, settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir()))
	idle := make([]net.Conn, connections)
	for n := range idle {
		idle[n] = dial(t, s.webhook)
		_, _ = io.WriteString(idle[n], "GET / HTTP/1.1\r\nHost: merchant.example\r\n\r\n")
	}
	for n, c := range idle {
		if got, last := readAnswer(t, bufio.NewReader(c)); got != http.StatusNotFound || last {
			t.Fatalf("connection %d: %d, %v", n, got, last)
		}
	}
	if attempts, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil || len(attempts) != 1 {
		t.Errorf("a notification: %v, %v", attempts, err)
	}
	awaitDone(t, s.admin, 1)
	s.end(t)
}

// Bodies without an end, announced or not, are answered 413, and nobody reads them.
func TestEndlessBodies(t *testing.T) {
	t.Parallel()
	const enough = 64 << 20 // more than sockets hold
	chunk := strings.Repeat(" ", 64<<10)
	for name, test := range map[string]struct{ head, again string }{
		"a gibibyte":         {head("1.1", fmt.Sprintf("Content-Length: %d", 1<<30)), chunk},
		"chunks without end": {head("1.1", "Transfer-Encoding: chunked"), fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, goesOn := hostileServer(t)
			c := dial(t, s.webhook)
			sent := make(chan int, 1)
			go func() {
				total, err := io.WriteString(c, test.head)
				for err == nil && total < enough {
					var n int
					n, err = io.WriteString(c, test.again)
					total += n
				}
				sent <- total
			}()
			if got, _ := readAnswer(t, bufio.NewReader(c)); got != http.StatusRequestEntityTooLarge {
				t.Errorf("got %d, want 413", got)
			}
			if n := <-sent; n >= enough {
				t.Errorf("%d bytes were taken", n)
			}
			goesOn()
			s.end(t)
		})
	}
}

// What is unusual and allowed.
func TestOldAndHastySenders(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	s := start(t, settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir()))

	// A whole case in one packet.
	c := dial(t, s.webhook)
	var all string
	statuses := []pixmed.MEDStatus{pixmed.Cancelled, pixmed.Debited, pixmed.Cancelled}
	for _, status := range statuses {
		all += whole(payload(func(i *pixmed.Infraction) { i.MEDStatus = status }))
	}
	_, _ = io.WriteString(c, all)
	r := bufio.NewReader(c)
	for range statuses {
		if got, _ := readAnswer(t, r); got != http.StatusOK {
			t.Errorf("one of several at once: %d", got)
		}
	}
	await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 3`)

	// HTTP/1.0, whose connection ends with the answer.
	body := payload(func(i *pixmed.Infraction) { i.MEDStatus = pixmed.Debited })
	c = dial(t, s.webhook)
	_, _ = io.WriteString(c, head("1.0", fmt.Sprintf("Content-Length: %d", len(body)))+body)
	r = bufio.NewReader(c)
	if got, last := readAnswer(t, r); got != http.StatusOK || !last {
		t.Errorf("HTTP/1.0: %d, %v", got, last)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
	await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 4`)

	// Two lengths are one too many: proxies do not agree on which holds.
	c = dial(t, s.webhook)
	_, _ = io.WriteString(c, head("1.1", fmt.Sprintf("Content-Length: %d\r\nContent-Length: 5", len(body)))+body)
	if got, _ := readAnswer(t, bufio.NewReader(c)); got != http.StatusBadRequest {
		t.Errorf("two lengths: %d", got)
	}
	s.end(t)
}

// Clients hang up anywhere in a request: nothing of it is accepted, and what they
// send again is.
func TestSendersThatHangUp(t *testing.T) {
	t.Parallel()
	s, goesOn := hostileServer(t)
	request := whole(payload(func(i *pixmed.Infraction) { i.TransactionID = "00000000-0000-4000-8000-000000000001" }))
	for cut := 0; cut < len(request); cut += 3 {
		c := dial(t, s.webhook)
		_, _ = io.WriteString(c, request[:cut])
		if tcp, ok := c.(*net.TCPConn); ok && cut%2 == 0 {
			_ = tcp.SetLinger(0) // a reset
		}
		_ = c.Close()
	}
	goesOn() // and counts one notification
	s.end(t)
}

// A callback under way when the server is told to end has its time to finish.
func TestShutdownDuringACallback(t *testing.T) {
	t.Parallel()
	i := pixmedtest.NewInfraction()
	pdf := pixmedtest.PDF(i)
	asked, release := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-release
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "SUCCESS", "data": map[string]any{"receipt": pdf}})
	}))
	t.Cleanup(slow.Close)
	gateway := newGateway(t)
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	env["PIXMED_GATEWAY"] = slow.URL
	s := start(t, env)
	if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
		t.Fatal(err)
	}
	<-asked
	s.stop()
	for { // until the sockets are closed, which is before the inbox stops
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.webhook, "http://"))
		if err != nil {
			break
		}
		_ = c.Close()
	}
	close(release)
	s.end(t)
	got, err := os.ReadFile(filepath.Join(env["PIXMED_RECEIPTS"], i.TransactionID+".pdf"))
	if err != nil || !bytes.Equal(got, pdf) {
		t.Errorf("a receipt of %d bytes, want %d: %v", len(got), len(pdf), err)
	}
}

// installedVariable names an installed pixmed that TestAcceptance runs instead of the
// test's own: the rehearsal of a release sets it.
const installedVariable = "PIXMED_TEST_INSTALLED"

// program returns the command that runs pixmed as a process of its own.
func program(t *testing.T, env map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	path := os.Getenv(installedVariable)
	if path == "" {
		var err error
		if path, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, args...) // who starts it ends it
	cmd.Env = append(os.Environ(), programVariable+"=1")
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// startProcess starts the program as a process of its own.
func startProcess(t *testing.T, env map[string]string) *server {
	t.Helper()
	s := &server{log: &lockedBuffer{}, ended: make(chan error, 1)}
	cmd := program(t, env, "serve")
	lines, out := io.Pipe()
	cmd.Stderr = io.MultiWriter(s.log, out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stop = func() { _ = cmd.Process.Signal(syscall.SIGTERM) }
	s.kill = func() {
		_ = cmd.Process.Kill()
		if err := <-s.ended; err == nil {
			t.Error("it ended by itself")
		}
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // which fails if it has ended
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	go func() {
		s.ended <- cmd.Wait()
		_ = out.Close()
	}()
	log := json.NewDecoder(lines)
	for _, url := range []*string{&s.webhook, &s.admin} {
		var line struct{ Msg, Address string }
		for line.Msg != "pixmed: listening" {
			if err := log.Decode(&line); err != nil {
				t.Fatalf("it ended: %v", err)
			}
		}
		*url = "http://" + line.Address
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return s
}

// What goes wrong with traces is in the log, in its form.
func TestTracesThatCannotBeSent(t *testing.T) {
	t.Parallel()
	refuses := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(refuses.Close)
	gateway := newGateway(t)
	i := pixmedtest.NewInfraction()
	gateway.AddReceipt(i)
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	env["PIXMED_TRACES"] = refuses.URL
	s := startProcess(t, env)
	if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, s.admin, 1)
	s.stop() // which sends what is left
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	told := false
	for line := range strings.Lines(s.log.String()) {
		var l struct{ Msg, Error string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		told = told || l.Msg == "pixmed: traces cannot be sent" && strings.Contains(l.Error, "404")
	}
	if !told {
		t.Error("the log says nothing of it")
	}
}
