package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pixmed-go/pixmed"
)

func newDoctor(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [URL]",
		Short: "Check what can be wrong before the first webhook",
		Long: `Checks the settings of pixmed serve and what they lead to: the strength of secrets; the
gateway's address, certificate and credentials; the clock; the database's rights and
durability, and any pooler in front of it; disks; the application that notifications are
forwarded to. Given the webhook's public URL, it checks that the webhook can be reached
and rejects what it must.

It stores nothing and sends no notification. Run it as the same user and with the same
settings as pixmed serve. The exit code is 1 if something is wrong; warnings are for a
person to judge.`,
		Example: `  pixmed doctor
  pixmed doctor https://merchant.example/webhooks/infraction`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(fmt.Errorf("want the webhook's URL or nothing, not %d arguments", len(args)))
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	addSettings(cmd, slices.Concat(proofSettings, serveSettings, gatewaySettings, databaseSettings)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d := &doctor{out: p.out, v: newValues(cmd, p), known: knownVariables(cmd.Root())}
		d.examine(cmd.Context(), args)
		switch {
		case cmd.Context().Err() != nil:
			return &exit{exitInterrupted, errors.New("interrupted")}
		case d.wrong > 0:
			return &exit{exitFailed, fmt.Errorf("problems found: %d", d.wrong)}
		}
		return nil
	}
	return cmd
}

// doctor looks for what is wrong, and writes a line for each thing it looks at.
type doctor struct {
	out   io.Writer
	v     *values
	known map[string]bool // variables
	wrong int
	roots *x509.CertPool // nil: the system's
}

func (d *doctor) ok(what, format string, args ...any)   { d.line("ok", what, format, args) }
func (d *doctor) warn(what, format string, args ...any) { d.line("warn", what, format, args) }
func (d *doctor) fail(what, format string, args ...any) {
	d.wrong++
	d.line("FAIL", what, format, args)
}

func (d *doctor) line(verdict, what, format string, args []any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	fmt.Fprintf(d.out, "%-5s %-10s %s\n", verdict, what, text)
}

func (d *doctor) examine(ctx context.Context, args []string) {
	c := readConfig(d.v)
	for _, err := range d.v.errs {
		d.fail("settings", "%v", err)
	}
	if len(d.v.errs) == 0 {
		d.ok("settings", "all are valid")
	}
	d.variables()
	d.secrets(c)
	if c.gateway != nil && c.gateway.valid {
		d.gateway(ctx, c.gateway)
		d.folder("receipts", c.receipts)
	}
	switch {
	case c.db.pool != nil:
		d.postgres(ctx, c)
	case c.db.path != "":
		d.folder("database", filepath.Dir(c.db.path))
		for _, db := range inboxes(c) {
			d.sqlite(db.path)
		}
	}
	if c.forward != nil {
		d.application(ctx, c)
	}
	if len(args) > 0 {
		d.webhook(ctx, args[0], c)
	}
}

// knownVariables are those of all commands.
func knownVariables(root *cobra.Command) map[string]bool {
	known := map[string]bool{}
	var add func(*cobra.Command)
	variable := regexp.MustCompile(`PIXMED_[A-Z_]+`)
	add = func(cmd *cobra.Command) {
		for _, name := range variable.FindAllString(cmd.Annotations[settingAnnotation]+cmd.Flags().FlagUsages(), -1) {
			known[name] = true
		}
		for _, c := range cmd.Commands() {
			add(c)
		}
	}
	add(root)
	return known
}

// ofKubernetes are variables that Kubernetes makes of a service called pixmed.
var ofKubernetes = regexp.MustCompile(`^PIXMED_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT(_\d+_TCP\w*)?)$`)

// variables looks for names that are nearly right.
func (d *doctor) variables() {
	for _, name := range slices.Sorted(maps.Keys(d.v.env)) {
		if !strings.HasPrefix(name, "PIXMED_") || ofKubernetes.MatchString(name) || d.known[strings.TrimSuffix(name, fileSuffix)] {
			continue
		}
		d.warn("variables", "%s is not a setting of pixmed, and has no effect", printable(name, 64))
	}
}

