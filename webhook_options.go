package pixmed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// HandlerOption configures [NewHandler]. An option that is given twice is an
// error.
type HandlerOption interface{ applyHandler(*handlerConfig) error }

type handlerConfig struct {
	Handler
	unverified bool
	given      given
}

// handlerOption is an option with its name.
type handlerOption struct {
	name  string
	apply func(*handlerConfig) error
}

func (o handlerOption) applyHandler(c *handlerConfig) error {
	if err := c.given.once(o.name); err != nil {
		return err
	}
	return o.apply(c)
}

// WithVerifier sets what decides whether a request comes from the gateway. To
// combine several, use [All] or [Any].
func WithVerifier(v Verifier) HandlerOption {
	return handlerOption{"WithVerifier", func(c *handlerConfig) error {
		if isNil(v) {
			return errors.New("WithVerifier: the Verifier is nil")
		}
		c.verifier = v
		return validate(v)
	}}
}

// WithoutVerification accepts requests from anybody. It is for handlers behind
// something that verifies, such as a proxy with mutual TLS: whoever can reach
// the handler can otherwise release blocked money in the merchant's books.
func WithoutVerification() HandlerOption {
	return handlerOption{"WithoutVerification", func(c *handlerConfig) error {
		c.unverified = true
		return nil
	}}
}

// WithFallback sets the handler of requests that are verified and well formed
// but not infractions ([ErrNotInfraction]), such as cash-in events on the same
// URL. It finds the body as if nobody had read it, decompressed if it was
// compressed, and answers for itself: like any http.Handler, one that writes
// nothing answers 200, and its context ends when the client hangs up. Without a
// fallback such requests are answered 422. See [AcknowledgeEvent] for one.
func WithFallback(next http.Handler) HandlerOption {
	return handlerOption{"WithFallback", func(c *handlerConfig) error {
		if isNil(next) {
			return errors.New("WithFallback: the handler is nil")
		}
		c.fallback = next
		return nil
	}}
}

// WithInvalid sets a callback for bodies that are verified and not empty, but
// cannot be read as an infraction. It gets the body as it came, compressed if it
// is, and the reason: a [*SyntaxError], a [*ValidationError] or [ErrEncoding].
// If it returns nil the answer is 200, so it must have stored the body for a
// person to look at; its deadline and its errors are treated like a Receiver's.
// Without it the answer is 400, 415 or 422, and the gateway may give up on the
// notification after some retries.
func WithInvalid(callback func(ctx context.Context, body []byte, cause error) error) HandlerOption {
	return handlerOption{"WithInvalid", func(c *handlerConfig) error {
		if callback == nil {
			return errors.New("WithInvalid: the callback is nil")
		}
		c.invalid = callback
		return nil
	}}
}

// WithBodyLimit sets the largest body that is accepted, in bytes, as it comes and
// decompressed. The default is [DefaultBodyLimit]; the spec's example has 245
// bytes.
func WithBodyLimit(bytes int64) HandlerOption {
	return handlerOption{"WithBodyLimit", func(c *handlerConfig) error {
		if bytes < 1 {
			return fmt.Errorf("WithBodyLimit: %d is not a positive number of bytes", bytes)
		}
		c.bodyLimit = bytes
		return nil
	}}
}

// WithCallbackTimeout sets how long a Receiver may take before its context
// ends. The default is [DefaultCallbackTimeout]. A Receiver that fails after that
// is answered 503; one that ignores its context is waited for, and its nil is a
// 200: the notification is handled. Gateways wait 3 to 25 seconds for the
// answer, so slow work belongs behind the durable inbox of module
// github.com/pixmed-go/pixmed/inbox.
func WithCallbackTimeout(d time.Duration) HandlerOption {
	return handlerOption{"WithCallbackTimeout", func(c *handlerConfig) error {
		if d <= 0 {
			return fmt.Errorf("WithCallbackTimeout: %v is not a positive duration", d)
		}
		c.callbackTimeout = d
		return nil
	}}
}

// WithObserver sets a function that is called once for each request, after the
// answer is written, for metrics. It must be quick: the answer may leave only
// when it returns. A panic in it is logged and changes nothing.
func WithObserver(observe func(context.Context, Outcome)) HandlerOption {
	return handlerOption{"WithObserver", func(c *handlerConfig) error {
		if observe == nil {
			return errors.New("WithObserver: the function is nil")
		}
		c.observe = observe
		return nil
	}}
}
