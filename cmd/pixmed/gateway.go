package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/internal/text"
)

// The gateway, and what it knows its clients by.
var (
	gatewayURL      = &setting{flag: "gateway", variable: "PIXMED_GATEWAY", arg: "URL", usage: "base URL of the gateway, such as https://gateway.example/v1"}
	gatewayUser     = &setting{flag: "gateway-user", variable: "PIXMED_GATEWAY_USER", arg: "NAME", usage: "user name for HTTP Basic at the gateway"}
	gatewayCert     = &setting{flag: "gateway-cert", variable: "PIXMED_GATEWAY_CERT", arg: "FILE", usage: "client certificate for the gateway (mutual TLS, PEM)"}
	gatewayCertKey  = &setting{flag: "gateway-cert-key", variable: "PIXMED_GATEWAY_CERT_KEY", arg: "FILE", usage: "the client certificate's private key (PEM)"}
	gatewayPlain    = &setting{flag: "gateway-plain-http", variable: "PIXMED_GATEWAY_PLAIN_HTTP", usage: "allow http:// to a gateway on another host, which exposes credentials and receipts to the network"}
	gatewayKey      = &setting{variable: "PIXMED_GATEWAY_KEY", usage: "the gateway's api_key"}
	gatewaySecret   = &setting{variable: "PIXMED_GATEWAY_SECRET", usage: "the gateway's api_secret"}
	gatewayToken    = &setting{variable: "PIXMED_GATEWAY_TOKEN", usage: "bearer token for the gateway"}
	gatewayPassword = &setting{variable: "PIXMED_GATEWAY_PASSWORD", usage: "password for HTTP Basic at the gateway"}
	gatewayHeaders  = &setting{variable: "PIXMED_GATEWAY_HEADERS", usage: "other headers for the gateway, one \"Name: value\" per line"}
)

var gatewaySettings = []*setting{
	gatewayURL, gatewayUser, gatewayCert, gatewayCertKey, gatewayPlain,
	gatewayKey, gatewaySecret, gatewayToken, gatewayPassword, gatewayHeaders,
}

// gateway is what the settings say about it.
type gateway struct {
	url       string
	transport *http.Transport
	options   []pixmed.ClientOption
	valid     bool // whether nothing is wrong with its settings
}

// readGateway reads the settings.
func readGateway(v *values) *gateway {
	g := &gateway{url: v.text(gatewayURL), transport: http.DefaultTransport.(*http.Transport).Clone()}
	before := len(v.errs)
	plain := v.on(gatewayPlain)
	if plain {
		g.options = append(g.options, pixmed.WithPlainHTTP())
	}
	v.endpoint(gatewayURL, plain, gatewayPlain)
	headers := map[string]*setting{}
	add := func(s *setting, name, value string) {
		switch before := headers[strings.ToLower(name)]; {
		case value == "":
		case strings.TrimSpace(value) == "":
			v.problem(s, "it is empty")
		case text.HasControl(value):
			v.problem(s, "it contains a line break or another control character")
		case slices.Contains(transportHeaders, http.CanonicalHeaderKey(name)):
			v.problem(s, "%s cannot be set: each request has its own", http.CanonicalHeaderKey(name))
		case before != nil:
			v.problem(s, "%s sets the same header, %s", v.name(before), name)
		default:
			headers[strings.ToLower(name)] = s
			g.options = append(g.options, pixmed.WithHeader(name, value))
		}
	}
	add(gatewayKey, "api_key", v.hidden(gatewayKey))
	add(gatewaySecret, "api_secret", v.hidden(gatewaySecret))
	for n, line := range strings.Split(v.hidden(gatewayHeaders), "\n") {
		name, value, _ := strings.Cut(line, ":")
		switch name, value = strings.TrimSpace(name), strings.TrimSpace(value); {
		case strings.TrimSpace(line) == "":
		case !isHeader(name) || value == "":
			v.problem(gatewayHeaders, "line %d is not \"Name: value\"", n+1)
		default:
			add(gatewayHeaders, name, value)
		}
	}
	g.authorize(v, headers)
	if identity := v.certificate(gatewayCert, gatewayCertKey); identity != nil {
		g.transport.TLSClientConfig = identity
	}
	// All that is known was looked for above; the SDK has the last word.
	if g.valid = g.url != "" && len(v.errs) == before; g.valid {
		if _, err := g.client(g.transport); err != nil {
			v.problem(gatewayURL, "%w", err)
			g.valid = false
		}
	}
	return g
}

