// Command receipts downloads the receipts of transactions.
//
//	export GATEWAY_URL=https://gateway.example/v1 GATEWAY_KEY=… GATEWAY_SECRET=…
//	go run ./examples/receipts -o evidence b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5
//	go run ./examples/receipts -o evidence -f ids.txt
//	go run ./examples/receipts -o - b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5 > receipt.pdf
//
// Run again, it fetches what is missing. -h explains the rest, exit codes included.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/pixmed-go/pixmed"
)

const usage = `Downloads the receipts of transactions, each to <transaction id>.pdf.

Usage: receipts [flags] [transaction id ...]

Ids come from the arguments and from -f. A receipt that is in the folder and whole,
which its line in the folder's SHA256SUMS says, is not fetched again; the file is one
that sha256sum -c reads. For each receipt there is a line on standard output, with
tabs between: transaction id, size in bytes, SHA-256, path. Everything else goes to
standard error.

Exit codes: 0 all receipts are there; 1 some are not; 2 the command is wrong;
3 the gateway refuses the credentials; 130 interrupted.

Environment:
  GATEWAY_URL      the gateway's base URL; required
  GATEWAY_KEY      its api_key
  GATEWAY_SECRET   its api_secret

Flags:
`

// The exit codes.
const (
	exitOK          = 0
	exitMissing     = 1
	exitUsage       = 2
	exitRefused     = 3
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv,
		terminal: term.IsTerminal(int(os.Stderr.Fd())),
	}))
}

// streams are what a process has.
type streams struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	terminal bool // whether err is one
}

func run(ctx context.Context, args []string, s streams) int {
	flags := flag.NewFlagSet("receipts", flag.ContinueOnError)
	flags.SetOutput(s.err)
	flags.Usage = func() {
		fmt.Fprint(s.err, usage)
		flags.PrintDefaults()
	}
	dir := flags.String("o", ".", "save receipts in the folder `DIR`, which is made if it is missing; - writes a single one to standard output")
	list := flags.String("f", "", "read ids from `FILE`, one a line, with empty lines and # comments; - is standard input")
	parallel := flags.Int("p", 4, "download `N` at a time")
	timeout := flags.Duration("timeout", 5*time.Minute, "how long one receipt may take, retries included")
	maxSize := flags.Int64("max-size", pixmed.DefaultMaxReceiptSize, "the largest receipt to accept, in `BYTES`")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	fail := func(err error) int {
		fmt.Fprintln(s.err, "receipts:", err)
		return exitUsage
	}
	ids, err := collectIDs(flags.Args(), *list, s.in)
	switch {
	case err != nil:
		return fail(err)
	case len(ids) == 0:
		return fail(errors.New("no transaction ids; see -h"))
	case *dir == "-" && len(ids) > 1:
		return fail(fmt.Errorf("-o - is for a single receipt, not for %d", len(ids)))
	case *parallel < 1 || *parallel > 64:
		return fail(fmt.Errorf("-p: %d is not between 1 and 64", *parallel))
	case *timeout <= 0:
		return fail(fmt.Errorf("-timeout: %v is not positive", *timeout))
	}
	client, err := newClient(s.getenv, *maxSize)
	if err != nil {
		return fail(err)
	}
	if *dir == "-" {
		return exitCode(ctx, printReceipt(ctx, client, ids[0], *timeout, s))
	}
	d := &downloads{client: client, dir: *dir, parallel: *parallel, timeout: *timeout, streams: s}
	return exitCode(ctx, d.run(ctx, ids))
}

func newClient(getenv func(string) string, maxSize int64) (*pixmed.Client, error) {
	base := getenv("GATEWAY_URL")
	if base == "" {
		return nil, errors.New("GATEWAY_URL is not set; see -h")
	}
	options := []pixmed.ClientOption{
		pixmed.WithMaxReceiptSize(maxSize),
		pixmed.WithLogger(slog.New(slog.DiscardHandler)), // the errors say it all
	}
	for header, variable := range map[string]string{"api_key": "GATEWAY_KEY", "api_secret": "GATEWAY_SECRET"} {
		if value := getenv(variable); value != "" {
			options = append(options, pixmed.WithHeader(header, value))
		}
	}
	return pixmed.NewClient(base, options...)
}

// printReceipt streams a receipt to standard output.
func printReceipt(ctx context.Context, client *pixmed.Client, id string, timeout time.Duration, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := client.OpenReceipt(ctx, id)
	if err == nil {
		_, err = r.WriteTo(s.out)
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		fmt.Fprintf(s.err, "receipts: %s: %v\n", id, err)
	}
	return err
}

// exitCode says how the command ended.
func exitCode(ctx context.Context, err error) int {
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.Is(err, pixmed.ErrUnauthorized), errors.Is(err, pixmed.ErrForbidden):
		return exitRefused
	case err != nil:
		return exitMissing
	}
	return exitOK
}
