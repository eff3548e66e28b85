package pixmed

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

// ErrNotInfraction is returned by [ParseInfraction] for a well-formed JSON object
// that says that it is another kind of event: its transactionStatus is a status
// other than MED, and no non-empty member at any depth has a name like a MED status
// or an infraction. The gateway posts cash-in and cash-out events with the same
// envelope, often to the same URL; [WithFallback] sets what handles them.
var ErrNotInfraction = errors.New("not an infraction: transactionStatus names another kind of event")

// ErrInvalidAmount is returned by [ParseAmount], and by decoding an [Amount], for
// text that is not an amount.
var ErrInvalidAmount = errors.New("invalid amount")

// ErrDuplicate is returned by a [Receiver] for a notification that it has handled
// before. The [Handler] answers 200, and its observer sees [ResultDuplicate]. It
// may be wrapped; joined with another error it counts as a failure, which a 200
// would lose.
var ErrDuplicate = errors.New("duplicate notification")

// ErrBusy is returned by a [Receiver] that cannot take a notification now: it
// is full, or closing. The [Handler] answers 503 with Retry-After.
var ErrBusy = errors.New("busy")

// ErrEncoding is passed to the callback of [WithInvalid], and to the observer,
// when a body is compressed in a way that the [Handler] cannot undo.
var ErrEncoding = errors.New("unsupported content encoding")

// SyntaxError is returned by [ParseInfraction] for a body that is not one JSON
// object. Its text quotes nothing of the body.
type SyntaxError struct {
	Offset  int64  // the byte at which the error was noticed, from 0
	Reason  string // what is wrong
	Pointer string // the member it is in, as a JSON Pointer (RFC 6901); "" for the object itself
}

// Error describes the error, without the Pointer: that is text from the body.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("malformed JSON at byte %d: %s", e.Offset, e.Reason)
}

// LogValue returns the text of the error.
func (e *SyntaxError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// ValidationError is returned by [ParseInfraction] and by Validate. It lists
// every field of an infraction that is missing or bad.
type ValidationError struct {
	Fields []FieldError // at least one, in the spec's order
}

// FieldError is one missing or bad field.
type FieldError struct {
	Field  string `json:"field"`  // its name in JSON, such as "transactionId"
	Detail string `json:"detail"` // what is wrong with it and what was found
}

// Error describes all fields in one line, with what was found in them.
func (e *ValidationError) Error() string {
	return e.list("; ", func(f FieldError) string { return f.Field + " " + f.Detail })
}

// LogValue returns the names of the fields, without what was found in them.
func (e *ValidationError) LogValue() slog.Value {
	return slog.StringValue(e.list(", ", func(f FieldError) string { return f.Field }))
}

func (e *ValidationError) list(separator string, show func(FieldError) string) string {
	fields := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		fields[i] = show(f)
	}
	return "invalid infraction: " + strings.Join(fields, separator)
}

// ErrInvalidTransactionID is returned by the methods of a [Client] when a
// transaction id is not a UUID of 36 characters. No request was sent.
var ErrInvalidTransactionID = errors.New("the transaction id is not a UUID")

// ErrInvalidPath is returned by [Client.Get] when a path could leave the base URL.
// No request was sent.
var ErrInvalidPath = errors.New("invalid path")

// ErrRedirect is returned by the methods of a [Client] when the gateway redirects
// to another origin, where the credentials must not go. If the API has moved
// there, change the base URL.
var ErrRedirect = errors.New("the gateway redirects to another origin")

// ErrStalled is returned by the methods of a [Client] when the gateway sent nothing
// for longer than [WithStallTimeout] allows.
var ErrStalled = errors.New("the gateway sent nothing")

// ErrClosed is returned by a [ReceiptReader] after Close, and by a Read or WriteTo
// that Close has interrupted.
var ErrClosed = errors.New("the reader is closed")

// What can be wrong with a receipt. These errors are returned, wrapped, by
// [Client.Receipt], [Client.OpenReceipt], [Client.SaveReceipt] and by reading a
// [ReceiptReader].
var (
	// ErrReceiptMalformed is returned when the answer is not the JSON of a receipt.
	ErrReceiptMalformed = envelope.ErrMalformed
	// ErrReceiptFailed is returned when the status is not SUCCESS.
	ErrReceiptFailed = envelope.ErrFailed
	// ErrReceiptMissing is returned when the receipt is absent or null.
	ErrReceiptMissing = envelope.ErrMissing
	// ErrReceiptEmpty is returned when the receipt has no bytes.
	ErrReceiptEmpty = envelope.ErrEmpty
	// ErrReceiptTruncated is returned when the answer ends too early.
	ErrReceiptTruncated = envelope.ErrTruncated
	// ErrReceiptBase64 is returned when the receipt's base64 is corrupt.
	ErrReceiptBase64 = envelope.ErrBase64
	// ErrReceiptTrailing is returned when there is data after the JSON.
	ErrReceiptTrailing = envelope.ErrTrailing
	// ErrReceiptTooLarge is returned when the receipt, or the JSON around it, is
	// above the limit of [WithMaxReceiptSize].
	ErrReceiptTooLarge = envelope.ErrTooLarge
	// ErrReceiptNotPDF is returned when the receipt does not begin as a PDF does,
	// with %PDF- within its first 1,024 bytes.
	ErrReceiptNotPDF = envelope.ErrNotPDF
	// ErrReceiptChanged is returned when a download broke and could not be resumed,
	// since the gateway has made another PDF in the meantime.
	ErrReceiptChanged = errors.New("the receipt has changed since its first bytes were delivered; fetch it again from the start")
)

// isType reports whether an error of type E is in err.
func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
