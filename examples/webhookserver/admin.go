package main

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/ops"
)

// routes adds everything but the webhook.
func (s *service) routes(mux *http.ServeMux, draining *atomic.Bool) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		switch err := s.inbox.Ready(ctx); {
		case draining.Load():
			answer(w, http.StatusServiceUnavailable, "draining")
		case err != nil:
			s.log.WarnContext(ctx, "not ready", "error", err)
			answer(w, http.StatusServiceUnavailable, "the inbox accepts nothing; the log says why")
		default:
			answer(w, http.StatusOK, "ready")
		}
	})
	mux.Handle("GET /metrics", s.metrics.handler())
	if s.ops != nil {
		mux.Handle("/ops/", s.ops)
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// newOps returns the operations page, behind a password.
func (s *service) newOps(c *config, files *receipts) (http.Handler, error) {
	page, err := ops.NewHandler(s.inbox, ops.WithAuthenticated(), ops.WithReceipt(files.open), ops.WithLogger(s.log))
	if err != nil {
		return nil, err
	}
	return behindPassword(c.opsUser, c.opsPassword, http.StripPrefix("/ops", page)), nil
}

// behindPassword asks for a user and a password, which are compared in constant time.
func behindPassword(user, password string, next http.Handler) http.Handler {
	credentials := pixmed.BasicAuth(user, password)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if credentials.Verify(r, nil) != nil { // which reads no body
			w.Header().Set("WWW-Authenticate", `Basic realm="operations", charset="UTF-8"`)
			answer(w, http.StatusUnauthorized, "a user and a password are asked for")
			return
		}
		next.ServeHTTP(w, r)
	})
}
