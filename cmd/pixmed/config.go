package main

import (
	"crypto/tls"
	"encoding/base64"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	pathpkg "path"
	"slices"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/internal/text"
)

var (
	serveListen    = &setting{flag: "listen", variable: "PIXMED_LISTEN", arg: "ADDR", value: ":8080", usage: "address that the webhook listens on"}
	servePath      = &setting{flag: "path", variable: "PIXMED_PATH", arg: "PATH", value: "/webhooks/infraction", usage: "path of the webhook"}
	serveCert      = &setting{flag: "tls-cert", variable: "PIXMED_TLS_CERT", arg: "FILE", usage: "serve the webhook over https with this certificate (PEM)"}
	serveKey       = &setting{flag: "tls-key", variable: "PIXMED_TLS_KEY", arg: "FILE", usage: "the certificate's private key (PEM)"}
	serveNetworks  = &setting{flag: "networks", variable: "PIXMED_NETWORKS", arg: "CIDR,...", usage: "for networks: where the gateway's requests come from, such as 203.0.113.0/24"}
	serveProxies   = &setting{flag: "trusted-proxies", variable: "PIXMED_TRUSTED_PROXIES", arg: "CIDR,...", usage: "for networks: the proxies whose X-Forwarded-For is trusted"}
	serveOthers    = &setting{flag: "acknowledge-other-events", variable: "PIXMED_ACKNOWLEDGE_OTHER_EVENTS", usage: "answer 200 to cash-in and other events on the same URL, if something else handles them; otherwise 422"}
	adminListen    = &setting{flag: "admin", variable: "PIXMED_ADMIN", arg: "ADDR", value: "127.0.0.1:9090", usage: "address of /metrics, /healthz, /readyz and the operations page"}
	adminCert      = &setting{flag: "admin-tls-cert", variable: "PIXMED_ADMIN_TLS_CERT", arg: "FILE", usage: "serve --admin over https with this certificate (PEM)"}
	adminKey       = &setting{flag: "admin-tls-key", variable: "PIXMED_ADMIN_TLS_KEY", arg: "FILE", usage: "that certificate's private key (PEM)"}
	opsUser        = &setting{flag: "ops-user", variable: "PIXMED_OPS_USER", arg: "NAME", value: "ops", usage: "user name for the operations page at /ops/"}
	opsUserHeader  = &setting{flag: "ops-user-header", variable: "PIXMED_OPS_USER_HEADER", arg: "NAME", usage: "header in which a proxy in front of the operations page, and nobody else, names who is logged in: what is done is recorded under that name, and under --ops-user unless set"}
	opsPassword    = &setting{variable: "PIXMED_OPS_PASSWORD", usage: "password for the operations page; without one there is no page"}
	opsPlain       = &setting{flag: "ops-plain-http", variable: "PIXMED_OPS_PLAIN_HTTP", usage: "allow the operations page over http:// to other hosts, for example behind a proxy that speaks https"}
	forwardTo      = &setting{flag: "forward", variable: "PIXMED_FORWARD", arg: "URL", usage: "post every notification and reminder to this URL of your own application"}
	forwardPlain   = &setting{flag: "forward-plain-http", variable: "PIXMED_FORWARD_PLAIN_HTTP", usage: "allow http:// to an application on another host, for example in a private network"}
	forwardLimit   = &setting{flag: "forward-timeout", variable: "PIXMED_FORWARD_TIMEOUT", arg: "TIME", value: "15s", usage: "how long the application may take to answer"}
	forwardSecrets = &setting{variable: "PIXMED_FORWARD_SECRETS", usage: "what forwarded messages are signed with (Standard Webhooks): whsec_ and base64; several, with spaces between, while one is being replaced"}
	serveDefence   = &setting{flag: "defence", variable: "PIXMED_DEFENCE", arg: "TIME", usage: "how long after it opened a case is due, such as 7d: what your contract allows, less the time that you need; 0 for never; without it what was set before stays, and at first no case is due"}
	serveRemind    = &setting{flag: "remind", variable: "PIXMED_REMIND", arg: "TIME,...", usage: "how long before a case is due to remind the application, such as 3d,1d,4h"}
	serveWorkers   = &setting{flag: "workers", variable: "PIXMED_WORKERS", arg: "N", value: "10", usage: "how many notifications to forward at a time, and how many receipts to fetch"}
	serveAttempts  = &setting{flag: "attempts", variable: "PIXMED_ATTEMPTS", arg: "N", value: "20", usage: "how often to try a notification, a receipt or a reminder before giving it up as dead; 20 attempts take about a day"}
	serveRetention = &setting{flag: "retention", variable: "PIXMED_RETENTION", arg: "TIME", value: "400d", usage: "how long to keep cases that have ended"}
	serveDrain     = &setting{flag: "drain", variable: "PIXMED_DRAIN", arg: "TIME", value: "5s", usage: "on SIGTERM, how long to report not ready before refusing connections"}
	serveTraces    = &setting{flag: "traces", variable: "PIXMED_TRACES", arg: "URL", usage: "send traces to the OpenTelemetry collector at this URL (OTLP/HTTP)"}
	logLevel       = &setting{flag: "log-level", variable: "PIXMED_LOG_LEVEL", arg: "LEVEL", value: "info", usage: "lowest level to log: debug, info, warn or error"}
	logFormat      = &setting{flag: "log-format", variable: "PIXMED_LOG_FORMAT", arg: "FORMAT", value: "json", usage: "log as json or as text"}
)

