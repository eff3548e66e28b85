package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestWebhook(t *testing.T) {
	t.Parallel()
	handler, err := pixmed.NewHandler(callbacks,
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", "secret")))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, pixmedtest.NewRequest("/webhooks/infraction", []byte(pixmedtest.Sample),
		pixmedtest.HeaderSecret("X-Webhook-Secret", "secret")))
	if w.Code != http.StatusOK {
		t.Errorf("answered %d: %s", w.Code, w.Body)
	}
}
