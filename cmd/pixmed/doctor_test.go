package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

const strongSecret = "pIq0u7Wm3xZr9bTn5vKc1yHd"

// The doctor finds nothing where all is well, beside a running server.
func TestDoctorFindsNothing(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			app := newApplication(t, answerWith(http.StatusUnauthorized))
			env := settings(gateway, database(t), t.TempDir())
			maps.Copy(env, map[string]string{
				"PIXMED_WEBHOOK_SECRETS": strongSecret, "PIXMED_OPS_PASSWORD": strongSecret + ".", "PIXMED_FORWARD": app.url, "PIXMED_FORWARD_SECRETS": forwardSecret,
				"PIXMED_SERVICE_HOST": "10.0.0.1", "PIXMED_PORT_8080_TCP_ADDR": "10.0.0.1", "PIXMED_PORT": "tcp://10.0.0.1:8080",
			})
			s := start(t, env)
			got := try(t, env, "doctor", s.webhook+webhookPath)
			if got.code != exitOK || strings.Contains(got.out, "warn ") || strings.Contains(got.out, "FAIL") || got.err != "" {
				t.Errorf("%+v", got)
			}
			want := []string{
				"ok    settings   all are valid", "ok    secrets    none looks", "ok    gateway    it answers, and accepts the credentials", "ok    clock      it agrees with the gateway's",
				"ok    receipts   ", "ok    forward    the application rejects an unsigned message (401)",
				"ok    webhook    it can be reached", "ok    webhook    it rejects a request without proof", "ok    webhook    it rejects a request with a wrong proof",
			}
			if name == "postgres" {
				want = append(want, "ok    database   PostgreSQL ", "ok    database   the role has the rights", "ok    database   synchronous_commit is on", "ok    pooler     there is none", "it agrees with PostgreSQL's")
			} else {
				want = append(want, "ok    database   ")
			}
			contains(t, got.out, want...)
			s.end(t)
			for _, request := range app.requests() {
				if request.header.Get("Webhook-Signature") != "" {
					t.Error("what the doctor posts is signed")
				}
			}
			if got := try(t, env, "inbox", "stats", "--json"); !strings.Contains(got.out, `"quarantined":0`) {
				t.Errorf("the doctor has left something: %+v", got)
			}
		})
	}
}

