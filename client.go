package pixmed

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

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
	sync        func(*os.File) error
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
	return o.check(given{})
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
			errs = append(errs, errors.New("an option is nil"))
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
		sync:        (*os.File).Sync,
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
		return nil, errors.New("the base URL does not parse; it should look like https://gateway.example/v1")
	case u.User != nil:
		return nil, errors.New("the base URL holds credentials: pass them with WithBasicAuth instead")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, errors.New("the base URL has no https:// or no host; it should look like https://gateway.example/v1")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the base URL has a query or a fragment, where it should end with the path")
	case u.Scheme == "http" && !plainHTTP && !loopback(u.Hostname()):
		return nil, fmt.Errorf("the base URL is plain http to %s, which would show credentials and receipts to the network: use https, or WithPlainHTTP if you mean it", u.Host)
	}
	return u, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// WithHTTPClient sets the client that sends the requests, for mutual TLS,
// OAuth 2, a proxy, tracing, or a fake in tests. Its Transport, Jar, Timeout and
// CheckRedirect are used; the client itself is not changed. A Timeout would
// limit a whole download.
func WithHTTPClient(h *http.Client) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if h == nil {
			return errors.New("WithHTTPClient: the client is nil")
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
			return fmt.Errorf("WithRetries: %d is negative", n)
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
			return fmt.Errorf("WithRetryWait: want 0 < shortest <= longest, got %v and %v", shortest, longest)
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
			return fmt.Errorf("WithStallTimeout: %v is not a positive duration", d)
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
