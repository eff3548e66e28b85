package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestBodyRead(t *testing.T) {
	t.Parallel()
	var got [][]byte
	webhook, err := newWebhook([]string{"secret"}, func(_ context.Context, n *pixmed.Notification) error {
		got = append(got, n.Raw)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	body := pixmedtest.Payload(pixmedtest.NewInfraction())
	post := func(handler http.Handler, body []byte) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, pixmedtest.NewRequest("/", body, pixmedtest.HeaderSecret("X-Webhook-Secret", "secret")))
		return w
	}
	if w := post(swallow(webhook), body); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "middleware") || len(got) > 0 {
		t.Errorf("swallowed: %d, %s, %d calls", w.Code, w.Body, len(got))
	}
	if w := post(audit(webhook), body); w.Code != http.StatusOK || len(got) != 1 || !bytes.Equal(got[0], body) {
		t.Errorf("put back: %d, %s, %q", w.Code, w.Body, got)
	}
	if w := post(audit(webhook), make([]byte, 65<<10)); w.Code != http.StatusRequestEntityTooLarge || len(got) != 1 {
		t.Errorf("too large: %d, %s", w.Code, w.Body)
	}
}