var serveSettings = []*setting{
	serveListen, servePath, serveCert, serveKey, serveNetworks, serveProxies, serveOthers,
	adminListen, adminCert, adminKey, opsUser, opsUserHeader, opsPlain, opsPassword,
	forwardTo, forwardPlain, forwardLimit, forwardSecrets, serveDefence, serveRemind,
	receiptsDir, serveWorkers, serveAttempts, serveRetention, serveDrain, serveTraces, logLevel, logFormat,
}

// config is what serve is told.
type config struct {
	listen, admin     string
	path              string
	webhookTLS        *tls.Config // nil for plain http
	adminTLS          *tls.Config
	verifier          pixmed.Verifier // nil for none at all
	onlyNetworks      bool            // whether an alternative asks for no secret
	acknowledgeOthers bool
	db                *database
	gateway           *gateway // nil without one
	receipts          string
	forward           *url.URL // nil without one
	forwardKeys       [][]byte
	forwardTimeout    time.Duration
	setsDefence       bool            // whether defence is set; if not, the inbox keeps its own
	defence           time.Duration   // 0 if cases are never due
	remind            []time.Duration // before they are
	opsUser, opsPass  string
	opsUserHeader     string // empty for none
	workers, attempts int
	retention, drain  time.Duration
	traces            string
	logLevel          slog.Level
	logText           bool
}

// readConfig reads the settings. All that is wrong with them is in v.
func readConfig(v *values) *config {
	c := &config{
		listen: v.address(serveListen), admin: v.address(adminListen), path: v.path(servePath),
		webhookTLS: v.certificate(serveCert, serveKey), adminTLS: v.certificate(adminCert, adminKey),
		acknowledgeOthers: v.on(serveOthers),
		db:                readDatabase(v),
		receipts:          v.text(receiptsDir),
		workers:           v.number(serveWorkers, 1000), attempts: v.number(serveAttempts, 1000),
		retention: v.duration(serveRetention, day, 10_000*day), drain: v.duration(serveDrain, 0, 10*time.Minute),
		traces:  v.collector(serveTraces),
		logText: v.oneOf(logFormat, "json", "text") == "text",
	}
	_ = c.logLevel.UnmarshalText([]byte(v.oneOf(logLevel, "debug", "info", "warn", "error")))
	if c.listen == c.admin && c.listen != "" && !strings.HasSuffix(c.listen, ":0") {
		v.problem(adminListen, "it is the webhook's own address: the metrics would be public")
	}
	c.verifier, c.onlyNetworks = readVerifier(v)
	if v.text(gatewayURL) != "" {
		c.gateway = readGateway(v)
	} else {
		for _, s := range gatewaySettings {
			if s != gatewayPlain && v.isSet(s) && (s.secret() || v.text(s) != "") {
				v.problem(s, "it is set, but --gateway is not: no receipt would be saved")
			}
		}
	}
	if c.receipts == "" {
		v.problem(receiptsDir, "it is empty")
	}
	c.readForward(v)
	c.readDefence(v)
	c.readOps(v)
	return c
}

