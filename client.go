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

	"github.com/hashicorp/go-retryablehttp"

	"github.com/pixmed-go/pixmed/internal/stall"
)

const userAgent = "pixmed-go (+https://github.com/pixmed-go/pixmed)"

// maxHeader limits the headers of a response on the default transport, whose own
// limit of 10 MiB is far more than a gateway needs.
const maxHeader = 64 << 10

// Client fetches receipts from the gateway, and whatever else it offers by GET. It
// is safe for concurrent use.
//
// It retries 202, 408, 425, 429, every 5xx but 501, and connection errors, with
// exponential backoff and jitter. It honours Retry-After up to the longest wait;
// one that asks for more ends the call. See the package documentation for the
// whole policy.
type Client struct {
	base        *url.URL
	http        *retryablehttp.Client
	credentials credentials
	logger      *slog.Logger
	maxReceipt  int64
	sync        func(*os.File) error
}

// NewClient returns a [Client] for the gateway's API at baseURL, such as
// "https://gateway.example/v1". The URL must be https, unless its host is a
// loopback address or [WithPlainHTTP] is given, and must have neither credentials
// nor a query. The error names everything that is wrong with the arguments.
func NewClient(baseURL string, opts ...ClientOption) (*Client, error) {
	retrying := retryablehttp.NewClient()
	cfg := clientConfig{
		receiptConfig: receiptConfig{given: given{}, maxReceipt: DefaultMaxReceiptSize},
		httpClient:    retrying.HTTPClient,
		header:        http.Header{"User-Agent": {userAgent}, "Accept": {"application/json, application/pdf"}},
		retries:       DefaultRetries,
		waitMin:       DefaultRetryWaitMin,
		waitMax:       DefaultRetryWaitMax,
		stall:         DefaultStallTimeout,
		logger:        slog.Default(),
	}
	if t, ok := cfg.httpClient.Transport.(*http.Transport); ok { // the library's own, which nobody shares
		t.MaxResponseHeaderBytes = maxHeader
	}
	err := applyEach(opts, func(o ClientOption) error { return o.applyClient(&cfg) })
	base, baseErr := parseBaseURL(baseURL, cfg.plainHTTP)
	if err := errors.Join(err, baseErr); err != nil {
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
	inner.Transport = &transport{stall.Transport{Base: inner.Transport, Timeout: cfg.stall, Err: ErrStalled}, c.credentials}
	inner.CheckRedirect = c.credentials.sameOrigin(inner.CheckRedirect)
	retrying.HTTPClient = &inner
	retrying.Logger = nil // checkRetry logs
	retrying.RetryMax = cfg.retries
	retrying.RetryWaitMin = cfg.waitMin
	retrying.RetryWaitMax = cfg.waitMax
	retrying.CheckRetry = c.checkRetry
	retrying.Backoff = backoff
	retrying.ErrorHandler = retryablehttp.PassthroughErrorHandler // the error is checkRetry's
	return c, nil
}

// parseBaseURL never shows a URL that it cannot parse: it may have a password in
// it.
func parseBaseURL(s string, plainHTTP bool) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("the base URL does not parse; it should look like https://gateway.example/v1")
	case u.User != nil:
		return nil, errors.New("the base URL contains credentials: pass them with WithBasicAuth instead")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, errors.New("the base URL has no https:// or no host; it should look like https://gateway.example/v1")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the base URL has a query or a fragment: it should end with the path")
	case u.Scheme == "http" && !plainHTTP && !loopback(u.Hostname()):
		return nil, fmt.Errorf("the base URL is plain http to %s, which would show credentials and receipts to the network: use https, or WithPlainHTTP if you mean it", printable(u.Host))
	}
	return u.JoinPath("/"), nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}
