package pixmed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// given holds the options that a constructor was given.
type given map[string]bool

// once returns an error if the option was given before.
func (g given) once(option string) error {
	if g[option] {
		return fmt.Errorf("%s is given twice", option)
	}
	g[option] = true
	return nil
}

// WithVerifier sets what decides whether a request comes from the gateway. To
// combine several, use [All] or [Any].
func WithVerifier(v Verifier) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if isNil(v) {
			return errors.New("WithVerifier: the Verifier is nil")
		}
		if c.verifier != nil {
			return errors.New("WithVerifier was given twice: combine the verifiers with All or Any")
		}
		c.verifier = v
		return validate(v)
	})
}

// WithoutVerification accepts requests from anybody. It is for handlers behind
// something that verifies, such as a gateway with mutual TLS: whoever can reach
// the handler can otherwise release blocked money in the merchant's books.
func WithoutVerification() HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		c.unverified = true
		return nil
	})
}

// WithFallback sets the handler of requests that are verified and well formed
// but not infractions ([ErrNotInfraction]), such as cash-in events on the same
// URL. It finds the body as if nobody had read it, and answers for itself: like
// any http.Handler, one that writes nothing answers 200, and its context ends when
// the client hangs up. Without a fallback such requests are answered 422. See
// [AcknowledgeEvent] for one.
func WithFallback(next http.Handler) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if isNil(next) {
			return errors.New("WithFallback: the handler is nil")
		}
		c.fallback = next
		return nil
	})
}

// WithInvalid sets a callback for bodies that are verified and not empty, but
// malformed or not valid. It gets the body and what is wrong with it, a
// [*SyntaxError] or [*ValidationError]. When it returns nil the answer is 200,
// so it must have stored the body for a person to look at; its deadline and its
// errors are treated like a Receiver's. Without it the answer is 400 or 422 and
// the gateway may give up on the notification after some retries.
func WithInvalid(callback func(ctx context.Context, body []byte, cause error) error) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if callback == nil {
			return errors.New("WithInvalid: the callback is nil")
		}
		c.invalid = callback
		return nil
	})
}

// WithBodyLimit sets the largest body that is accepted, in bytes;
// [DefaultBodyLimit] unless set. The spec's example has 245 bytes.
func WithBodyLimit(bytes int64) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if bytes < 1 {
			return fmt.Errorf("WithBodyLimit: %d is not a positive number of bytes", bytes)
		}
		c.bodyLimit = bytes
		return nil
	})
}

// WithCallbackTimeout sets how long a Receiver may take before its context
// ends; [DefaultCallbackTimeout] unless set. One that fails after that is answered
// 503; one that does not heed its context is waited for, and its nil is a 200: the
// notification is taken care of. Gateways stop waiting for the
// answer after 3 to 25 seconds, so slow work belongs behind the durable inbox of
// module github.com/pixmed-go/pixmed/inbox.
func WithCallbackTimeout(d time.Duration) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if d <= 0 {
			return fmt.Errorf("WithCallbackTimeout: %v is not a positive duration", d)
		}
		c.callbackTimeout = d
		return nil
	})
}

// WithObserver sets a function that is called once for each request, after the
// answer is written, for metrics. It must be quick: the answer may leave only
// when it returns. A panic in it is logged and changes nothing.
func WithObserver(observe func(context.Context, Outcome)) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if observe == nil {
			return errors.New("WithObserver: the function is nil")
		}
		c.observe = observe
		return nil
	})
}

// Option configures both [NewHandler] and [NewClient].
type Option interface {
	HandlerOption
	ClientOption
}

type loggerOption struct{ logger *slog.Logger }

func (o loggerOption) applyHandler(c *handlerConfig) error {
	c.logger = o.logger
	return o.check()
}

func (o loggerOption) check() error {
	if o.logger == nil {
		return errors.New("WithLogger: the logger is nil")
	}
	return nil
}

// WithLogger sets the logger; unless set, it is what slog.Default() returns when
// the Handler or the Client is made. No credential and no body is ever logged, and
// of what a body holds only the transaction's id and the status.
//
// The Handler logs what it handled at debug level, what it turned away at warn
// and what failed at error. The Client logs its retries at info.
func WithLogger(l *slog.Logger) Option { return loggerOption{l} }