func readVerifier(v *values) (verifier pixmed.Verifier, onlyNetworks bool) {
	before := len(v.errs)
	p := readProof(v, minSecret)
	networks, proxies := v.networks(serveNetworks), v.networks(serveProxies)
	if used := p.uses(byNetworks); used && len(networks) == 0 && !v.isSet(serveNetworks) {
		v.problem(serveNetworks, "it is not set, but --verify asks for networks")
	} else if !used && v.isSet(serveNetworks) {
		v.problem(serveNetworks, "it is set, but --verify does not ask for networks")
	}
	if !p.uses(byNetworks) && v.text(serveProxies) != "" {
		v.problem(serveProxies, "it is set, but --verify does not ask for networks")
	}
	if p.uses(byNothing) {
		return nil, false
	}
	verifier = p.verifier(networks, proxies)
	// All that is known was looked for before; the SDK has the last word.
	if s, ok := verifier.(interface{ Validate() error }); ok && len(v.errs) == before {
		if err := s.Validate(); err != nil {
			v.problem(proofVerify, "%w", err)
		}
	}
	return verifier, slices.ContainsFunc(p.any, func(all []string) bool { return len(all) == 1 && all[0] == byNetworks })
}

func (c *config) readForward(v *values) {
	c.forward = v.endpoint(forwardTo, v.on(forwardPlain), forwardPlain)
	c.forwardTimeout = v.duration(forwardLimit, time.Second, time.Minute)
	secrets := v.several(forwardSecrets, minSecret)
	if set := v.text(forwardTo) != ""; set && len(secrets) == 0 && !v.isSet(forwardSecrets) {
		v.problem(forwardSecrets, "it is not set, but --forward is: your application could not tell who is posting. Make one: echo whsec_$(openssl rand -base64 32)")
	} else if !set && len(secrets) > 0 {
		v.problem(forwardSecrets, "it is set, but --forward is not")
	}
	for i, secret := range secrets {
		encoded, ok := strings.CutPrefix(secret, "whsec_")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < 24 || len(key) > 64 {
			v.problem(forwardSecrets, "secret %d is not whsec_ followed by the base64 of 24 to 64 bytes. Make one: echo whsec_$(openssl rand -base64 32)", i+1)
		}
		c.forwardKeys = append(c.forwardKeys, key)
	}
}

// readDefence reads when cases are due, and when the application is reminded of it.
func (c *config) readDefence(v *values) {
	never := false
	if text := v.text(serveDefence); text != "" {
		c.setsDefence = true
		d, err := parseDuration(text)
		if never = err == nil && d == 0; !never {
			c.defence = v.duration(serveDefence, time.Minute, 10_000*day).Truncate(time.Microsecond)
		}
	}
	list := v.text(serveRemind)
	switch {
	case list == "":
		return
	case v.text(serveDefence) == "":
		v.problem(serveRemind, "it is set, but --%s is not", serveDefence.flag)
	case never:
		v.problem(serveRemind, "it is set, but --%s is 0: no case is due", serveDefence.flag)
	case v.text(forwardTo) == "":
		v.problem(serveRemind, "it is set, but --%s is not: reminders go to your application", forwardTo.flag)
	}
	const most = 100
	given := map[time.Duration]bool{}
	for text := range strings.SplitSeq(list, ",") {
		before, err := parseDuration(strings.TrimSpace(text))
		before = before.Truncate(time.Microsecond)
		switch {
		case err != nil || before < time.Second:
			v.problem(serveRemind, "want times of a second or more with commas between, such as 3d,1d,4h, not %s", quote(text))
		case c.defence > 0 && before >= c.defence:
			v.problem(serveRemind, "%s is no less than --%s, which is %s", showDuration(before), serveDefence.flag, showDuration(c.defence))
		case given[before]:
			v.problem(serveRemind, "%s is in it twice", showDuration(before))
		case len(given) == most:
			v.problem(serveRemind, "it has more than %d times", most)
			return
		}
		given[before] = true
		c.remind = append(c.remind, before)
	}
}

