package inbox

import (
	"errors"
	"strings"

	"github.com/pixmed-go/pixmed"
)

// Bounds of texts that others choose, in bytes.
const (
	maxErrorText = 4 << 10 // of what is stored of an error
	maxLogText   = 1 << 10 // of an error or a panic in a log line
	maxLogStack  = 8 << 10 // of a stack in a log line
)

// errorText makes an error's text fit for a column.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	text := strings.ReplaceAll(cut(err.Error(), maxErrorText), "\x00", "\uFFFD")
	if text == "" {
		text = "an error without a text"
	}
	return text
}

// invalidText is errorText for why a body is not valid. The first line, by which
// Failures groups, is the same for all that have the same fault.
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

func logString(text string) string { return cut(text, maxLogText) }

// cut returns the beginning of a text, in valid UTF-8.
func cut(text string, most int) string {
	if len(text) <= most {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	for most > 0 && text[most]&0xc0 == 0x80 { // not within a character
		most--
	}
	return strings.ToValidUTF8(text[:most], "\uFFFD") + "…"
}
