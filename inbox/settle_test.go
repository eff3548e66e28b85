package inbox

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{
		0: time.Second, 1: 2 * time.Second, 13: 8192 * time.Second, 14: 4 * time.Hour, 61: 4 * time.Hour, 62: 4 * time.Hour, 1000: 4 * time.Hour,
	} {
		least, most := want, time.Duration(0)
		for range 2000 {
			d := backoff(time.Second, 4*time.Hour, failures)
			least, most = min(least, d), max(most, d)
		}
		if least < want/2 || most > want {
			t.Errorf("after %d failures: between %v and %v, want half of %v to all of it", failures, least, most, want)
		}
		if most-least < want/4 {
			t.Errorf("after %d failures: between %v and %v, hardly random", failures, least, most)
		}
	}
	// The default's attempts take about a day.
	var total time.Duration
	for failures := range 19 {
		total += min(time.Second<<failures, 4*time.Hour)
	}
	if total < 20*time.Hour || total > 28*time.Hour {
		t.Errorf("20 attempts take %v at most", total)
	}
}

// An attempt that is put off is no failure, however often it has failed before; its
// wait is between the first delay and the longest.
func TestPutOff(t *testing.T) {
	t.Parallel()
	in := &Inbox{config: &config.Config{FirstDelay: time.Second, MaxDelay: time.Hour, MaxAttempts: 1}, interrupted: t.Context()}
	cause := errors.New("too early")
	for name, test := range map[string]struct {
		err  error
		want ledger.Outcome
	}{
		"a while":   {PutOff(cause, time.Minute), ledger.Outcome{PutOff: true, Error: "too early", Delay: time.Minute}},
		"too short": {PutOff(cause, -time.Minute), ledger.Outcome{PutOff: true, Error: "too early", Delay: time.Second}},
		"too long":  {PutOff(cause, 24*time.Hour), ledger.Outcome{PutOff: true, Error: "too early", Delay: time.Hour}},
		"wrapped":   {fmt.Errorf("forward: %w", PutOff(cause, time.Minute)), ledger.Outcome{PutOff: true, Error: "forward: too early", Delay: time.Minute}},
		"of nil":    {PutOff(nil, time.Minute), ledger.Outcome{PutOff: true, Error: "put off", Delay: time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, in.outcome(&ledger.Attempt{}, test.err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if !errors.Is(PutOff(cause, 0), cause) {
		t.Error("the cause is lost")
	}
	if o := in.outcome(&ledger.Attempt{}, errors.Join(PutOff(cause, 0), cause)); o.PutOff {
		t.Error("joined with another error it is put off too")
	}
}