// What is wrong is found, and what is next to it still looked at.
func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	answer := func(h http.HandlerFunc) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return server.URL
	}
	withDate := func(off time.Duration) string {
		return answer(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusNotFound)
		})
	}
	tlsServer := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tlsServer.Close)
	readable := filepath.Join(t.TempDir(), "readable")
	if err := os.WriteFile(readable, []byte(strongSecret), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "inbox.db")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		env  map[string]string
		url  string
		code int
		want []string
	}{
		"settings":        {map[string]string{"PIXMED_LISTEN": "x", "PIXMED_FORWARD": "y"}, "", exitFailed, []string{"FAIL  settings   PIXMED_LISTEN: ", "FAIL  settings   PIXMED_FORWARD: ", "FAIL  settings   PIXMED_FORWARD_SECRETS: ", "ok    database"}},
		"a name":          {map[string]string{"PIXMED_WEBHOOK_SECRET": "x", "PIXMED_GATEWAY_TOKEN_FILES": "x", "PIXMED_\x1b": "x"}, "", exitOK, []string{"warn  variables  PIXMED_WEBHOOK_SECRET is not a setting", "PIXMED_GATEWAY_TOKEN_FILES is not a setting", `"PIXMED_\x1b" is not a setting`}},
		"weak secret":     {map[string]string{"PIXMED_WEBHOOK_SECRETS": strongSecret + " aaaaaaaaaaaaaaaa", "PIXMED_OPS_PASSWORD": opsPass + "-change-me"}, "", exitOK, []string{"PIXMED_WEBHOOK_SECRETS: secret 2 looks as if", "PIXMED_OPS_PASSWORD: secret 1 looks as if"}},
		"file's mode":     {map[string]string{"PIXMED_WEBHOOK_SECRETS": "", "PIXMED_WEBHOOK_SECRETS_FILE": readable}, "", exitOK, []string{"warn  secrets    PIXMED_WEBHOOK_SECRETS_FILE: everybody on the machine can read"}},
		"no gateway":      {map[string]string{"PIXMED_GATEWAY": "http://127.0.0.1:1"}, "", exitFailed, []string{"FAIL  gateway    ", "refused"}},
		"bad certificate": {map[string]string{"PIXMED_GATEWAY": tlsServer.URL}, "", exitFailed, []string{"FAIL  gateway    ", "certificate"}},
		"bad credentials": {map[string]string{"PIXMED_GATEWAY": answer(answerWith(http.StatusForbidden))}, "", exitFailed, []string{"FAIL  gateway    it rejects the credentials: the gateway answered 403 Forbidden"}},
		"gateway down":    {map[string]string{"PIXMED_GATEWAY": answer(answerWith(http.StatusServiceUnavailable))}, "", exitOK, []string{"warn  gateway    it answers, but not as it should: the gateway answered 503"}},
		"clock far off":   {map[string]string{"PIXMED_GATEWAY": withDate(-2 * time.Hour)}, "", exitFailed, []string{"FAIL  clock      it differs from the gateway's by 2h0m"}},
		"clock off":       {map[string]string{"PIXMED_GATEWAY": withDate(30 * time.Second)}, "", exitOK, []string{"warn  clock      it differs from the gateway's by "}},
		"no folder":       {map[string]string{"PIXMED_DB": "/does/not/exist/inbox.db"}, "", exitFailed, []string{"FAIL  database   stat /does/not/exist"}},
		"others read":     {map[string]string{"PIXMED_DB": file}, "", exitOK, []string{"warn  database   users other than the owner can read " + file}},
		"a folder":        {map[string]string{"PIXMED_DB": t.TempDir()}, "", exitFailed, []string{"is not a regular file"}},
		"no server":       {map[string]string{"PIXMED_DB": "postgres://u:" + webhookSecret + "@127.0.0.1:1/db"}, "", exitFailed, []string{"FAIL  database   ", "refused"}},
		"unsigned taken":  {forward(answer(answerWith(http.StatusOK))), "", exitFailed, []string{"FAIL  forward    the application accepts an unsigned message"}},
		"forward moved":   {forward(answer(answerWith(http.StatusFound))), "", exitFailed, []string{"FAIL  forward    the application answers 302, and redirects"}},
		"forward unknown": {forward(answer(answerWith(http.StatusNotFound))), "", exitOK, []string{"warn  forward    the application answers 404"}},
		"forward away":    {forward("http://127.0.0.1:1/"), "", exitFailed, []string{"FAIL  forward    the application does not answer"}},
		"webhook away":    {nil, "http://127.0.0.1:1/", exitFailed, []string{"FAIL  webhook    it cannot be reached"}},
		"no URL":          {nil, "merchant.example", exitFailed, []string{"FAIL  webhook    this is not a URL"}},
		"a secret in it":  {nil, "https://merchant.example/?token=" + webhookSecret, exitFailed, []string{"FAIL  webhook    give the URL without"}},
		"another server":  {nil, answer(answerWith(http.StatusOK)), exitFailed, []string{"FAIL  webhook    something else answers there: GET returns 200"}},
		"open to all": {nil, answer(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/metrics" {
				_, _ = fmt.Fprintln(w, "pixmed_build_info 1")
			} else if r.Method == http.MethodGet {
				w.Header().Set("Allow", "POST")
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
		}) + "/hook", exitFailed, []string{"FAIL  webhook    it does not reject a request without proof: it answers 200 instead of 401", "with a wrong proof", "warn  webhook    /metrics is public"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" && strings.Contains(test.want[0], "read") {
				return // who may read a file is told otherwise there
			}
			env := map[string]string{"PIXMED_WEBHOOK_SECRETS": strongSecret, "PIXMED_DB": filepath.Join(t.TempDir(), "inbox.db"), "PIXMED_RECEIPTS": filepath.Join(t.TempDir(), "receipts")}
			maps.Copy(env, test.env)
			args := []string{"doctor"}
			if test.url != "" {
				args = append(args, test.url)
			}
			got := try(t, env, args...)
			if got.code != test.code || strings.ContainsAny(got.out, "\x1b") || strings.Contains(got.out, strongSecret) {
				t.Errorf("%+v, want code %d", got, test.code)
			}
			contains(t, got.out, test.want...)
			for line := range strings.Lines(got.out) {
				if (strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "warn")) && !slices.ContainsFunc(test.want, func(want string) bool { return strings.Contains(line, want) }) {
					if test.url == "" || !strings.Contains(line, "webhook") {
						t.Errorf("found as well: %s", line)
					}
				}
			}
		})
	}
	if got := try(t, nil, "doctor", "a", "b"); got.code != exitUsage {
		t.Errorf("%+v", got)
	}
}

