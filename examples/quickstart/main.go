// Command quickstart shows pixmed at work in a few seconds, on real sockets: a
// fake gateway posts infraction webhooks to a handler, whose callback downloads
// the transaction's receipt.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -listen 127.0.0.1:8080   # and keep serving, for curl
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A real service reads its secrets from the environment.
const (
	secretHeader  = "X-Webhook-Secret"
	webhookSecret = "quickstart-secret"
	apiKey        = "quickstart-key"
	path          = "/webhooks/infraction"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprint(out, "Shows pixmed at work: a fake gateway posts infraction webhooks to a handler,\nwhich downloads the transaction's receipt and saves the PDF.\n\nUsage: quickstart [-listen ADDR] [-out DIR]\n\n")
		flags.PrintDefaults()
	}
	listen := flags.String("listen", "", "serve webhooks at `ADDR`, such as 127.0.0.1:8080, and keep serving until interrupted")
	dir := flags.String("out", "", "save receipts in `DIR`; a new temporary folder unless set")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see -h", flags.Arg(0))
	}
	if *dir == "" {
		temporary, err := os.MkdirTemp("", "pixmed-quickstart-")
		if err != nil {
			return err
		}
		*dir = temporary
	} else if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	say := log.New(out, "", 0)

	// The gateway, a fake one: it knows the transaction of the specification's
	// sample and has a receipt for it.
	gateway := pixmedtest.NewGateway(
		pixmedtest.WithCredential("api_key", apiKey),
		pixmedtest.WithSigner(pixmedtest.HeaderSecret(secretHeader, webhookSecret)),
	)
	defer gateway.Close()
	sample, err := pixmed.ParseInfraction([]byte(pixmedtest.Sample))
	if err != nil {
		return err
	}
	gateway.AddReceipt(*sample)

	// Your side: a client for receipts, and a handler for webhooks.
	client, err := pixmed.NewClient(gateway.URL(), pixmed.WithHeader("api_key", apiKey))
	if err != nil {
		return err
	}
	handler, err := newHandler(client, *dir, say)
	if err != nil {
		return err
	}
	address := *listen
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(path, handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	if net.ParseIP(host).IsUnspecified() { // with -listen :8080, say
		host = "127.0.0.1"
	}
	url := "http://" + net.JoinHostPort(host, port) + path

	if err := tell(ctx, gateway, url, *sample, say); err != nil {
		return errors.Join(err, server.Close(), ignoreClosed(<-served))
	}
	if *listen != "" {
		say.Printf(`
Serving webhooks at %s until interrupted. Post one:

curl -i -H '%s: %s' '%s' -d '%s'
`, url, secretHeader, webhookSecret, url, pixmedtest.Payload(*sample))
		select {
		case <-ctx.Done():
		case err := <-served:
			return err
		}
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(shutdown), ignoreClosed(<-served))
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// newHandler is what an application writes.
func newHandler(client *pixmed.Client, dir string, say *log.Logger) (http.Handler, error) {
	callbacks := pixmed.Callbacks{
		Acknowledged: func(ctx context.Context, n *pixmed.Notification) error {
			say.Printf("   callback: %v: block the value", n)
			if n.MaybeReopened() {
				say.Printf("   callback: the case had ended with %s: it may be open again", n.Previous)
			}
			// The gateway waits for the answer while this downloads. That suits a
			// small example; slow work belongs behind a durable inbox, which
			// answers as soon as the notification is stored and retries the work.
			file := filepath.Join(dir, n.Key().TransactionID+".pdf")
			receipt, err := client.SaveReceipt(ctx, n.TransactionID, file)
			if errors.Is(err, pixmed.ErrNotFound) {
				say.Printf("   callback: the gateway has no receipt of this transaction")
				return nil
			}
			if err != nil {
				return err // answered 500: the gateway sends the notification again
			}
			say.Printf("   callback: saved the receipt, %d bytes: %s", receipt.Size, file)
			return nil
		},
		Cancelled: func(_ context.Context, n *pixmed.Notification) error {
			say.Printf("   callback: %v: release the value", n)
			return nil
		},
		Debited: func(_ context.Context, n *pixmed.Notification) error {
			say.Printf("   callback: %v: the value is gone", n)
			return nil
		},
		Other: func(_ context.Context, n *pixmed.Notification) error {
			say.Printf("   callback: %v: a status to look into", n)
			return nil
		},
	}
	return pixmed.NewHandler(
		pixmed.Deduplicate(&pixmed.MemoryStore{}, callbacks),
		pixmed.WithVerifier(pixmed.HeaderSecret(secretHeader, webhookSecret)),
		pixmed.WithLogger(slog.New(slog.DiscardHandler)), // the observer tells it all
		pixmed.WithObserver(func(_ context.Context, o pixmed.Outcome) {
			say.Printf("   handler:  %d, %s%s", o.StatusCode, o.Result, because(o))
		}),
	)
}

func because(o pixmed.Outcome) string {
	if o.Err == nil || o.Result == pixmed.ResultDuplicate {
		return ""
	}
	return " (" + strings.TrimPrefix(o.Err.Error(), "pixmed: ") + ")"
}

// tell has the gateway post what gateways post, and checks the answers.
func tell(ctx context.Context, gateway *pixmedtest.Gateway, url string, sample pixmed.Infraction, say *log.Logger) error {
	cancelled := sample
	cancelled.MEDStatus = pixmed.Cancelled
	for i, event := range []struct {
		what string
		body []byte
		want int
	}{
		{"The gateway posts the specification's sample: ACKNOWLEDGED.", []byte(pixmedtest.Sample), http.StatusOK},
		{"It posts the same again, as gateways do. The callback is not called.", []byte(pixmedtest.Sample), http.StatusOK},
		{"It posts a broken body.", []byte(pixmedtest.Sample)[:100], http.StatusBadRequest},
		{"It posts CANCELLED for the same transaction.", pixmedtest.Payload(cancelled), http.StatusOK},
	} {
		say.Printf("%d. %s", i+1, event.what)
		attempt := gateway.Post(ctx, url, event.body)
		if attempt.StatusCode != event.want {
			return fmt.Errorf("want the answer %d, got: %v", event.want, attempt)
		}
	}
	return nil
}
