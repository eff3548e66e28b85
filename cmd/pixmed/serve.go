package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

func newServe(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Receive webhooks, save receipts, forward notifications",
		Long: `Receives infraction (MED) webhooks into a durable inbox: what was answered 200 is on
disk. Then each notification, those of one transaction in order,

  - is posted to your own application with --forward, signed as Standard Webhooks
    (standardwebhooks.com) says. A status from 200 to 299 is done; everything else,
    redirects too, is tried again, for about a day unless --attempts is set; a
    Retry-After is honoured. It may come twice: webhook-id is the same then.
  - has its receipt saved with --gateway, under the transaction id in --receipts.

--verify says what proves that a webhook is the gateway's. /metrics for Prometheus,
/healthz, /readyz and, with a password, the operations page at /ops/ are served at
--admin, which other hosts cannot reach unless you say so.

It ends at SIGINT or SIGTERM within 50 seconds and --drain: it says that it is not
ready, answers what is under way, and lets running work end. A second signal ends it
at once, and loses nothing either.`,
		Example: `  export PIXMED_WEBHOOK_SECRETS=$(openssl rand -hex 32)   # and give it to the gateway
  export PIXMED_GATEWAY_KEY=... PIXMED_GATEWAY_SECRET=...
  pixmed serve --gateway https://gateway.example/v1

  export PIXMED_FORWARD_SECRETS=whsec_$(openssl rand -base64 32)   # and give it to the application
  pixmed serve --forward http://localhost:3000/infractions --db postgres:///pixmed`,
		Args: noArgs,
	}
	addSettings(cmd, slices.Concat(proofSettings, serveSettings, gatewaySettings)...)
	addDatabase(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := newValues(cmd, p)
		c := readConfig(v)
		if err := v.err(); err != nil {
			return err
		}
		return serve(cmd.Context(), c, p)
	}
	return cmd
}

const (
	// attemptTimeout is how long a notification's forwarding and its receipt's
	// download may take at a time.
	attemptTimeout = 2 * time.Minute
	// shutdownTimeout is for requests under way, and stopTimeout for callbacks.
	shutdownTimeout = 15 * time.Second
	stopTimeout     = 30 * time.Second
)

// serve serves until ctx ends.
func serve(ctx context.Context, c *config, p *process) (err error) {
	log := newLogger(c, p)
	traces, closeTraces, err := openTraces(ctx, c.traces)
	if err != nil {
		return err
	}
	s, err := newService(ctx, c, log, traces)
	s.closers = append([]func(context.Context) error{closeTraces}, s.closers...) // last
	// Whatever fails from here on, what was accepted is stored and callbacks end.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, s.close(ctx))
		if err == nil {
			log.InfoContext(ctx, "pixmed: ended")
		}
	}()
	if err != nil {
		return err
	}
	if err := s.inbox.Start(ctx); err != nil {
		return err
	}
	return s.serve(ctx, c, p.listening)
}

func newLogger(c *config, p *process) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel}
	if c.logText {
		return slog.New(slog.NewTextHandler(p.err, options))
	}
	return slog.New(slog.NewJSONHandler(p.err, options))
}

// service is what the server consists of, without its sockets.
type service struct {
	log     *slog.Logger
	metrics *metrics
	traces  trace.TracerProvider
	inbox   *inbox.Inbox
	webhook *pixmed.Handler
	ops     http.Handler // nil without a password

	closers []func(context.Context) error // to be called from the last to the first
}

