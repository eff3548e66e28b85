// Command scaleout shows several processes at work on one inbox in PostgreSQL, and
// checks what the inbox promises: while a gateway posts to all of them in turn, one is
// killed in the middle of its work and started again. In the end nothing is lost,
// nothing has happened twice and nothing out of order. It takes about ten seconds.
//
//	go run ./examples/scaleout                     # starts a PostgreSQL of its own, if one is installed
//	go run ./examples/scaleout -db postgres://…    # in a schema of its own, which it drops at the end
//
// What an application would contain is in replica.go.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// statuses are what the gateway posts for each transaction, in this order.
var statuses = []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited}

const usage = `Shows several processes at work on one inbox in PostgreSQL, kills one of them in
the middle, and counts: nothing lost, nothing twice, nothing out of order.

Usage: scaleout [-db URL] [-n TRANSACTIONS] [-replicas N]

`

func main() {
	if os.Getenv(replicaVariable) != "" {
		if err := replica(); err != nil {
			fmt.Fprintf(os.Stderr, "replica %s: %v\n", os.Getenv(replicaVariable), err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "scaleout:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("scaleout", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprint(out, usage)
		flags.PrintDefaults()
	}
	db := flags.String("db", "", "the postgres:// `URL` of a database; a new schema is created in it, and dropped at the end;\na new server on this machine unless set")
	n := flags.Int("n", 800, "how many `TRANSACTIONS` the gateway has, with three notifications each")
	replicas := flags.Int("replicas", 3, "how many processes share the inbox")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; see -h", flags.Arg(0))
	case *n < 1:
		return fmt.Errorf("-n: want at least 1 transaction, not %d", *n)
	case *replicas < 2:
		return fmt.Errorf("-replicas: one of them is killed, so want at least 2, not %d", *replicas)
	}
	proof := &proof{transactions: *n, replicas: *replicas, out: out, began: time.Now()}
	url, closeDatabase, err := openDatabase(ctx, *db, *replicas, proof.say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDatabase()) }()
	return proof.run(ctx, url)
}

// proof is one run of the program.
type proof struct {
	transactions, replicas int
	out                    io.Writer
	began                  time.Time
}

func (p *proof) say(format string, args ...any) {
	fmt.Fprintf(p.out, "%5.1f s  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

func (p *proof) run(ctx context.Context, url string) (err error) {
	ctx, cancel := context.WithCancelCause(ctx) // whatever fails first ends the rest
	defer cancel(nil)
	stage, err := newStage(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.close()) }()

	// The replicas, and the load balancer in front of them.
	secret := rand.Text()
	fleet := &fleet{
		replicas: make([]*process, p.replicas),
		failed:   cancel,
		environment: []string{
			databaseVariable + "=" + url,
			schemaVariable + "=" + stage.schema,
			secretVariable + "=" + secret,
		},
	}
	defer fleet.stop()
	for i := range p.replicas {
		if err := fleet.start(ctx, i); err != nil {
			return err
		}
	}
	balancer := httptest.NewServer(fleet.balancer())
	defer balancer.Close()
	posted := p.transactions * len(statuses)
	p.say("%d replicas share the inbox. The gateway posts %d notifications of %d transactions to them in turn.", p.replicas, posted, p.transactions)

	// The stream. One replica is killed after a third of it, and started again after
	// another third.
	gateway := pixmedtest.NewGateway(
		pixmedtest.WithSigner(pixmedtest.HeaderSecret(secretHeader, secret)),
		pixmedtest.WithSchedule(pixmedtest.Backoff(20*time.Millisecond, 200*time.Millisecond, 1000)),
	)
	defer gateway.Close()
	const victim = 1
	stream := newStream(ctx, cancel, gateway, balancer.URL+path, p.transactions)
	defer stream.wait()
	var answered []notification
	for n := range stream.answered {
		answered = append(answered, n)
		switch len(answered) {
		case (posted + 2) / 3:
			p.say("%d are answered 200. Replica %d is killed in the middle of its work.", len(answered), victim+1)
			err = fleet.kill(victim)
		case (2*posted + 2) / 3:
			p.say("%d are answered 200. Replica %d is started again.", len(answered), victim+1)
			err = fleet.start(ctx, victim)
		}
		if err != nil {
			cancel(err)
			return err
		}
	}
	again := stream.wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	stats, err := stage.inbox.Stats(ctx)
	if err != nil {
		return err
	}
	p.say("All are answered 200, %d of them not at the first attempt. %d wait for their callback.", again, stats.Pending)
	if err := stage.drained(ctx); err != nil {
		return err
	}
	fleet.stop()

	// The tally.
	effects, byReplica, err := stage.effects(ctx)
	if err != nil {
		return err
	}
	cutOff, err := stage.cutOff(ctx)
	if err != nil {
		return err
	}
	p.say("No callback is left. Done by %s. Attempts that were cut off, and made again: %d.", byReplica, cutOff)
	t := count(answered, effects)
	if err := errors.Join(t.print(p.out), t.err(posted)); err != nil {
		return err
	}
	fmt.Fprintln(p.out, "Nothing lost, nothing twice, nothing out of order.")
	return nil
}
