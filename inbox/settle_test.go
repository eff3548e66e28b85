package inbox

import (
	"errors"
	"testing"
	"time"
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

func TestDiscard(t *testing.T) {
	t.Parallel()
	cause := errors.New("no account")
	if err := Discard(cause); !errors.Is(err, cause) || err.Error() != "no account" {
		t.Errorf("got %v", err)
	}
	if err := Discard(nil); err == nil || err.Error() == "" {
		t.Errorf("Discard(nil) is %v, and must be an error", err)
	}
}
