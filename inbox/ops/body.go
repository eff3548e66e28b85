package ops

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/pixmed-go/pixmed/internal/text"
)

// What is shown of bodies, in bytes.
const (
	maxBody     = 64 << 10 // of one, on its own page
	bodyOfMany  = 8 << 10  // of one, where there are others
	bodiesOfAll = 64 << 10 // of all on a page
	maxDepth    = 32       // up to which a body is indented
)

// body makes a body readable, or about its first most bytes: indented if it is JSON and
// stays small, otherwise as it came. shown is how many of its bytes are in the result.
func body(raw []byte, most int) (readable string, shown int) {
	shown = min(len(raw), most)
	if shown == len(raw) && indented(raw, most) <= 2*most {
		var b bytes.Buffer
		if json.Indent(&b, raw, "", "  ") == nil {
			return lines(b.String()), shown
		}
	}
	return lines(string(raw[:shown])), shown
}

// indented returns how long a body becomes when it is indented. If that is more than
// twice most, or the body is nested too deeply, it returns something larger than twice
// most.
func indented(raw []byte, most int) int {
	size, depth, quoted := len(raw), 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			depth++
			size += 1 + 2*depth
		case c == '}', c == ']':
			depth--
			size += 1 + 2*max(depth, 0)
		case c == ',':
			size += 1 + 2*max(depth, 0)
		case c == ':':
			size++
		}
		if depth > maxDepth || size > 2*most {
			return 2*most + 1
		}
	}
	return size
}

// lines is show for a text of several lines.
func lines(s string) string {
	all := strings.Split(strings.ToValidUTF8(s, "\uFFFD"), "\n")
	for i, line := range all {
		columns := strings.Split(strings.TrimSuffix(line, "\r"), "\t")
		for j, column := range columns {
			columns[j] = text.Escape(column)
		}
		all[i] = strings.Join(columns, "\t")
	}
	return strings.Join(all, "\n")
}