// transportHeaders are those that no setting may set.
var transportHeaders = []string{"Accept-Encoding", "Connection", "Content-Length", "Transfer-Encoding"}

// authorize adds a bearer token or HTTP Basic.
func (g *gateway) authorize(v *values, headers map[string]*setting) {
	token, user, password := v.hidden(gatewayToken), v.text(gatewayUser), v.hidden(gatewayPassword)
	given := headers["authorization"]
	switch {
	case user != "" && password == "":
		v.problem(gatewayUser, "it needs a password, in %s", gatewayPassword.variable)
	case user == "" && password != "":
		v.problem(gatewayPassword, "it needs a user, in --%s", gatewayUser.flag)
	case token != "" && (user != "" || given != nil), user != "" && given != nil:
		v.problem(gatewayToken, "only one Authorization header can be sent: set a token, or a user and a password, or the header itself")
	case text.HasControl(password):
		v.problem(gatewayPassword, "it contains a line break or another control character")
	case token != "" && strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		v.problem(gatewayToken, "it contains a character that a token cannot have")
	case token != "":
		g.options = append(g.options, pixmed.WithBearerToken(token))
	case user != "":
		if v.user(gatewayUser) != "" {
			g.options = append(g.options, pixmed.WithBasicAuth(user, password))
		}
	}
}

// client returns a client that sends by base, which is the gateway's transport or
// something around it.
func (g *gateway) client(base http.RoundTripper, more ...pixmed.ClientOption) (*pixmed.Client, error) {
	options := append(slices.Clone(g.options), pixmed.WithHTTPClient(&http.Client{Transport: base}))
	return pixmed.NewClient(g.url, append(options, more...)...)
}

// endpoint returns a setting that is the URL of somebody who gets secrets or personal
// data: https, unless it is on this host or plain, which is the other setting, says
// that it may be http.
func (v *values) endpoint(s *setting, plain bool, other *setting) *url.URL {
	text := v.text(s)
	if text == "" {
		return nil
	}
	// The URL itself is not shown where it may hold a password.
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		v.problem(s, "it should look like https://host.example/path")
	case u.User != nil:
		v.problem(s, "it must not contain a user name or a password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		v.problem(s, "it must not have a query or a fragment")
	case u.Scheme == "http" && !plain && !loopback(u.Hostname()):
		v.problem(s, "http:// would expose what is sent to the network: use https://, or --%s if you mean it", other.flag)
	default:
		return u
	}
	return nil
}

// explain says what went wrong at the gateway in the words of the command, where the
// SDK's own are for those who write programs.
func explain(err error) string {
	text := err.Error()
	if answer, ok := errors.AsType[*pixmed.APIError](err); ok {
		text = describe(answer)
	}
	switch {
	case errors.Is(err, pixmed.ErrReceiptTooLarge):
		text = "the receipt is too large"
	case errors.Is(err, pixmed.ErrRedirect):
		text = "the gateway redirects to another host, where the credentials must not go"
	}
	return strings.ReplaceAll(text, "\n", "; ")
}

// advise says what to do about it, for those who run pixmed receipts.
func advise(err error) string {
	switch {
	case errors.Is(err, pixmed.ErrUnauthorized), errors.Is(err, pixmed.ErrForbidden):
		return " (check the gateway's credentials)"
	case errors.Is(err, pixmed.ErrNotFound):
		return " (check the id and --gateway)"
	case errors.Is(err, pixmed.ErrRateLimited), errors.Is(err, pixmed.ErrUnavailable):
		return " (run the command again later: it skips what is already there)"
	case errors.Is(err, pixmed.ErrReceiptTooLarge):
		return " (raise --max-size)"
	case errors.Is(err, pixmed.ErrRedirect):
		return " (if it has moved there, change --gateway)"
	}
	return ""
}

// describe writes what the gateway answered. The SDK has cut it, has taken out the
// credentials, and has made it printable.
func describe(e *pixmed.APIError) string {
	text := strings.TrimSpace(fmt.Sprintf("the gateway answered %d %s", e.StatusCode, http.StatusText(e.StatusCode)))
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Code != "" {
		text += ", code " + e.Code
	}
	if e.RequestID != "" {
		text += ", request id " + e.RequestID
	}
	if e.Attempts > 1 {
		text += fmt.Sprintf(", after %d attempts", e.Attempts)
	}
	if e.RetryAfter > 0 {
		text += fmt.Sprintf("; it asks to wait %v", e.RetryAfter)
	}
	return text
}
