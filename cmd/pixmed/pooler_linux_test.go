package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A pooler that gives connections away between transactions is found, and one that
// does not is none of anybody's business.
func TestDoctorPooler(t *testing.T) {
	t.Parallel()
	need(t, "pgbouncer")
	database := mustParse(t, newPostgres(t))
	for mode, want := range map[string]string{
		"transaction": "FAIL  pooler     a pooler in transaction mode is in front of the database",
		"session":     "ok    pooler     there is none in transaction mode",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			port := freePort(t)
			u := *database
			host := cmp.Or(database.Hostname(), database.Query().Get("host"))
			password, _ := database.User.Password()
			dir := t.TempDir()
			config, users := filepath.Join(dir, "pgbouncer.ini"), filepath.Join(dir, "users.txt")
			if err := os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", database.User.Username(), password), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = %s
ignore_startup_parameters = extra_float_digits
`, host, cmp.Or(database.Port(), database.Query().Get("port"), "5432"), port, users, mode), 0o644); err != nil {
				t.Fatal(err)
			}
			arguments := []string{config}
			if os.Getuid() == 0 { // as whom it does not run; the server is that user's
				arguments = []string{"-u", "postgres", config}
			}
			startProgram(t, "127.0.0.1:"+port, nil, dir, append([]string{"pgbouncer"}, arguments...))
			u.Host = "127.0.0.1:" + port
			query := u.Query()
			for _, name := range []string{"host", "port"} {
				query.Del(name)
			}
			query.Set("sslmode", "disable")
			u.RawQuery = query.Encode()
			got := try(t, map[string]string{"PIXMED_WEBHOOK_SECRETS": strongSecret, "PIXMED_DB": u.String()}, "doctor")
			contains(t, got.out, want)

			// And what is told of it works, or says what to set.
			env := settings(newGateway(t), u.String(), t.TempDir())
			if mode == "transaction" {
				if got := try(t, env, "serve"); got.code != exitFailed || !strings.Contains(got.err, "connect to the database itself, or set --db-pooler") {
					t.Errorf("%+v", got)
				}
				env["PIXMED_DB_POOLER"] = "true"
				contains(t, try(t, env, "doctor").out, "ok    pooler     a pooler in transaction mode, and --db-pooler is set")
			}
			s := start(t, env)
			if got := try(t, env, "send", s.webhook+webhookPath, "debited"); got.code != exitOK {
				t.Errorf("%+v", got)
			}
			contains(t, try(t, env, "inbox", "list").out, "DEBITED")
			s.end(t)
		})
	}
}

// need skips a test for want of a program, and in CI fails.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// freePort returns a port that is free, for programs that choose none by themselves.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// startProgram starts a program and waits until it listens. It returns what it says.
func startProgram(t *testing.T, address string, env []string, dir string, command []string) *lockedBuffer {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	log := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		if t.Failed() {
			t.Log(strings.Join(command, " "), log.String())
		}
	})
	for patience := time.After(time.Minute); ; {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = c.Close()
			return log
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", command[0], log.String())
		case <-patience:
			t.Fatalf("%s does not listen: %s", command[0], log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
