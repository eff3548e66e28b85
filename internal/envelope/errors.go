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
	// ErrMalformed is for bad syntax, for anything but a JSON object, and for
	// members that have the wrong type or are there twice.
	ErrMalformed = errors.New("not a receipt envelope")
	// ErrFailed is for a status other than SUCCESS, or none.
	ErrFailed = errors.New("the gateway does not report success")
	// ErrMissing is for data, or a receipt in it, that is null or absent.
	ErrMissing = errors.New("no receipt in the envelope")
	// ErrEmpty is for a receipt that is there, but has no content.
	ErrEmpty = errors.New("empty receipt")
	// ErrTruncated is for input that ends too early. Such an error is also an
	// [io.ErrUnexpectedEOF].
	ErrTruncated = errors.New("truncated receipt envelope")
	// ErrBase64 is for a receipt that is not base64.
	ErrBase64 = errors.New("corrupt base64")
	// ErrTrailing is for anything but white space behind the envelope.
	ErrTrailing = errors.New("unexpected data behind the receipt envelope")
	// ErrTooLarge is for a PDF, or an envelope, larger than [Options] allow.
	ErrTooLarge = errors.New("receipt too large")
	// ErrNotPDF is for content that does not start as a PDF does.
	ErrNotPDF = errors.New("not a PDF")
)

// An Error says what is wrong with the input, and where.
type Error struct {
	Kind   error  // one of the Err variables
	Offset int64  // in bytes from the start of the input
	Detail string // may be empty

	cause error // what the reader returned, if that is the reason
}

// Error returns the kind, the offset and the detail in one line. What it quotes
// of the input is escaped and short.
func (e *Error) Error() string {
	s := e.Kind.Error() + " at byte " + strconv.FormatInt(e.Offset, 10)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns the kind and, if the input was truncated, an error that is
// [io.ErrUnexpectedEOF].
func (e *Error) Unwrap() []error {
	if e.cause != nil {
		return []error{e.Kind, e.cause}
	}
	return []error{e.Kind}
}

// errorf returns an *Error as an error.
func errorf(kind error, offset int64, format string, args ...any) error {
	return &Error{Kind: kind, Offset: offset, Detail: fmt.Sprintf(format, args...)}
}

// unexpected complains about c, the byte last read.
func (d *Decoder) unexpected(c byte, want string) error {
	return errorf(ErrMalformed, d.offset()-1, "%s, want %s", describe(rune(c)), want)
}

// truncated reports that the input ended here.
func (d *Decoder) truncated(detail string) error {
	return &Error{Kind: ErrTruncated, Offset: d.offset(), Detail: detail, cause: io.ErrUnexpectedEOF}
}

// describe names a character. Beyond ASCII it does no more than say so: a byte
// of the input is no character then, and what is around it may not be UTF-8.
func describe(c rune) string {
	if c < utf8.RuneSelf {
		return "character " + strconv.Quote(string(c))
	}
	return "a character beyond ASCII"
}

// quote quotes the text in b, which may end in the middle of a character.
// What is not UTF-8 is left out.
func (d *Decoder) quote(b []byte) string {
	s := strings.ToValidUTF8(string(b), "")
	if d.redact != nil {
		s = d.redact(s)
	}
	return strconv.Quote(s)
}
