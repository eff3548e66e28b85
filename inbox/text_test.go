package inbox

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

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

// A text is cut between two characters, whatever is in it.
func TestCut(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "abc", "ééé", "日本語", "a\xffb", "\xc3\xc3\xc3", strings.Repeat("\x80", 10)} {
		for most := range 12 {
			got := cut(text, most)
			if !utf8.ValidString(got) || len(got) > 3*most+len("…") && len(text) > most {
				t.Errorf("%q, %d: %q", text, most, got)
			}
			if utf8.ValidString(text) && !strings.HasPrefix(text, strings.TrimSuffix(got, "…")) {
				t.Errorf("%q, %d: %q is not its beginning", text, most, got)
			}
		}
	}
}