// newService opens everything. ctx is for opening alone. The service has to be
// closed, also on error.
func newService(ctx context.Context, c *config, log *slog.Logger, traces trace.TracerProvider) (*service, error) {
	s := &service{log: log, traces: traces, metrics: newMetrics()}
	w := &worker{log: log, metrics: s.metrics, tracer: traces.Tracer("pixmed")}
	if c.gateway != nil {
		if err := os.MkdirAll(c.receipts, 0o700); err != nil {
			return s, err
		}
		client, err := c.gateway.client(traced(c.gateway.transport, traces, false),
			pixmed.WithRetries(1), // the inbox tries again, and needs no worker while it waits
			pixmed.WithLogger(log))
		if err != nil {
			return s, err
		}
		w.evidence = &evidence{client: client, dir: c.receipts, log: log, metrics: s.metrics}
	}
	if c.forward != nil {
		w.forwarder = newForwarder(c, traced(http.DefaultTransport, traces, true))
	}
	if w.evidence == nil && w.forwarder == nil {
		log.WarnContext(ctx, "pixmed: notifications are kept and nothing else: set --forward, --gateway or both")
	}
	in, closePool, err := c.db.open(ctx, w, c.workers,
		inbox.WithMaxAttempts(c.attempts),
		inbox.WithAttemptTimeout(attemptTimeout),
		inbox.WithRetention(c.retention),
		inbox.WithContext(carryTrace, resumeTrace),
		inbox.WithObserver(s.metrics.attempt),
		inbox.WithLogger(log))
	if err != nil {
		return s, err
	}
	s.inbox = in
	s.closers = append(s.closers, func(context.Context) error { closePool(); return nil }, in.Stop)
	s.metrics.watch(in)
	if s.webhook, err = s.newWebhook(c); err != nil {
		return s, err
	}
	if c.opsPass != "" {
		s.ops, err = newOps(c, in, w.evidence, log)
	}
	return s, err
}

// newWebhook returns the webhook's handler: whatever passes verification is in the
// inbox before it is answered 200.
func (s *service) newWebhook(c *config) (*pixmed.Handler, error) {
	options := []pixmed.HandlerOption{
		pixmed.WithInvalid(s.inbox.Quarantine),
		pixmed.WithObserver(s.metrics.request),
		pixmed.WithLogger(s.log),
	}
	if c.verifier != nil {
		options = append(options, pixmed.WithVerifier(c.verifier))
	} else {
		options = append(options, pixmed.WithoutVerification())
	}
	if c.acknowledgeOthers {
		options = append(options, pixmed.WithFallback(pixmed.AcknowledgeEvent(s.log)))
	}
	return pixmed.NewHandler(s.inbox, options...)
}

// close ends what was opened, in the reverse order.
func (s *service) close(ctx context.Context) error {
	var errs []error
	for _, closeIt := range slices.Backward(s.closers) {
		errs = append(errs, closeIt(ctx))
	}
	s.closers = nil
	return errors.Join(errs...)
}

// newServer returns a server that slow clients cannot hold up.
func newServer(handler http.Handler, config *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		TLSConfig:         config,
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
	webhook.Handle(c.path, otelhttp.NewHandler(s.webhook, "infraction webhook", otelhttp.WithTracerProvider(s.traces), otelhttp.WithPropagators(propagator)))
	var draining atomic.Bool
	s.routes(admin, &draining)
	servers := []*http.Server{newServer(webhook, c.webhookTLS, s.log), newServer(admin, c.adminTLS, s.log)}

	var listeners []net.Listener
	for i, address := range []string{c.listen, c.admin} {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return err
		}
		listeners = append(listeners, l)
		s.log.InfoContext(ctx, "pixmed: listening", "for", []string{"webhooks", "operators"}[i],
			"address", l.Addr().String(), "tls", servers[i].TLSConfig != nil)
	}
	if listening != nil {
		listening(listeners[0].Addr(), listeners[1].Addr())
	}

	group, ctx := errgroup.WithContext(ctx)
	for i, server := range servers {
		group.Go(func() error {
			serve := server.Serve
			if server.TLSConfig != nil {
				serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
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
		s.log.InfoContext(ctx, "pixmed: draining", "for", c.drain.String())
		draining.Store(true)
		ctx := context.WithoutCancel(ctx)
		drained := time.NewTimer(c.drain) // load balancers have to notice
		defer drained.Stop()
		<-drained.C
		ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
		defer cancel()
		var errs []error
		for _, server := range servers {
			if err := server.Shutdown(ctx); err != nil {
				errs = append(errs, fmt.Errorf("some requests did not end within %v: %w", shutdownTimeout, err))
			}
		}
		return errors.Join(errs...)
	})
	return group.Wait()
}
