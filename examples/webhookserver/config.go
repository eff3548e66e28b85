package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// config is what the server is told by flags and by the environment. Secrets come
// from the environment alone, since everybody on the machine sees the arguments.
type config struct {
	listen        string
	admin         string
	tlsCert       string
	tlsKey        string
	database      string
	receipts      string
	gateway       string
	drain         time.Duration
	traces        string
	logLevel      slog.Level
	secretHeader  string
	secrets       []string // of the webhook
	gatewayKey    string
	gatewaySecret string
	opsUser       string
	opsPassword   string
}

const usage = `Receives infraction (MED) webhooks into a durable inbox, and saves the receipt of
every transaction that is acknowledged.

Usage: webhookserver [flags]

Each flag can be set in the environment too, and these in the environment only:

  PIXMED_WEBHOOK_SECRETS   what the gateway sends in the webhook's header, several of
                           them with spaces between while one is rotated; required
  PIXMED_GATEWAY_KEY       the gateway's api_key; required
  PIXMED_GATEWAY_SECRET    the gateway's api_secret; required
  PIXMED_OPS_PASSWORD      opens the operations page at /ops/, with -ops-user; at least
                           12 characters. There is no page without one

Flags:
`

const minPassword = 12

// parseConfig reads the flags and, for those that are absent, the environment. Its
// error lists everything that is wrong.
func parseConfig(args []string, getenv func(string) string, out io.Writer) (*config, error) {
	c := &config{}
	flags := flag.NewFlagSet("webhookserver", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprint(out, usage)
		flags.PrintDefaults()
	}
	var errs []error
	env := func(name, value string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return value
	}
	text := func(p *string, name, variable, value, usage string) {
		flags.StringVar(p, name, env(variable, value), usage+" ("+variable+")")
	}
	text(&c.listen, "listen", "PIXMED_LISTEN", ":8080", "listen on `ADDR`")
	text(&c.admin, "admin", "PIXMED_ADMIN", "", "serve everything but the webhook on `ADDR` instead, such as 127.0.0.1:9090")
	text(&c.tlsCert, "tls-cert", "PIXMED_TLS_CERT", "", "serve https with the certificates in `FILE`, in PEM")
	text(&c.tlsKey, "tls-key", "PIXMED_TLS_KEY", "", "the certificate's private key in `FILE`, in PEM")
	text(&c.database, "database", "PIXMED_DATABASE", "inbox.db", "keep the inbox in the SQLite file at `PATH`, or in PostgreSQL at a postgres:// URL")
	text(&c.receipts, "receipts", "PIXMED_RECEIPTS", "receipts", "save receipts in `DIR`")
	text(&c.gateway, "gateway", "PIXMED_GATEWAY", "", "the gateway's base `URL`; required")
	text(&c.secretHeader, "webhook-header", "PIXMED_WEBHOOK_HEADER", "X-Webhook-Secret", "the `HEADER` in which the gateway sends the secret")
	text(&c.opsUser, "ops-user", "PIXMED_OPS_USER", "ops", "the operations page's user `NAME`")
	text(&c.traces, "traces", "PIXMED_TRACES", "", "send traces to the OpenTelemetry collector at `URL`, over OTLP/HTTP")
	level := ""
	text(&level, "log-level", "PIXMED_LOG_LEVEL", "info", "log from `LEVEL` on: debug, info, warn or error")
	drain, err := time.ParseDuration(env("PIXMED_DRAIN", "5s"))
	if err != nil {
		errs = append(errs, fmt.Errorf("PIXMED_DRAIN: %w", err))
	}
	flags.DurationVar(&c.drain, "drain", drain, "when told to end, be not ready for this long before connections are refused (PIXMED_DRAIN)")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if err := c.logLevel.UnmarshalText([]byte(level)); err != nil {
		errs = append(errs, fmt.Errorf("-log-level: want debug, info, warn or error, not %q", level))
	}
	c.secrets = strings.Fields(getenv("PIXMED_WEBHOOK_SECRETS"))
	c.gatewayKey, c.gatewaySecret = getenv("PIXMED_GATEWAY_KEY"), getenv("PIXMED_GATEWAY_SECRET")
	c.opsPassword = getenv("PIXMED_OPS_PASSWORD")
	errs = append(errs, c.problems()...)
	if flags.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q; see -h", flags.Arg(0)))
	}
	return c, errors.Join(errs...)
}

// problems returns what is wrong with the settings. What the SDK checks itself, such
// as the base URL, is left to it.
func (c *config) problems() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, address := range map[string]string{"-listen": c.listen, "-admin": c.admin} {
		if _, _, err := net.SplitHostPort(address); err != nil && (address != "" || name == "-listen") {
			bad("%s: %q is not an address such as :8080 or 127.0.0.1:8080", name, address)
		}
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		bad("-tls-cert, -tls-key: one is set without the other")
	}
	for name, file := range map[string]string{"-tls-cert": c.tlsCert, "-tls-key": c.tlsKey} {
		if file != "" {
			if f, err := os.Open(file); err != nil {
				bad("%s: %w", name, err)
			} else {
				_ = f.Close()
			}
		}
	}
	if len(c.secrets) == 0 {
		bad("PIXMED_WEBHOOK_SECRETS is not set: anybody could post notifications")
	}
	if c.gateway == "" {
		bad("-gateway is not set: receipts come from there")
	}
	if c.gatewayKey == "" || c.gatewaySecret == "" {
		bad("PIXMED_GATEWAY_KEY, PIXMED_GATEWAY_SECRET: both must be set")
	}
	if scheme, _, isURL := strings.Cut(c.database, "://"); isURL && scheme != "postgres" && scheme != "postgresql" {
		bad("-database: want the path of a file or a postgres:// URL, not a URL of %s", scheme)
	}
	if c.opsPassword != "" && len(c.opsPassword) < minPassword {
		bad("PIXMED_OPS_PASSWORD has fewer than %d characters", minPassword)
	}
	if c.opsPassword != "" && (c.opsUser == "" || strings.Contains(c.opsUser, ":")) {
		bad("-ops-user: %q is empty or has a colon", c.opsUser)
	}
	if u, err := url.Parse(c.traces); c.traces != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		bad("-traces: want a URL such as http://127.0.0.1:4318")
	}
	if c.drain < 0 {
		bad("-drain: %v is negative", c.drain)
	}
	return errs
}

func (c *config) postgres() bool { return strings.Contains(c.database, "://") }
