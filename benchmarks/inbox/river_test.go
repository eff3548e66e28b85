package inbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pixmed-go/pixmed"
)

// eventArgs are the arguments of a job whose body is in a row of its own.
type eventArgs struct {
	Event int64 `json:"event"`
}

// Kind implements [river.JobArgs].
func (eventArgs) Kind() string { return "event" }

// bodyArgs are the arguments of a job that holds the body.
type bodyArgs struct {
	Body json.RawMessage `json:"body"`
}

// Kind implements [river.JobArgs].
func (bodyArgs) Kind() string { return "body" }

// newRiver creates River's tables and its client, which is stopped with the peer. If
// work is not nil, workers are started. They fetch jobs as often as River allows,
// every millisecond: with its default, 100 ms, 10 workers would do no more than 100
// jobs a second. body returns the body of an event.
func newRiver[T any](ctx context.Context, p *peer, at place, driver riverdriver.Driver[T], work pixmed.Receiver, body func(context.Context, int64) ([]byte, error)) (*river.Client[T], error) {
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: silent})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	config := &river.Config{Logger: silent, FetchCooldown: time.Millisecond, FetchPollInterval: 100 * time.Millisecond}
	if work == nil {
		return river.NewClient(driver, config)
	}
	config.Workers = river.NewWorkers()
	river.AddWorker(config.Workers, river.WorkFunc(func(ctx context.Context, job *river.Job[eventArgs]) error {
		b, err := body(ctx, job.Args.Event)
		if err != nil {
			return err
		}
		return receive(ctx, work, b, job.Attempt)
	}))
	river.AddWorker(config.Workers, river.WorkFunc(func(ctx context.Context, job *river.Job[bodyArgs]) error {
		return receive(ctx, work, job.Args.Body, job.Attempt)
	}))
	config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: at.workers}}
	client, err := river.NewClient(driver, config)
	if err != nil {
		return nil, err
	}
	// The client works until it is stopped, and not until ctx ends.
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if err := client.Start(working); err != nil {
		cancel()
		return nil, err
	}
	p.onClose(func() error {
		defer cancel()
		ctx, cancel := context.WithTimeout(working, time.Minute)
		defer cancel()
		err := client.Stop(ctx)
		if err != nil {
			err = errors.Join(err, client.StopAndCancel(working))
		}
		return err
	})
	return client, nil
}

// serveRiver sets a peer's handler to one that inserts a job that holds the body.
func serveRiver[T any](ctx context.Context, p *peer, at place, driver riverdriver.Driver[T], work pixmed.Receiver) error {
	client, err := newRiver(ctx, p, at, driver, work, nil)
	if err != nil {
		return err
	}
	p.handler = storing(func(ctx context.Context, _ *pixmed.Infraction, body []byte) error {
		_, err := client.Insert(ctx, bodyArgs{body}, nil)
		return err
	})
	return nil
}

// receive hands the notification of a job to a receiver.
func receive(ctx context.Context, work pixmed.Receiver, body []byte, attempt int) error {
	infraction, err := pixmed.ParseInfraction(body)
	if err != nil {
		return river.JobCancel(err)
	}
	return work.Receive(ctx, &pixmed.Notification{Infraction: *infraction, Raw: body, Attempt: attempt})
}
