package text_test

import (
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/internal/text"
)

func TestCut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		s    string
		most int
		want string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc…"},
		{"aé", 3, "aé"},
		{"aé!", 2, "a…"},
		{"\xffabc", 3, "ab…"},
	} {
		if got := text.Cut(test.s, test.most); got != test.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", test.s, test.most, got, test.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                       "",
		"T&ste 378":              "T&ste 378",
		"ação":                   "ação",
		"a\nb":                   `"a\nb"`,
		"\x1b[2J":                `"\x1b[2J"`,
		"a\u202eb":               `"a\u202eb"`,
		"a\xff":                  `"a\xff"`,
		`a"b`:                    `"a\"b"`,
		strings.Repeat("x", 11):  "xxxxxxxxxx…",
		strings.Repeat("\n", 11): `"` + strings.Repeat(`\n`, 10) + `…"`,
	} {
		if got := text.Printable(s, 10); got != want {
			t.Errorf("Printable(%q) = %s, want %s", s, got, want)
		}
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                    "",
		`a "b" ação`:          `a "b" ação`,
		"a\x1b[2J\n\r\x00":    `a\x1b[2J\n\r\x00`,
		"\u202e\u009b\u2028":  `\u202e\u009b\u2028`,
		"it's\xff\U000e0001.": `it's` + "\ufffd" + `\U000e0001.`,
	} {
		if got := text.Escape(s); got != want {
			t.Errorf("Escape(%q) = %s, want %s", s, got, want)
		}
	}
}

func TestHasControl(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"": false, "a\tb ç": false, "a\n": true, "\x00": true, "\x7f": true} {
		if got := text.HasControl(s); got != want {
			t.Errorf("HasControl(%q) = %v", s, got)
		}
	}
}
