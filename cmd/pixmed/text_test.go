package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                         "",
		"Olá, tu":                  "Olá, tu",
		"a\nb":                     `"a\nb"`,
		"\x1b[2J":                  `"\x1b[2J"`,
		"\u202e":                   `"\u202e"`,
		`a "b"`:                    `"a \"b\""`,
		"\xff":                     `"\xff"`,
		strings.Repeat("x", 20):    strings.Repeat("x", 10) + "…",
		strings.Repeat("ã", 8):     "ããããã…",
		"123456789\u00e3 and more": "123456789…",
	} {
		if got := printable(in, 10); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a line\n\tand another ã": "a line\n\tand another ã",
		"\x1b]8;;http://x\a":      `\u001b]8;;http://x\u0007`,
		"\r\u0085\u202e\u2028":    `\r`,
		"\U000e0001":              `\udb40\udc01`,
		"\xff\xfe":                `\xff\xfe`,
		"\uFFFD":                  "\uFFFD",
	} {
		if want == `\r` {
			want = `\u000d\u0085\u202e\u2028`
		}
		if got := escape(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// Whatever comes in, what goes out is shown and not obeyed; and JSON stays JSON of
// the same value.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a\nb", "\x1b[31m", "\u009b31m", "\u202e", "\xff", "\U000e0001", "\uFFFD"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := escape(s); hidden(strings.ReplaceAll(got, "\uFFFD", "")) || !utf8.ValidString(got) {
			t.Errorf("%q: %q", s, got)
		}
		if got := printable(s, 20); len(got) > 20*10+8 || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("%q: printable gives %q", s, got)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var before, after string
		if err := json.Unmarshal(text, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(escape(string(text))), &after); err != nil || after != before {
			t.Errorf("%s: %s, %v", text, escape(string(text)), err)
		}
	})
}