func forward(to string) map[string]string {
	return map[string]string{"PIXMED_FORWARD": to, "PIXMED_FORWARD_SECRETS": forwardSecret}
}

func TestDoctorRoom(t *testing.T) {
	t.Parallel()
	for free, want := range map[uint64]string{
		64<<20 - 1: "FAIL  receipts   only 63 MiB are free on the disk of /r\n", 64 << 20: "warn  receipts   only 64 MiB are free on the disk of /r\n",
		1<<30 - 1: "warn  receipts   only 1023 MiB are free on the disk of /r\n", 5 << 30: "ok    receipts   /r can be written to, and 5 GiB are free\n",
	} {
		var out strings.Builder
		d := doctor{out: &out}
		d.room("receipts", "/r", free)
		if out.String() != want || (d.wrong > 0) != strings.HasPrefix(want, "FAIL") {
			t.Errorf("%d: %s, want %s", free, out.String(), want)
		}
	}
}

// A certificate that ends soon or has ended is found, whoever's it is.
func TestDoctorCertificate(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	for left, test := range map[time.Duration]struct{ verdict, want string }{
		-hour:          {"FAIL ", "x509: certificate has expired"},
		hour:           {"warn ", "its certificate expires in 0 days\n"},
		14*day - hour:  {"warn ", "its certificate expires in 13 days\n"},
		14*day + hour:  {},
		365*day + hour: {},
	} {
		t.Run(left.String(), func(t *testing.T) {
			t.Parallel()
			cert, key, pool := selfSignedUntil(t, time.Now().Add(left))
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Allow", http.MethodPost)
				w.WriteHeader(http.StatusMethodNotAllowed)
			}))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.StartTLS()
			t.Cleanup(server.Close)
			v := newTestValues(t, map[string]string{"PIXMED_GATEWAY": server.URL}, nil, gatewaySettings...)
			g := readGateway(v)
			g.transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
			for what, look := range map[string]func(*doctor){
				"gateway": func(d *doctor) { d.gateway(t.Context(), g) },
				"forward": func(d *doctor) { d.application(t.Context(), &config{forward: mustParse(t, server.URL)}) },
				"webhook": func(d *doctor) { d.webhook(t.Context(), server.URL+"/hook", &config{}) },
			} {
				var out strings.Builder
				look(&doctor{out: &out, v: v, roots: pool})
				got := ""
				for line := range strings.Lines(out.String()) {
					if strings.Contains(line, "certificate") {
						got += line
					}
				}
				if (got == "") != (test.want == "") || !strings.HasPrefix(got, test.verdict) || !strings.Contains(got, test.want) {
					t.Errorf("%s: %s, want %s%s", what, out.String(), test.verdict, test.want)
				}
			}
		})
	}
}

