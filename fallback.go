package pixmed

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
)

// AcknowledgeEvent returns a handler for [WithFallback] that logs the kind and
// the ids of an event that is not an infraction, at info level, and answers 200.
// It is for those who get cash-in and cash-out events on the same URL and handle
// them elsewhere. It acknowledges nothing but [ErrNotInfraction], also when it is
// mounted alone: an infraction is answered 500, so that the gateway sends it
// again, and everything else as a [Handler] does. A nil logger means
// slog.Default().
func AcknowledgeEvent(logger *slog.Logger) http.Handler {
	logger = cmp.Or(logger, slog.Default())
	misrouted := ReceiverFunc(func(context.Context, *Notification) error {
		return errors.New("an infraction reached AcknowledgeEvent, which cannot handle it: mount a Handler")
	})
	h, _ := NewHandler(misrouted, WithoutVerification(), WithFallback(acknowledger{logger}), WithLogger(logger)) // nothing here can be wrong
	return h
}

// acknowledger answers 200 to an event that a Handler found to be no infraction.
type acknowledger struct{ logger *slog.Logger }

func (a acknowledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // in memory: it cannot fail
	var members wire
	_ = members.decode(body)
	event, _ := members.infraction() // what is absent or not text stays empty
	a.logger.LogAttrs(r.Context(), slog.LevelInfo, "pixmed: acknowledged an event that is not an infraction",
		slog.String("transaction_status", loggable(string(event.TransactionStatus))),
		slog.String("transaction_type", loggable(string(event.TransactionType))),
		slog.String("transaction_id", loggable(event.TransactionID)),
		slog.String("external_id", loggable(event.ExternalID)),
		slog.String("e2e_id", loggable(string(event.EndToEndID))),
	)
	w.WriteHeader(http.StatusOK)
}
