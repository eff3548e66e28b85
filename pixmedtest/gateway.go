package pixmedtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"time"
)

// Gateway is a fake of the payment gateway. It serves receipts over HTTP on a
// loopback address, and it delivers webhooks.
//
// A Gateway is safe for concurrent use. It has to be closed.
type Gateway struct {
	// Pointers and functions only, so that not even %#v shows a credential.
	server   *httptest.Server
	receipts *receipts
	sender   *sender
	closeAll func()
}

var errClosed = errors.New("the gateway is closed")

// NewGateway starts a gateway that listens on a loopback address of its own.
// Like [httptest.NewServer], it panics if it cannot listen.
//
// Without options it asks for no credentials, delivers webhooks without any,
// and serves plain http.
func NewGateway(opts ...Option) *Gateway {
	closing, closeAll := context.WithCancelCause(context.Background())
	onClose := func(f func()) (stop func() bool) { return context.AfterFunc(closing, f) }
	c := config{
		receipts: &receipts{contents: make(map[string][]byte), done: closing.Done()},
		sender:   &sender{schedule: Backoff(50*time.Millisecond, time.Second, 10), timeout: 10 * time.Second, onClose: onClose},
	}
	for _, o := range opts {
		if o != nil {
			o(&c)
		}
	}

	server := httptest.NewUnstartedServer(c.receipts)
	transport := &http.Transport{MaxIdleConnsPerHost: 64} // several deliveries at once, without a new connection for each
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

// URL returns the base URL, such as http://127.0.0.1:41234, without a slash at
// its end.
func (g *Gateway) URL() string { return g.server.URL }

// String returns the word gateway and the URL, so that a Gateway that is
// printed shows no credential.
func (g *Gateway) String() string { return "gateway " + g.URL() }

// Client returns an HTTP client for requests to the gateway, which trusts its
// certificate if it was made [WithTLS]. Close closes its idle connections.
func (g *Gateway) Client() *http.Client { return g.server.Client() }

// Close shuts the gateway down: it ends stalled and delayed answers, breaks
// the connections that are open, makes deliveries under way fail, and returns
// when no answer is being written any more. Closing again does nothing.
func (g *Gateway) Close() {
	g.closeAll()
	// An answer whose client has stopped reading ends only with its connection.
	g.server.CloseClientConnections()
	g.server.Close()
	g.sender.client.CloseIdleConnections()
}

// Option configures [NewGateway].
type Option func(*config)

type config struct {
	receipts *receipts
	sender   *sender
	tls      bool
}

// WithCredential makes the gateway ask for a header with this value in every
// receipt request, and answer 401 to one that does not have it exactly once.
// Given several times, all of the credentials are needed. None is unless set.
func WithCredential(header, value string) Option {
	return func(c *config) {
		c.receipts.credentials = append(c.receipts.credentials, credential{header, value})
	}
}

// WithEncoding sets how receipts are encoded; as in the specification unless
// set.
func WithEncoding(e Encoding) Option {
	return func(c *config) { c.receipts.encoding = e }
}

// WithSigner sets what shows a webhook's receiver that it comes from the
// gateway. Given several, or several times, all of them sign; unless set, none
// does.
func WithSigner(signers ...Signer) Option {
	return func(c *config) { c.sender.signers = append(c.sender.signers, signers...) }
}

// WithSchedule sets when a webhook that was not answered with 200 is sent
// again; Backoff(50*time.Millisecond, time.Second, 10) unless set.
func WithSchedule(s Schedule) Option {
	return func(c *config) {
		if s != nil {
			c.sender.schedule = s
		}
	}
}

// WithDeliveryTimeout sets how long the gateway waits for the answer to one
// attempt at delivering a webhook; 10 seconds unless set to more than zero.
// Real gateways wait for 3 to 25 seconds and then send the webhook again, even
// though the first one may still be at work.
func WithDeliveryTimeout(d time.Duration) Option {
	return func(c *config) {
		if d > 0 {
			c.sender.timeout = d
		}
	}
}

// WithTLS makes the gateway serve https, with the certificate that all servers
// of net/http/httptest share. [Gateway.Client] trusts it, and so do deliveries,
// beside the system's roots.
func WithTLS() Option {
	return func(c *config) { c.tls = true }
}
