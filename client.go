package pixmed

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-retryablehttp"
)

// Defaults of a [Client].
const (
	DefaultRetries        = 4                      // after the first request
	DefaultRetryWaitMin   = 500 * time.Millisecond // before the first retry
	DefaultRetryWaitMax   = 30 * time.Second       // before any retry
	DefaultStallTimeout   = time.Minute            // without a byte from the gateway
	DefaultMaxReceiptSize = 32 << 20               // bytes of PDF
)

const userAgent = "pixmed-go (+https://github.com/pixmed-go/pixmed)"

// Client fetches receipts from the gateway. It is safe for concurrent use.
//
// It retries 429, every 5xx but 501, and connection errors, with exponential
// backoff and jitter. A Retry-After is honoured up to the longest wait; one that
// asks for more ends the call. See the package documentation for the whole
// policy.
type Client struct {
	base        *url.URL
	http        *retryablehttp.Client
	credentials credentials
	logger      *slog.Logger
	maxReceipt  int64
}

// ClientOption configures [NewClient].
type ClientOption interface{ applyClient(*clientConfig) error }

type clientConfig struct {
	httpClient       *http.Client
	header           http.Header
	given            map[string]bool // the header's names that the user has set
	secrets          []string
	retries          int
	waitMin, waitMax time.Duration
	stall            time.Duration
	maxReceipt       int64
	plainHTTP        bool
	logger           *slog.Logger
}

type clientOption func(*clientConfig) error

func (o clientOption) applyClient(c *clientConfig) error { return o(c) }

func (o loggerOption) applyClient(c *clientConfig) error {
	c.logger = o.logger
	return o.check()
}

// NewClient returns a [Client] for the gateway's API at baseURL, such as
// "https://gateway.example/v1". The URL must be https, unless its host is a
// loopback address or [WithPlainHTTP] is given, and hold neither credentials
// nor a query. The error names everything that is wrong with the arguments.
func NewClient(baseURL string, opts ...ClientOption) (*Client, error) {
	retrying := retryablehttp.NewClient()
	cfg := clientConfig{
		httpClient: retrying.HTTPClient,
		header:     http.Header{"User-Agent": {userAgent}, "Accept": {"application/json, application/pdf"}},
		given:      map[string]bool{},
		retries:    DefaultRetries,
		waitMin:    DefaultRetryWaitMin,
		waitMax:    DefaultRetryWaitMax,
		stall:      DefaultStallTimeout,
		maxReceipt: DefaultMaxReceiptSize,
		logger:     slog.Default(),
	}
	var errs []error
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("pixmed: an option is nil"))
			continue
		}
		errs = append(errs, o.applyClient(&cfg))
	}
	base, err := parseBaseURL(baseURL, cfg.plainHTTP)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}

	c := &Client{
		base:        base,
		http:        retrying,
		credentials: newCredentials(cfg.header, cfg.secrets),
		logger:      cfg.logger,
		maxReceipt:  cfg.maxReceipt,
	}
	inner := *cfg.httpClient // the user's own stays as it is
	inner.Transport = &transport{base: inner.Transport, stall: cfg.stall, credentials: c.credentials}
	inner.CheckRedirect = c.credentials.sameOrigin(inner.CheckRedirect)
	retrying.HTTPClient = &inner
	retrying.Logger = nil // see checkRetry
	retrying.RetryMax = cfg.retries
	retrying.RetryWaitMin = cfg.waitMin
	retrying.RetryWaitMax = cfg.waitMax
	retrying.CheckRetry = c.checkRetry
	retrying.Backoff = backoff
	retrying.ErrorHandler = func(resp *http.Response, err error, _ int) (*http.Response, error) {
		if resp != nil {
			_ = resp.Body.Close()
		}
		return nil, err
	}
	return c, nil
}

// parseBaseURL never shows a URL that it refuses to parse: it may hold a
// password.
func parseBaseURL(s string, plainHTTP bool) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("pixmed: the base URL does not parse; it should look like https://gateway.example/v1")
	case u.User != nil:
		return nil, errors.New("pixmed: the base URL holds credentials: pass them with WithBasicAuth instead")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, errors.New("pixmed: the base URL has no https:// or no host; it should look like https://gateway.example/v1")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("pixmed: the base URL has a query or a fragment, where it should end with the path")
	case u.Scheme == "http" && !plainHTTP && !loopback(u.Hostname()):
		return nil, fmt.Errorf("pixmed: the base URL is plain http to %s, which would show credentials and receipts to the network: use https, or WithPlainHTTP if you mean it", u.Host)
	}
	return u, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// WithHeader sets a header on every request, such as the gateway's api_key and
