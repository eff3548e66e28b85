// Command first is the first server of docs/integration.md: a handler, a verifier
// and one callback.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
)

func main() {
	handler, err := newHandler(strings.Fields(os.Getenv("PIXMED_WEBHOOK_SECRETS")))
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/webhooks/infraction", handler)
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func newHandler(secrets []string) (*pixmed.Handler, error) {
	say := func(_ context.Context, n *pixmed.Notification) error {
		log.Print(n)
		return nil // the gateway gets its 200
	}
	return pixmed.NewHandler(
		pixmed.Deduplicate(&pixmed.MemoryStore{}, pixmed.Callbacks{Other: say}),
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)))
}
