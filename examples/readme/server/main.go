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
	secrets := strings.Fields(os.Getenv("WEBHOOK_SECRETS"))
	handler, err := pixmed.NewHandler(
		pixmed.Deduplicate(&pixmed.MemoryStore{}, pixmed.Callbacks{
			Acknowledged: remind("block the value"),
			Cancelled:    remind("release the value"),
			Other:        remind("look into it"), // DEBITED, and statuses to come
		}),
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)))
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/webhooks/infraction", handler)
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func remind(what string) func(context.Context, *pixmed.Notification) error {
	return func(_ context.Context, n *pixmed.Notification) error {
		log.Printf("%v: %s", n, what)
		return nil // an error is answered 500, and the gateway sends it again
	}
}
