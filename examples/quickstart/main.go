// Command quickstart shows pixmed at work in a second or two, over the network: a
// fake gateway posts infraction webhooks to a handler, which stores them in a
// durable inbox and answers at once. Behind the inbox one callback blocks the value
// and another downloads the transaction's receipt, again if that fails.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -db inbox.db             # twice: the second run continues where the first stopped
//	go run ./examples/quickstart -db postgres://…         # an inbox that several processes may share
//	go run ./examples/quickstart -listen 127.0.0.1:8080   # then keep serving, for curl
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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A real service reads its secrets from the environment.
const (
	secretHeader  = "X-Webhook-Secret"
	webhookSecret = "quickstart-secret"
	apiKey        = "quickstart-key"
	path          = "/webhooks/infraction"
)

const usage = `Shows pixmed at work: a fake gateway posts infraction webhooks to a handler, which
stores them in a durable inbox. One callback blocks the value, another downloads the
transaction's receipt and saves the PDF.

Usage: quickstart [-db PATH|URL] [-listen ADDR] [-out DIR]

`

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

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprint(out, usage)
		flags.PrintDefaults()
	}
	db := flags.String("db", "", "keep the inbox in the SQLite file at `PATH`, or in PostgreSQL at a postgres:// URL;\na file in a new temporary folder unless set")
	listen := flags.String("listen", "", "serve webhooks at `ADDR`, such as 127.0.0.1:8080, and keep serving until interrupted")
	dir := flags.String("out", "", "save receipts in `DIR`; a new temporary folder unless set")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see -h", flags.Arg(0))
	}
	if *db == "" || *dir == "" {
		temporary, err := os.MkdirTemp("", "pixmed-quickstart-")
		if err != nil {
			return err
		}
		if *db == "" {
			*db = filepath.Join(temporary, "inbox.db")
		}
		if *dir == "" {
			*dir = temporary
		}
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	say := &narrator{Logger: log.New(out, "", 0)}

	// The gateway, a fake one: it serves receipts and asks for the key.
	gateway := pixmedtest.NewGateway(
		pixmedtest.WithCredential("api_key", apiKey),
		pixmedtest.WithSigner(pixmedtest.HeaderSecret(secretHeader, webhookSecret)),
	)
	defer gateway.Close()

	// Your side: a client for receipts, callbacks, two inboxes that call them, and a
	// handler that fills the first inbox.
	client, err := pixmed.NewClient(gateway.URL(),
		pixmed.WithHeader("api_key", apiKey),
		pixmed.WithRetries(0), // the inbox tries again, and needs no worker while it waits
	)
	if err != nil {
		return err
	}
	in, receipts, closeInboxes, err := openInboxes(ctx, *db, newCallbacks(say), newReceipts(client, *dir, say), say)
	if err != nil {
		return err
	}
	// Deferred before the server's end, so it runs after it: no request finds an inbox
	// closed.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, closeInboxes(ctx))
	}()
	handler, err := pixmed.NewHandler(in,
		pixmed.WithVerifier(pixmed.HeaderSecret(secretHeader, webhookSecret)),
		pixmed.WithInvalid(in.Quarantine),
		pixmed.WithLogger(slog.New(slog.DiscardHandler)), // the observer prints everything
		pixmed.WithObserver(say.outcome),
	)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(path, say.requestsFirst(handler))
	url, stopServer, err := serve(ctx, *listen, mux)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopServer()) }()

	story := &story{gateway: gateway, inbox: in, receipts: receipts, url: url, say: say}
	if err := story.resume(ctx); err != nil {
		return err
	}
	if err := story.tell(ctx); err != nil {
		return err
	}
	if *listen != "" {
		say.Printf(`
Serving webhooks at %s until interrupted. Post one:

curl -i -H '%s: %s' '%s' -d '%s'
`, url, secretHeader, webhookSecret, url, pixmedtest.Sample)
		<-ctx.Done()
	}
	return nil
}

// newCallbacks is what an application writes. The gateway has its answer already
// when a callback is called, so it may take its time and it may fail: the inbox calls
// it again. It is called at least once, so it must be idempotent; examples/scaleout
// shows how PostgreSQL makes that exactly once.
func newCallbacks(say *narrator) pixmed.Callbacks {
	return pixmed.Callbacks{
		Acknowledged: func(_ context.Context, n *pixmed.Notification) error {
			say.callback("%v: block the value", n)
			if n.MaybeReopened() {
				say.callback("the case had ended with %s: it may be open again", n.Previous)
			}
			return nil
		},
		Cancelled: func(_ context.Context, n *pixmed.Notification) error {
			say.callback("%v: release the value", n)
			return nil
		},
		Debited: func(_ context.Context, n *pixmed.Notification) error {
			say.callback("%v: the value is gone", n)
			return nil
		},
		Other: func(_ context.Context, n *pixmed.Notification) error {
			say.callback("%v: a status to look into", n)
			return nil
		},
	}
}

