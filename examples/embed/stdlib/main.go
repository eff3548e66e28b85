// Command stdlib embeds pixmed's handler in a server of the standard library.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	stop, err := serve(listener, strings.Fields(os.Getenv("PIXMED_WEBHOOK_SECRETS")), func(_ context.Context, tenant string, n *pixmed.Notification) error {
		log.Printf("%s: %v", tenant, n)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	<-ctx.Done()
	if err := stop(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// serve starts the server.
func serve(l net.Listener, secrets []string, receive func(ctx context.Context, tenant string, n *pixmed.Notification) error) (stop func(context.Context) error, err error) {
	webhook, err := newWebhook(secrets, receive)
	if err != nil {
		return nil, err
	}
	tenants := http.NewServeMux()
	tenants.Handle("/tenants/{tenant}/webhooks/infraction", withTenant(webhook))
	mux := http.NewServeMux()
	mux.Handle("/tenants/", tenants)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })

	server := &http.Server{
		Handler:           logged(recovered(http.MaxBytesHandler(mux, 1<<20))),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() { _ = server.Serve(l) }()
	return server.Shutdown, nil
}

// withTenant puts the route parameter where the callback finds it.
func withTenant(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tenantKey{}, r.PathValue("tenant"))))
	})
}

func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		next.ServeHTTP(w, r)
		log.Printf("%s %s took %v", r.Method, r.URL.Path, time.Since(start))
	})
}

func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				log.Printf("panic: %v", p)
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// tenantKey is where the route parameter is in the context of a callback.
type tenantKey struct{}

// newWebhook returns the handler that is embedded: to the framework it is a plain
// http.Handler.
func newWebhook(secrets []string, receive func(context.Context, string, *pixmed.Notification) error) (*pixmed.Handler, error) {
	return pixmed.NewHandler(
		pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
			tenant, _ := ctx.Value(tenantKey{}).(string)
			return receive(ctx, tenant, n)
		}),
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)))
}
