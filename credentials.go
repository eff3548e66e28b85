package pixmed

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// WithHeader sets a header on every request, such as the gateway's api_key and
// api_secret. Its value must not be empty, as it is when a variable of the
// environment is missing, and counts as a secret: no error or log line shows it,
// unless it is shorter than 4 bytes.
func WithHeader(name, value string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection":
			return fmt.Errorf("WithHeader: %s is not the caller's to set", canonical)
		case "Accept-Encoding":
			return errors.New("WithHeader: Accept-Encoding is the transport's: setting it would hand compressed receipts to the decoder")
		}
		if !validToken(name) {
			return fmt.Errorf("WithHeader: %q is not a header's name", clip(name, maxFound))
		}
		if strings.TrimSpace(value) == "" {
			return fmt.Errorf("WithHeader: the value of %s is empty", canonical)
		}
		// A gateway that quotes a credential may leave out the scheme before it. Parts
		// that are shorter are words.
		secrets := slices.DeleteFunc(
			strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" \t;,=\"", r) }),
			func(part string) bool { return len(part) < 8 })
		return c.setSecretHeader("WithHeader: the value of "+canonical, canonical, value, append(secrets, value)...)
	})
}

// WithBearerToken sets the Authorization header to the bearer token.
func WithBearerToken(token string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if strings.TrimSpace(token) == "" {
			return errors.New("WithBearerToken: the token is empty")
		}
		return c.setSecretHeader("WithBearerToken: the token", "Authorization", "Bearer "+token, token)
	})
}

// WithBasicAuth sets HTTP Basic authentication.
func WithBasicAuth(username, password string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if username == "" || strings.Contains(username, ":") {
			return errors.New("WithBasicAuth: the user name is empty or has a colon in it")
		}
		if hasControl(username + password) { // the base64 would hide it from everybody but the gateway
			return errors.New("WithBasicAuth: the user name or the password has a line break or another control character in it")
		}
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(username, password)
		value := r.Header.Get("Authorization")
		// Some gateways take the key as the user name, without a password.
		return c.setSecretHeader("WithBasicAuth", "Authorization", value, username, password, strings.TrimPrefix(value, "Basic "))
	})
}

func (c *clientConfig) setSecretHeader(what, name, value string, secrets ...string) error {
	if hasControl(value) {
		return fmt.Errorf("%s has a line break or another control character in it", what)
	}
	if c.given[name] {
		return fmt.Errorf("the header %s is given twice", name)
	}
	c.given[name] = true
	c.header.Set(name, value)
	c.secrets = append(c.secrets, secrets...)
	return nil
}

// credentials are the headers of every request. They stay in closures, where
// printing a Client does not reach them.
type credentials struct {
	setHeader func(http.Header)
	redact    func(string) string // blots them out of what a gateway echoes
}

func newCredentials(header http.Header, secrets []string) credentials {
	known := make([]string, 0, len(secrets))
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) >= 4 { // a shorter one would blot out ordinary words
			known = append(known, s)
		}
	}
	slices.SortFunc(known, func(a, b string) int { return len(b) - len(a) }) // one may be the start of another
	return credentials{
		setHeader: func(h http.Header) {
			for name, values := range header {
				h[name] = slices.Clone(values)
			}
		},
		redact: func(text string) string {
			for _, s := range known {
				text = blot(strings.ReplaceAll(text, s, redacted), s)
			}
			return text
		},
	}
}

// clean returns an error whose text shows no credential: err itself, most of the
// time.
func (c credentials) clean(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	text := err.Error()
	if shown := c.redact(text); shown != text {
		return &cleanError{shown, err}
	}
	return err
}

// cleanError can be asked what the error is, but does not hand it out.
type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string        { return e.text }
func (e *cleanError) Is(target error) bool { return errors.Is(e.err, target) }
func (e *cleanError) As(target any) bool   { return errors.As(e.err, target) }

const redacted = "[redacted]"

// blot replaces a secret whatever way its characters are escaped, and what is
// left of it where the text has been cut.
func blot(text, secret string) string {
	var b strings.Builder
	for text != "" {
		n := secretAt(text, secret)
		if n > 0 {
			b.WriteString(redacted)
		} else {
			n = 1
			b.WriteByte(text[0])
		}
		text = text[n:]
	}
	return b.String()
}

// secretAt returns how much of the text's start is the secret, or its first 8
// bytes and maybe more of it.
func secretAt(text, secret string) (n int) {
	for i := 0; i < len(secret); {
		r, size := utf8.DecodeRuneInString(secret[i:])
		m := charAt(text[n:], secret[i:i+size], r)
		if m == 0 {
			if i < 8 {
				return 0
			}
			break
		}
		i, n = i+size, n+m
	}
	return n
}

// charAt returns how much of the text's start is the character, as it is or as
// JSON, URLs and HTML write it.
func charAt(text, char string, r rune) int {
	if text != "" && strings.IndexByte(`\%&+`, text[0]) >= 0 {
		for _, form := range []string{
			`\` + char, fmt.Sprintf(`\u%04x`, r), url.QueryEscape(char), url.PathEscape(char), html.EscapeString(char), fmt.Sprintf("&#%d;", r),
		} {
			if len(form) > 1 && len(text) >= len(form) && strings.EqualFold(text[:len(form)], form) {
				return len(form)
			}
		}
		if text[0] == '+' && char == " " {
			return 1
		}
	}
	if strings.HasPrefix(text, char) {
		return len(char)
	}
	return 0
}

// sameOrigin follows redirects within an origin only: the headers hold
// credentials, and net/http keeps custom ones across hosts.
func (c credentials) sameOrigin(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		if origin(r.URL) != origin(via[0].URL) {
			return c.clean(fmt.Errorf("%w: %s", ErrRedirect, (&url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host}).String()))
		}
		c.setHeader(r.Header) // net/http leaves some out where the host is in other letter case
		if next != nil {
			return next(r, via)
		}
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}
}

// origin is a URL's scheme, host and port, in one form for all ways to write them.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
