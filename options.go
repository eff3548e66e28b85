package pixmed

import (
	"errors"
	"fmt"
	"log/slog"
)

// given holds the names of the options that were given.
type given map[string]bool

// once notes that an option is given, and returns an error if it was before.
func (g given) once(option string) error {
	if g[option] {
		return fmt.Errorf("%s is given twice", option)
	}
	g[option] = true
	return nil
}

// Option configures both [NewHandler] and [NewClient].
type Option interface {
	HandlerOption
	ClientOption
}

type loggerOption struct{ logger *slog.Logger }

// WithLogger sets the logger. The default is what slog.Default() returns when the
// Handler or the Client is made. No credential and no body is ever logged, and
// of what a body holds only the transaction's id and the MED status.
//
// The Handler logs successes at debug level, what it rejects at warn, and
// failures at error. The Client logs its retries at info.
func WithLogger(l *slog.Logger) Option { return loggerOption{l} }

func (o loggerOption) applyHandler(c *handlerConfig) error {
	c.logger = o.logger
	return o.check(c.given)
}

func (o loggerOption) check(g given) error {
	if o.logger == nil {
		return errors.New("WithLogger: the logger is nil")
	}
	return g.once("WithLogger")
}
