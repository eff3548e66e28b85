package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

const (
	secretHeader = "X-Webhook-Secret"
	secret       = "soak"

	// The shares of callbacks that fail and panic.
	failing, panicking = 0.02, 0.005

	// Cases that ended longer ago are deleted every minute.
	purgeAfter = 5 * time.Minute

	// When no notification is done for so long, the rest is given up.
	patience = 2 * time.Minute
)

var quiet = slog.New(slog.DiscardHandler)

// A service is what a merchant runs: a handler and an inbox, with callbacks that
// download receipts.
type service struct {
	url      string
	database database
	gateway  *gateway
	receipts *pixmed.Client
	inbox    *inbox.Inbox
	server   *http.Server
	ledger   *ledger

	outages atomic.Int64

	mu       sync.Mutex
	attempts map[inbox.AttemptResult]int64
	age      *hdrhistogram.Histogram // of each notification when it was done, in microseconds
}

func newService(ctx context.Context, s settings, folder string, l *ledger) (_ *service, err error) {
	v := &service{ledger: l, attempts: make(map[inbox.AttemptResult]int64), age: newHistogram()}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.gateway, err = newGateway(ctx); err != nil {
		return nil, err
	}
	v.receipts, err = pixmed.NewClient(v.gateway.url, pixmed.WithPlainHTTP(), pixmed.WithBearerToken(secret), pixmed.WithLogger(quiet),
		pixmed.WithRetryWait(10*time.Millisecond, 200*time.Millisecond))
	if err != nil {
		return nil, err
	}
	v.inbox, v.database, err = open(ctx, s, folder, v.callback(),
		inbox.WithWorkers(s.workers),
		inbox.WithBackoff(200*time.Millisecond, 10*time.Second),
		inbox.WithMaxAttempts(1000), // outages must not use them up
		inbox.WithObserver(v.attempt),
		inbox.WithLogger(quiet))
	if err != nil {
		return nil, err
	}
	if err := v.inbox.Start(ctx); err != nil {
		return nil, err
	}
	handler, err := pixmed.NewHandler(v.inbox, pixmed.WithVerifier(pixmed.HeaderSecret(secretHeader, secret)),
		pixmed.WithInvalid(v.inbox.Quarantine), pixmed.WithLogger(quiet))
	if err != nil {
		return nil, err
	}
	v.server, v.url, err = serve(ctx, handler)
	return v, err
}

// serve serves a handler on a port of this machine.
func serve(ctx context.Context, handler http.Handler) (*http.Server, string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return server, "http://" + listener.Addr().String(), nil
}

// callback returns the merchant's callback. It fails now and then; otherwise its
// effect is the last thing it does.
func (v *service) callback() pixmed.Receiver {
	return pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
		switch luck := rand.Float64(); {
		case luck < panicking:
			panic("out of luck")
		case luck < panicking+failing:
			return errors.New("out of luck")
		}
		if n.MEDStatus == pixmed.Acknowledged {
			if err := v.download(ctx, n.TransactionID); err != nil {
				return err
			}
		}
		v.ledger.effect(n)
		return nil
	})
}

func (v *service) download(ctx context.Context, transactionID string) error {
	receipt, err := v.receipts.Receipt(ctx, transactionID)
	if err != nil {
		return err
	}
	if receipt.SHA256 != v.gateway.sum {
		v.ledger.wrongReceipts.Add(1)
		return fmt.Errorf("the receipt of %s is not the one that was sent", transactionID)
	}
	return nil
}

func (v *service) attempt(_ context.Context, a inbox.Attempt) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.attempts[a.Result]++
	if a.Result == inbox.AttemptDone {
		_ = v.age.RecordValue(max(1, a.Age.Microseconds()))
	}
}

// interrupt takes the database away at intervals.
func (v *service) interrupt(ctx context.Context, s settings) error {
	return repeat(ctx, s.outageEvery, func() error {
		v.outages.Add(1)
		return v.database.away(ctx, s.outage)
	})
}

// purge deletes cases that have ended, as the inbox itself does after more than a
// year.
func (v *service) purge(ctx context.Context) {
	_ = repeat(ctx, time.Minute, func() error {
		_, _ = v.inbox.Purge(ctx, purgeAfter) // fails while the database is away
		return nil
	})
}

// repeat calls a function until it fails or the context ends.
func repeat(ctx context.Context, every time.Duration, f func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := f(); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// drain waits until everything is worked.
func (v *service) drain(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for last, since := int64(-1), time.Now(); ; {
		stats, err := v.inbox.Stats(ctx)
		switch {
		case err == nil && stats.Pending == 0:
			return nil
		case err == nil && stats.Pending != last:
			last, since = stats.Pending, time.Now()
		case time.Since(since) > patience:
			return fmt.Errorf("nothing is done any more: %+v, %w", stats, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// counts returns the number of attempts by result.
func (v *service) counts() map[inbox.AttemptResult]int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.attempts
}

// ages returns how old notifications were when they were done.
func (v *service) ages() *hdrhistogram.Histogram {
	v.mu.Lock()
	defer v.mu.Unlock()
	return hdrhistogram.Import(v.age.Export())
}

func (v *service) close() {
	if v.server != nil {
		_ = v.server.Close()
	}
	if v.inbox != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = v.inbox.Stop(ctx)
	}
	if v.database != nil {
		v.database.close()
	}
	if v.gateway != nil {
		_ = v.gateway.server.Close()
	}
}