// api_secret. Its value must not be empty, as it is when a variable of the
// environment is missing, and counts as a secret: no error or log line shows it.
func WithHeader(name, value string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection":
			return fmt.Errorf("pixmed: WithHeader: %s is not the caller's to set", canonical)
		case "Accept-Encoding":
			return errors.New("pixmed: WithHeader: Accept-Encoding is the transport's: setting it would hand compressed receipts to the decoder")
		}
		if !validToken(name) {
			return fmt.Errorf("pixmed: WithHeader: %q is not a header's name", clip(name, maxFound))
		}
		if strings.TrimSpace(value) == "" {
			return fmt.Errorf("pixmed: WithHeader: the value of %s is empty", canonical)
		}
		// A gateway that quotes a credential may leave out the scheme before it.
		parts := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" \t;,=\"", r) })
		return c.setSecretHeader("WithHeader: the value of "+canonical, canonical, value, append(parts, value)...)
	})
}

// WithBearerToken sets the Authorization header to the bearer token.
func WithBearerToken(token string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if strings.TrimSpace(token) == "" {
			return errors.New("pixmed: WithBearerToken: the token is empty")
		}
		return c.setSecretHeader("WithBearerToken: the token", "Authorization", "Bearer "+token, token)
	})
}

// WithBasicAuth sets HTTP Basic authentication.
func WithBasicAuth(username, password string) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if username == "" || strings.Contains(username, ":") {
			return errors.New("pixmed: WithBasicAuth: the user name is empty or has a colon in it")
		}
		if hasControl(username + password) { // the base64 would hide it from everybody but the gateway
			return errors.New("pixmed: WithBasicAuth: the user name or the password has a line break or another control character in it")
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
		return fmt.Errorf("pixmed: %s has a line break or another control character in it", what)
	}
	if c.given[name] {
		return fmt.Errorf("pixmed: the header %s is given twice", name)
	}
	c.given[name] = true
	c.header.Set(name, value)
	c.secrets = append(c.secrets, secrets...)
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

func validToken(s string) bool {
	for _, b := range []byte(s) {
		if b <= ' ' || b >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, b) >= 0 {
			return false
		}
	}
	return s != ""
}

// WithHTTPClient sets the client that sends the requests, for mutual TLS,
// OAuth 2, a proxy, tracing, or a fake in tests. Its Transport, Jar, Timeout and
// CheckRedirect are used; the client itself is not changed. A Timeout would
// limit a whole download.
func WithHTTPClient(h *http.Client) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if h == nil {
			return errors.New("pixmed: WithHTTPClient: the client is nil")
		}
		c.httpClient = h
		return nil
	})
}

// WithRetries sets how many requests may follow the first one of a call, be it
// after an error or to resume a broken download; [DefaultRetries] unless set,
// and 0 for none.
func WithRetries(n int) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if n < 0 {
			return fmt.Errorf("pixmed: WithRetries: %d is negative", n)
		}
		c.retries = n
		return nil
	})
}

// WithRetryWait sets the wait before the first retry and the longest one;
// [DefaultRetryWaitMin] and [DefaultRetryWaitMax] unless set. Waits double from
// retry to retry, and each is cut by up to a half at random. A Retry-After that
// asks for more than the longest wait ends the call.
func WithRetryWait(shortest, longest time.Duration) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if shortest <= 0 || longest < shortest {
			return fmt.Errorf("pixmed: WithRetryWait: want 0 < shortest <= longest, got %v and %v", shortest, longest)
		}
		c.waitMin, c.waitMax = shortest, longest
		return nil
	})
}

// WithStallTimeout sets how long the gateway may send nothing, before its
// answer or in the middle of it, until the connection counts as broken;
// [DefaultStallTimeout] unless set. It holds under context.Background() too.
func WithStallTimeout(d time.Duration) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if d <= 0 {
			return fmt.Errorf("pixmed: WithStallTimeout: %v is not a positive duration", d)
		}
		c.stall = d
		return nil
	})
}

// WithPlainHTTP allows a base URL that is plain http to a host other than this
// one. Whoever is on the way can then read the credentials and the receipts.
func WithPlainHTTP() ClientOption {
	return clientOption(func(c *clientConfig) error {
		c.plainHTTP = true
		return nil
	})
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
			return fmt.Errorf("%w: %s", ErrRedirect, (&url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host}).String())
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

// call is the state of one call of the user: its requests share one budget of
// retries, whether they follow an error or resume a broken download.
type call struct {
	transactionID string
	url           string
	requests      int
	retriesLeft   int
	lastAnswer    *APIError // the last response, if it was an error
	lastError     error     // of the last request, if it got no response
}

