package inbox

import (
	"context"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
)

func TestOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	carry := func(context.Context) map[string]string { return nil }
	resume := func(ctx context.Context, _ map[string]string) context.Context { return ctx }
	for name, test := range map[string]struct {
		opts []Option
		want string
	}{
		"no workers":            {[]Option{WithWorkers(0)}, "WithWorkers: 0 is not between 1 and 10000"},
		"too many workers":      {[]Option{WithWorkers(math.MaxInt)}, "WithWorkers"},
		"no attempts":           {[]Option{WithMaxAttempts(0)}, "WithMaxAttempts"},
		"too many attempts":     {[]Option{WithMaxAttempts(math.MaxInt)}, "WithMaxAttempts"},
		"no queue":              {[]Option{WithQueueSize(-1)}, "WithQueueSize"},
		"a huge queue":          {[]Option{WithQueueSize(math.MaxInt)}, "WithQueueSize"},
		"no delay":              {[]Option{WithBackoff(0, time.Second)}, "WithBackoff: the first delay, 0s"},
		"delays in wrong order": {[]Option{WithBackoff(2, 1)}, "WithBackoff: the first delay, 2ns, is above the longest, 1ns"},
		"no timeout":            {[]Option{WithAttemptTimeout(0)}, "WithAttemptTimeout"},
		"an absurd timeout":     {[]Option{WithAttemptTimeout(math.MaxInt64)}, "WithAttemptTimeout"},
		"overdue too soon":      {[]Option{WithAttemptTimeout(time.Second), WithOverdue(1100 * time.Millisecond)}, "less than 1.2 times"},
		"no retention":          {[]Option{WithRetention(-1)}, "WithRetention: -1ns is not positive"},
		"no logger":             {[]Option{WithLogger(nil)}, "the logger is nil"},
		"no observer":           {[]Option{WithObserver(nil)}, "the function is nil"},
		"no carrying":           {[]Option{WithContext(nil, resume)}, "a function is nil"},
		"no resuming":           {[]Option{WithContext(carry, nil)}, "a function is nil"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := configure(test.opts)
			if c != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v, %v, want %q", c, err, test.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	c, err := configure([]Option{
		WithWorkers(10_000), WithMaxAttempts(1), WithBackoff(1, 1), WithAttemptTimeout(time.Second), WithRetention(time.Hour), WithQueueSize(1), WithLogger(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Workers != 10_000 || c.MaxAttempts != 1 || c.FirstDelay != 1 || c.MaxDelay != 1 || c.AttemptTimeout != time.Second || c.Overdue != 1500*time.Millisecond ||
		c.Retention != time.Hour || c.QueueSize != 1 || c.Logger != log {
		t.Errorf("%+v", c)
	}
}