// secrets looks at how hard secrets are to guess, and at who can read their files.
func (d *doctor) secrets(c *config) {
	weak := 0
	judge := func(s *setting, secrets ...string) {
		for i, secret := range secrets {
			if secret != "" && bits(secret) < 48 {
				weak++
				d.warn("secrets", "%s: secret %d looks as if it could be guessed: make one with openssl rand -hex 32", s.variable, i+1)
			}
		}
	}
	for _, s := range []*setting{proofSecrets, proofQuerys, proofPasswords, proofHMACs, forwardSecrets} {
		judge(s, strings.Fields(d.v.hidden(s))...)
	}
	judge(opsPassword, c.opsPass)
	if weak == 0 {
		d.ok("secrets", "none looks as if it could be guessed")
	}
	for _, name := range slices.Sorted(maps.Keys(d.v.env)) {
		if file := d.v.env[name]; strings.HasPrefix(name, "PIXMED_") && strings.HasSuffix(name, fileSuffix) && d.known[strings.TrimSuffix(name, fileSuffix)] {
			if info, err := os.Stat(file); err == nil && others(info, 0o004) {
				d.warn("secrets", "%s: everybody on the machine can read the file: run chmod o= on it", name)
			}
		}
	}
}

// others reports whether others have one of the rights, where a file has such.
func others(info os.FileInfo, rights os.FileMode) bool {
	return runtime.GOOS != "windows" && info.Mode().Perm()&rights != 0
}

// bits estimates how many a secret has, by how its characters are spread, and none
// where it holds a word that people put into such places.
func bits(secret string) float64 {
	for _, word := range []string{"secret", "password", "senha", "change", "example", "webhook", "pixmed", "12345"} {
		if strings.Contains(strings.ToLower(secret), word) {
			return 0
		}
	}
	count := map[rune]float64{}
	for _, r := range secret {
		count[r]++
	}
	total, sum := float64(len([]rune(secret))), 0.0
	for _, n := range count {
		sum -= n * math.Log2(n/total)
	}
	return sum
}

// examineTimeout is how long one thing that is looked at may take.
const examineTimeout = 20 * time.Second

// seen remembers the last response that came through it.
type seen struct {
	base http.RoundTripper
	last *http.Response
	at   time.Time
}

func (s *seen) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := s.base.RoundTrip(r)
	if err == nil {
		s.last, s.at = response, time.Now()
	}
	return response, err
}

// gateway asks for the receipt of a transaction that there is not.
func (d *doctor) gateway(ctx context.Context, g *gateway) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	defer g.transport.CloseIdleConnections()
	through := &seen{base: g.transport}
	client, err := g.client(through, pixmed.WithRetries(0), pixmed.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		d.fail("gateway", "%s", explain(err))
		return
	}
	_, err = client.Receipt(ctx, uuid.NewString())
	answer, answered := errors.AsType[*pixmed.APIError](err)
	switch {
	case err == nil:
		d.warn("gateway", "it returned a receipt for a random transaction id: is --gateway a test server?")
	case isRefused(err):
		d.fail("gateway", "it rejects the credentials: %s", explain(err))
	case answered && answer.StatusCode >= 400 && answer.StatusCode < 500 && answer.StatusCode != http.StatusTooManyRequests:
		d.ok("gateway", "it answers, and accepts the credentials or needs none: %s", describe(answer))
	case answered:
		d.warn("gateway", "it answers, but not as it should: %s", explain(err))
	default:
		d.fail("gateway", "%s", explain(err))
	}
	if through.last != nil {
		d.certificate("gateway", through.last.TLS)
		d.clock("the gateway", through.last.Header.Get("Date"), through.at)
	}
}

// certificate looks at when a server's certificate ends.
func (d *doctor) certificate(what string, state *tls.ConnectionState) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return
	}
	if left := time.Until(state.PeerCertificates[0].NotAfter); left < 14*day {
		d.warn(what, "its certificate expires in %d days", left/day)
	}
}

// clock compares this machine's with somebody else's, to the second.
func (d *doctor) clock(whose, date string, at time.Time) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		return
	}
	d.compareClocks(whose, at.Sub(theirs))
}

