package pixmed

import (
	"context"
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

type handlerOption func(*handlerConfig) error

func (o handlerOption) applyHandler(c *handlerConfig) error { return o(c) }

// newHandlerOption returns an option that may be given once, with a value that is
// valid or else has a problem.
func newHandlerOption(name string, valid bool, problem string, set func(*handlerConfig)) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		return c.given.once(name, valid, problem, func() { set(c) })
	})
}

// WithVerifier sets what decides whether a request comes from the gateway. To
// combine several, use [All] or [Any].
func WithVerifier(v Verifier) HandlerOption {
	return newHandlerOption("WithVerifier", !isNil(v), "the Verifier is nil", func(c *handlerConfig) { c.verifier = v })
}

// WithoutVerification accepts requests from anybody. It is for handlers behind
// something that verifies, such as a proxy with mutual TLS: whoever can reach
// the handler can otherwise release blocked money in the merchant's books.
func WithoutVerification() HandlerOption {
	return newHandlerOption("WithoutVerification", true, "", func(c *handlerConfig) { c.unverified = true })
}

// WithFallback sets the handler of requests that are verified and well formed
// but not infractions ([ErrNotInfraction]), such as cash-in events on the same
// URL. It finds the body as if nobody had read it, decompressed if it was
// compressed, and answers for itself: like any http.Handler, one that writes
// nothing answers 200, and its context ends when the client hangs up. Without a
// fallback such requests are answered 422. See [AcknowledgeEvent] for one.
func WithFallback(next http.Handler) HandlerOption {
	return newHandlerOption("WithFallback", !isNil(next), "the handler is nil", func(c *handlerConfig) { c.fallback = next })
}

// WithInvalid sets a callback for bodies that are verified and not empty, but
// cannot be read as an infraction. It gets the body as it came, compressed if it
// is, and the reason: a [*SyntaxError], a [*ValidationError] or [ErrEncoding].
// If it returns nil the answer is 200, so it must have stored the body for a
// person to look at; its deadline and its errors are treated like a Receiver's.
// Without it the answer is 400, 415 or 422, and the gateway may give up on the
// notification after some retries.
func WithInvalid(callback func(ctx context.Context, body []byte, cause error) error) HandlerOption {
	return newHandlerOption("WithInvalid", callback != nil, "the callback is nil", func(c *handlerConfig) { c.invalid = callback })
}

// WithBodyLimit sets the largest body that is accepted, in bytes, as it comes and
// decompressed. The default is [DefaultBodyLimit]; the spec's example has 245
// bytes.
func WithBodyLimit(bytes int64) HandlerOption {
	return newHandlerOption("WithBodyLimit", bytes > 0, fmt.Sprintf("%d is not a positive number of bytes", bytes),
		func(c *handlerConfig) { c.bodyLimit = bytes })
}

// WithCallbackTimeout sets how long a Receiver may take before its context
// ends. The default is [DefaultCallbackTimeout]. A Receiver that fails after that
// is answered 503; one that ignores its context is waited for, and its nil is a
// 200: the notification is handled. Gateways wait 3 to 25 seconds for the
// answer, so slow work belongs behind the durable inbox of module
// github.com/pixmed-go/pixmed/inbox.
func WithCallbackTimeout(d time.Duration) HandlerOption {
	return newHandlerOption("WithCallbackTimeout", d > 0, fmt.Sprintf("%v is not a positive duration", d),
		func(c *handlerConfig) { c.callbackTimeout = d })
}

// WithObserver sets a function that is called once for each request, after the
// answer is written, for metrics. It must be quick: the answer may leave only
// when it returns. A panic in it is logged and changes nothing.
func WithObserver(observe func(context.Context, Outcome)) HandlerOption {
	return newHandlerOption("WithObserver", observe != nil, "the function is nil", func(c *handlerConfig) { c.observe = observe })
}
