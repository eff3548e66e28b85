package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

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

// newService opens everything. ctx is for opening alone.
func newService(ctx context.Context, c *config, log *slog.Logger, traces trace.TracerProvider) (s *service, err error) {
	s = &service{log: log, traces: traces}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := os.MkdirAll(c.receipts, 0o700); err != nil {
		return s, err
	}
	client, err := pixmed.NewClient(c.gateway,
		pixmed.WithHeader("api_key", c.gatewayKey),
		pixmed.WithHeader("api_secret", c.gatewaySecret),
		pixmed.WithRetries(1), // the inbox tries again, and needs no worker while it waits
		pixmed.WithHTTPClient(&http.Client{Transport: otelhttp.NewTransport(http.DefaultTransport,
			otelhttp.WithTracerProvider(s.traces), otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()))}),
		pixmed.WithLogger(log),
	)
	if err != nil {
		return s, err
	}
	s.metrics = newMetrics()
	files := &receipts{client: client, dir: c.receipts, log: log, metrics: s.metrics, tracer: s.traces.Tracer("webhookserver")}
	if err := s.openInbox(ctx, c, files.callbacks()); err != nil {
		return s, err
	}
	s.metrics.watch(s.inbox)
	if s.webhook, err = s.newWebhook(c); err != nil {
		return s, err
	}
	if c.opsPassword != "" {
		s.ops, err = s.newOps(c, files)
	}
	return s, err
}

// openInbox opens the inbox in a file or in a database. It is yet to be started.
func (s *service) openInbox(ctx context.Context, c *config, receiver pixmed.Receiver) error {
	options := []inbox.Option{
		inbox.WithAttemptTimeout(attemptTimeout),
		inbox.WithContext(carryTrace, resumeTrace),
		inbox.WithObserver(s.metrics.attempt),
		inbox.WithLogger(s.log),
	}
	if !c.postgres() {
		in, err := sqlite.Open(ctx, c.database, receiver, options...)
		if err != nil {
			return err
		}
		s.inbox, s.closers = in, append(s.closers, in.Stop)
		return nil
	}
	poolConfig, err := pgxpool.ParseConfig(c.database)
	if err != nil {
		return fmt.Errorf("-database: %w", err)
	}
	poolConfig.MaxConns = max(poolConfig.MaxConns, 14) // for ten workers
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return fmt.Errorf("-database: %w", err)
	}
	s.closers = append(s.closers, func(context.Context) error { pool.Close(); return nil })
	in, err := postgres.Open(ctx, pool, receiver, options...)
	if err != nil {
		return err
	}
	s.inbox, s.closers = in, append(s.closers, in.Stop)
	return nil
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

// propagator takes a trace from a request, should the gateway ever send one, and
// carries it through the inbox. It is not sent to the gateway.
var propagator = propagation.TraceContext{}

func carryTrace(ctx context.Context) map[string]string {
	carried := propagation.MapCarrier{}
	propagator.Inject(ctx, carried)
	return carried
}

func resumeTrace(ctx context.Context, carried map[string]string) context.Context {
	return propagator.Extract(ctx, propagation.MapCarrier(carried))
}

// openTraces returns where traces go: to a collector, if there is one.
func openTraces(ctx context.Context, url string) (traces trace.TracerProvider, closeTraces func(context.Context) error, err error) {
	if url == "" {
		return noop.NewTracerProvider(), func(context.Context) error { return nil }, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(url))
	if err != nil {
		return nil, nil, fmt.Errorf("-traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	return provider, provider.Shutdown, nil
}
