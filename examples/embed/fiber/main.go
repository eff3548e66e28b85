// Command fiber embeds pixmed's handler in a server with fiber v3, through its
// adaptor for net/http. For fiber v2 see the program fiberv2.
//
// fiber is built on fasthttp, which reads the whole body before it calls a handler.
// So fiber's BodyLimit and ReadTimeout protect you from bodies that are too large or
// too slow, not pixmed's. The context does not end when the client hangs up.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/gofiber/fiber/v3/middleware/logger"
	"github.com/gofiber/fiber/v3/middleware/recover"

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
	app := fiber.New(fiber.Config{BodyLimit: 1 << 20, ReadTimeout: 10 * time.Second})
	app.Use(logger.New(), recover.New())
	app.Get("/healthz", func(c fiber.Ctx) error { return c.SendString("ok") })
	tenants := app.Group("/tenants/:tenant", withTenant)
	tenants.All("/webhooks/infraction", adaptor.HTTPHandler(webhook))

	go func() { _ = app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true}) }()
	return app.ShutdownWithContext, nil
}

// withTenant puts the route parameter where the callback finds it. fiber reuses the
// memory of its strings after the request, so what may be kept is copied.
func withTenant(c fiber.Ctx) error {
	c.RequestCtx().SetUserValue(tenantKey{}, strings.Clone(c.Params("tenant")))
	return c.Next()
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
