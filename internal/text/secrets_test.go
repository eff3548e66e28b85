package text_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/internal/text"
)

const key = "0123456789abcdef"

func TestSecretsIn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		secret, text string
		want         bool
	}{
		"all of it":                 {key, "the key " + key + " is unknown", true},
		"its first 8 bytes":         {key, "the key 01234567 is too short", true},
		"its first 7 bytes":         {key, "the key 0123456 is too short", false},
		"its end":                   {key, "89abcdef", false},
		"in another letter case":    {"sk_live_abcdef", "SK_LIVE_ABCDEF", true},
		"cut within a character":    {"senha-çã", "got senha-çã", true},
		"a short one":               {"xq7z", "got xq7z", true},
		"one too short":             {"the", "the end", false},
		"none":                      {"", "anything", false},
		"blanks around it":          {" padded-secret\n", "got padded-secret", true},
		"a plus as a blank":         {"pass+word", "got pass word", true},
		"a blank as a plus":         {"pass word", "got pass+word", true},
		"escaped as JSON":           {key, `\u0030\u0031234\u0035\u0036\u0037`, true},
		"surrogates":                {"😀password", `\ud83d\ude00password`, true},
		"a lone surrogate":          {"\ufffdpassword", `\ud83dpassword`, true},
		"escaped as a URL":          {"a/b c%d+e", "a%2fb+c%25d%2Be", true},
		"escaped as HTML":           {"$2a$10$secret", "&dollar;2a&#36;10&#x24;secret", true},
		"a quote, by %q":            {`pass"\word`, `pass\"\\word`, true},
		"bytes that are no UTF-8":   {"pass\xffword", `pass\xffword`, true},
		"an escape that is unknown": {"passqword", `pass\qword`, true},
		"what looks like an escape": {`%41%42%43`, "got %41%42%43", true},
	} {
		s := text.NewSecrets("another secret", test.secret)
		if got := s.In(test.text); got != test.want {
			t.Errorf("%s: In(%q) = %v", name, test.text, got)
		}
		want := test.text
		if test.want {
			want = text.Redacted
		}
		if got := s.Redact(test.text); got != want {
			t.Errorf("%s: Redact(%q) = %q", name, test.text, got)
		}
	}
	var none text.Secrets
	if none.In(key) || none.Redact(key) != key {
		t.Error("the zero Secrets have one")
	}
}

func TestSecretsShow(t *testing.T) {
	t.Parallel()
	s := text.NewSecrets(key)
	for given, want := range map[string]string{
		"plain":                        "plain",
		"a\x1b[2J":                     `a\x1b[2J`,
		strings.Repeat("x", 30) + key:  strings.Repeat("x", 30) + "…", // cut off with the rest
		strings.Repeat("x", 10) + key:  text.Redacted,
		key + strings.Repeat("\n", 99): text.Redacted,
	} {
		if got := s.Show(given, 30); got != want {
			t.Errorf("Show(%q) = %q, want %q", given, got, want)
		}
	}
}

// An error's text is replaced, what the error is stays, and its chain, where the
// text would be found, ends.
func TestSecretsClean(t *testing.T) {
	t.Parallel()
	s := text.NewSecrets(key)
	for name, err := range map[string]error{
		"secret":  fmt.Errorf("key %s: %w", key, &fs.PathError{Op: "open", Path: key, Err: io.ErrUnexpectedEOF}),
		"control": fmt.Errorf("\x1b[2J: %w", &fs.PathError{Op: "open", Path: "x", Err: io.ErrUnexpectedEOF}),
		"long":    fmt.Errorf("%s: %w", strings.Repeat("x", 99), &fs.PathError{Op: "open", Path: "x", Err: io.ErrUnexpectedEOF}),
	} {
		clean := s.Clean(err, 60)
		if got, want := clean.Error(), s.Show(err.Error(), 60); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if _, isPathError := errors.AsType[*fs.PathError](clean); !isPathError || !errors.Is(clean, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the error is no longer found in %v", name, clean)
		}
		if errors.Unwrap(clean) != nil {
			t.Errorf("%s: it unwraps to what has the text", name)
		}
	}
	if got := s.Clean(io.EOF, 60); got != io.EOF {
		t.Errorf("a harmless error became %v", got)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	s := text.NewSecrets(key)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if shown := fmt.Sprintf(format, s); strings.Contains(shown, key[:8]) {
			t.Errorf("%s shows %s", format, shown)
		}
	}
}
