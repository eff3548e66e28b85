package pixmedtest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const secret = "a shared secret"

// program is the code under test. It blocks the value of a transaction when a MED
// request is made, and releases it when the request is cancelled.
type program struct {
	blocked map[string]pixmed.Amount // by transaction id
}

func (p *program) block(_ context.Context, n *pixmed.Notification) error {
	p.blocked[n.TransactionID] = n.Value
	return nil
}

func (p *program) release(_ context.Context, n *pixmed.Notification) error {
	delete(p.blocked, n.TransactionID)
	return nil
}

func newProgram() *program { return &program{blocked: make(map[string]pixmed.Amount)} }

func (p *program) routes() (http.Handler, error) {
	handler, err := pixmed.NewHandler(
		pixmed.Callbacks{Acknowledged: p.block, Cancelled: p.release, Other: pixmed.Ignore},
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secret)),
		pixmed.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/webhooks/med", handler)
	return mux, nil
}

// Test a whole program over the network: the gateway delivers a webhook, and the
// client fetches the receipt.
func Example() {
	gateway := pixmedtest.NewGateway(
		pixmedtest.WithCredential("api_key", "key"),
		pixmedtest.WithSigner(pixmedtest.HeaderSecret("X-Webhook-Secret", secret)),
	)
	defer gateway.Close()

	p := newProgram()
	routes, err := p.routes()
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(routes)
	defer server.Close()
	client, err := pixmed.NewClient(gateway.URL(), pixmed.WithHeader("api_key", "key"))
	if err != nil {
		fmt.Println(err)
		return
	}

	infraction := pixmedtest.NewInfraction()
	pdf := gateway.AddReceipt(infraction)

	ctx := context.Background()
	if _, err := gateway.Deliver(ctx, server.URL+"/webhooks/med", infraction); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("blocked:", p.blocked[infraction.TransactionID].BRL())

	receipt, err := client.Receipt(ctx, infraction.TransactionID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the whole receipt:", string(receipt.PDF) == string(pdf))
	// Output:
	// blocked: R$ 18,00
	// the whole receipt: true
}

// A callback is a function: call it.
func ExampleNewNotification() {
	p := newProgram()
	n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
		n.Value = 250 * pixmed.Real
	})
	err := p.block(context.Background(), n)
	fmt.Println(p.blocked[n.TransactionID], err)
	// Output: 250.00 <nil>
}

// Call a handler with a request and a recorder. It needs no server.
func ExampleNewRequest() {
	p := newProgram()
	routes, err := p.routes()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range []*http.Request{
		pixmedtest.NewRequest("/webhooks/med", []byte(pixmedtest.Sample)),
		pixmedtest.NewRequest("/webhooks/med", []byte(pixmedtest.Sample),
			pixmedtest.HeaderSecret("X-Webhook-Secret", secret)),
	} {
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, r)
		fmt.Println(w.Code, p.blocked)
	}
	// Output:
	// 401 map[]
	// 200 map[5a94d48d-c9f3-46be-8448-83510ca42bde:18.00]
}

// The gateway sends a webhook until it gets 200. Here the program's database is
// down at first.
func ExampleGateway_Deliver() {
	calls := 0
	handler, err := pixmed.NewHandler(pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
		if calls++; calls < 3 {
			return errors.New("the database is down")
		}
		return nil
	}), pixmed.WithoutVerification(), pixmed.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(handler)
	defer server.Close()

	gateway := pixmedtest.NewGateway(pixmedtest.WithSchedule(pixmedtest.Backoff(0, 0, 5)))
	defer gateway.Close()
	attempts, err := gateway.Deliver(context.Background(), server.URL, pixmedtest.NewInfraction())
	for _, a := range attempts {
		fmt.Println(a.StatusCode)
	}
	fmt.Println("error:", err)
	// Output:
	// 500
	// 500
	// 200
	// error: <nil>
}

// Two requests fail, and the client recovers.
func ExampleGateway_Fail() {
	gateway := pixmedtest.NewGateway()
	defer gateway.Close()
	infraction := pixmedtest.NewInfraction()
	gateway.AddReceipt(infraction)

	gateway.Fail(
		pixmedtest.Fault{Status: 502, HTML: true},
		pixmedtest.Fault{Cut: true, At: 1000},
	)

	client, err := pixmed.NewClient(gateway.URL(),
		pixmed.WithRetryWait(time.Millisecond, 10*time.Millisecond),
		pixmed.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := client.Receipt(context.Background(), infraction.TransactionID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s after %d requests\n", receipt.MIMEType, len(gateway.Requests()))
	// Output: application/pdf after 3 requests
}

// The gateway is down: every request fails.
func ExampleGateway_FailAlways() {
	gateway := pixmedtest.NewGateway()
	defer gateway.Close()
	gateway.FailAlways(pixmedtest.Fault{Status: 503})

	client, err := pixmed.NewClient(gateway.URL(), pixmed.WithRetries(0))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = client.Receipt(context.Background(), pixmedtest.NewInfraction().TransactionID)
	fmt.Println(errors.Is(err, pixmed.ErrUnavailable))
	// Output: true
}

// The gateway sends everything twice and out of order.
func ExampleShuffled() {
	var infractions []pixmed.Infraction
	for range 5 {
		infractions = append(infractions, pixmedtest.NewInfraction())
	}
	calls := 0
	receiver := pixmed.Deduplicate(&pixmed.MemoryStore{}, pixmed.ReceiverFunc(
		func(context.Context, *pixmed.Notification) error {
			calls++
			return nil
		}))
	deliveries := pixmedtest.Shuffled(infractions, 2, 1)
	for _, i := range deliveries {
		err := receiver.Receive(context.Background(), pixmedtest.NewNotification(func(n *pixmed.Notification) {
			n.Infraction = i
		}))
		if err != nil && !errors.Is(err, pixmed.ErrDuplicate) {
			fmt.Println(err)
		}
	}
	fmt.Println(len(deliveries), "deliveries,", calls, "calls")
	// Output: 10 deliveries, 5 calls
}
