package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func readTestConfig(t *testing.T, env map[string]string, args ...string) (*config, error) {
	t.Helper()
	full := map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret}
	maps.Copy(full, env)
	v := newTestValues(t, full, args, slices.Concat(proofSettings, serveSettings, gatewaySettings, databaseSettings)...)
	c := readConfig(v)
	return c, v.err()
}

func TestConfig(t *testing.T) {
	t.Parallel()
	cert, key, _ := selfSigned(t)
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		want []string // in the error, one for each line; none if it is good
	}{
		"defaults":               {nil, nil, nil},
		"everything":             {map[string]string{"PIXMED_GATEWAY_KEY": gatewayKeyText, "PIXMED_OPS_PASSWORD": opsPass, "PIXMED_FORWARD_SECRETS": forwardSecret}, []string{"--gateway", "https://g.example", "--forward", "https://app.example/x", "--tls-cert", cert, "--tls-key", key, "--traces", "http://127.0.0.1:4318", "--log-format", "text"}, nil},
		"networks":               {nil, []string{"--verify", "header+networks", "--networks", "203.0.113.0/24, 2001:db8::1", "--trusted-proxies", "10.0.0.0/8"}, nil},
		"no networks":            {nil, []string{"--verify", "header+networks"}, []string{"--networks: it is not set, but --verify asks for networks"}},
		"unused networks":        {nil, []string{"--networks", "10.0.0.0/8"}, []string{"--networks: it is set, but --verify does not ask"}},
		"bad networks":           {nil, []string{"--verify", "header+networks", "--networks", "10.0.0.0/33,fe80::1%eth0"}, []string{`--networks: "10.0"… is not`, `--networks: "fe80"… is not`}},
		"page off loopback":      {map[string]string{"PIXMED_OPS_PASSWORD": opsPass}, []string{"--admin", ":9090"}, []string{"--admin: the operations page would expose personal data"}},
		"any address":            {map[string]string{"PIXMED_OPS_PASSWORD": opsPass}, []string{"--admin", "0.0.0.0:9090"}, []string{"--admin: the operations page would expose"}},
		"a host's name":          {map[string]string{"PIXMED_OPS_PASSWORD": opsPass, "PIXMED_ADMIN": "pixmed.internal:9090"}, nil, []string{"PIXMED_ADMIN: the operations page would expose"}},
		"page with TLS":          {map[string]string{"PIXMED_OPS_PASSWORD": opsPass}, []string{"--admin", ":9090", "--admin-tls-cert", cert, "--admin-tls-key", key}, nil},
		"webhook's TLS":          {map[string]string{"PIXMED_OPS_PASSWORD": opsPass}, []string{"--admin", ":9090", "--tls-cert", cert, "--tls-key", key}, []string{"--admin: the operations page would expose"}},
		"page said so":           {map[string]string{"PIXMED_OPS_PASSWORD": opsPass}, []string{"--admin", ":9090", "--ops-plain-http"}, nil},
		"page on loopback":       {map[string]string{"PIXMED_OPS_PASSWORD": opsPass}, []string{"--admin", "[::1]:9090"}, nil},
		"no page":                {nil, []string{"--admin", ":9090"}, nil},
		"short password":         {map[string]string{"PIXMED_OPS_PASSWORD": opsPass[:15]}, nil, []string{"PIXMED_OPS_PASSWORD: it has fewer than 16"}},
		"short secret":           {map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret[:15]}, nil, []string{"PIXMED_WEBHOOK_SECRETS: secret 1 has fewer than 16"}},
		"one port":               {nil, []string{"--listen", ":8080", "--admin", ":8080"}, []string{"--admin: it is the webhook's own address"}},
		"unsigned":               {nil, []string{"--forward", "https://app.example"}, []string{"PIXMED_FORWARD_SECRETS: it is not set, but --forward is"}},
		"signed for nobody":      {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret}, nil, []string{"PIXMED_FORWARD_SECRETS: it is set, but --forward is not"}},
		"bad signatures":         {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret + " " + webhookSecret + " whsec_c2hvcnQ= whsec_%%%%%%%%%%%%"}, []string{"--forward", "https://app.example"}, []string{"secret 2 is not whsec_", "secret 3 has fewer", "secret 3 is not whsec_", "secret 4 is not whsec_"}},
		"plain forward":          {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret}, []string{"--forward", "http://app.internal"}, []string{"--forward: http:// would expose"}},
		"forward said so":        {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret}, []string{"--forward", "http://app.internal", "--forward-plain-http"}, nil},
		"reminders":              {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret}, []string{"--forward", "https://app.example", "--defence", "7d", "--remind", "3d, 1d,4h"}, nil},
		"due alone":              {map[string]string{"PIXMED_DEFENCE": "1h30m"}, nil, nil},
		"never due":              {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret}, []string{"--forward", "https://app.example", "--remind", "1d"}, []string{"--remind: it is set, but --defence is not"}},
		"remind nobody":          {nil, []string{"--defence", "7d", "--remind", "1d"}, []string{"--remind: it is set, but --forward is not"}},
		"bad reminders":          {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret}, []string{"--forward", "https://app.example", "--defence", "2d", "--remind", "1d,24h,2d,soon,0,"}, []string{"--remind: 1d is in it twice", "--remind: 2d is no less than --defence, which is 2d", `not "soon"`, `not "0"`, `not ""`}},
		"many reminders":         {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret}, []string{"--forward", "https://app.example", "--defence", "2d", "--remind", manyTimes(101)}, []string{"--remind: it has more than 100 times"}},
		"no defence":             {nil, []string{"--defence", "0"}, nil},
		"remind of nothing":      {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret}, []string{"--forward", "https://app.example", "--defence", "0s", "--remind", "1d"}, []string{"--remind: it is set, but --defence is 0"}},
		"a part of a unit":       {nil, []string{"--defence", "60.0000001s"}, nil},
		"alike but a part":       {map[string]string{"PIXMED_FORWARD_SECRETS": forwardSecret}, []string{"--forward", "https://app.example", "--defence", "2d", "--remind", "1s,1.0000001s"}, []string{"--remind: 1s is in it twice"}},
		"bad defence":            {nil, []string{"--defence", "30s"}, []string{"--defence: want a time from 1m to 10000d"}},
		"key for nobody":         {map[string]string{"PIXMED_GATEWAY_KEY": gatewayKeyText}, nil, []string{"PIXMED_GATEWAY_KEY: it is set, but --gateway is not"}},
		"key in place of a path": {map[string]string{"PIXMED_TLS_CERT": cert, "PIXMED_TLS_KEY": "-----BEGIN PRIVATE KEY-----\n" + webhookSecret}, nil, []string{"PIXMED_TLS_KEY: want the path of a file that can be read: "}},
		"secret in its place":    {map[string]string{"PIXMED_ADMIN_TLS_CERT": webhookSecret, "PIXMED_ADMIN_TLS_KEY": key}, nil, []string{"PIXMED_ADMIN_TLS_CERT: want the path of a file that can be read: "}},
		"files mixed up":         {nil, []string{"--tls-cert", key, "--tls-key", cert}, []string{"--tls-cert: "}},
		"blank in a password":    {map[string]string{"PIXMED_OPS_PASSWORD": " " + opsPass, "PIXMED_DRAIN": "soon"}, nil, []string{"PIXMED_OPS_PASSWORD: it has white space around it", "PIXMED_DRAIN: want"}},
		"break in a password":    {map[string]string{"PIXMED_OPS_PASSWORD": opsPass + "\n" + opsPass}, nil, []string{"PIXMED_OPS_PASSWORD: it has white space around it, or contains a control character"}},
		"everybody":              {nil, []string{"--verify", "header+networks", "--networks", "0.0.0.0/0,::/0,::ffff:0.0.0.0/96", "--trusted-proxies", "10.0.0.0/0"}, []string{"--networks: 0.0.0.0/0 is everybody", "--networks: ::/0 is everybody", "--networks: ::ffff:0.0.0.0/96 is everybody", "--trusted-proxies: 10.0.0.0/0 is everybody"}},
		"unused proxies":         {nil, []string{"--trusted-proxies", "10.0.0.0/8"}, []string{"--trusted-proxies: it is set, but --verify does not ask"}},
		"unused user":            {map[string]string{"PIXMED_GATEWAY_USER": "u"}, []string{"--gateway-cert", cert, "--gateway-cert-key", key, "--gateway-plain-http=false"}, []string{"PIXMED_GATEWAY_USER: it is set, but --gateway is not", "--gateway-cert: it is set, but --gateway is not", "--gateway-cert-key: it is set, but"}},
		"break in a prefix":      {nil, []string{"--webhook-hmac-prefix", "sha256=\n"}, []string{"--webhook-hmac-prefix: it contains a line break"}},
		"paths":                  {nil, []string{"--path", "/a?b"}, []string{"--path: "}},
		"a blank":                {nil, []string{"--path", "/a b"}, []string{"--path: "}},
		"two slashes":            {nil, []string{"--path", "/a//b"}, []string{"--path: "}},
		"dots":                   {nil, []string{"--path", "/a/../b"}, []string{"--path: "}},
		"only dots":              {nil, []string{"--path", "/."}, []string{"--path: "}},
		"last slash":             {nil, []string{"--path", "/a/"}, nil},
		"root":                   {nil, []string{"--path", "/"}, nil},
		"token for traces":       {nil, []string{"--traces", "http://127.0.0.1:4318/v1/traces?token=" + webhookSecret}, []string{"--traces: want a URL"}},
		"user for traces":        {nil, []string{"--traces", "http://" + webhookSecret + "@127.0.0.1:4318"}, []string{"--traces: want a URL"}},
		"pattern":                {nil, []string{"--path", "/{x}"}, []string{"--path: "}},
		"all at once": {
			map[string]string{"PIXMED_WEBHOOK_SECRETS": " ", "PIXMED_OPS_PASSWORD": "hidden", "PIXMED_DRAIN": "soon", "PIXMED_DB": "mysql://u:" + webhookSecret + "@h/db", "PIXMED_RETENTION": "1h"},
			[]string{
				"--listen", "x", "--admin", "y", "--tls-cert", "/does/not/exist", "--gateway", "ftp://" + webhookSecret, "--traces", "collector", "--ops-user", "a:b",
				"--ops-user-header", "a b", "--log-level", "loud", "--log-format", "xml", "--workers", "0", "--attempts", "-1", "--receipts", "", "--admin-tls-key", "x", "--forward-timeout", "1h",
			},
			[]string{
				`--listen: "x" is not an address`, `--admin: "y" is not an address`, "--tls-cert: it needs --tls-key", "--admin-tls-key: it needs --admin-tls-cert", "PIXMED_DRAIN: want a time", "--gateway: it should look like",
				"--traces: want a URL", "--ops-user: a user", `--ops-user-header: "a b" is not`, "PIXMED_WEBHOOK_SECRETS: it is empty", "PIXMED_OPS_PASSWORD: it has fewer than 16", "--log-level: want", "--log-format: want",
				"--workers: want", "--attempts: want", "--receipts: it is empty", "PIXMED_DB: want the path of a file or a postgres:// URL", "PIXMED_RETENTION: want a time", "--forward-timeout: want",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := readTestConfig(t, test.env, test.args...)
			if len(test.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			if lines := strings.Count(err.Error(), "\n") + 1; lines != len(test.want) {
				t.Errorf("%d lines, want %d: %v", lines, len(test.want), err)
			}
			contains(t, err.Error(), test.want...)
			for _, canary := range append(slices.Clone(canaries), "hidden") {
				if strings.Contains(err.Error(), canary[:min(10, len(canary))]) {
					t.Errorf("a secret is in %v", err)
				}
			}
		})
	}
}

