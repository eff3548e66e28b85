package envelope

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The kinds of [Error].
var (
	// ErrMalformed is returned for input that is not a JSON object, has invalid
	// syntax, or has a known member of the wrong type or twice.
	ErrMalformed = errors.New("not a receipt envelope")
	// ErrFailed is returned when the status is absent or not SUCCESS.
	ErrFailed = errors.New("the gateway does not report success")
	// ErrMissing is returned when data, or the receipt in it, is absent or null.
	ErrMissing = errors.New("no receipt in the envelope")
	// ErrEmpty is returned when the receipt has no content.
	ErrEmpty = errors.New("empty receipt")
	// ErrTruncated is returned when the input ends too early. Such an error is
	// also an [io.ErrUnexpectedEOF].
	ErrTruncated = errors.New("truncated receipt envelope")
	// ErrBase64 is returned when the receipt is not base64.
	ErrBase64 = errors.New("corrupt base64")
	// ErrTrailing is returned when anything but white space follows the envelope.
	ErrTrailing = errors.New("data after the receipt envelope")
	// ErrTooLarge is returned when the PDF or the envelope is larger than
	// [Options] allow.
	ErrTooLarge = errors.New("receipt too large")
	// ErrNotPDF is returned when the content does not begin as a PDF does.
	ErrNotPDF = errors.New("not a PDF")
)

// An Error describes what is wrong with the input, and where.
type Error struct {
	Kind   error  // one of the Err variables
	Offset int64  // in bytes from the start of the input
	Detail string // may be empty

	cause error // what the reader returned, if that is the reason
}

// Error returns the kind, the offset and the detail in one line. What it quotes
// of the input is short, redacted and printable.
func (e *Error) Error() string {
	s := e.Kind.Error() + " at byte " + strconv.FormatInt(e.Offset, 10)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns the kind and, if the input is truncated, an error that is
// [io.ErrUnexpectedEOF].
func (e *Error) Unwrap() []error {
	if e.cause != nil {
		return []error{e.Kind, e.cause}
	}
	return []error{e.Kind}
}

func errorf(kind error, offset int64, format string, args ...any) *Error {
	return &Error{Kind: kind, Offset: offset, Detail: fmt.Sprintf(format, args...)}
}

// unexpected returns an error about c, the byte last read.
func (d *Decoder) unexpected(c byte, want string) error {
	return errorf(ErrMalformed, d.offset()-1, "unexpected %s, want %s", describe(rune(c)), want)
}

// truncated returns an error about the end of the input, which is here.
func (d *Decoder) truncated(detail string) error {
	return &Error{Kind: ErrTruncated, Offset: d.offset(), Detail: detail, cause: io.ErrUnexpectedEOF}
}

// describe names a character. It does not show one beyond ASCII, of which it
// may have only a part.
func describe(c rune) string {
	if c < utf8.RuneSelf {
		return "character " + strconv.Quote(string(c))
	}
	return "non-ASCII character"
}

// quote redacts and quotes text of the input, which its caller has cut, maybe
// inside a character. It drops what is not UTF-8.
func (d *Decoder) quote(b []byte) string {
	s := strings.ToValidUTF8(string(b), "")
	if d.redact != nil {
		s = d.redact(s)
	}
	return strconv.Quote(s)
}
