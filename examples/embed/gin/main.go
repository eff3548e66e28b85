// Command gin embeds pixmed's handler in a server with gin.
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

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
	r := gin.New()
	r.Use(gin.Logger(), gin.Recovery(), limitBody(1<<20))
	r.GET("/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok") })
	tenants := r.Group("/tenants/:tenant", withTenant)
	tenants.Any("/webhooks/infraction", gin.WrapH(webhook))

	server := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }()
	return server.Shutdown, nil
}

// withTenant puts the route parameter where the callback finds it. gin's own Set
// does not reach a plain http.Handler.
func withTenant(c *gin.Context) {
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), tenantKey{}, c.Param("tenant")))
}

// limitBody limits the body's size, for which gin has no middleware.
func limitBody(bytes int64) gin.HandlerFunc {
	return func(c *gin.Context) { c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, bytes) }
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
