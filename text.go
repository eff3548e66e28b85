package pixmed

import (
	"regexp"

	"github.com/pixmed-go/pixmed/internal/text"
)

// How many bytes of a text from outside are shown.
const (
	maxFound  = 64  // of a value, in an error
	maxLogged = 256 // of an id or a status, in a log, where ids are searched for
	maxText   = 500 // of an error's text that may quote the gateway
)

func clip(s string) string      { return text.Cut(s, maxFound) }
func printable(s string) string { return text.Printable(s, maxFound) }
func loggable(s string) string  { return text.Printable(s, maxLogged) }

// token matches what may be the name of a header (RFC 9110, section 5.6.2).
var token = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")
