package pixmed

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

// ErrNotInfraction says that a well-formed JSON object is not an infraction:
// its transactionStatus is another than MED, or it has neither
// transactionStatus nor medStatus. The gateway posts cash-in and cash-out
// events with the same envelope, often to the same URL; [WithFallback] says
// what to do with them.
var ErrNotInfraction = errors.New("not an infraction")

// ErrInvalidAmount is the error of [ParseAmount] and of decoding an [Amount].
var ErrInvalidAmount = errors.New("invalid amount")

// ErrDuplicate is returned by a [Receiver] that recognises a notification as
// one that was handled already. The [Handler] answers 200, and its observer
// sees [ResultDuplicate]. It may be wrapped; joined with another error it counts
// as a failure, which a 200 would lose.
var ErrDuplicate = errors.New("duplicate notification")

// ErrBusy is returned by a [Receiver] that cannot take a notification now: it
// is full, or closing. The [Handler] answers 503 with Retry-After.
var ErrBusy = errors.New("busy")

// SyntaxError says that a webhook's body is not one JSON object. Its text
// states where and why.
type SyntaxError struct {
	Offset  int64  // the byte at which the error was noticed, from 0
	Reason  string // what is wrong
	Pointer string // in which member, as a JSON Pointer (RFC 6901); "" for the object itself
}

// Error describes the error.
func (e *SyntaxError) Error() string {
	text := fmt.Sprintf("malformed JSON at byte %d: %s", e.Offset, e.Reason)
	if e.Pointer != "" {
		text += " (in " + printable(e.Pointer) + ")"
	}
	return text
}

// ValidationError lists every field of an infraction that is missing or bad.
type ValidationError struct {
	Fields []FieldError // at least one, in the spec's order
}

// FieldError is one missing or bad field.
type FieldError struct {
	Field  string `json:"field"`  // its name in JSON, such as "transactionId"
	Detail string `json:"detail"` // what is wrong with it and what was found
}

// names returns the names of the fields, for logs that must not show what was
// in them.
func (e *ValidationError) names() []string {
	names := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		names[i] = f.Field
	}
	return names
}

// Error describes all fields in one line.
func (e *ValidationError) Error() string {
	var b strings.Builder
	b.WriteString("invalid infraction: ")
	for i, f := range e.Fields {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Field + " " + f.Detail)
	}
	return b.String()
}

// ErrInvalidTransactionID is returned by the methods of a [Client] when a
// transaction id is not a UUID of 36 characters. No request was sent.
var ErrInvalidTransactionID = errors.New("the transaction id is not a UUID")

// ErrInvalidPath is returned by [Client.Get] when a path could lead elsewhere than
// below the base URL. No request was sent.
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