// compareClocks judges how far this machine's clock is ahead.
func (d *doctor) compareClocks(whose string, ahead time.Duration) {
	switch off := ahead.Abs(); {
	case off > time.Minute:
		d.fail("clock", "it differs from %s's by %v: use NTP", whose, off.Round(time.Second))
	case off > 5*time.Second:
		d.warn("clock", "it differs from %s's by %v: use NTP", whose, off.Round(time.Second))
	default:
		d.ok("clock", "it agrees with %s's", whose)
	}
}

// folder looks at whether files can be written there, and how many.
func (d *doctor) folder(what, dir string) {
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) && what == "receipts" { // pixmed serve makes it
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	switch {
	case err != nil:
		d.fail(what, "%v", err)
		return
	case !info.IsDir():
		d.fail(what, "%s is not a folder", dir)
		return
	}
	f, err := os.CreateTemp(dir, ".pixmed-doctor-*")
	if err != nil {
		d.fail(what, "this user cannot write to %s: %v", dir, err)
		return
	}
	_, err = f.Write(make([]byte, 4<<10))
	if err := errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name())); err != nil {
		d.fail(what, "%v", err)
		return
	}
	if free, known := freeDisk(dir); known {
		d.room(what, dir, free)
	} else {
		d.ok(what, "%s can be written to", dir)
	}
}

// room judges how many bytes are free on a folder's disk. pixmed serve accepts nothing
// below 64 MiB.
func (d *doctor) room(what, dir string, free uint64) {
	switch mib := free >> 20; {
	case mib < 64:
		d.fail(what, "only %d MiB are free on the disk of %s", mib, dir)
	case mib < 1024:
		d.warn(what, "only %d MiB are free on the disk of %s", mib, dir)
	default:
		d.ok(what, "%s can be written to, and %d GiB are free", dir, mib>>10)
	}
}

// inboxes are those that pixmed serve has with a configuration.
func inboxes(c *config) []*database {
	if c.gateway == nil {
		return []*database{c.db}
	}
	return []*database{c.db, c.db.receipts()}
}

// sqlite looks at a file, which may be open in pixmed serve: to open it here could
// drop that one's locks.
func (d *doctor) sqlite(path string) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.ok("database", "there is no file %s yet; pixmed serve creates it", path)
	case err != nil:
		d.fail("database", "%v", err)
	case !info.Mode().IsRegular():
		d.fail("database", "%s is not a regular file", path)
	case others(info, 0o077):
		d.warn("database", "users other than the owner can read %s, which holds personal data: run chmod 600 on it", path)
	}
}

// postgres looks at a server and at what the role may do.
func (d *doctor) postgres(ctx context.Context, c *config) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, c.db.pool.ConnConfig)
	if err != nil {
		d.fail("database", "%v", err)
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	all := inboxes(c)
	schemas := make([]string, len(all))
	for i, db := range all {
		schemas[i] = db.schema
	}
	start := time.Now()
	s, err := readServer(ctx, conn, schemas)
	if err != nil {
		d.fail("database", "%v", err)
		return
	}
	half := time.Since(start) / 2
	d.server(s, len(all)*connections(c.workers))
	d.pooler(ctx, c.db, conn, s.pid)
	d.compareClocks("PostgreSQL", start.Add(half).Sub(s.now))
}

// dbServer is a PostgreSQL server as a role sees it.
type dbServer struct {
	version, synchronous, fsync string
	standby, readOnly           bool
	connect, used, pid          int
	now                         time.Time

	// Schemas by what the role may not do with them: create them, use them, read and
	// write their tables, change their tables.
	missing, refused, barred, fixed []string
}

