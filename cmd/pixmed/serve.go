package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

func newServe(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Receive webhooks, save receipts, forward notifications",
		Long: `Receives infraction (MED) webhooks and stores them: what was answered 200 is on disk.
Then, for each notification, in order within its transaction:

  - with --forward it is posted to your own application, signed as Standard Webhooks
    (standardwebhooks.com) specifies. Any status from 200 to 299 means that it is
    done. Anything else, redirects included, is tried again for about a day (see
    --attempts), and Retry-After is honoured. A notification may come twice, with the
    same webhook-id.
  - with --gateway its receipt is saved in --receipts, under the transaction id.
    Receipts are tried separately: one that is not there yet holds nothing up.

With --defence a case is due that long after it opened. With --remind the application
is reminded before that, by a message of the type infraction.reminder, until somebody
answers the case (on the operations page, or with pixmed inbox answered) or it ends.

--verify says how a webhook proves that it comes from the gateway. /metrics for
Prometheus, /healthz, /readyz and, with a password, the operations page at /ops/ are
served at --admin, which only this machine can reach unless you say otherwise.

SIGINT or SIGTERM ends it within --drain and 50 seconds: it reports that it is not
ready, answers the requests under way, and waits for running work. A second signal
ends it at once, and even then nothing is lost.`,
		Example: `  export PIXMED_WEBHOOK_SECRETS=$(openssl rand -hex 32)   # and give it to the gateway
  export PIXMED_GATEWAY_KEY=... PIXMED_GATEWAY_SECRET=...
  pixmed serve --gateway https://gateway.example/v1

  export PIXMED_FORWARD_SECRETS=whsec_$(openssl rand -base64 32)   # and give it to the application
  pixmed serve --forward http://localhost:3000/infractions --db postgres:///pixmed \
    --defence 7d --remind 3d,1d,4h`,
		Args: noArgs,
	}
	addSettings(cmd, slices.Concat(proofSettings, serveSettings, gatewaySettings, databaseSettings)...)
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
	// downloadTimeout is how long a receipt may take.
	downloadTimeout = 2 * time.Minute
	// shutdownTimeout is for requests under way, and stopTimeout for callbacks.
	shutdownTimeout = 15 * time.Second
	stopTimeout     = 25 * time.Second
)

// serve serves until ctx ends.
func serve(ctx context.Context, c *config, p *process) (err error) {
	log := newLogger(c, p)
	if p.onTraceError != nil {
		p.onTraceError(otel.ErrorHandlerFunc(func(err error) {
			log.WarnContext(ctx, "pixmed: traces cannot be sent", "error", printable(err.Error(), 1000))
		}))
	}
	traces, closeTraces, err := openTraces(ctx, c.traces)
	if err != nil {
		return err
	}
	s, err := newService(ctx, c, log, traces, cmp.Or(p.keep, keepCounts))
	s.closers = append([]func(context.Context) error{closeTraces}, s.closers...) // last
	// Whatever fails from here on, what was accepted is stored and callbacks end.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, s.close(ctx))
		if err == nil {
			log.InfoContext(ctx, "pixmed: stopped")
		}
	}()
	if err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	return s.serve(ctx, c, p.listening)
}

func newLogger(c *config, p *process) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel, ReplaceAttr: attrInWords}
	if c.logText {
		return slog.New(slog.NewTextHandler(p.err, options))
	}
	return slog.New(slog.NewJSONHandler(p.err, options))
}

// service is what the server consists of, without its sockets.
type service struct {
	log      *slog.Logger
	metrics  *metrics
	traces   trace.TracerProvider
	inbox    *inbox.Inbox
	receipts *inbox.Inbox // nil without a gateway
	webhook  *pixmed.Handler
	ops      http.Handler // nil without a password

	closers []func(context.Context) error // to be called from the last to the first
}

// newService opens everything. ctx is for opening alone. The service has to be
// closed, also on error. Metrics keep what the inboxes count for a while.
func newService(ctx context.Context, c *config, log *slog.Logger, traces trace.TracerProvider, keep time.Duration) (*service, error) {
	s := &service{log: log, traces: traces, metrics: newMetrics()}
	w := &worker{log: log, tracer: traces.Tracer("pixmed")}
	var files *evidence
	if c.gateway != nil {
		var err error
		if files, err = newEvidence(c, log, s.metrics, traces); err != nil {
			return s, err
		}
		if s.receipts, err = s.open(ctx, c, c.db.receipts(), files, inbox.WithAttemptTimeout(downloadTimeout)); err != nil {
			return s, err
		}
		w.receipts = s.receipts
	}
	options := []inbox.Option{inbox.WithObserver(s.metrics.attempt)}
	if c.forward != nil {
		w.forwarder = newForwarder(c, traced(http.DefaultTransport, traces, true), s.metrics.forward)
		options = append(options, inbox.WithAttemptTimeout(2*c.forwardTimeout))
	}
	if w.receipts == nil && w.forwarder == nil {
		log.WarnContext(ctx, "pixmed: notifications are stored, and nothing is done about them: set --forward, --gateway or both")
	}
	switch {
	case len(c.remind) > 0:
		options = append(options, inbox.WithDefence(c.defence, w.remind, c.remind...))
	case c.setsDefence:
		options = append(options, inbox.WithDefence(c.defence, nil))
	}
	var err error
	if s.inbox, err = s.open(ctx, c, c.db, w, options...); err != nil {
		return s, err
	}
	s.metrics.watch(s.inbox, s.receipts, keep)
	if s.webhook, err = s.newWebhook(c); err != nil {
		return s, err
	}
	if c.opsPass != "" {
		s.ops, err = newOps(c, s.inbox, s.receipts, files, s.metrics, log)
	}
	return s, err
}

// open opens an inbox, which close stops.
func (s *service) open(ctx context.Context, c *config, db *database, receiver pixmed.Receiver, options ...inbox.Option) (*inbox.Inbox, error) {
	in, closePool, err := db.open(ctx, receiver, c.workers, append(options,
		inbox.WithMaxAttempts(c.attempts),
		inbox.WithRetention(c.retention),
		inbox.WithContext(carryTrace, resumeTrace),
		inbox.WithLogger(s.log))...)
	if err == nil {
		s.closers = append(s.closers, func(context.Context) error { closePool(); return nil }, in.Stop)
	}
	return in, err
}

// start has both inboxes begin to work.
func (s *service) start(ctx context.Context) error {
	if s.receipts != nil {
		if err := s.receipts.Start(ctx); err != nil {
			return err
		}
	}
	return s.inbox.Start(ctx)
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
