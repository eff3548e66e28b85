// Command inbox is the README's server with a durable inbox.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	in, err := sqlite.Open(ctx, "inbox.db", pixmed.Callbacks{
		Acknowledged: remind("block the value, and fetch the receipt"),
		Cancelled:    remind("release the value"),
		Other:        remind("look into it"), // DEBITED, and statuses to come
	})
	if err != nil {
		log.Fatal(err)
	}
	handler, err := pixmed.NewHandler(in, // in the place of the callbacks
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", strings.Fields(os.Getenv("WEBHOOK_SECRETS"))...)),
		pixmed.WithInvalid(in.Quarantine)) // what is not valid is kept too
	if err != nil {
		log.Fatal(err)
	}
	if err := in.Start(ctx); err != nil {
		log.Fatal(err)
	}
	http.Handle("/webhooks/infraction", handler)
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	select {
	case <-ctx.Done():
	case err := <-served:
		log.Print(err)
	}

	// First the server, then the inbox: nothing that was answered 200 is lost.
	end, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	log.Print(errors.Join(server.Shutdown(end), in.Stop(end)))
}

func remind(what string) func(context.Context, *pixmed.Notification) error {
	return func(_ context.Context, n *pixmed.Notification) error {
		log.Printf("%v: %s", n, what)
		return nil // an error is tried again, for about a day
	}
}
