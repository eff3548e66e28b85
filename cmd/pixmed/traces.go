package main

import (
	"context"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pixmed-go/pixmed"
)

// openTraces returns where traces go: to a collector, if there is one.
func openTraces(ctx context.Context, url string) (traces trace.TracerProvider, closeTraces func(context.Context) error, err error) {
	if url == "" {
		return noop.NewTracerProvider(), func(context.Context) error { return nil }, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(url))
	if err != nil {
		return nil, nil, err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	return provider, provider.Shutdown, nil
}

// propagator takes a trace from a request, should the gateway ever send one, carries
// it through the inbox, and passes it on to the application.
var propagator = propagation.TraceContext{}

func carryTrace(ctx context.Context) map[string]string {
	carried := propagation.MapCarrier{}
	propagator.Inject(ctx, carried)
	return carried
}

func resumeTrace(ctx context.Context, carried map[string]string) context.Context {
	return propagator.Extract(ctx, propagation.MapCarrier(carried))
}

// traced traces what a client sends. The gateway is not told of it.
func traced(base http.RoundTripper, traces trace.TracerProvider, tell bool) http.RoundTripper {
	var told propagation.TextMapPropagator = propagation.NewCompositeTextMapPropagator()
	if tell {
		told = propagator
	}
	return otelhttp.NewTransport(base, otelhttp.WithTracerProvider(traces), otelhttp.WithPropagators(told))
}

// startSpan begins the span of something that an inbox calls. It ends with end.
func startSpan(ctx context.Context, tracer trace.Tracer, name string, attributes ...attribute.KeyValue) (_ context.Context, end func(error)) {
	ctx, span := tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes...))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "it failed") // the log says why
		}
		span.End()
	}
}

func ofTransaction(id string) attribute.KeyValue {
	return attribute.String("pixmed.transaction_id", id)
}

func ofNotification(n *pixmed.Notification) []attribute.KeyValue {
	return []attribute.KeyValue{
		ofTransaction(n.Key().TransactionID),
		attribute.String("pixmed.med_status", string(n.MEDStatus)),
		attribute.Int("pixmed.attempt", n.Attempt),
	}
}
