package inbox

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
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

func TestErrorText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain é":    "plain é",
		"a\x00b\xff": "a\uFFFDb\uFFFD",
		"":           "an error without a text",
	} {
		if got := errorText(errors.New(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := errorText(nil); got != "" {
		t.Errorf("nil: %q", got)
	}
	long := errorText(errors.New("x" + strings.Repeat("é", 10_000)))
	if len(long) > maxErrorText+10 || !utf8.ValidString(long) || !strings.HasSuffix(long, "é…") {
		t.Errorf("a long text: %d bytes, ends with %q", len(long), long[len(long)-10:])
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

// Ids are UUIDs of version 7, and sort like their times.
func TestNewID(t *testing.T) {
	t.Parallel()
	last := ""
	for _, at := range []time.Time{{}, time.UnixMilli(0), time.UnixMilli(1), time.UnixMicro(1001), time.UnixMicro(1002), time.UnixMicro(1999), time.UnixMilli(2), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		id := newID(at)
		u, err := uuid.Parse(id)
		if err != nil || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
			t.Errorf("%s: %v, version %d", id, err, u.Version())
		}
		if first := firstID(at).String(); first > id {
			t.Errorf("%s is below %s, the first of its time", id, first)
		}
		if at.UnixMilli() > 0 && id <= last {
			t.Errorf("%s does not come after %s", id, last)
		}
		last = id
	}
	if a, b := newID(time.UnixMilli(5)), newID(time.UnixMilli(5)); a == b {
		t.Error("two ids of a millisecond are the same")
	}
}
