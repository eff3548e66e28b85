package main

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"riverqueue.com/riverui"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/ops"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
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

// newQueue returns River's own page for a look at the queue.
func (s *service) newQueue(c *config) (http.Handler, error) {
	options := &riverui.HandlerOpts{Logger: s.log, Prefix: queuePath, JobListHideArgsByDefault: true}
	if c.postgres() {
		client, err := postgres.River(s.inbox)
		if err != nil {
			return nil, err
		}
		options.Endpoints = riverui.NewEndpoints(client, nil)
	} else {
		client, err := sqlite.River(s.inbox)
		if err != nil {
			return nil, err
		}
		options.Endpoints = riverui.NewEndpoints(client, nil)
	}
	handler, err := riverui.NewHandler(options)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background())
	if err := handler.Start(running); err != nil {
		cancel()
		return nil, err
	}
	s.closers = append(s.closers, func(context.Context) error { cancel(); return nil })
	return lookOnly(handler), nil
}

const queuePath = "/ops/queue"

// lookOnly refuses requests that would change something: jobs are the inbox's, and
// what has failed is replayed on the operations page.
func lookOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			answer(w, http.StatusMethodNotAllowed, "The queue can be looked at, and not changed, here. Replay what is dead on the operations page.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// newOps returns the operations page and the queue's, behind one password.
func (s *service) newOps(c *config, files *receipts) (http.Handler, error) {
	page, err := ops.NewHandler(s.inbox, ops.WithAuthenticated(), ops.WithReceipt(files.open), ops.WithLogger(s.log))
	if err != nil {
		return nil, err
	}
	queue, err := s.newQueue(c)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", page))
	mux.Handle(queuePath+"/", queue)
	mux.Handle(queuePath, queue)
	return behindPassword(c.opsUser, c.opsPassword, mux), nil
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
