package inbox_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// TestSyncedBeforeAnswer watches the system calls of a process that serves an
// inbox: between reading a notification and answering 200, what it wrote to the
// file was synced to disk.
func TestSyncedBeforeAnswer(t *testing.T) {
	t.Parallel()
	strace := tracer(t)
	s := enginetest.SQLite(t)
	trace := filepath.Join(t.TempDir(), "trace")
	// The inbox accepts and does nothing else, so that nothing else writes.
	c := newEffects(t, s).child()
	c.AcceptOnly = true
	p := serve(t, c, strace, "-f", "-y", "-s", "32", "-o", trace, "-e", "trace=read,write,pwrite64,fsync,fdatasync")
	const notifications = 5
	id := enginetest.NewTransaction()
	for _, status := range history[:notifications] {
		deliver(t, "http://"+p.address, enginetest.Notification(id, status).Infraction)
	}
	p.stop(t)

	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	answers, problem := checkTrace(string(text), s.Path)
	if problem != "" {
		t.Error(problem)
	}
	if answers != notifications {
		t.Errorf("%d answers were seen, want %d", answers, notifications)
	}
	if t.Failed() {
		t.Logf("the trace:\n%s", text)
	}
}

// tracer returns the program that traces system calls.
func tracer(t *testing.T) string {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err == nil {
		// It may be there, and not be allowed to trace, as in some containers.
		err = exec.CommandContext(t.Context(), strace, "-o", os.DevNull, "true").Run()
	}
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatalf("strace: %v", err)
	case err != nil:
		t.Skipf("needs strace, which shows that the disk is waited for (apt-get install strace): %v", err)
	}
	return strace
}

// TestCheckTrace checks the check: it must find what is wrong.
func TestCheckTrace(t *testing.T) {
	t.Parallel()
	const (
		request   = `10 read(7<socket:[1]>, "POST / HTTP/1.1\r\nHost: 127.0.0.1"..., 4096) = 300` + "\n"
		write     = `11 pwrite64(8</x/inbox.db-wal>, "\0\0"..., 24, 0) = 24` + "\n"
		sync      = `11 fdatasync(8</x/inbox.db-wal>) = 0` + "\n"
		syncBegin = `11 fsync(8</x/inbox.db-wal> <unfinished ...>` + "\n"
		syncEnd   = `11 <... fsync resumed>)             = 0` + "\n"
		failed    = `11 fsync(8</x/inbox.db-wal>) = -1 EIO (Input/output error)` + "\n"
		other     = `12 fsync(9</x/other>) = 0` + "\n"
		answer    = `10 write(7<socket:[1]>, "HTTP/1.1 200 OK\r\nDate: "..., 75 <unfinished ...>` + "\n"
	)
	for name, test := range map[string]struct {
		trace string
		ok    bool
	}{
		"synced":                   {request + write + sync + answer, true},
		"twice":                    {request + write + sync + answer + request + write + sync + answer, true},
		"in two lines":             {request + write + syncBegin + other + syncEnd + answer, true},
		"not synced":               {request + write + other + answer, false},
		"nothing written":          {request + sync + answer, false},
		"synced before":            {request + sync + write + answer, false},
		"synced after":             {request + write + answer + sync, false},
		"begun before the write":   {request + syncBegin + write + syncEnd + answer, false},
		"not ended":                {request + write + syncBegin + answer + syncEnd, false},
		"failed":                   {request + write + failed + answer, false},
		"only the first is synced": {request + write + sync + answer + request + write + answer, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problem := checkTrace(test.trace, "/x/inbox.db")
			if ok := problem == ""; ok != test.ok {
				t.Errorf("got %q, want a problem: %t", problem, !test.ok)
			}
		})
	}
}

// call matches a line of strace -f -y: the thread, the name, the argument, and
// whether the call is not finished in this line. The end of such a call has a
// line of its own.
var (
	call    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	resumed = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
)

// checkTrace follows the calls of a process that gets one request at a time. It
// returns how many it has answered with 200, and what is wrong with the first one
// that was answered without a sync of all that was written before.
func checkTrace(trace, path string) (answers int, problem string) {
	var (
		wrote, synced bool
		unfinished    = make(map[string]bool) // threads that sync what was written last
	)
	for line := range strings.Lines(trace) {
		line = strings.TrimSpace(line)
		if m := resumed.FindStringSubmatch(line); m != nil {
			if unfinished[m[1]] && (m[2] == "fsync" || m[2] == "fdatasync") {
				synced = synced || strings.HasSuffix(m[3], "= 0")
				delete(unfinished, m[1])
			}
			if m[2] == "read" && strings.Contains(m[3], `"POST / HTTP/1.1`) {
				wrote, synced = false, false
			}
			continue
		}
		m := call.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		thread, name, rest := m[1], m[2], m[3]
		ours := strings.Contains(rest, "<"+path+"-wal>") || strings.Contains(rest, "<"+path+">")
		switch {
		case name == "read" && strings.Contains(rest, `"POST / HTTP/1.1`):
			wrote, synced = false, false
		case name == "pwrite64" && ours:
			wrote, synced = true, false
			clear(unfinished) // they began before it
		case (name == "fsync" || name == "fdatasync") && ours:
			if strings.HasSuffix(rest, "<unfinished ...>") {
				unfinished[thread] = true
			} else {
				synced = synced || strings.HasSuffix(rest, "= 0")
			}
		case name == "write" && strings.Contains(rest, `"HTTP/1.1 200`):
			answers++
			if !wrote || !synced {
				return answers, "answer " + line + ": written to the file since the request: " + yes(wrote) + ", synced since: " + yes(synced)
			}
		}
	}
	return answers, ""
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
