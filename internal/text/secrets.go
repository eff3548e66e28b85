package text

import (
	"errors"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Redacted replaces a text that gives a secret away.
const Redacted = "[redacted]"

// Secrets are what no text may give away. They are kept in a closure, where
// printing them does not reach them. The zero value has none.
type Secrets struct{ in func(text string) bool }

// NewSecrets returns Secrets. One of less than 4 bytes, which may be a part of any
// word, is ignored, and so is white space around a secret.
func NewSecrets(secrets ...string) Secrets {
	var starts []string // 8 bytes of a secret are too many
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) >= 4 {
			starts = append(starts, lower(s[:min(len(s), 8)]))
		}
	}
	return Secrets{func(text string) bool {
		plain := lower(spaced(unescape(text)))
		text = lower(text)
		return slices.ContainsFunc(starts, func(s string) bool {
			return strings.Contains(text, s) || strings.Contains(plain, spaced(s))
		})
	}}
}

// In reports whether a text holds a secret or its first 8 bytes, in any letter
// case and perhaps escaped.
func (s Secrets) In(text string) bool { return s.in != nil && s.in(text) }

// Redact returns the text, or [Redacted] if a secret is in it.
func (s Secrets) Redact(text string) string {
	if s.In(text) {
		return Redacted
	}
	return text
}

// Show returns a text as errors and logs may show it: cut after most bytes, then
// redacted, then escaped.
func (s Secrets) Show(text string, most int) string { return Escape(s.Redact(Cut(text, most))) }

// Clean returns an error whose text may be shown: err itself if its text may, or
// else one that matches the same targets.
func (s Secrets) Clean(err error, most int) error {
	text := err.Error()
	if shown := s.Show(text, most); shown != text {
		return &cleanError{shown, err}
	}
	return err
}

// cleanError matches what the error matches, but does not unwrap to it.
type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string        { return e.text }
func (e *cleanError) Is(target error) bool { return errors.Is(e.err, target) }
func (e *cleanError) As(target any) bool   { return errors.As(e.err, target) }

// lower puts A to Z into lower case, and leaves the bytes of a character that was
// cut as they are.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// spaced replaces + by a space: in a query they are equal.
func spaced(s string) string { return strings.ReplaceAll(s, "+", " ") }

// escapes are those of JSON, Go's %q, URLs and HTML.
var escapes = regexp.MustCompile(`(?:\\u[0-9a-fA-F]{4})+|\\x[0-9a-fA-F]{2}|\\.|%[0-9a-fA-F]{2}|&#?[0-9a-zA-Z]+;`)

// unescape undoes the escapes in a text, once.
func unescape(text string) string {
	if !strings.ContainsAny(text, `\%&`) {
		return text
	}
	return escapes.ReplaceAllStringFunc(text, func(escape string) (plain string) {
		var err error
		switch {
		case escape[0] == '&':
			return html.UnescapeString(escape)
		case escape[0] == '%':
			plain, err = url.PathUnescape(escape)
		case escape[1] == 'x':
			plain, err = strconv.Unquote(`"` + escape + `"`)
		default:
			err = json.Unmarshal([]byte(`"`+escape+`"`), &plain, jsontext.AllowInvalidUTF8(true))
		}
		if err != nil {
			return escape[1:]
		}
		return plain
	})
}
