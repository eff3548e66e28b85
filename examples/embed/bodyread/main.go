// Command bodyread shows what happens when a middleware reads the body before pixmed's
// handler does, and how to avoid it: the middleware puts the body back.
package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
)

func main() {
	webhook, err := newWebhook(strings.Fields(os.Getenv("PIXMED_WEBHOOK_SECRETS")), func(_ context.Context, n *pixmed.Notification) error {
		log.Print(n)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/wrong", swallow(webhook)) // 400: the body is empty
	mux.Handle("/right", audit(webhook))
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func newWebhook(secrets []string, receive pixmed.ReceiverFunc) (*pixmed.Handler, error) {
	return pixmed.NewHandler(receive, pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)))
}

// swallow reads the body, as a logger of bodies or a form parser does, and leaves
// nothing for the next handler.
func swallow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		next.ServeHTTP(w, r)
	})
}

// audit reads the body too, up to a limit, and puts it back unchanged: a signature is
// over these very bytes.
func audit(next http.Handler) http.Handler {
	const limit = 64 << 10
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
			return
		}
		if err != nil {
			http.Error(w, "the body was cut off", http.StatusBadRequest)
			return
		}
		log.Printf("%s: %d bytes", r.URL.Path, len(body)) // not the bytes: they are personal data
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}
