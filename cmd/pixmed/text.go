package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pixmed-go/pixmed/internal/text"
)

// printable returns a stranger's text as it may stand within a line: cut after most
// bytes, and quoted if it holds anything but plain characters.
func printable(s string, most int) string { return text.Printable(s, most) }

// oneLine is printable for a text that may have several lines.
func oneLine(s string, most int) string { return printable(strings.ReplaceAll(s, "\n", "; "), most) }

// hidden reports whether s holds a character that a terminal obeys or does not show.
func hidden(s string) bool { return strings.ContainsFunc(s, isHidden) }

// isHidden holds for control characters and for those of formatting, which can turn
// the direction of a line around.
func isHidden(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == utf8.RuneError)
}

// escape writes hidden characters, and bytes that are none, as JSON and Go do.
func escape(s string) string {
	if !hidden(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !isHidden(r) || r == utf8.RuneError:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// escaper is what all text goes through on its way out: whatever a part of the
// program has overlooked, no terminal obeys a stranger. Each Write is of whole
// characters.
type escaper struct{ w io.Writer }

func (e *escaper) Write(p []byte) (int, error) {
	if _, err := io.WriteString(e.w, escape(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
