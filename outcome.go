package pixmed

import (
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Outcome describes how a request ended.
type Outcome struct {
	Result     Result        // the kind
	StatusCode int           // the answer's; 0 if the fallback answered or panicked
	Key        Key           // zero unless the body was valid
	MEDStatus  MEDStatus     // empty unless the body was valid
	Err        error         // why, nil if accepted
	Duration   time.Duration // of the whole request, reading the body included
	Callback   time.Duration // of the Receiver, or of WithInvalid's callback
}

// Result is the kind of an [Outcome]. Its values suit a metric's label.
type Result string

// The results, with the status codes that they come with.
const (
	ResultAccepted  Result = "accepted"  // handled: 200
	ResultDuplicate Result = "duplicate" // handled before: 200
	ResultInvalid   Result = "invalid"   // 400, 408, 413, 415, 422; 200 with WithInvalid
	ResultRefused   Result = "refused"   // 401, 405
	ResultOther     Result = "other"     // another kind of event: the fallback's answer, or 422
	ResultFailed    Result = "failed"    // 500, or no answer: the fallback panicked
	ResultBusy      Result = "busy"      // 503
)

// log logs how a request ended: successes at debug level, everything else at
// warn or error.
func (h *Handler) log(r *http.Request, o Outcome) {
	level, text := slog.LevelWarn, "pixmed: webhook rejected"
	switch {
	case o.Result == ResultAccepted || o.Result == ResultDuplicate:
		level, text = slog.LevelDebug, "pixmed: webhook handled"
	case o.Result == ResultOther && h.fallback != nil:
		level, text = slog.LevelDebug, "pixmed: webhook passed to the fallback"
	case o.Result == ResultInvalid && o.StatusCode == http.StatusOK:
		text = "pixmed: invalid webhook kept by WithInvalid's callback"
	case o.Result == ResultFailed || o.Result == ResultBusy:
		level, text = slog.LevelError, "pixmed: webhook failed"
	}
	if !h.logger.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("result", string(o.Result)),
		slog.Int("status", o.StatusCode),
		slog.String("remote", r.RemoteAddr),
		slog.Duration("duration", o.Duration),
	}
	if o.Key != (Key{}) {
		attrs = append(attrs, slog.String("transaction_id", o.Key.TransactionID), slog.String("med_status", loggable(string(o.MEDStatus))))
	}
	if o.Err != nil {
		attrs = append(attrs, slog.String("error", unquoted(o.Err.Error(), o.Err)))
	}
	h.logger.LogAttrs(r.Context(), level, text, attrs...) //nolint:sloglint // one of the constants above
}

// unquoted returns an error's text without what the package's own errors in it quote
// of a body: an answer may quote what its sender sent, a log may not.
func unquoted(text string, err error) string {
	switch e := err.(type) { //nolint:errorlint // it walks the tree
	case *ValidationError:
		return strings.ReplaceAll(text, e.Error(), e.LogValue().String())
	case interface{ Unwrap() error }:
		return unquoted(text, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			text = unquoted(text, part)
		}
	}
	return text
}
