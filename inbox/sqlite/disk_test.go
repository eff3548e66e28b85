package sqlite_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// With less room on the disk than there must be, senders are answered 503 and the
// inbox is not ready; what was accepted before is finished.
func TestDiskNearlyFull(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	in := s.Open(t, ignore)
	for range 3 {
		if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	in = s.Start(t, ignore, sqlite.WithMinFreeDisk(1<<62))
	handler, err := pixmed.NewHandler(in, pixmed.WithoutVerification(), pixmed.WithInvalid(in.Quarantine), pixmed.WithLogger(enginetest.Logger(t)))
	if err != nil {
		t.Fatal(err)
	}
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	for name, body := range map[string][]byte{"valid": n.Raw, "invalid": []byte(`{"medStatus": 1}`)} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: got %d, want 503: %s", name, w.Code, w.Body)
		}
	}
	if err := in.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "are free on the disk") {
		t.Errorf("Ready: %v", err)
	}
	if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
