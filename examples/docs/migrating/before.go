// Package migrating is the code of docs/migrating.md: a handler as it is often
// written by hand, and the same with pixmed.
package migrating

import (
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"log"
	"net/http"

	"github.com/pixmed-go/pixmed"
)

// books are what both versions act on.
type books interface {
	Block(ctx context.Context, transactionID string, value pixmed.Amount) error
	Release(ctx context.Context, transactionID string) error
	WriteOff(ctx context.Context, transactionID string) error
}

// before is the handler by hand.
type before struct {
	db    *sql.DB
	books books
}

// ServeHTTP implements http.Handler.
func (h *before) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var event struct {
		TransactionID string  `json:"transactionId"`
		MEDStatus     string  `json:"medStatus"`
		Value         float64 `json:"value"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		log.Printf("bad webhook: %v", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := h.db.ExecContext(r.Context(), `INSERT INTO med_events (transaction_id, status, body) VALUES (?, ?, ?)`,
		event.TransactionID, event.MEDStatus, body); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if err := h.process(r.Context(), event.TransactionID, event.MEDStatus, event.Value); err != nil {
		log.Printf("will look at it later: %v", err)
	}
	w.WriteHeader(http.StatusOK)
}

func (h *before) process(ctx context.Context, id, status string, value float64) error {
	switch status {
	case "ACKNOWLEDGED":
		return h.books.Block(ctx, id, pixmed.Amount(value*100))
	case "CANCELLED":
		return h.books.Release(ctx, id)
	}
	return nil
}
