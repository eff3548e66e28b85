package inbox

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/bridge"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// The engines import this package, so these are set before they are needed.
var _ = bridge.Set(bridge.Functions{
	Option: func(name string, set func(*config.Config) error) any { return Option{name, set} },
	Configure: func(options any) (*config.Config, error) {
		opts, _ := options.([]Option)
		return configure(opts)
	},
	CheckReceiver: checkReceiver,
	New: func(engine ledger.Engine, receiver pixmed.Receiver, c *config.Config) any {
		return newInbox(engine, receiver, c)
	},
	NewReader: func(from ledger.Reader) any { return &Reader{reads{from}} },
})

// configure returns what options set.
func configure(opts []Option) (*config.Config, error) {
	c := config.Default()
	var errs []error
	given := make(map[string]bool)
	for _, o := range opts {
		switch {
		case o.set == nil:
			errs = append(errs, errors.New("an option is the zero Option"))
			continue
		case o.name != "" && given[o.name]:
			errs = append(errs, fmt.Errorf("%s is given twice", o.name))
		}
		given[o.name] = true
		if err := o.set(c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.name, err))
		}
	}
	if err := errors.Join(append(errs, c.Validate())...); err != nil {
		return nil, err
	}
	return c, nil
}

// checkReceiver reports a receiver that is nil or incomplete.
func checkReceiver(receiver pixmed.Receiver) error {
	v := reflect.ValueOf(receiver)
	if !v.IsValid() || ((v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil()) {
		return errors.New("the receiver is nil")
	}
	if v, ok := receiver.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}
