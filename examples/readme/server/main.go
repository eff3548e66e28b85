// Command server is the server of the README.
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
	callbacks := pixmed.Callbacks{
		Acknowledged: func(ctx context.Context, n *pixmed.Notification) error {
			log.Printf("block %s of transaction %s", n.Value.BRL(), n.TransactionID)
			return nil // an error is answered 500, and the gateway sends it again
		},
		Cancelled: func(ctx context.Context, n *pixmed.Notification) error {
			log.Printf("release %s of transaction %s", n.Value.BRL(), n.TransactionID)
			return nil
		},
		Other: func(ctx context.Context, n *pixmed.Notification) error {
			log.Printf("look into this one: %v", n) // DEBITED, and statuses to come
			return nil
		},
	}
	secrets := strings.Fields(os.Getenv("WEBHOOK_SECRETS"))
	handler, err := pixmed.NewHandler(
		pixmed.Deduplicate(&pixmed.MemoryStore{}, callbacks),
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)),
	)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/webhooks/infraction", handler)
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