func (c *Client) newCall(transactionID string) *call {
	return &call{
		transactionID: transactionID,
		url:           c.base.JoinPath("transaction", transactionID, "receipt").String(),
		retriesLeft:   c.http.RetryMax,
	}
}

// retry takes one retry from the budget.
func (c *call) retry() bool {
	c.retriesLeft--
	return c.retriesLeft >= 0
}

type callKey struct{}

// get requests the receipt until a response is 200 or retries do not help.
func (c *Client) get(ctx context.Context, call *call) (*http.Response, error) {
	r, err := retryablehttp.NewRequestWithContext(context.WithValue(ctx, callKey{}, call), http.MethodGet, call.url, nil)
	if err != nil {
		return nil, err
	}
	c.credentials.setHeader(r.Header)
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, call.explain(ctx, err)
	}
	return resp, nil
}

// explain adds to the error that ended a call what the gateway said before.
func (c *call) explain(ctx context.Context, err error) error {
	if _, isAnswer := errors.AsType[*APIError](err); isAnswer {
		return err
	}
	switch ended := ctx.Err(); {
	case ended != nil && c.lastError != nil:
		err = fmt.Errorf("%w after %s; before that, %w", ended, attempts(c.requests), c.lastError)
	case ended != nil && c.lastAnswer != nil:
		last := *c.lastAnswer
		last.Attempts, last.Err = c.requests, ended
		return &last
	}
	if c.lastAnswer != nil {
		return fmt.Errorf("%w; before that, %w", err, c.lastAnswer)
	}
	return err
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return strconv.Itoa(n) + " attempts"
}

// checkRetry is the retry policy. It returns an error whenever the response is
// not a 200, so that the library neither drops the last response nor replaces
// it by an error of its own.
func (c *Client) checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	call := ctx.Value(callKey{}).(*call) // get put it there
	call.requests++
	retry := false
	if err != nil {
		retry, err = c.checkError(ctx, call, resp, err)
	} else {
		retry, err = c.checkAnswer(call, resp)
	}
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case !retry:
		return false, err
	case !call.retry():
		if call.requests > 1 && call.lastError != nil { // an APIError says so itself
			err = fmt.Errorf("%w, after %s", err, attempts(call.requests))
		}
		return false, err
	}
	c.logger.LogAttrs(ctx, slog.LevelInfo, "pixmed: receipt request failed, trying again",
		slog.String("transaction_id", call.transactionID),
		slog.Int("attempt", call.requests),
		slog.String("error", c.credentials.redact(err.Error())))
	return true, nil
}

// checkAnswer tells whether a response is worth another attempt, and makes an
// error of it unless it is a 200.
func (c *Client) checkAnswer(call *call, resp *http.Response) (bool, error) {
	call.lastAnswer, call.lastError = nil, nil
	if resp.StatusCode == http.StatusOK {
		return false, nil
	}
	answer := c.apiError(resp, call.requests)
	call.lastAnswer = answer
	temporary := resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented
	if temporary && answer.RetryAfter > c.http.RetryWaitMax {
		answer.Err = fmt.Errorf("it asks to wait %v, longer than the longest wait of %v (see WithRetryWait)", answer.RetryAfter, c.http.RetryWaitMax)
		return false, answer
	}
	return temporary, answer
}

// checkError tells whether a request that got no response is worth another
// attempt.
func (c *Client) checkError(ctx context.Context, call *call, resp *http.Response, err error) (bool, error) {
	if errors.Is(err, ErrRedirect) {
		return false, errors.Unwrap(err) // the URL around it is the other origin's
	}
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // http.Client returns nothing else, and made it for us
		e.URL = call.url // after a redirect it is another one, whose query may be a secret
	}
	if ctx.Err() != nil || resp != nil { // both err and resp: the user's CheckRedirect refused
		return false, err
	}
	call.lastError = err
	retry, _ := retryablehttp.ErrorPropagatedRetryPolicy(ctx, nil, err) // it returns err itself, or nil
	return retry, err
}

// backoff waits as long as the gateway asks, or else about twice as long as the
// last time. checkRetry has seen to it that the gateway does not ask for too much.
func backoff(shortest, longest time.Duration, retry int, resp *http.Response) time.Duration {
	if resp != nil {
		if asked := retryAfterOf(resp.Header); asked > 0 {
			return asked
		}
	}
	wait := longest
	if shortest <= longest>>retry { // which is 0 in the end
		wait = shortest << retry
	}
	return wait - rand.N(wait/2+1) //nolint:gosec // jitter needs no secrecy
}

// retryAfterOf returns how long a response asks to wait, 0 if it does not say.
func retryAfterOf(h http.Header) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		const most = uint64(1<<63-1) / uint64(time.Second)
		return time.Duration(min(seconds, most)) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}
