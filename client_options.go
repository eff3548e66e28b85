package pixmed

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Defaults of a [Client].
const (
	DefaultRetries        = 4                      // after the first request
	DefaultRetryWaitMin   = 500 * time.Millisecond // before the first retry
	DefaultRetryWaitMax   = 30 * time.Second       // before any retry
	DefaultStallTimeout   = time.Minute            // without a byte from the gateway
	DefaultMaxReceiptSize = 32 << 20               // bytes of PDF
)

// ClientOption configures [NewClient]. An option given twice is an error.
type ClientOption interface{ applyClient(*clientConfig) error }

// ReceiptOption configures [DecodeReceipt], and [NewClient] too.
type ReceiptOption interface {
	ClientOption
	applyReceipt(*receiptConfig) error
}

type receiptConfig struct {
	given      given
	maxReceipt int64
}

type clientConfig struct {
	receiptConfig
	httpClient       *http.Client
	header           http.Header
	secrets          []string
	retries          int
	waitMin, waitMax time.Duration
	stall            time.Duration
	plainHTTP        bool
	logger           *slog.Logger
}

type clientOption func(*clientConfig) error

func (o clientOption) applyClient(c *clientConfig) error { return o(c) }

// newClientOption returns an option that may be given once, with a value that is
// valid or else has a problem.
func newClientOption(name string, valid bool, problem string, set func(*clientConfig)) ClientOption {
	return clientOption(func(c *clientConfig) error {
		return c.given.once(name, valid, problem, func() { set(c) })
	})
}

// WithHTTPClient sets the client that sends the requests, for mutual TLS,
// OAuth 2, a proxy, tracing, or a fake in tests. Its Transport, Jar, Timeout and
// CheckRedirect are used; the client itself is not changed. A Timeout limits each
// request, the download of its body included. Without this option, response
// headers are limited to 64 KiB.
func WithHTTPClient(h *http.Client) ClientOption {
	return newClientOption("WithHTTPClient", h != nil, "the client is nil",
		func(c *clientConfig) { c.httpClient = h })
}

// WithRetries sets how many requests may follow the first one of a call, whether
// after an error or to resume a broken download; [DefaultRetries] unless set, and
// 0 for none.
func WithRetries(n int) ClientOption {
	return newClientOption("WithRetries", n >= 0, fmt.Sprintf("%d is negative", n),
		func(c *clientConfig) { c.retries = n })
}

// WithRetryWait sets the wait before the first retry and the longest wait;
// [DefaultRetryWaitMin] and [DefaultRetryWaitMax] unless set. Waits double from
// retry to retry, and each is shortened by up to a half at random. A Retry-After
// that asks for more than the longest wait ends the call.
func WithRetryWait(shortest, longest time.Duration) ClientOption {
	return newClientOption("WithRetryWait", 0 < shortest && shortest <= longest, fmt.Sprintf("want 0 < shortest <= longest, got %v and %v", shortest, longest),
		func(c *clientConfig) { c.waitMin, c.waitMax = shortest, longest })
}

// WithStallTimeout sets how long the gateway may send nothing, before its answer
// or in the middle of it, until the connection counts as broken;
// [DefaultStallTimeout] unless set. It applies under context.Background() too.
func WithStallTimeout(d time.Duration) ClientOption {
	return newClientOption("WithStallTimeout", d > 0, fmt.Sprintf("%v is not a positive duration", d),
		func(c *clientConfig) { c.stall = d })
}

// WithPlainHTTP allows a base URL that is plain http to another host. Anybody on
// the way can then read the credentials and the receipts.
func WithPlainHTTP() ClientOption {
	return newClientOption("WithPlainHTTP", true, "",
		func(c *clientConfig) { c.plainHTTP = true })
}

type maxReceiptSize int64

// WithMaxReceiptSize sets the largest PDF that is accepted, in bytes;
// [DefaultMaxReceiptSize] unless set. The JSON around it is limited to twice that
// plus 64 KiB.
func WithMaxReceiptSize(bytes int64) ReceiptOption { return maxReceiptSize(bytes) }

func (m maxReceiptSize) applyClient(c *clientConfig) error { return m.applyReceipt(&c.receiptConfig) }

func (m maxReceiptSize) applyReceipt(c *receiptConfig) error {
	return c.given.once("WithMaxReceiptSize", m > 0, fmt.Sprintf("%d is not a positive number of bytes", m), func() { c.maxReceipt = int64(m) })
}
