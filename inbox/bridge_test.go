package inbox

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
)

// Options are read together, so that one error names all that is wrong with them.
func TestConfigure(t *testing.T) {
	t.Parallel()
	unnamed := option("", func(c *config.Config) error { c.MaxBatch++; return nil })
	for name, test := range map[string]struct {
		opts []Option
		want string // the error
	}{
		"none":                  {nil, ""},
		"zero":                  {[]Option{{}}, "an option is the zero Option"},
		"twice":                 {[]Option{WithWorkers(1), WithWorkers(2)}, "WithWorkers is given twice"},
		"twice without a name":  {[]Option{unnamed, unnamed}, ""},
		"several that are bad":  {[]Option{WithWorkers(0), WithQueueSize(0)}, "WithWorkers: 0 is not between 1 and 10000\nWithQueueSize: 0 is not between 1 and 1000000"},
		"two that do not agree": {[]Option{WithWorkers(0), WithAttemptTimeout(time.Hour), WithOverdue(time.Hour)}, "WithWorkers: 0 is not between 1 and 10000\nWithOverdue: 1h0m0s is less than 1.2 times the attempt timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := configure(test.opts)
			if (c == nil) != (err != nil) || (err == nil) != (test.want == "") || (err != nil && !strings.HasPrefix(err.Error(), test.want)) {
				t.Errorf("%+v, %v, want %q", c, err, test.want)
			}
			if want := config.Default().MaxBatch + len(test.opts); err == nil && c.MaxBatch != want {
				t.Errorf("it was set to %d, want %d", c.MaxBatch, want)
			}
		})
	}
}

type pointerReceiver struct{}

func (*pointerReceiver) Receive(context.Context, *pixmed.Notification) error { return nil }

// A receiver that is nil is found when an inbox is opened, and one that says what it
// lacks is asked.
func TestCheckReceiver(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		receiver pixmed.Receiver
		want     string
	}{
		"nil":                  {nil, "the receiver is nil"},
		"a nil function":       {pixmed.ReceiverFunc(nil), "the receiver is nil"},
		"a nil pointer":        {(*pointerReceiver)(nil), "the receiver is nil"},
		"a nil inbox":          {(*Inbox)(nil), "the receiver is nil"},
		"incomplete callbacks": {pixmed.Callbacks{}, "Callbacks.Other is nil"},
		"a function":           {pixmed.ReceiverFunc(pixmed.Ignore), ""},
		"a pointer":            {new(pointerReceiver), ""},
	} {
		err := checkReceiver(test.receiver)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
