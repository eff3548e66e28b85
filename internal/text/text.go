// Package text makes text from outside fit to be shown in errors, logs and
// terminals. It is cut first, since it may be huge, then redacted, then made
// printable.
package text

import (
	"strconv"
	"strings"
)

// Cut returns s, or its first most bytes, up to a character's boundary, and "…".
func Cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// Printable returns s as it may stand in a line: cut after most bytes, and quoted
// if it has characters that are not graphic.
func Printable(s string, most int) string {
	s = Cut(s, most)
	quoted := strconv.QuoteToGraphic(s)
	if quoted[1:len(quoted)-1] == s {
		return s
	}
	return quoted
}

// Escape replaces what is not graphic in s, such as control characters, with Go's
// escapes.
func Escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsGraphic(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// HasControl reports whether s has a control character other than a tab.
func HasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
