// Command webhookserver receives infraction (MED) webhooks, as a team would deploy
// it: into a durable inbox, whose callback saves the transaction's receipt.
//
//	PIXMED_WEBHOOK_SECRETS=… PIXMED_GATEWAY_KEY=… PIXMED_GATEWAY_SECRET=… \
//	    go run ./examples/webhookserver -gateway https://gateway.example/v1
//
// It serves POST /webhooks/infraction, /healthz, /readyz, Prometheus' /metrics and,
// with PIXMED_OPS_PASSWORD, the operations page at /ops/. -h lists the settings.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"golang.org/x/sync/errgroup"

	"github.com/pixmed-go/pixmed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	switch err := run(ctx, os.Args[1:], os.Getenv, os.Stderr, nil); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "webhookserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. It calls listening, unless that is nil, with the
// addresses of the webhook and of everything else.
func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer, listening func(webhook, admin net.Addr)) (err error) {
	c, err := parseConfig(args, getenv, out)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: c.logLevel}))
	traces, closeTraces, err := openTraces(ctx, c.traces)
	if err != nil {
		return err
	}
	s, err := newService(ctx, c, log, traces)
	if err != nil {
		return errors.Join(err, closeTraces(context.WithoutCancel(ctx)))
	}
	s.closers = append([]func(context.Context) error{closeTraces}, s.closers...) // last
	// Whatever fails from here on, what was accepted is stored and callbacks end.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, s.close(ctx))
	}()
	if err := s.inbox.Start(ctx); err != nil {
		return err
	}
	return s.serve(ctx, c, listening)
}

const (
	// shutdownTimeout is for requests under way, which take the callback's timeout
	// at most, and stopTimeout for callbacks.
	shutdownTimeout = 15 * time.Second
	stopTimeout     = 30 * time.Second
)

// newServer returns a server that slow clients cannot hold up.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second, // a receipt on the operations page
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// serve serves until ctx ends or a server fails, and then lets requests end.
func (s *service) serve(ctx context.Context, c *config, listening func(webhook, admin net.Addr)) error {
	webhook, admin := http.NewServeMux(), http.NewServeMux()
	servers := []*http.Server{newServer(webhook, s.log)}
	addresses := []string{c.listen}
	if c.admin == "" {
		admin = webhook
	} else {
		servers, addresses = append(servers, newServer(admin, s.log)), append(addresses, c.admin)
	}
	webhook.Handle(webhookPath, otelhttp.NewHandler(s.webhook, "infraction webhook", otelhttp.WithTracerProvider(s.traces), otelhttp.WithPropagators(propagator)))
	var draining atomic.Bool
	s.routes(admin, &draining)

	var listeners []net.Listener
	for _, address := range addresses {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return err
		}
		listeners = append(listeners, l)
		s.log.InfoContext(ctx, "listening", "address", l.Addr().String(), "tls", c.tlsCert != "")
	}
	if listening != nil {
		listening(listeners[0].Addr(), listeners[len(listeners)-1].Addr())
	}

	group, ctx := errgroup.WithContext(ctx)
	for i, server := range servers {
		group.Go(func() error {
			serve := server.Serve
			if c.tlsCert != "" {
				serve = func(l net.Listener) error { return server.ServeTLS(l, c.tlsCert, c.tlsKey) }
			}
			err := serve(listeners[i])
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		s.log.InfoContext(ctx, "draining", "for", c.drain.String())
		draining.Store(true)
		ctx := context.WithoutCancel(ctx)
		drained := time.NewTimer(c.drain) // load balancers have to notice
		defer drained.Stop()
		<-drained.C
		ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
		defer cancel()
		var errs []error
		for _, server := range servers {
			errs = append(errs, server.Shutdown(ctx))
		}
		return errors.Join(errs...)
	})
	return group.Wait()
}

const webhookPath = "/webhooks/infraction"

// newWebhook returns the webhook's handler: whatever passes verification is in the
// inbox before it is answered 200.
func (s *service) newWebhook(c *config) (*pixmed.Handler, error) {
	return pixmed.NewHandler(s.inbox,
		pixmed.WithVerifier(pixmed.HeaderSecret(c.secretHeader, c.secrets...)),
		pixmed.WithInvalid(s.inbox.Quarantine),
		pixmed.WithFallback(pixmed.AcknowledgeEvent(s.log)), // cash-in events are handled elsewhere
		pixmed.WithObserver(s.metrics.request),
		pixmed.WithLogger(s.log),
	)
}
