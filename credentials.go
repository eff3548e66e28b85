package pixmed

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// WithHeader sets a header on every request, such as the gateway's api_key and
// api_secret; it may be given once for each name. Its value must not be empty, as
// it is when an environment variable is missing. The value counts as a secret that
// no error or log line shows, unless it is shorter than 4 bytes or the header is
// Accept, Accept-Language or User-Agent.
func WithHeader(name, value string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection":
			return fmt.Errorf("WithHeader: %s is set by net/http", canonical)
		case "Accept-Encoding":
			return errors.New("WithHeader: Accept-Encoding is set by the transport, which would otherwise leave receipts compressed")
		}
		if !validToken(name) {
			return fmt.Errorf("WithHeader: %q is not a header's name", clip(name, maxFound))
		}
		if strings.TrimSpace(value) == "" {
			return fmt.Errorf("WithHeader: the value of %s is empty", canonical)
		}
		var secrets []string
		switch canonical {
		case "Accept", "Accept-Language", "User-Agent":
		default:
			// A gateway that quotes a credential may leave out the scheme before it.
			// Shorter parts are words.
			secrets = slices.DeleteFunc(
				strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" \t;,=\"", r) }),
				func(part string) bool { return len(part) < 8 })
			secrets = append(secrets, value)
		}
		return c.setHeader("WithHeader: the value of "+canonical, canonical, value, secrets...)
	})
}

// WithBearerToken sets the Authorization header to the bearer token.
func WithBearerToken(token string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if strings.TrimSpace(token) == "" {
			return errors.New("WithBearerToken: the token is empty")
		}
		return c.setHeader("WithBearerToken: the token", "Authorization", "Bearer "+token, token)
	})
}

// WithBasicAuth sets HTTP Basic authentication.
func WithBasicAuth(username, password string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if username == "" || strings.Contains(username, ":") {
			return errors.New("WithBasicAuth: the user name is empty or has a colon in it")
		}
		if hasControl(username + password) { // base64 would hide it from everybody but the gateway
			return errors.New("WithBasicAuth: the user name or the password has a line break or another control character in it")
		}
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(username, password)
		value := r.Header.Get("Authorization")
		// Some gateways take the key as the user name, without a password.
		return c.setHeader("WithBasicAuth", "Authorization", value, username, password, strings.TrimPrefix(value, "Basic "))
	})
}

func (c *clientConfig) setHeader(what, name, value string, secrets ...string) error {
	if hasControl(value) {
		return fmt.Errorf("%s has a line break or another control character in it", what)
	}
	return c.given.once("the header "+name, true, "", func() {
		c.header.Set(name, value)
		c.secrets = append(c.secrets, secrets...)
	})
}

// credentials are the headers of every request. They are kept in closures, where
// printing a Client does not reach them.
type credentials struct {
	setHeader func(http.Header)
	shownIn   func(text string) bool // reports whether a text gives a secret away
}

func newCredentials(header http.Header, secrets []string) credentials {
	var starts []string // 8 bytes of a secret are too many
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) >= 4 { // a shorter one is part of ordinary words
			starts = append(starts, s[:min(len(s), 8)])
		}
	}
	return credentials{
		setHeader: func(h http.Header) {
			for name, values := range header {
				h[name] = slices.Clone(values)
			}
		},
		shownIn: func(text string) bool {
			plain := spaced(unescape(text))
			return slices.ContainsFunc(starts, func(s string) bool {
				return strings.Contains(text, s) || strings.Contains(plain, spaced(s))
			})
		},
	}
}

// spaced makes a blank and a plus, which is a blank in a query, the same.
func spaced(s string) string { return strings.ReplaceAll(s, "+", " ") }

// escapes are those of JSON, Go's %q, URLs and HTML.
var escapes = regexp.MustCompile(`(?:\\u[0-9a-fA-F]{4})+|\\x[0-9a-fA-F]{2}|\\.|%[0-9a-fA-F]{2}|&#?[0-9a-zA-Z]+;`)

// unescape undoes the escapes in a text, once.
func unescape(text string) string {
	if !strings.ContainsAny(text, `\%&`) {
		return text
	}
	return escapes.ReplaceAllStringFunc(text, func(escape string) (plain string) {
		var err error
		switch {
		case escape[0] == '&':
			return html.UnescapeString(escape)
		case escape[0] == '%':
			plain, err = url.PathUnescape(escape)
		case escape[1] == 'x':
			plain, err = strconv.Unquote(`"` + escape + `"`)
		default:
			err = unmarshal([]byte(`"`+escape+`"`), &plain)
		}
		if err != nil {
			return escape[1:]
		}
		return plain
	})
}

const redacted = "[redacted]"

// redact replaces a text that gives a secret away.
func (c credentials) redact(text string) string {
	if c.shownIn(text) {
		return redacted
	}
	return text
}

// show returns a text of the gateway's as errors and logs may show it: cut after
// most bytes first, since it may be huge, then redacted, then made printable.
func (c credentials) show(text string, most int) string {
	return escape(c.redact(clip(text, most)))
}

// maxText is how many bytes are shown of an error's text that may quote the
// gateway.
const maxText = 500

// clean returns an error whose text may be shown: err itself, most of the time.
func (c credentials) clean(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	text := err.Error()
	if shown := c.show(text, maxText); shown != text {
		return &cleanError{shown, err}
	}
	return err
}

// cleanError can be asked what the error is, but does not unwrap to it.
type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string        { return e.text }
func (e *cleanError) Is(target error) bool { return errors.Is(e.err, target) }
func (e *cleanError) As(target any) bool   { return errors.As(e.err, target) }

// sameOrigin follows redirects within an origin only: the headers hold
// credentials, and net/http keeps custom ones across hosts.
func (c credentials) sameOrigin(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		if origin(r.URL) != origin(via[0].URL) {
			return fmt.Errorf("%w: %s", ErrRedirect, c.show((&url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host}).String(), maxText))
		}
		c.setHeader(r.Header) // net/http leaves some out where the host is in another letter case
		if next != nil {
			return next(r, via)
		}
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}
}

// origin returns a URL's scheme, host and port in one form.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
