package pixmedtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"
)

// Gateway is a fake payment gateway. It serves receipts over HTTP on a loopback
// address, and it delivers webhooks.
//
// A Gateway is safe for concurrent use. Call Close when done with it.
type Gateway struct {
	// Only pointers and functions, so that %#v prints no credential either.
	server   *httptest.Server
	receipts *receipts
	sender   *sender
	closeAll func()
}

var errClosed = errors.New("the gateway is closed")

// NewGateway starts a gateway on a free port of a loopback address. By default
// it serves plain http, requires no credentials, and neither signs nor
// compresses the webhooks that it delivers.
//
// Like [httptest.NewServer], it panics if it cannot listen. It also panics if an
// option is nil or invalid, and if an option other than WithCredential and
// WithSigner is given twice.
func NewGateway(opts ...Option) *Gateway {
	closing, closeAll := context.WithCancelCause(context.Background())
	onClose := func(f func()) (stop func() bool) { return context.AfterFunc(closing, f) }
	c := config{
		given:    make(map[string]bool),
		receipts: &receipts{contents: make(map[string][]byte), done: closing.Done()},
		sender:   &sender{schedule: Backoff(50*time.Millisecond, time.Second, 10), timeout: 10 * time.Second, onClose: onClose},
	}
	for n, o := range opts {
		if o == nil {
			panic(fmt.Sprintf("NewGateway: option %d is nil", n+1))
		}
		if err := o(&c); err != nil {
			panic("NewGateway: " + err.Error())
		}
	}

	server := httptest.NewUnstartedServer(c.receipts)
	transport := &http.Transport{MaxIdleConnsPerHost: 64} // lets concurrent deliveries reuse connections
	if c.tls {
		server.StartTLS()
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		roots.AddCert(server.Certificate())
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	} else {
		server.Start()
	}
	c.sender.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Gateway{
		server:   server,
		receipts: c.receipts,
		sender:   c.sender,
		closeAll: func() { closeAll(errClosed) },
	}
}

// URL returns the base URL, such as http://127.0.0.1:41234, without a trailing
// slash.
func (g *Gateway) URL() string { return g.server.URL }

// String returns "gateway" and the URL. Printing a Gateway shows no credential.
func (g *Gateway) String() string { return "gateway " + g.URL() }

// Client returns an HTTP client for requests to the gateway. It trusts the
// gateway's certificate if there is one (see [WithTLS]). Close closes the
// client's idle connections.
func (g *Gateway) Client() *http.Client { return g.server.Client() }

// Close shuts down the gateway. It ends delayed and stalled responses, closes
// all connections, makes deliveries in progress fail, and waits until no
// response is being written. Further calls do nothing.
func (g *Gateway) Close() {
	g.closeAll()
	// If the client has stopped reading, only closing its connection ends the response.
	g.server.CloseClientConnections()
	g.server.Close()
	g.sender.client.CloseIdleConnections()
}

// Option configures [NewGateway].
type Option func(*config) error

type config struct {
	given    map[string]bool // the options that may be given once
	receipts *receipts
	sender   *sender
	tls      bool
}

// once returns an error if the option was given before.
func (c *config) once(option string) error {
	if c.given[option] {
		return fmt.Errorf("%s is given twice", option)
	}
	c.given[option] = true
	return nil
}

// WithCredential makes the gateway require a header with this value in every
// receipt request. A request that lacks the header, has another value or has
// the header more than once gets 401. If WithCredential is given several times,
// all of the credentials are required. By default none is.
func WithCredential(header, value string) Option {
	return func(c *config) error {
		c.receipts.credentials = append(c.receipts.credentials, credential{header, value})
		return nil
	}
}

// WithEncoding sets how receipts are encoded. The default is the encoding in the
// gateway's documentation.
func WithEncoding(e Encoding) Option {
	return func(c *config) error {
		c.receipts.encoding = e
		return c.once("WithEncoding")
	}
}

// WithSigner adds signers. Every webhook is signed by all of them, in the order
// in which they were given. By default there are none. NewGateway panics if a
// signer is nil.
func WithSigner(signers ...Signer) Option {
	return func(c *config) error {
		if err := checkSigners(signers); err != nil {
			return fmt.Errorf("WithSigner: %w", err)
		}
		c.sender.signers = append(c.sender.signers, signers...)
		return nil
	}
}

// WithSchedule sets when a webhook that was not answered with 200 is sent
// again. The default is Backoff(50*time.Millisecond, time.Second, 10).
// NewGateway panics if the schedule is nil.
func WithSchedule(s Schedule) Option {
	return func(c *config) error {
		if s == nil {
			return errors.New("WithSchedule: the schedule is nil")
		}
		c.sender.schedule = s
		return c.once("WithSchedule")
	}
}

// WithDeliveryTimeout sets how long the gateway waits for the response to one
// attempt to deliver a webhook. The default is 10 seconds. NewGateway panics if
// d is not positive.
//
// Real gateways wait 3 to 25 seconds before they send the webhook again, even
// if the receiver is still handling the first request.
func WithDeliveryTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("WithDeliveryTimeout: %v is not a positive duration", d)
		}
		c.sender.timeout = d
		return c.once("WithDeliveryTimeout")
	}
}

// WithGzip makes the gateway compress the webhooks that it sends: the body is
// gzip data, the header Content-Encoding is gzip, and signers sign the
// compressed bytes. To compress receipts, use the [Encoding] Gzip.
func WithGzip() Option {
	return func(c *config) error {
		c.sender.gzip = true
		return c.once("WithGzip")
	}
}

// WithTLS makes the gateway serve https, with the certificate that all servers
// of net/http/httptest share. [Gateway.Client] and deliveries trust it;
// deliveries also trust the system's root certificates.
func WithTLS() Option {
	return func(c *config) error {
		c.tls = true
		return c.once("WithTLS")
	}
}
