package pixmed

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pixmed-go/pixmed/internal/text"
)

// WithHeader sets a header on every request, such as the gateway's api_key and
// api_secret; it may be given once for each name. Its value must not be empty, as
// it is when an environment variable is missing. The value counts as a secret that
// no error or log line shows, unless it is shorter than 4 bytes or the header is
// Accept, Accept-Language or User-Agent.
func WithHeader(name, value string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case slices.Contains([]string{"Host", "Content-Length", "Transfer-Encoding", "Connection"}, canonical):
			return fmt.Errorf("WithHeader: %s is set by net/http", canonical)
		case canonical == "Accept-Encoding":
			return errors.New("WithHeader: Accept-Encoding is set by the transport, which would otherwise leave receipts compressed")
		case !token.MatchString(name):
			return fmt.Errorf("WithHeader: %q is not a header's name", clip(name))
		case strings.TrimSpace(value) == "":
			return fmt.Errorf("WithHeader: the value of %s is empty", canonical)
		}
		var secrets []string
		if !slices.Contains([]string{"Accept", "Accept-Language", "User-Agent"}, canonical) {
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
		if text.HasControl(username + password) { // base64 would hide it from everybody but the gateway
			return errors.New("WithBasicAuth: the user name or the password contains a line break or another control character")
		}
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(username, password)
		value := r.Header.Get("Authorization")
		// Some gateways take the key as the user name, without a password.
		return c.setHeader("WithBasicAuth", "Authorization", value, username, password, strings.TrimPrefix(value, "Basic "))
	})
}

func (c *clientConfig) setHeader(what, name, value string, secrets ...string) error {
	if text.HasControl(value) {
		return fmt.Errorf("%s contains a line break or another control character", what)
	}
	return c.given.once("the header "+name, true, "", func() {
		c.header.Set(name, value)
		c.secrets = append(c.secrets, secrets...)
	})
}

// credentials are the headers of every request, and the secrets in them. The
// headers are kept in a closure, where printing a Client does not reach them.
type credentials struct {
	text.Secrets
	setHeader func(http.Header)
}

func newCredentials(header http.Header, secrets []string) credentials {
	return credentials{text.NewSecrets(secrets...), func(h http.Header) { maps.Copy(h, header.Clone()) }}
}

// sameOrigin follows redirects within an origin only: the headers hold
// credentials, and net/http keeps custom ones across hosts.
func (c credentials) sameOrigin(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		if origin(r.URL) != origin(via[0].URL) {
			return fmt.Errorf("%w: %s", ErrRedirect, c.Show((&url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host}).String(), maxText))
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
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
