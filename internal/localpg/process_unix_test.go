//go:build unix

package localpg_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

// A server that does not react is told to end, and has when the next call is
// through.
func TestStopOutOfTime(t *testing.T) {
	t.Parallel()
	need(t)
	temp := tempDir(t)
	s := start(t, temp)
	born := query(t, s, "SELECT pg_postmaster_start_time()")

	lock, err := os.ReadFile(filepath.Join(temp, files(t, temp)[0], "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(lock), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ended); !errors.Is(err, context.Canceled) {
		t.Error("Stop:", err)
	}
	if err := s.Restart(ended); !errors.Is(err, context.Canceled) {
		t.Error("Restart:", err)
	}
	if err := s.Resume(ended); !errors.Is(err, context.Canceled) {
		t.Error("Resume:", err)
	}

	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(limited(t)); err != nil {
		t.Fatal(err)
	}
	if query(t, s, "SELECT pg_postmaster_start_time()") == born {
		t.Error("it is the server that was told to stop")
	}
}

func TestFirstAccount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		names []string
		want  string
		error string
	}{
		{[]string{"root", "nobody"}, "root", ""},
		{[]string{"no such user", "root"}, "root", ""},
		{[]string{"no such user", "nor this"}, "", `of ["no such user" "nor this"] there is no user to run it as`},
	} {
		t.Run(strings.Join(tt.names, ","), func(t *testing.T) {
			t.Parallel()
			name, err := localpg.FirstAccount(tt.names...)
			if name != tt.want {
				t.Errorf("%q, want %q", name, tt.want)
			}
			if (err == nil) != (tt.error == "") || err != nil && !strings.Contains(err.Error(), tt.error) {
				t.Errorf("error %v, want %q", err, tt.error)
			}
		})
	}
}
