package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// The inbox stands between the handler and the callbacks.
func Example() {
	folder, err := os.MkdirTemp("", "inbox-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	done := make(chan struct{})
	in, err := sqlite.Open(ctx, filepath.Join(folder, "inbox.db"), pixmed.Callbacks{
		Acknowledged: func(_ context.Context, n *pixmed.Notification) error {
			fmt.Println("callback:", n)
			if n.Attempt == 1 {
				return errors.New("the bank does not answer")
			}
			close(done)
			return nil
		},
		Other: pixmed.Ignore,
	}, inbox.WithBackoff(10*time.Millisecond, time.Hour), inbox.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		panic(err)
	}
	handler, err := pixmed.NewHandler(in,
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", "secret")),
		pixmed.WithInvalid(in.Quarantine))
	if err != nil {
		panic(err)
	}
	if err := in.Start(ctx); err != nil {
		panic(err)
	}

	gateway := pixmedtest.NewGateway(pixmedtest.WithSigner(pixmedtest.HeaderSecret("X-Webhook-Secret", "secret")))
	defer gateway.Close()
	url, stop := onFreePort(handler)
	defer stop()
	fmt.Println("answer:", gateway.Post(ctx, url, []byte(pixmedtest.Sample)).StatusCode)
	<-done
	if err := in.Stop(ctx); err != nil {
		panic(err)
	}
	// Unordered output:
	// answer: 200
	// callback: MED ACKNOWLEDGED for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00)
	// callback: MED ACKNOWLEDGED for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00), attempt 2
}

// What is dead is listed, looked at, and replayed.
func ExampleInbox_Replay() {
	folder, err := os.MkdirTemp("", "inbox-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	called := make(chan struct{}, 2)
	repaired := false
	in, err := sqlite.Open(ctx, filepath.Join(folder, "inbox.db"), pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
		defer func() { called <- struct{}{} }()
		if !repaired {
			return inbox.Discard(errors.New("there is no account for it"))
		}
		return nil
	}), inbox.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		panic(err)
	}
	if err := in.Start(ctx); err != nil {
		panic(err)
	}
	if err := in.Receive(ctx, pixmedtest.NewNotification()); err != nil {
		panic(err)
	}
	<-called

	var dead []*inbox.Event
	for len(dead) == 0 { // an operator would come later
		if dead, err = in.List(ctx, inbox.Filter{State: inbox.Dead}); err != nil {
			panic(err)
		}
	}
	fmt.Println(dead[0].Status, dead[0].State, "because:", dead[0].LastError)
	repaired = true
	if err := in.Replay(ctx, dead[0].ID); err != nil {
		panic(err)
	}
	<-called
	if err := in.Stop(ctx); err != nil {
		panic(err)
	}
	// Output: ACKNOWLEDGED dead because: there is no account for it
}

// onFreePort is http.ListenAndServe on a free port.
func onFreePort(handler http.Handler) (url string, stop func()) {
	server := httptest.NewServer(handler)
	return server.URL, server.Close
}

// A message is sent a day before a case is due, unless somebody has answered it.
func ExampleWithDefence() {
	folder, err := os.MkdirTemp("", "inbox-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	sent := make(chan string)
	remind := func(ctx context.Context, c *inbox.Case) error {
		message := fmt.Sprintf("%s of order %s is blocked. Answer it within %v.", c.Value.BRL(), c.ExternalID, time.Until(c.DueAt).Round(time.Hour))
		select { // as a mail, say
		case sent <- message:
			return nil
		case <-ctx.Done():
			return ctx.Err() // it is tried again
		}
	}
	const day = 24 * time.Hour
	in, err := sqlite.Open(ctx, filepath.Join(folder, "inbox.db"), pixmed.ReceiverFunc(pixmed.Ignore),
		inbox.WithDefence(5*day, remind, 2*day, day),
		inbox.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		panic(err)
	}
	if err := in.Start(ctx); err != nil {
		panic(err)
	}
	n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
		n.ReceivedAt = time.Now().Add(-4 * day) // so that a day is left
	})
	if err := in.Receive(ctx, n); err != nil {
		panic(err)
	}
	fmt.Println(<-sent)
	if err := in.MarkAnswered(ctx, n.TransactionID, "the receipt and the tracking code", inbox.By("ana")); err != nil {
		panic(err)
	}
	stats, err := in.Stats(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%d open, %s blocked, %d overdue\n", stats.Open, stats.Blocked.BRL(), stats.Overdue)
	if err := in.Stop(ctx); err != nil {
		panic(err)
	}
	// Output:
	// R$ 18,00 of order T&ste378 is blocked. Answer it within 24h0m0s.
	// 1 open, R$ 18,00 blocked, 0 overdue
}
