package inbox

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/internal/text"
)

// Bounds of texts that others choose, in bytes.
const (
	maxErrorText = 4 << 10 // of what is stored of an error
	maxLogText   = 1 << 10 // of an error or a panic in a log line
	maxLogStack  = 8 << 10 // of a stack in a log line
)

// isText reports whether a database accepts a text.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// errorText makes an error's text fit for a column.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	if stored := strings.ReplaceAll(cut(err.Error(), maxErrorText), "\x00", "\uFFFD"); stored != "" {
		return stored
	}
	return "an error without a text"
}

// invalidText is errorText for why a body is not valid. Its first line, by which
// Failures groups, is the same for all bodies with the same fault.
func invalidText(err error) string {
	what := ""
	if e, ok := errors.AsType[*pixmed.ValidationError](err); ok {
		what = e.LogValue().String()
	} else if e, ok := errors.AsType[*pixmed.SyntaxError](err); ok {
		what = "malformed JSON: " + e.Reason
	}
	if what == "" {
		return errorText(err)
	}
	return errorText(errors.New(what + "\n" + err.Error()))
}

// logText makes an error's text fit for a log line: a receiver's error may hold a
// whole notification.
func logText(err error) string {
	if err == nil {
		return ""
	}
	return logString(err.Error())
}

func logString(s string) string { return cut(s, maxLogText) }

// cut returns the beginning of a text, in valid UTF-8.
func cut(s string, most int) string { return strings.ToValidUTF8(text.Cut(s, most), "\uFFFD") }
