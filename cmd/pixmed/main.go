// Command pixmed receives a payment gateway's MED (Pix infraction) webhooks, and
// does what belongs to them: it sends test deliveries, downloads receipts, operates
// the inbox, and checks a configuration.
//
//	go install github.com/pixmed-go/pixmed/cmd/pixmed@latest
//	pixmed help
package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], &process{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		env:      environment(os.Environ()),
		terminal: term.IsTerminal(int(os.Stderr.Fd())),

		onTraceError: otel.SetErrorHandler,
	}))
}

// process is what a command has of the operating system.
type process struct {
	in       io.Reader
	out, err io.Writer
	env      map[string]string
	terminal bool // whether err is one

	onTraceError func(otel.ErrorHandler) // tells OpenTelemetry, which has one handler for the whole process; nil in tests

	listening   func(webhook, admin net.Addr) // serve calls it, if it is set, once it listens
	raw, rawErr io.Writer                     // out and err for what is no text; run sets them
	tick        time.Duration                 // how often progress is told; 0 for the default
	keep        time.Duration                 // how old counts in metrics may be; 0 for the default
}

func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	return env
}
