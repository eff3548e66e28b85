package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

// Option configures [NewHandler]. Each may be given once.
type Option struct {
	name string
	set  func(*config) error
}

type config struct {
	authenticated bool
	login         *login // nil without WithBasicAuth
	user          func(*http.Request) string
	receipt       ReceiptFunc
	end           EndFunc
	location      *time.Location
	readOnly      bool
	log           *slog.Logger
	now           func() time.Time
}

// newConfig returns what options set.
func newConfig(opts []Option) (*config, error) {
	c := &config{location: time.FixedZone("UTC-3", -3*60*60), log: slog.Default(), now: time.Now}
	var errs []error
	given := make(map[string]bool)
	for _, o := range opts {
		switch {
		case o.set == nil:
			errs = append(errs, errors.New("an option is the zero Option"))
			continue
		case given[o.name]:
			errs = append(errs, fmt.Errorf("%s is given twice", o.name))
		}
		given[o.name] = true
		if err := o.set(c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.name, err))
		}
	}
	if !c.authenticated {
		errs = append(errs, errors.New("the page shows personal data and needs authentication: use WithBasicAuth, or WithAuthenticated if something in front of it lets only operators through"))
	}
	return c, errors.Join(errs...)
}

// WithBasicAuth asks for a user and a password (HTTP Basic), which are compared in
// constant time. What is done is recorded with that user, unless [WithUser] is given.
// Use it behind https only.
func WithBasicAuth(user, password string) Option {
	return Option{"WithBasicAuth", func(c *config) (err error) {
		c.authenticated = true
		c.login, err = newLogin(user, password)
		return err
	}}
}

// WithAuthenticated declares that something in front of the handler lets only
// operators through, such as the admin that it is mounted in. Use [WithUser] too, or
// what is done is kept without a name. Beside [WithBasicAuth] it changes nothing.
func WithAuthenticated() Option {
	return Option{"WithAuthenticated", func(c *config) error {
		c.authenticated = true
		return nil
	}}
}

// WithUser sets a function that returns who sent a request, such as the name in a
// session, or in a header that a proxy sets and nobody else can. The name is kept with
// the case, shown, and logged; at most 150 bytes of it. Default the user of
// [WithBasicAuth], or nobody.
func WithUser(user func(*http.Request) string) Option {
	return Option{"WithUser", func(c *config) error {
		if user == nil {
			return errors.New("the function is nil")
		}
		c.user = user
		return nil
	}}
}

// ReceiptFunc opens the receipt of a transaction, as the application has stored it;
// nil without an error means that there is none. The page closes what it returns. It
// also calls it, and closes the receipt unread, to find out whether there is one.
type ReceiptFunc func(ctx context.Context, i *pixmed.Infraction) (io.ReadCloser, error)

// WithReceipt offers the receipt of a case for download, if there is one. The page
// serves it itself, so that it is behind the same authentication. Default none.
func WithReceipt(open ReceiptFunc) Option {
	return Option{"WithReceipt", func(c *config) error {
		if open == nil {
			return errors.New("the function is nil")
		}
		c.receipt = open
		return nil
	}}
}

// EndFunc ends a case as [inbox.Inbox.End] does, and returns the same errors.
type EndFunc func(ctx context.Context, transactionID, note string, opts ...inbox.ActionOption) error

// WithEnd sets what ends a case, for a service that has to end it in a second inbox
// too, see [inbox.Then]: one that stays open there is never purged. Default
// [inbox.Inbox.End].
func WithEnd(end EndFunc) Option {
	return Option{"WithEnd", func(c *config) error {
		if end == nil {
			return errors.New("the function is nil")
		}
		c.end = end
		return nil
	}}
}

// WithLocation sets the time zone of times and days, and so when today ends. Default
// UTC-3, Brasília's.
func WithLocation(l *time.Location) Option {
	return Option{"WithLocation", func(c *config) error {
		if l == nil {
			return errors.New("the location is nil")
		}
		c.location = l
		return nil
	}}
}

// WithReadOnly leaves out all actions.
func WithReadOnly() Option {
	return Option{"WithReadOnly", func(c *config) error {
		c.readOnly = true
		return nil
	}}
}

// WithLogger sets the logger of failed logins and of whatever else fails; the inbox
// itself logs what is done. Default slog.Default().
func WithLogger(l *slog.Logger) Option {
	return Option{"WithLogger", func(c *config) error {
		if l == nil {
			return errors.New("the logger is nil")
		}
		c.log = l
		return nil
	}}
}
