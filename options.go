package pixmed

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
)

// applyEach applies each option, and joins what is wrong with them.
func applyEach[O any](opts []O, apply func(O) error) error {
	var errs []error
	for _, o := range opts {
		if any(o) == nil {
			errs = append(errs, errors.New("an option is nil"))
			continue
		}
		errs = append(errs, apply(o))
	}
	return errors.Join(errs...)
}

// given holds the names of the options that were given.
type given map[string]bool

// once calls set, unless the option was given before or its value is not valid.
func (g given) once(option string, valid bool, problem string, set func()) error {
	switch {
	case g[option]:
		return fmt.Errorf("%s is given twice", option)
	case !valid:
		return fmt.Errorf("%s: %s", option, problem)
	}
	g[option] = true
	set()
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

func (o loggerOption) applyHandler(c *handlerConfig) error { return o.apply(c.given, &c.logger) }
func (o loggerOption) applyClient(c *clientConfig) error   { return o.apply(c.given, &c.logger) }

func (o loggerOption) apply(g given, logger **slog.Logger) error {
	return g.once("WithLogger", o.logger != nil, "the logger is nil", func() { *logger = o.logger })
}

// validate returns an error if a part of the configuration is nil, or what its
// Validate method returns, if it has one.
func validate(name string, part any) error {
	if isNil(part) {
		return fmt.Errorf("%s is nil", name)
	}
	if v, ok := part.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// isNil reports whether part is nil or holds a nil pointer or function, such as
// the result of a constructor whose error was ignored.
func isNil(part any) bool {
	v := reflect.ValueOf(part)
	return !v.IsValid() || (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil()
}
