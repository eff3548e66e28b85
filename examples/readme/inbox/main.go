// Command inbox is the program of the README.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

func main() {
	ctx := context.Background()
	in, err := sqlite.Open(ctx, "inbox.db", callbacks)
	if err != nil {
		log.Fatal(err)
	}
	secrets := strings.Fields(os.Getenv("PIXMED_WEBHOOK_SECRETS"))
	handler, err := pixmed.NewHandler(in,
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)),
		pixmed.WithInvalid(in.Quarantine)) // what is not valid is kept for a person to read
	if err != nil {
		log.Fatal(err)
	}
	if err := in.Start(ctx); err != nil {
		log.Fatal(err)
	}
	http.Handle("/webhooks/infraction", handler)
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

var callbacks = pixmed.Callbacks{
	Acknowledged: say("block the value, fetch the receipt"),
	Cancelled:    say("release the value"),
	Debited:      say("write the value off"),
	Other:        say("look the case up"), // any other status
}

func say(what string) func(context.Context, *pixmed.Notification) error {
	return func(_ context.Context, n *pixmed.Notification) error {
		log.Printf("%v: %s", n, what)
		return nil // after an error you are called again, for about a day
	}
}
