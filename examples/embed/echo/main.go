// Command echo embeds pixmed's handler in a server with echo.
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

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

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
	e := echo.New()
	e.Use(middleware.RequestLogger(), middleware.Recover(), middleware.BodyLimit(1<<20))
	e.GET("/healthz", func(c *echo.Context) error { return c.String(http.StatusOK, "ok") })
	tenants := e.Group("/tenants/:tenant", withTenant)
	tenants.Any("/webhooks/infraction", echo.WrapHandler(webhook))

	server := &http.Server{Handler: e, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }()
	return server.Shutdown, nil
}

// withTenant puts the route parameter where the callback finds it.
func withTenant(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		r := c.Request()
		c.SetRequest(r.WithContext(context.WithValue(r.Context(), tenantKey{}, c.Param("tenant"))))
		return next(c)
	}
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
