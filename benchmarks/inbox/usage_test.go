package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// usage is what a member has used so far.
type usage struct {
	process     time.Duration // of CPU, in this process, with its senders
	server      time.Duration // of CPU, in the server's processes for the member's connections
	connections int           // to the server
}

// since returns the usage after an earlier one.
func (u usage) since(earlier usage) usage {
	return usage{u.process - earlier.process, max(u.server-earlier.server, 0), u.connections}
}

// used returns what a member has used. Its pool closes no connection while a
// benchmark runs, so that all that it has needed are there.
func (p *peer) used(ctx context.Context) (u usage, err error) {
	u.process = cpu("self")
	if p.place.database == "" {
		return u, nil
	}
	conn, err := pgx.Connect(ctx, p.place.database)
	if err != nil {
		return usage{}, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	rows, _ := conn.Query(ctx, `SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	for _, pid := range pids {
		u.server += cpu(strconv.Itoa(int(pid)))
	}
	u.connections = len(pids)
	return u, err
}

// cpu returns how long a process has run on the processors, in steps of 10 ms; 0 if
// it is not on this machine, and on systems other than Linux.
func cpu(pid string) time.Duration {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	_, fields, ok := bytes.Cut(stat, []byte(") ")) // after the program's name
	if err != nil || !ok {
		return 0
	}
	var user, system int64
	if _, err := fmt.Sscanf(string(bytes.Join(bytes.Fields(fields)[11:13], []byte(" "))), "%d %d", &user, &system); err != nil {
		return 0
	}
	const tick = 10 * time.Millisecond // in every Linux
	return time.Duration(user+system) * tick
}

// What this process computes is counted.
func TestCPU(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		if got := cpu("self"); got != 0 {
			t.Errorf("%v, want 0 where it is not known", got)
		}
		return
	}
	before := cpu("self")
	for deadline := time.Now().Add(time.Minute); cpu("self") == before; {
		if time.Now().After(deadline) {
			t.Fatal("nothing was counted in a minute")
		}
	}
	if got := cpu("none"); got != 0 {
		t.Errorf("a process that does not exist has run for %v", got)
	}
}
