package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// What a replica finds in its environment.
const (
	replicaVariable  = "SCALEOUT_REPLICA" // its number
	schemaVariable   = "SCALEOUT_SCHEMA"
	databaseVariable = "PIXMED_DB"
	secretVariable   = "PIXMED_WEBHOOK_SECRETS"
)

const (
	path         = "/webhooks/infraction"
	secretHeader = "X-Webhook-Secret"
	workers      = 8
	conns        = workers + 3 // one for each callback's transaction, and three for the inbox
)

// replica is one process of the service, which an application may run as often as it
// likes. It serves until its standard input ends, which also happens when the program
// that started it is gone.
func replica() (err error) {
	signal.Ignore(os.Interrupt) // Ctrl-C reaches all processes; the first one decides
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()

	config, err := pgxpool.ParseConfig(os.Getenv(databaseVariable))
	if err != nil {
		return err
	}
	config.MaxConns = conns
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()

	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	schema := os.Getenv(schemaVariable)
	effects := &effects{table: pgx.Identifier{schema, effectsTable}.Sanitize(), replica: os.Getenv(replicaVariable)}
	in, err := postgres.Open(ctx, pool,
		pixmed.Callbacks{Other: effects.record}, // every status alike
		postgres.WithSchema(schema),
		inbox.WithWorkers(workers),
		// How soon the others take over what a killed process was doing: soon, because
		// somebody is watching. Unless set, an attempt may take 30 s and is given up
		// after 45 s.
		inbox.WithAttemptTimeout(time.Second),
		inbox.WithOverdue(1500*time.Millisecond),
		inbox.WithLogger(logger),
	)
	if err != nil {
		return err
	}
	handler, err := pixmed.NewHandler(in,
		pixmed.WithVerifier(pixmed.HeaderSecret(secretHeader, strings.Fields(os.Getenv(secretVariable))...)),
		pixmed.WithInvalid(in.Quarantine),
		pixmed.WithLogger(logger),
	)
	if err != nil {
		return errors.Join(err, in.Stop(ctx))
	}
	if err := in.Start(ctx); err != nil {
		return errors.Join(err, in.Stop(ctx))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, in.Stop(ctx))
	}
	mux := http.NewServeMux()
	mux.Handle(path, handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Println(listener.Addr()) // whoever started the replica waits for this line

	select {
	case <-ctx.Done():
	case err = <-served:
	}
	// First the server, so that no request finds the inbox stopped.
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	return errors.Join(err, server.Shutdown(end), in.Stop(end))
}

// effects is where the callbacks leave their mark: one row for each notification, in
// a table that would accept a second one.
type effects struct {
	table   string
	replica string
}

// record writes the row in the transaction in which the inbox records that the
// notification is done. So either both are there or neither is, whenever the process
// is killed.
func (e *effects) record(ctx context.Context, n *pixmed.Notification) error {
	tx, ok := postgres.Tx(ctx)
	if !ok {
		return errors.New("the callback was not called by an inbox in PostgreSQL")
	}
	_, err := tx.Exec(ctx, "INSERT INTO "+e.table+" (transaction_id, status, replica) VALUES ($1, $2, $3)",
		n.Key().TransactionID, string(n.MEDStatus), e.replica)
	if err != nil {
		return err
	}
	// Real callbacks do something that takes a while, during which they can be killed.
	select {
	case <-time.After(50 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
