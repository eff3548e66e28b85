package pixmed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// Mount the handler beside your other routes, where nothing reads the body
// before it does.
func Example() {
	callbacks := pixmed.Callbacks{
		Acknowledged: func(_ context.Context, n *pixmed.Notification) error {
			fmt.Println("block", n.Value.BRL())
			return nil
		},
		Other: func(_ context.Context, n *pixmed.Notification) error {
			fmt.Println("look into", n)
			return nil
		},
	}
	handler, err := pixmed.NewHandler(
		pixmed.Deduplicate(&pixmed.MemoryStore{}, callbacks),
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", "the secret")),
	)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/webhooks/infraction", handler)

	// What the gateway does:
	for range 2 {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, pixmedtest.NewRequest("/webhooks/infraction", []byte(pixmedtest.Sample),
			pixmedtest.HeaderSecret("X-Webhook-Secret", "the secret")))
		fmt.Println(answer.Code)
	}
	// Output:
	// block R$ 18,00
	// 200
	// 200
}

// One function for each status. Whatever has none goes to Other, DEBITED and
// statuses that are yet to come included.
func ExampleCallbacks() {
	callbacks := pixmed.Callbacks{
		Acknowledged: func(_ context.Context, n *pixmed.Notification) error {
			fmt.Println("blocked:", n.Value.BRL())
			if n.MaybeReopened() {
				fmt.Println("the case may be open again")
			}
			return nil
		},
		Cancelled: func(_ context.Context, n *pixmed.Notification) error {
			fmt.Println("released, was", n.Previous)
			return nil
		},
		Other: func(_ context.Context, n *pixmed.Notification) error {
			return fmt.Errorf("nobody handles %s yet", n.MEDStatus) // 500: it comes again
		},
	}
	receiver := pixmed.Deduplicate(&pixmed.MemoryStore{}, callbacks)
	infraction := pixmedtest.NewInfraction() // all are about one transaction
	for _, status := range []pixmed.MEDStatus{
		pixmed.Acknowledged, pixmed.Acknowledged, pixmed.Cancelled, pixmed.Acknowledged, "REVIEWED",
	} {
		n := pixmedtest.NewNotification(func(n *pixmed.Notification) { n.Infraction, n.MEDStatus = infraction, status })
		if err := receiver.Receive(context.Background(), n); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// blocked: R$ 18,00
	// duplicate notification
	// released, was ACKNOWLEDGED
	// blocked: R$ 18,00
	// the case may be open again
	// nobody handles REVIEWED yet
}

// To rotate a secret, accept the new one beside the old until the gateway sends
// the new one.
func ExampleHeaderSecret() {
	handler, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore),
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", "new secret", "old secret")),
		pixmed.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		log.Fatal(err)
	}
	for _, secret := range []string{"old secret", "new secret", "a guess"} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, pixmedtest.NewRequest("/", []byte(pixmedtest.Sample),
			pixmedtest.HeaderSecret("X-Webhook-Secret", secret)))
		fmt.Println(answer.Code)
	}
	// Output:
	// 200
	// 200
	// 401
}

// A gateway, or a relay of your own, that signs the body.
func ExampleHMACSHA256() {
	handler, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore),
		pixmed.WithVerifier(pixmed.HMACSHA256("X-Signature", "sha256=", "the key")),
		pixmed.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range []string{"the key", "a guess"} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, pixmedtest.NewRequest("/", []byte(pixmedtest.Sample),
			pixmedtest.HMACSHA256("X-Signature", "sha256=", key)))
		fmt.Println(answer.Code)
	}
	// Output:
	// 200
	// 401
}

// Cash-in events arrive on the same URL. The fallback finds the body as if
// nobody had read it.
func ExampleWithFallback() {
	cashIn := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Printf("%s\n", body)
		w.WriteHeader(http.StatusOK)
	})
	handler, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore),
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", "the secret")),
		pixmed.WithFallback(cashIn),
	)
	if err != nil {
		log.Fatal(err)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, pixmedtest.NewRequest("/", []byte(`{"transactionStatus":"PAID","value":"100.00"}`),
		pixmedtest.HeaderSecret("X-Webhook-Secret", "the secret")))
	fmt.Println(answer.Code)
	// Output:
	// {"transactionStatus":"PAID","value":"100.00"}
	// 200
}

