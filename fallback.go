package pixmed

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// AcknowledgeEvent returns a handler for [WithFallback] that logs the kind and
// the ids of an event that is not an infraction, at info level, and answers 200.
// It is for those who get cash-in and cash-out events on the same URL and handle
// them elsewhere. An event that does carry a MED status, or one that is much like
// MED, is answered 422. A nil logger means slog.Default().
func AcknowledgeEvent(logger *slog.Logger) http.Handler {
	if logger == nil {
		logger = slog.Default()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := r.Body
		switch text.(type) {
		case nil: // a request that no server made
			text = http.NoBody
		case restoredBody: // within the Handler's own limit
		default:
			text = http.MaxBytesReader(w, text, DefaultBodyLimit)
		}
		body, err := io.ReadAll(text)
		if err != nil {
			reject(w, ResultInvalid, err, bodyProblem(err))
			return
		}
		members, err := decodeWire(body)
		if err != nil {
			reject(w, ResultInvalid, err, parseProblem(err))
			return
		}
		event, _ := members.infraction() // what is not there or not text stays empty
		if event.MEDStatus != "" || strings.EqualFold(strings.TrimSpace(string(event.TransactionStatus)), string(TransactionMED)) {
			err := fmt.Errorf("%w, but it has a MED status: not acknowledged", ErrNotInfraction)
			logger.LogAttrs(r.Context(), slog.LevelWarn, "pixmed: event turned away", slog.String("error", err.Error()))
			reject(w, ResultOther, err, parseProblem(err))
			return
		}
		logger.LogAttrs(r.Context(), slog.LevelInfo, "pixmed: acknowledged an event that is not an infraction",
			slog.String("transaction_status", clip(string(event.TransactionStatus), maxFound)),
			slog.String("transaction_type", clip(string(event.TransactionType), maxFound)),
			slog.String("transaction_id", clip(event.TransactionID, maxFound)),
			slog.String("external_id", clip(event.ExternalID, maxFound)),
			slog.String("e2e_id", clip(string(event.EndToEndID), maxFound)),
		)
		w.WriteHeader(http.StatusOK)
	})
}