// A database that loses what it has confirmed, or takes nothing, or not as much as the
// two inboxes ask for.
func TestDoctorPostgres(t *testing.T) {
	t.Parallel()
	database, gateway := newPostgres(t), newGateway(t)
	onPostgres(t, database, "ALTER DATABASE "+databaseName(t, database)+" SET synchronous_commit = off")
	readOnly := mustParse(t, database)
	query := readOnly.Query()
	query.Set("options", "-c default_transaction_read_only=on")
	readOnly.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	for env, want := range map[string][]string{
		database:          {"FAIL  database   synchronous_commit is off", "ok    database   the role has the rights"},
		readOnly.String(): {"FAIL  database   its transactions are read-only"},
	} {
		got := try(t, map[string]string{"PIXMED_WEBHOOK_SECRETS": strongSecret, "PIXMED_DB": env, "PIXMED_GATEWAY": gateway.URL(), "PIXMED_WORKERS": "1000"}, "doctor")
		if got.code != exitFailed {
			t.Errorf("%+v", got)
		}
		contains(t, got.out, append(want, "warn  database   pixmed serve may open 2008 connections, and of the server's ")...)
	}
}

// What a server is asked is judged, also what a test cannot make of a server that is
// not its own.
func TestDoctorServer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*dbServer)
		want   string // the one line that is not ok
	}{
		"nothing":         {func(*dbServer) {}, ""},
		"standby":         {func(s *dbServer) { s.standby, s.readOnly = true, true }, "FAIL  database   it is a standby: connect to the primary\n"},
		"read-only":       {func(s *dbServer) { s.readOnly = true }, "FAIL  database   its transactions are read-only\n"},
		"fsync":           {func(s *dbServer) { s.fsync = "off" }, "FAIL  database   fsync is off: a power cut loses what was answered 200\n"},
		"fsync and more":  {func(s *dbServer) { s.fsync, s.synchronous = "off", "off" }, "FAIL  database   fsync is off: a power cut loses what was answered 200\n"},
		"connections":     {func(s *dbServer) { s.used = 91 }, "warn  database   pixmed serve may open 10 connections, and of the server's 100 only 9 are free\n"},
		"no connections":  {func(s *dbServer) { s.used = 103 }, "warn  database   pixmed serve may open 10 connections, and of the server's 100 only 0 are free\n"},
		"remote commit":   {func(s *dbServer) { s.synchronous = "remote_apply" }, ""},
		"some connection": {func(s *dbServer) { s.used = 90 }, ""},
	} {
		s := &dbServer{version: "17.2", synchronous: "on", fsync: "on", connect: 100, used: 5}
		test.change(s)
		var out strings.Builder
		d := doctor{out: &out}
		d.server(s, 10)
		got := ""
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix(line, "ok ") {
				got += line
			}
		}
		if got != test.want || (d.wrong > 0) != strings.HasPrefix(test.want, "FAIL") {
			t.Errorf("%s: %s, want %s", name, out.String(), test.want)
		}
	}
}