// newGateway stands for the gateway in the examples of the client.
func newGateway() (gateway *pixmedtest.Gateway, transactionID string) {
	gateway = pixmedtest.NewGateway(pixmedtest.WithCredential("api_key", "the key"))
	infraction := pixmedtest.NewInfraction()
	gateway.AddReceipt(infraction)
	return gateway, infraction.TransactionID
}

func ExampleClient_Receipt() {
	gateway, transactionID := newGateway()
	defer gateway.Close()

	client, err := pixmed.NewClient(gateway.URL(), pixmed.WithHeader("api_key", "the key"))
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := client.Receipt(context.Background(), transactionID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %.5s\n", receipt.MIMEType, receipt.PDF)
	// Output: application/pdf %PDF-
}

// Hand a receipt on without holding it in memory.
func ExampleClient_OpenReceipt() {
	gateway, transactionID := newGateway()
	defer gateway.Close()
	client, err := pixmed.NewClient(gateway.URL(), pixmed.WithHeader("api_key", "the key"))
	if err != nil {
		log.Fatal(err)
	}

	download := func(w http.ResponseWriter, r *http.Request) {
		receipt, err := client.OpenReceipt(r.Context(), r.PathValue("id"))
		if err != nil {
			http.Error(w, "no receipt", http.StatusBadGateway)
			return
		}
		defer receipt.Close()
		w.Header().Set("Content-Type", "application/pdf")
		if _, err := io.Copy(w, receipt); err != nil {
			panic(http.ErrAbortHandler) // so that the browser does not take a part for the whole
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /receipts/{id}", download)

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/receipts/"+transactionID, nil))
	fmt.Printf("%d %.5s\n", answer.Code, answer.Body)
	// Output: 200 %PDF-
}

func ExampleClient_SaveReceipt() {
	gateway, transactionID := newGateway()
	defer gateway.Close()
	client, err := pixmed.NewClient(gateway.URL(), pixmed.WithHeader("api_key", "the key"))
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	info, err := client.SaveReceipt(context.Background(), transactionID, filepath.Join(dir, "receipt.pdf"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Size > 0, len(info.SHA256))
	// Output: true 64
}

// Look a transaction up before money moves: anybody who knows the webhook's secret
// could have sent the notification.
func ExampleClient_Get() {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"data":{"transactionId":%q,"status":"MED","value":18.00}}`, path.Base(r.URL.Path))
	}))
	defer gateway.Close()
	client, err := pixmed.NewClient(gateway.URL, pixmed.WithHeader("api_key", "the key"))
	if err != nil {
		log.Fatal(err)
	}
	infraction := pixmedtest.NewInfraction() // from the notification

	var answer struct { // as your gateway documents it
		Data struct {
			Status string        `json:"status"`
			Value  pixmed.Amount `json:"value"` // never a float
		} `json:"data"`
	}
	err = client.Get(context.Background(), "transaction/"+url.PathEscape(infraction.TransactionID), &answer)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Data.Status, answer.Data.Value.BRL(), answer.Data.Value == infraction.Value)
	// Output: MED R$ 18,00 true
}

// Ask an error what to do.
func ExampleAPIError() {
	gateway, _ := newGateway()
	defer gateway.Close()
	client, err := pixmed.NewClient(gateway.URL(), pixmed.WithHeader("api_key", "another key"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Receipt(context.Background(), "b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5")
	if api, ok := errors.AsType[*pixmed.APIError](err); ok {
		fmt.Println(api.StatusCode, errors.Is(err, pixmed.ErrUnauthorized))
	}
	// Output: 401 true
}

// Decode an envelope that came by other means.
func ExampleDecodeReceipt() {
	file, err := os.Open("testdata/receipt.json")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	receipt, err := pixmed.DecodeReceipt(file)
	if err != nil {
		log.Fatal(err)
	}
	pdf, err := io.ReadAll(receipt)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.8s, %d bytes, SHA-256 %.8s…\n", pdf, receipt.Info().Size, receipt.Info().SHA256)
	// Output: %PDF-1.4, 1985 bytes, SHA-256 78c41574…
}

func ExampleParseAmount() {
	for _, s := range []string{"18", "18.5", "1e2", "1,00", "0.001"} {
		amount, err := pixmed.ParseAmount(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(amount, amount.BRL())
	}
	// Output:
	// 18.00 R$ 18,00
	// 18.50 R$ 18,50
	// 100.00 R$ 100,00
	// invalid amount: "1,00" has a comma; the decimal point is a dot and thousands are not separated
	// invalid amount: "0.001" has more than two decimals
}
