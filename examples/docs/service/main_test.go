package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// fakeBooks report what they were asked to do.
type fakeBooks struct {
	entries chan string
	hold    chan struct{} // if not nil, Block waits until it is closed
}

func newFakeBooks() *fakeBooks { return &fakeBooks{entries: make(chan string, 100)} }

func (b *fakeBooks) Block(ctx context.Context, _ pixmed.Key, value pixmed.Amount) error {
	b.entries <- "block " + value.String()
	if b.hold != nil {
		<-b.hold
	}
	return ctx.Err()
}

func (b *fakeBooks) Release(context.Context, pixmed.Key) error {
	b.entries <- "release"
	return nil
}

func (b *fakeBooks) WriteOff(context.Context, pixmed.Key) error {
	b.entries <- "write off"
	return nil
}

// One callback, called as the inbox calls it.
func TestOpen(t *testing.T) {
	t.Parallel()
	gateway := pixmedtest.NewGateway(pixmedtest.WithCredential("api_key", "key"))
	defer gateway.Close()
	client, err := newClient(settings{gatewayURL: gateway.URL(), apiKey: "key", apiSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	n := pixmedtest.NewNotification(func(n *pixmed.Notification) { n.Value = 250 * pixmed.Real })
	pdf := gateway.AddReceipt(n.Infraction)

	books := newFakeBooks()
	d := &desk{books: books, receipts: client, evidence: t.TempDir(), log: slog.New(slog.DiscardHandler)}
	if err := d.callbacks().Receive(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("block 250.00", <-books.entries); diff != "" {
		t.Errorf("the books (-want +got):\n%s", diff)
	}
	if err := d.evidenceCallbacks().Receive(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(filepath.Join(d.evidence, n.TransactionID+".pdf"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(saved, pdf) {
		t.Errorf("%d bytes were saved, want the gateway's %d", len(saved), len(pdf))
	}
}

// Without a receipt the value is blocked all the same, and released; the step that
// fetches it is called again.
func TestWithoutReceipt(t *testing.T) {
	t.Parallel()
	s := start(t, newFakeBooks())
	i := pixmedtest.NewInfraction()
	for _, step := range []struct {
		status pixmed.MEDStatus
		want   string
	}{{pixmed.Acknowledged, "block 18.00"}, {pixmed.Cancelled, "release"}} {
		i.MEDStatus = step.status
		if _, err := s.gateway.Deliver(t.Context(), s.url+"/webhooks/infraction", i); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, <-s.books.entries); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.status, diff)
		}
	}
	for len(s.gateway.Requests()) < 2 { // it asks for the receipt again and again
		if t.Context().Err() != nil {
			t.Fatal("the receipt is not asked for")
		}
	}
	s.stop()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// The handler with its verifier, without a server.
func TestRoutes(t *testing.T) {
	t.Parallel()
	in, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inbox.db"), pixmed.ReceiverFunc(pixmed.Ignore))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := in.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	handler, err := newHandler(in, []string{"new", "old"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, secret, body string
		want               int
	}{
		{"the new secret", "new", pixmedtest.Sample, http.StatusOK},
		{"the old secret", "old", pixmedtest.Sample, http.StatusOK},
		{"no such secret", "guess", pixmedtest.Sample, http.StatusUnauthorized},
		{"a broken body is kept", "new", pixmedtest.Sample[:100], http.StatusOK},
		{"a cash-in event", "new", `{"transactionStatus":"PAID"}`, http.StatusOK},
	} {
		w := httptest.NewRecorder()
		routes(handler, in).ServeHTTP(w, pixmedtest.NewRequest("/webhooks/infraction", []byte(tt.body),
			pixmedtest.HeaderSecret("X-Webhook-Secret", tt.secret)))
		if w.Code != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, w.Code, w.Body, tt.want)
		}
	}
	stats, err := in.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stats.OldestPending = 0
	if diff := cmp.Diff(inbox.Stats{Pending: 1, Quarantined: 1, Open: 1, Blocked: 18 * pixmed.Real}, stats); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// service is the program, running.
type service struct {
	gateway *pixmedtest.Gateway
	books   *fakeBooks
	url     string
	stop    func() // starts the shutdown, as SIGTERM does
	ended   chan error
}

func start(t *testing.T, books *fakeBooks) *service {
	t.Helper()
	gateway := pixmedtest.NewGateway(
		pixmedtest.WithCredential("api_key", "key"),
		pixmedtest.WithCredential("api_secret", "secret"),
		pixmedtest.WithSigner(pixmedtest.HeaderSecret("X-Webhook-Secret", "new")))
	t.Cleanup(gateway.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(stop)
	dir := t.TempDir()
	s := &service{gateway, books, "http://" + listener.Addr().String(), stop, make(chan error, 1)}
	go func() {
		s.ended <- run(ctx, listener, books, settings{
			webhookSecrets: []string{"new", "old"},
			gatewayURL:     gateway.URL(), apiKey: "key", apiSecret: "secret",
			database: filepath.Join(dir, "inbox.db"), evidenceInbox: filepath.Join(dir, "evidence.db"), evidence: dir,
		})
	}()
	return s
}

// The whole program, over the network.
func TestProgram(t *testing.T) {
	t.Parallel()
	s := start(t, newFakeBooks())
	i := pixmedtest.NewInfraction()
	s.gateway.AddReceipt(i)
	for _, step := range []struct {
		status pixmed.MEDStatus
		want   string
	}{
		{pixmed.Acknowledged, "block 18.00"},
		{pixmed.Cancelled, "release"},
		{pixmed.Acknowledged, "block 18.00"}, // reopened
		{pixmed.Debited, "write off"},
	} {
		i.MEDStatus = step.status
		for range 2 { // the second one is a duplicate
			if _, err := s.gateway.Deliver(t.Context(), s.url+"/webhooks/infraction", i); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(step.want, <-s.books.entries); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.status, diff)
		}
	}
	s.stop()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	if n := len(s.books.entries); n > 0 {
		t.Errorf("%d entries more, the first is %q", n, <-s.books.entries)
	}
}

// On SIGTERM the server shuts down, and the program waits for the running callback.
func TestShutdownWaitsForCallbacks(t *testing.T) {
	t.Parallel()
	books := newFakeBooks()
	books.hold = make(chan struct{})
	s := start(t, books)
	i := pixmedtest.NewInfraction()
	s.gateway.AddReceipt(i)
	if _, err := s.gateway.Deliver(t.Context(), s.url+"/webhooks/infraction", i); err != nil {
		t.Fatal(err)
	}
	<-books.entries
	s.stop()
	for { // until the port is closed
		a := s.gateway.Post(t.Context(), s.url+"/webhooks/infraction", []byte(`{"transactionStatus":"PAID"}`))
		if a.StatusCode == 0 {
			break
		}
	}
	select {
	case err := <-s.ended:
		t.Fatalf("the program ended (%v) while a callback was running", err)
	default:
	}
	close(books.hold)
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	if n := len(s.gateway.Requests()); n != 1 {
		t.Errorf("the callback made %d requests for the receipt after the signal, want 1", n)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	in, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inbox.db"), pixmed.ReceiverFunc(pixmed.Ignore))
	if err != nil {
		t.Fatal(err)
	}
	ready := func() int {
		w := httptest.NewRecorder()
		routes(http.NotFoundHandler(), in).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return w.Code
	}
	if got := ready(); got != http.StatusOK {
		t.Errorf("an open inbox: %d, want 200", got)
	}
	if err := in.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ready(); got != http.StatusServiceUnavailable {
		t.Errorf("a stopped inbox: %d, want 503", got)
	}
}

// An unknown status is kept for a person at once, without further attempts.
func TestUnknownStatusIsDiscarded(t *testing.T) {
	t.Parallel()
	attempts := make(chan inbox.Attempt, 1)
	d := &desk{books: newFakeBooks(), log: slog.New(slog.DiscardHandler)}
	in, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inbox.db"), d.callbacks(),
		inbox.WithLogger(slog.New(slog.DiscardHandler)),
		inbox.WithObserver(func(_ context.Context, a inbox.Attempt) { attempts <- a }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := in.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := in.Receive(t.Context(), pixmedtest.NewNotification(func(n *pixmed.Notification) { n.MEDStatus = "APPEALED" })); err != nil {
		t.Fatal(err)
	}
	if a := <-attempts; a.Result != inbox.AttemptDead || a.Number != 1 {
		t.Errorf("attempt %d ended as %s, want the first to be dead", a.Number, a.Result)
	}
}
