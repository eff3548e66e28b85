package localpg_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

// A program that is killed closes nothing, and its server ends all the same.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	need(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// What the child gets besides the standard files, so do its children, down to
	// every process of the server: the pipe is closed when the last has ended.
	alive, inherited, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	child := exec.CommandContext(limited(t), self)
	child.Env = append(os.Environ(), childTemp+"="+tempDir(t))
	child.ExtraFiles = []*os.File{inherited}
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
	defer child.Process.Kill() //nolint:errcheck // when the test has failed before

	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "postgres://") {
		t.Fatalf("%q, %v", line, err)
	}
	server := address(t, strings.TrimSpace(line))
	if _, err := localpg.Ask(limited(t), server, "SELECT 1"); err != nil {
		t.Fatal(err)
	}

	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := alive.SetReadDeadline(time.Now().Add(patience / 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := alive.Read(make([]byte, 1)); err != io.EOF {
		t.Error("a process of the server is left:", err)
	}
	if listens(t, server) {
		t.Error("the server still listens at", server)
	}
}