func readServer(ctx context.Context, conn *pgx.Conn, schemas []string) (*dbServer, error) {
	// A role sees of others' sessions how many there are, and not of which kind.
	s := &dbServer{}
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync'),
		pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
		current_setting('max_connections')::int, (SELECT sum(numbackends)::int FROM pg_stat_database), pg_backend_pid(), clock_timestamp(),
		ARRAY(SELECT s FROM unnest($1::text[]) s WHERE to_regnamespace(s) IS NULL AND NOT has_database_privilege(current_database(), 'CREATE')),
		ARRAY(SELECT s FROM unnest($1::text[]) s WHERE NOT has_schema_privilege(to_regnamespace(s), 'USAGE')),
		ARRAY(SELECT s FROM unnest($1::text[]) s WHERE EXISTS (SELECT FROM pg_class t WHERE relnamespace = to_regnamespace(s) AND relkind = 'r' AND (
			NOT has_table_privilege(t.oid, 'SELECT')
			OR relname IN ('cases', 'events', 'ids', 'notes') AND NOT (has_table_privilege(t.oid, 'INSERT') AND has_table_privilege(t.oid, 'DELETE'))
			OR relname IN ('cases', 'events', 'settings') AND NOT has_table_privilege(t.oid, 'UPDATE')))),
		ARRAY(SELECT s FROM unnest($1::text[]) s WHERE NOT has_schema_privilege(to_regnamespace(s), 'CREATE')
			OR EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace(s) AND relkind = 'r' AND NOT pg_has_role(relowner, 'USAGE')))`, schemas).
		Scan(&s.version, &s.synchronous, &s.fsync, &s.standby, &s.readOnly, &s.connect, &s.used, &s.pid, &s.now, &s.missing, &s.refused, &s.barred, &s.fixed)
	return s, err
}

// server judges one on which pixmed serve needs a number of connections.
func (d *doctor) server(s *dbServer, need int) {
	d.ok("database", "PostgreSQL %s answers", printable(s.version, 64))
	switch {
	case s.standby:
		d.fail("database", "it is a standby: connect to the primary")
	case s.readOnly:
		d.fail("database", "its transactions are read-only")
	case len(s.refused) > 0:
		d.fail("database", "the role may not use the schema %s: GRANT USAGE ON SCHEMA, and rights on its tables", strings.Join(s.refused, ", "))
	case len(s.missing) > 0:
		d.fail("database", "the role may not create the schema %s: GRANT CREATE ON DATABASE, or run pixmed serve once as a role that may", strings.Join(s.missing, ", "))
	case len(s.barred) > 0:
		d.fail("database", "the role may not read and write all tables of the schema %s: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA", strings.Join(s.barred, ", "))
	case len(s.fixed) > 0:
		d.warn("database", "the role may not change the tables of the schema %s: run each new version once as a role that may", strings.Join(s.fixed, ", "))
	default:
		d.ok("database", "the role has the rights that it needs")
	}
	switch {
	case s.fsync == "off":
		d.fail("database", "fsync is off: a power cut loses what was answered 200")
	case s.synchronous == "off":
		d.fail("database", "synchronous_commit is off: a crash loses what was answered 200")
	default:
		d.ok("database", "synchronous_commit is %s", printable(s.synchronous, 32))
	}
	if free := s.connect - s.used; need > free {
		d.warn("database", "pixmed serve may open %d connections, and of the server's %d only %d are free", need, s.connect, max(free, 0))
	}
}

// pooler checks whether two connections share a backend, as they do through a
// pooler in transaction mode.
func (d *doctor) pooler(ctx context.Context, db *database, first *pgx.Conn, pid int) {
	second, err := pgx.ConnectConfig(ctx, db.pool.ConnConfig)
	if err != nil {
		d.fail("pooler", "a second connection: %v", err)
		return
	}
	defer func() { _ = second.Close(context.WithoutCancel(ctx)) }()
	tx, err := second.Begin(ctx) // holds its backend
	if err != nil {
		d.fail("pooler", "%v", err)
		return
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var other, again int
	err = errors.Join(tx.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&other), first.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&again))
	switch {
	case err != nil:
		d.fail("pooler", "%v", err)
	case (other == pid || again != pid) && !db.pooler:
		d.fail("pooler", "a pooler in transaction mode is in front of the database: connect to the database itself, or set --%s", databasePooler.flag)
	case other == pid || again != pid:
		d.ok("pooler", "a pooler in transaction mode, and --%s is set", databasePooler.flag)
	case db.pooler:
		d.warn("pooler", "--%s is set, but there is no pooler in transaction mode: it delays work by up to 0.1 s for nothing", databasePooler.flag)
	default:
		d.ok("pooler", "there is none in transaction mode")
	}
}

// application looks at whether what is forwarded would arrive, and whether what is not
// signed would be taken.
func (d *doctor) application(ctx context.Context, c *config) {
	answer, err := d.request(ctx, http.MethodPost, c.forward.String(), `{"type":"pixmed.doctor"}`, nil)
	if err != nil {
		d.fail("forward", "the application does not answer: %v", err)
		return
	}
	switch status := answer.status; {
	case status >= 200 && status < 300:
		d.fail("forward", "the application accepts an unsigned message: it must verify webhook-signature")
	case status >= 300 && status < 400:
		d.fail("forward", "the application answers %d, and redirects are not followed", status)
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status >= 500:
		d.warn("forward", "the application answers %d to an unsigned message, where 401 was expected: is the URL right?", status)
	default:
		d.ok("forward", "the application rejects an unsigned message (%d)", status)
	}
	d.certificate("forward", answer.tls)
}

// found is what a server answered.
type found struct {
	status int
	header http.Header
	body   string // the beginning
	tls    *tls.ConnectionState
}

// request sends one request. prepare may be nil.
func (d *doctor) request(ctx context.Context, method, url, body string, prepare func(*http.Request)) (*found, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: d.roots, MinVersion: tls.VersionTLS12}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport, Timeout: examineTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	r.Header.Set("User-Agent", "pixmed-doctor")
	if prepare != nil {
		prepare(r)
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	return &found{response.StatusCode, response.Header, string(text), response.TLS}, nil
}

// webhook looks at the webhook from outside: it has to be there, and to refuse what
// proves nothing. What is posted is no infraction, whatever becomes of it.
func (d *doctor) webhook(ctx context.Context, text string, c *config) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		d.fail("webhook", "this is not a URL; it should look like https://merchant.example/webhooks/infraction")
		return
	case u.User != nil || u.RawQuery != "":
		d.fail("webhook", "give the URL without a user, a password and a query")
		return
	case u.Scheme == "http" && !loopback(u.Hostname()):
		d.fail("webhook", "http:// exposes notifications and secrets to the network: use https://")
	}
	answer, err := d.request(ctx, http.MethodGet, text, "", nil)
	switch {
	case err != nil:
		d.fail("webhook", "it cannot be reached: %v", err)
		return
	case answer.status == http.StatusMethodNotAllowed && answer.header.Get("Allow") == http.MethodPost:
		d.ok("webhook", "it can be reached")
	default:
		d.fail("webhook", "something else answers there: GET returns %d, and the webhook returns 405", answer.status)
		return
	}
	d.certificate("webhook", answer.tls)
	d.refuses(ctx, text, c)
	for path, what := range map[string]string{"/metrics": "pixmed_", "/readyz": "ready", "/ops/": "pixmed"} {
		public := u.Scheme + "://" + u.Host + path
		answer, err := d.request(ctx, http.MethodGet, public, "", nil)
		if err == nil && strings.Contains(answer.body+answer.header.Get("WWW-Authenticate"), what) {
			d.warn("webhook", "%s is public: nobody but operators should reach --admin", path)
		}
	}
}

// refuses posts without proof, and with a wrong one.
func (d *doctor) refuses(ctx context.Context, text string, c *config) {
	if c.verifier == nil && len(d.v.errs) == 0 {
		d.warn("webhook", "--verify is none: anybody who can reach it can post notifications")
		return
	}
	wrong := rejected(d.v)
	for what, prepare := range map[string]func(*http.Request){"without proof": nil, "with a wrong proof": wrong} {
		answer, err := d.request(ctx, http.MethodPost, text, `{"pixmed":"doctor"}`, prepare)
		switch {
		case err != nil:
			d.fail("webhook", "a request %s: %v", what, err)
		case answer.status == http.StatusUnauthorized:
			d.ok("webhook", "it rejects a request %s", what)
		case c.onlyNetworks:
			d.warn("webhook", "it does not reject a request from here (%d), which --networks may allow", answer.status)
		default:
			d.fail("webhook", "it does not reject a request %s: it answers %d instead of 401", what, answer.status)
		}
	}
}

// rejected proves a request with secrets that were made up just now.
func rejected(v *values) func(*http.Request) {
	return func(r *http.Request) {
		made := uuid.NewString()
		r.SetBasicAuth(v.text(proofUser), made)
		for _, s := range []*setting{proofHeader, proofHMACHeader} {
			if name := v.text(s); isHeader(name) {
				r.Header.Set(name, made)
			}
		}
		query := r.URL.Query()
		query.Set(v.text(proofQuery), made)
		r.URL.RawQuery = query.Encode()
	}
}
