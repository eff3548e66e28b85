package ops

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
)

// Option changes what [NewHandler] returns.
type Option func(*config) error

type config struct {
	authenticated bool
	credentials   pixmed.Verifier // nil without WithBasicAuth
	receipt       ReceiptFunc
	location      *time.Location
	readOnly      bool
	log           *slog.Logger
}

// WithBasicAuth asks for a user and a password (HTTP Basic), which are compared in
// constant time. Use it behind https only.
func WithBasicAuth(user, password string) Option {
	return func(c *config) error {
		if user == "" || password == "" {
			return errors.New("ops: WithBasicAuth: the user or the password is empty")
		}
		if strings.Contains(user, ":") {
			return errors.New("ops: WithBasicAuth: the user has a colon, which no browser can send")
		}
		c.authenticated, c.credentials = true, pixmed.BasicAuth(user, password)
		return nil
	}
}

// WithAuthenticated says that something in front of the handler lets only operators
// through, such as the admin that it is mounted in. Beside [WithBasicAuth] it changes
// nothing.
func WithAuthenticated() Option {
	return func(c *config) error {
		c.authenticated = true
		return nil
	}
}

// ReceiptFunc opens the receipt of a transaction, as the application has stored it;
// nil without an error says that there is none. The page closes what it returns.
type ReceiptFunc func(ctx context.Context, i *pixmed.Infraction) (io.ReadCloser, error)

// WithReceipt shows receipts. The page serves them itself, so that they are behind
// the same authentication. Default none.
func WithReceipt(open ReceiptFunc) Option {
	return func(c *config) error {
		if open == nil {
			return errors.New("ops: WithReceipt: the function is nil")
		}
		c.receipt = open
		return nil
	}
}

// WithLocation sets in which time zone times and days are shown. Default UTC-3,
// Brasília's.
func WithLocation(l *time.Location) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("ops: WithLocation: the location is nil")
		}
		c.location = l
		return nil
	}
}

// WithReadOnly leaves out replays.
func WithReadOnly() Option {
	return func(c *config) error {
		c.readOnly = true
		return nil
	}
}

// WithLogger sets the logger, which is told of replays and of what fails. Default
// slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("ops: WithLogger: the logger is nil")
		}
		c.log = l
		return nil
	}
}

// admitted reports whether a request has the right user and password.
func (c *config) admitted(r *http.Request) bool {
	return c.credentials == nil || c.credentials.Verify(r, nil) == nil // which reads no body
}