// newReceipts is the second step, with an inbox and attempts of its own: a receipt
// that is not there yet must not keep the value from being blocked.
func newReceipts(client *pixmed.Client, dir string, say *narrator) pixmed.Callbacks {
	return pixmed.Callbacks{
		Acknowledged: func(ctx context.Context, n *pixmed.Notification) error {
			file := filepath.Join(dir, n.Key().TransactionID+".pdf")
			receipt, err := client.SaveReceipt(ctx, n.TransactionID, file)
			if err != nil {
				say.callback("no receipt, so the inbox will call again: %v", err)
				return err
			}
			say.callback("saved the receipt, %d bytes: %s", receipt.Size, file)
			return nil
		},
		Cancelled: pixmed.Ignore,
		Debited:   pixmed.Ignore,
		Other:     pixmed.Ignore,
	}
}

// openInboxes opens the inboxes of both steps, in PostgreSQL if db is such a URL and
// in SQLite files otherwise. The first one hands each notification to the second.
// Neither is started yet.
func openInboxes(ctx context.Context, db string, callbacks, receipts pixmed.Receiver, say *narrator) (first, second *inbox.Inbox, closeBoth func(context.Context) error, err error) {
	scheme, _, isURL := strings.Cut(db, "://")
	if isURL && scheme != "postgres" && scheme != "postgresql" {
		return nil, nil, nil, fmt.Errorf("-db: want the path of a file or a postgres:// URL, not a URL of %s", scheme)
	}
	const workers = 10
	options := []inbox.Option{
		inbox.WithWorkers(workers),
		// Short, because somebody is watching: unless set, the inbox waits for 1 s after
		// the first failure and for 4 h at most, and an attempt may take 30 s.
		inbox.WithBackoff(100*time.Millisecond, 2*time.Second),
		inbox.WithAttemptTimeout(2 * time.Second),
		inbox.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))),
	}
	open := func(suffix string, receiver pixmed.Receiver) (*inbox.Inbox, error) {
		return sqlite.Open(ctx, strings.TrimSuffix(db, filepath.Ext(db))+suffix+filepath.Ext(db), receiver, options...)
	}
	where, closePool := "the file "+db, func() {}
	if isURL {
		config, err := pgxpool.ParseConfig(db)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("-db: %w", err)
		}
		config.MaxConns = max(config.MaxConns, workers+6) // each inbox takes three for itself
		pool, err := pgxpool.NewWithConfig(ctx, config)
		if err != nil {
			return nil, nil, nil, err
		}
		// Schemas of their own: the callbacks here must not get what is in a real inbox.
		open = func(suffix string, receiver pixmed.Receiver) (*inbox.Inbox, error) {
			return postgres.Open(ctx, pool, receiver, append(slices.Clip(options), postgres.WithSchema("pixmed_quickstart"+suffix))...)
		}
		where = fmt.Sprintf("the schema pixmed_quickstart of the database %s at %s", config.ConnConfig.Database, config.ConnConfig.Host)
		closePool = pool.Close // the inboxes leave it open: it may be the application's
	}
	if second, err = open("_receipts", receipts); err != nil {
		closePool()
		return nil, nil, nil, err
	}
	if first, err = open("", inbox.Then(callbacks, second)); err != nil {
		err = errors.Join(err, second.Stop(ctx))
		closePool()
		return nil, nil, nil, err
	}
	say.Printf("The inbox is %s.", where)
	return first, second, func(ctx context.Context) error {
		err := errors.Join(first.Stop(ctx), second.Stop(ctx))
		closePool()
		return err
	}, nil
}

// serve starts a server and returns the webhook's URL.
func serve(ctx context.Context, address string, handler http.Handler) (url string, stop func() error, err error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	stop = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err := server.Shutdown(ctx)
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return err
	}
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	if net.ParseIP(host).IsUnspecified() { // with -listen :8080, say
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + path, stop, nil
}

// narrator prints what happens in a readable order: a callback runs as soon as its
// notification is stored, often before the handler has written its answer, but prints
// only when no request is being answered.
type narrator struct {
	*log.Logger
	answering sync.RWMutex
}

// requestsFirst makes callbacks wait while requests are answered.
func (s *narrator) requestsFirst(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.answering.RLock()
		defer s.answering.RUnlock()
		next.ServeHTTP(w, r)
	})
}

func (s *narrator) callback(format string, args ...any) {
	s.answering.Lock()
	defer s.answering.Unlock()
	s.Printf("   callback: "+format, args...)
}

func (s *narrator) outcome(_ context.Context, o pixmed.Outcome) {
	because := ""
	if o.Err != nil && o.Result != pixmed.ResultDuplicate {
		because = " (" + o.Err.Error() + ")"
	}
	s.Printf("   handler:  %d, %s%s", o.StatusCode, o.Result, because)
}
