// Command service is the whole program of docs/integration.md: a handler in front
// of a durable inbox, callbacks that block the value, and a second inbox whose
// callback fetches the receipt.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// settings are what differs from one deployment to another.
type settings struct {
	webhookSecrets []string // all of them are accepted
	gatewayURL     string
	apiKey         string
	apiSecret      string
	database       string // the inbox's file
	evidenceInbox  string // the second step's
	evidence       string // the folder for receipts
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	if err := run(ctx, listener, logBooks{slog.Default()}, settings{
		webhookSecrets: strings.Fields(os.Getenv("PIXMED_WEBHOOK_SECRETS")),
		gatewayURL:     os.Getenv("PIXMED_GATEWAY"),
		apiKey:         os.Getenv("PIXMED_GATEWAY_KEY"),
		apiSecret:      os.Getenv("PIXMED_GATEWAY_SECRET"),
		database:       "inbox.db",
		evidenceInbox:  "evidence.db",
		evidence:       ".",
	}); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listener net.Listener, b books, s settings) error {
	client, err := newClient(s)
	if err != nil {
		return err
	}
	d := &desk{books: b, receipts: client, evidence: s.evidence, log: slog.Default()}
	evidence, err := sqlite.Open(ctx, s.evidenceInbox, d.evidenceCallbacks())
	if err != nil {
		return err
	}
	in, err := sqlite.Open(ctx, s.database, inbox.Then(d.callbacks(), evidence), inbox.WithWorkers(20))
	if err != nil {
		return errors.Join(err, evidence.Stop(ctx))
	}
	stop := func(ctx context.Context) error { return errors.Join(in.Stop(ctx), evidence.Stop(ctx)) }
	handler, err := newHandler(in, s.webhookSecrets)
	if err == nil {
		err = errors.Join(evidence.Start(ctx), in.Start(ctx))
	}
	if err != nil {
		return errors.Join(err, stop(ctx))
	}
	return serve(ctx, listener, routes(handler, in), stop)
}

func newClient(s settings) (*pixmed.Client, error) {
	return pixmed.NewClient(s.gatewayURL,
		pixmed.WithHeader("api_key", s.apiKey),
		pixmed.WithHeader("api_secret", s.apiSecret),
		pixmed.WithRetries(1)) // the inbox tries again, and needs no worker while it waits
}

func newHandler(in *inbox.Inbox, secrets []string) (*pixmed.Handler, error) {
	return pixmed.NewHandler(in,
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)),
		pixmed.WithInvalid(in.Quarantine),                 // what is not valid is kept too
		pixmed.WithFallback(pixmed.AcknowledgeEvent(nil)), // cash-in events, handled elsewhere
		pixmed.WithCallbackTimeout(3*time.Second),         // storing takes milliseconds
	)
}

func routes(handler http.Handler, in *inbox.Inbox) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/webhooks/infraction", handler)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if in.Ready(ctx) != nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// serve serves until ctx ends, and then lets everything end in order.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, stop func(context.Context) error) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second, // the body included
		WriteTimeout:      15 * time.Second, // above the callback timeout
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}

	// First the server: requests under way get their answer. Then the inboxes: they
	// store what came and let running callbacks end.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 25*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(end), stop(end))
}

// logBooks stand in for the merchant's own books.
type logBooks struct{ log *slog.Logger }

// Block implements books.
func (b logBooks) Block(ctx context.Context, k pixmed.Key, value pixmed.Amount) error {
	b.log.InfoContext(ctx, "block the value", "case", k.String(), "value", value.BRL())
	return nil
}

// Release implements books.
func (b logBooks) Release(ctx context.Context, k pixmed.Key) error {
	b.log.InfoContext(ctx, "release the value", "case", k.String())
	return nil
}

// WriteOff implements books.
func (b logBooks) WriteOff(ctx context.Context, k pixmed.Key) error {
	b.log.InfoContext(ctx, "write the value off", "case", k.String())
	return nil
}
