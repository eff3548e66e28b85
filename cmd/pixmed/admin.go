package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/ops"
)

// routes adds what is for operators.
func (s *service) routes(mux *http.ServeMux, draining *atomic.Bool) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { respond(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		switch err := s.inbox.Ready(ctx); {
		case draining.Load():
			respond(w, http.StatusServiceUnavailable, "draining")
		case err != nil:
			s.log.WarnContext(ctx, "pixmed: not ready", "error", err)
			respond(w, http.StatusServiceUnavailable, "the inbox accepts no notifications; the log says why")
		default:
			respond(w, http.StatusOK, "ready")
		}
	})
	mux.Handle("GET /metrics", s.metrics.handler())
	if s.ops != nil {
		mux.Handle("/ops/", s.ops)
	}
}

func respond(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// newOps returns the operations page. There may be no inbox of receipts.
func newOps(c *config, in, receipts *inbox.Inbox, files *evidence, metrics *metrics, log *slog.Logger) (http.Handler, error) {
	options := []ops.Option{ops.WithBasicAuth(c.opsUser, c.opsPass), ops.WithLogger(log)}
	if files != nil {
		options = append(options, ops.WithReceipt(files.open))
	}
	if receipts != nil {
		options = append(options, ops.WithEnd(func(ctx context.Context, id, note string, options ...inbox.ActionOption) error {
			return endCase(ctx, []*inbox.Inbox{in, receipts}, id, note, options)
		}))
	}
	if c.opsUserHeader != "" {
		options = append(options, ops.WithUser(func(r *http.Request) string { return cmp.Or(r.Header.Get(c.opsUserHeader), c.opsUser) }))
	}
	page, err := ops.NewHandler(in, options...)
	if err != nil {
		return nil, fmt.Errorf("the operations page: %w", err)
	}
	metrics.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "pixmed_ops_failed_logins_total", Help: "Logins at the operations page with a wrong user or password.",
	}, func() float64 { return float64(page.FailedLogins()) }))
	return http.StripPrefix("/ops", page), nil
}
