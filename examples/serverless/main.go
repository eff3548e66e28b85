// Command serverless receives webhooks on AWS Lambda, behind a function URL. It
// stores them in an inbox in PostgreSQL and does nothing else: Lambda freezes a
// process once it has answered. Another process, which runs all the time, opens the
// same database and calls the callbacks; see docs/serverless.md.
//
//	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -tags lambda.norpc -o bootstrap ./examples/serverless
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambdaurl"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

func main() {
	handler, _, err := newHandler(context.Background(), os.Getenv("PIXMED_DB"), strings.Fields(os.Getenv("PIXMED_WEBHOOK_SECRETS")))
	if err != nil {
		log.Fatal(err)
	}
	// Nothing stops the inbox: Lambda ends a process without a word, and what was
	// answered 200 is in the database by then.
	lambdaurl.Start(handler) // the function URL's InvokeMode must be RESPONSE_STREAM
}

// newHandler returns a handler in front of an inbox that is never started, so that
// it stores notifications and calls nobody.
func newHandler(ctx context.Context, url string, secrets []string) (*pixmed.Handler, *inbox.Inbox, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, nil, err
	}
	config.MaxConns = 4 // what an inbox with one worker needs
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	in, err := postgres.Open(ctx, pool, pixmed.ReceiverFunc(neverCalled), inbox.WithWorkers(1))
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	handler, err := pixmed.NewHandler(in,
		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)),
		pixmed.WithInvalid(in.Quarantine),
		pixmed.WithCallbackTimeout(3*time.Second)) // storing takes milliseconds
	if err != nil {
		return nil, nil, errors.Join(err, in.Stop(ctx))
	}
	return handler, in, nil
}

func neverCalled(context.Context, *pixmed.Notification) error {
	return errors.New("the process on Lambda only stores notifications")
}