// A role that lacks a right is told which, until it has all.
func TestDoctorRights(t *testing.T) {
	t.Parallel()
	database, gateway := newPostgres(t), newGateway(t)
	role := "doctor_" + databaseName(t, database)
	onPostgres(t, database, "CREATE ROLE "+role+" LOGIN PASSWORD '"+webhookSecret+"'")
	t.Cleanup(func() { onPostgres(t, database, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	poor := mustParse(t, database)
	owner := pgx.Identifier{poor.User.Username()}.Sanitize()
	poor.User = url.UserPassword(role, webhookSecret)
	const schemas = "pixmed_inbox, pixmed_receipts"
	env := settings(gateway, poor.String(), t.TempDir())
	env["PIXMED_WEBHOOK_SECRETS"] = strongSecret
	for _, step := range []struct{ sql, want string }{
		{"", "FAIL  database   the role may not create the schema " + schemas + ": GRANT CREATE ON DATABASE"},
		{"GRANT CREATE ON DATABASE " + databaseName(t, database) + " TO " + role, "ok    database   the role has the rights"},
		{"serve", "FAIL  database   the role may not use the schema " + schemas + ": GRANT USAGE"},
		{"GRANT USAGE ON SCHEMA " + schemas + " TO " + role, "FAIL  database   the role may not read and write all tables of the schema " + schemas + ": GRANT SELECT"},
		{"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA " + schemas + " TO " + role, "warn  database   the role may not change the tables of the schema " + schemas + ": run each new version"},
		{"REVOKE UPDATE ON pixmed_receipts.settings FROM " + role, "FAIL  database   the role may not read and write all tables of the schema pixmed_receipts: "},
		{"GRANT UPDATE ON pixmed_receipts.settings TO " + role + "; REVOKE DELETE ON pixmed_inbox.notes FROM " + role, "FAIL  database   the role may not read and write all tables of the schema pixmed_inbox: "},
		{"GRANT DELETE ON pixmed_inbox.notes TO " + role + "; REVOKE SELECT ON pixmed_inbox.inbox_migrations FROM " + role, "FAIL  database   the role may not read and write all tables of the schema pixmed_inbox: "},
		{"GRANT CREATE ON SCHEMA " + schemas + " TO " + role + "; GRANT SELECT ON pixmed_inbox.inbox_migrations TO " + role, "warn  database   the role may not change the tables of the schema " + schemas},
		{"GRANT " + owner + " TO " + role, "ok    database   the role has the rights"},
	} {
		switch step.sql {
		case "":
		case "serve": // as the owner
			start(t, settings(gateway, database, t.TempDir())).end(t)
		default:
			onPostgres(t, database, step.sql)
		}
		got := try(t, env, "doctor")
		if want := map[bool]int{false: exitOK, true: exitFailed}[strings.HasPrefix(step.want, "FAIL")]; got.code != want {
			t.Errorf("after %s: %+v, want code %d", step.sql, got, want)
		}
		contains(t, got.out, step.want)
	}
}

// A role without rights counts the connections of others, too.
func TestDoctorConnections(t *testing.T) {
	t.Parallel()
	database := newPostgres(t)
	role := "doctor_" + databaseName(t, database)
	onPostgres(t, database, "CREATE ROLE "+role+" LOGIN PASSWORD '"+webhookSecret+"'")
	t.Cleanup(func() { onPostgres(t, database, "DROP ROLE "+role) })
	poor := mustParse(t, database)
	poor.User = url.UserPassword(role, webhookSecret)
	connect := func(url string) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return conn
	}
	const others = 3
	for range others {
		connect(database)
	}
	s, err := readServer(t.Context(), connect(poor.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.used <= others || s.connect < s.used {
		t.Errorf("%d of %d connections are used, want more than %d", s.used, s.connect, others)
	}
}

func databaseName(t *testing.T, database string) string {
	t.Helper()
	return strings.TrimPrefix(mustParse(t, database).Path, "/")
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestBits(t *testing.T) {
	t.Parallel()
	for secret, strong := range map[string]bool{
		strongSecret: true, "6f1c0b9e8a7d4325f0e1d2c3b4a59687": true, "aaaaaaaaaaaaaaaa": false, "abababababababababab": false,
		"my-secret-of-today-9431": false, "Senha-do-webhook-2026": false, "": false,
	} {
		if got := bits(secret) >= 48; got != strong {
			t.Errorf("%s has %.0f bits", secret, bits(secret))
		}
	}
	if diff := cmp.Diff(true, bits(pixmedtest.NewInfraction().TransactionID) > 48); diff != "" {
		t.Error("a UUID is weak")
	}
}