// manyTimes is a list of n of them.
func manyTimes(n int) string {
	var list []string
	for i := range n {
		list = append(list, strconv.Itoa(i+1))
	}
	return strings.Join(list, ",")
}

// Left out, --defence is not changed; with 0 cases are never due. The SDK takes what
// the command does.
func TestReadDefence(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]config{
		"": {}, "0": {setsDefence: true}, "0s": {setsDefence: true}, "7d": {setsDefence: true, defence: 7 * day}, "60.0000001s": {setsDefence: true, defence: time.Minute},
	} {
		c, err := readTestConfig(t, map[string]string{"PIXMED_DEFENCE": text})
		if err != nil || c.setsDefence != want.setsDefence || c.defence != want.defence {
			t.Errorf("%q: %t, %v, %v", text, c.setsDefence, c.defence, err)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	c, err := readTestConfig(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.listen, c.admin, c.path, c.db.path, c.receipts, c.workers, c.attempts, c.retention, c.drain, c.forwardTimeout, c.acknowledgeOthers, c.opsPass, c.defence, len(c.remind)}
	want := []any{":8080", "127.0.0.1:9090", webhookPath, "inbox.db", "receipts", 10, 20, 400 * day, 5 * time.Second, 15 * time.Second, false, "", time.Duration(0), 0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadDatabase(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(file, []byte("postgres://u:"+webhookSecret+"@h/db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		path string // of a file; empty for PostgreSQL
		err  string
	}{
		"path":             {nil, []string{"--db", "/var/lib/pixmed/inbox.db"}, "/var/lib/pixmed/inbox.db", ""},
		"variable":         {map[string]string{"PIXMED_DB": "x.db"}, nil, "x.db", ""},
		"password":         {map[string]string{"PIXMED_DB": "postgres://u:" + webhookSecret + "@h/db"}, nil, "", ""},
		"file":             {map[string]string{"PIXMED_DB_FILE": file}, nil, "", ""},
		"flag wins":        {map[string]string{"PIXMED_DB_FILE": file}, []string{"--db", "x.db"}, "x.db", ""},
		"argument":         {nil, []string{"--db", "postgres://u:" + webhookSecret + "@h/db"}, "", "--db: it contains a password, which everybody on the machine can see: set PIXMED_DB instead"},
		"parameter":        {nil, []string{"--db", "postgres://h/db?password=" + webhookSecret}, "", "--db: it contains a password"},
		"of the key":       {nil, []string{"--db", "postgres://u@h/db?sslpassword=" + webhookSecret}, "", "--db: it contains a password"},
		"second of two":    {nil, []string{"--db", "postgres://u@h/db?password=&password=" + webhookSecret}, "", "--db: it contains a password"},
		"another secret":   {nil, []string{"--db", "postgres://u@h/db?oauth_client_Secret=" + webhookSecret}, "", "--db: it contains a password"},
		"no parameter's":   {nil, []string{"--db", "postgres://u@h/db?sslpassword=&sslmode=disable"}, "", ""},
		"key's, shown":     {map[string]string{"PIXMED_DB": "postgres://u@h/db?sslpassword=" + webhookSecret + "&pool_max_conns=" + webhookSecret}, nil, "", "PIXMED_DB: a part of the URL"},
		"no password":      {nil, []string{"--db", "postgresql://u@h/db"}, "", ""},
		"key and value":    {map[string]string{"PIXMED_DB": "host=h password=" + webhookSecret}, nil, "", "PIXMED_DB: write PostgreSQL's parameters as a URL"},
		"does not parse":   {map[string]string{"PIXMED_DB": "postgres://u:" + webhookSecret + "%@h:x/db"}, nil, "", "PIXMED_DB: it does not parse as a URL"},
		"pgx refuses":      {map[string]string{"PIXMED_DB": "postgres://u:" + webhookSecret + "@h/db?pool_max_conns=x"}, nil, "", "PIXMED_DB: "},
		"pgx, certificate": {map[string]string{"PIXMED_DB": "postgres://u:" + webhookSecret + "@h/db?sslmode=verify-full&sslrootcert=/none/" + webhookSecret}, nil, "", "PIXMED_DB: "},
		"pooler":           {map[string]string{"PIXMED_DB": "postgres://h/db", "PIXMED_DB_POOLER": "true"}, nil, "", ""},
		"pooler of a file": {nil, []string{"--db", "x.db", "--db-pooler"}, "", "--db-pooler: it is for PostgreSQL"},
		"empty":            {nil, []string{"--db="}, "", "--db: it is empty"},
		"receipts":         {nil, []string{"--db", "/var/lib/pixmed/inbox.db", "--queue", "receipts"}, "/var/lib/pixmed/inbox-receipts.db", ""},
		"receipts, server": {map[string]string{"PIXMED_DB": "postgres://u:" + webhookSecret + "@h/db", "PIXMED_QUEUE": "receipts"}, nil, "", ""},
		"another queue":    {nil, []string{"--queue", "x"}, "", "--queue: want notifications or receipts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newTestValues(t, test.env, test.args, append(databaseSettings, inboxQueue)...)
			d := readDatabase(v)
			err := v.err()
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), webhookSecret) {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			schema := map[bool]string{false: "pixmed_inbox", true: "pixmed_receipts"}[strings.HasPrefix(name, "receipts")]
			if err != nil || d.path != test.path || (d.pool != nil) != (test.path == "") || d.pool != nil && d.schema != schema {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}