func (c *config) readOps(v *values) {
	c.opsUser, c.opsPass = v.user(opsUser), v.hidden(opsPassword)
	if v.text(opsUserHeader) != "" {
		c.opsUserHeader = v.header(opsUserHeader)
	}
	plain := v.on(opsPlain)
	if c.opsPass == "" {
		return
	}
	if c.opsPass != strings.TrimSpace(c.opsPass) || text.HasControl(c.opsPass) {
		v.problem(opsPassword, "it has white space around it, or contains a control character")
	}
	if len(c.opsPass) < minSecret {
		v.problem(opsPassword, "it has fewer than %d characters and could be guessed: make one with openssl rand -hex 32", minSecret)
	}
	if host, _, err := net.SplitHostPort(c.admin); err == nil && !loopback(host) && c.adminTLS == nil && !v.isSet(adminCert) && !plain {
		v.problem(adminListen, "the operations page would expose personal data and its password to the network: set --%s, or listen on 127.0.0.1, or --%s if a proxy in front speaks https", adminCert.flag, opsPlain.flag)
	}
}

// address returns a setting that is an address to listen on.
func (v *values) address(s *setting) string {
	address := v.text(s)
	if _, _, err := net.SplitHostPort(address); err != nil {
		v.problem(s, "%s is not an address such as :8080 or 127.0.0.1:8080", quote(address))
	}
	return address
}

// path returns a setting that is the path of a URL, as a [http.ServeMux] takes it and
// does not redirect from it.
func (v *values) path(s *setting) string {
	path := v.text(s)
	clean := pathpkg.Clean(path)
	if u, err := url.ParseRequestURI(path); err != nil || u.Path != path || path != clean && path != clean+"/" || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " {}") {
		v.problem(s, "%s is not a path such as /webhooks/infraction", quote(path))
	}
	return path
}

// networks returns a setting that is a list of networks or addresses.
func (v *values) networks(s *setting) (networks []netip.Prefix) {
	for text := range strings.SplitSeq(v.text(s), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		network, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); err != nil && addrErr == nil && addr.Zone() == "" {
			network, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			v.problem(s, "%s is not a network such as 203.0.113.0/24, or an address", quote(text))
			continue
		}
		if network.Bits() == 0 || network.Addr().Is4In6() && network.Bits() <= 96 {
			v.problem(s, "%s is everybody", network)
			continue
		}
		networks = append(networks, network)
	}
	return networks
}

// certificate loads a server's certificate; nil if none is set.
func (v *values) certificate(cert, key *setting) *tls.Config {
	certFile, keyFile := v.text(cert), v.text(key)
	switch {
	case certFile == "" && keyFile == "":
		return nil
	case certFile == "":
		v.problem(key, "it needs --%s as well", cert.flag)
		return nil
	case keyFile == "":
		v.problem(cert, "it needs --%s as well", key.flag)
		return nil
	}
	certPEM, certErr := readSmall(certFile)
	if certErr != nil {
		v.problem(cert, "%w", certErr)
	}
	keyPEM, keyErr := readSmall(keyFile)
	if keyErr != nil {
		v.problem(key, "%w", keyErr)
	}
	if certErr != nil || keyErr != nil {
		return nil
	}
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		v.problem(cert, "%w", err)
		return nil
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// collector returns a setting that is the URL of a collector of traces.
func (v *values) collector(s *setting) string {
	text := v.text(s)
	u, err := url.Parse(text)
	if text != "" && (err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https") {
		v.problem(s, "want a URL such as http://127.0.0.1:4318, without a user name, a query or a fragment")
	}
	return text
}
