package pixmed

import (
	"reflect"
	"strconv"
	"strings"
)

const (
	maxFound  = 64  // bytes of a value from outside that an error shows
	maxLogged = 256 // bytes of an id or a status that a log shows
)

// clip cuts s after most bytes, at a character's boundary.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// printable returns s as an error may show it: cut, and quoted if it has
// characters that are not graphic.
func printable(s string) string { return graphic(s, maxFound) }

// loggable is printable for a log, where ids are searched for.
func loggable(s string) string { return graphic(s, maxLogged) }

func graphic(s string, most int) string {
	s = clip(s, most)
	quoted := strconv.QuoteToGraphic(s)
	if quoted[1:len(quoted)-1] == s {
		return s
	}
	return quoted
}

// escape replaces what is not graphic in s, such as control characters, with Go's
// escapes.
func escape(s string) string {
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

// validToken reports whether s may be the name of a header.
func validToken(s string) bool {
	for _, b := range []byte(s) {
		if b <= ' ' || b >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, b) >= 0 {
			return false
		}
	}
	return s != ""
}

// hasControl reports whether s has a control character other than a tab.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// validate calls part's Validate method, if it has one.
func validate(part any) error {
	if v, ok := part.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// isNil reports whether part is nil or holds a nil pointer or function, such as
// the result of a constructor whose error was ignored.
func isNil(part any) bool {
	if part == nil {
		return true
	}
	v := reflect.ValueOf(part)
	return (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil()
}
