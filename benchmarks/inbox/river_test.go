package inbox_test

import (
	"context"
	"errors"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pixmed-go/pixmed"
)

// eventArgs are those of a job: the row with the body.
type eventArgs struct {
	Event int64 `json:"event"`
}

// Kind implements [river.JobArgs].
func (eventArgs) Kind() string { return "event" }

// riverWorker hands the notification of a job to a receiver.
type riverWorker struct {
	river.WorkerDefaults[eventArgs]
	body func(ctx context.Context, event int64) ([]byte, error)
	work pixmed.Receiver
}

// Work implements [river.Worker].
func (w *riverWorker) Work(ctx context.Context, job *river.Job[eventArgs]) error {
	body, err := w.body(ctx, job.Args.Event)
	if err != nil {
		return err
	}
	infraction, err := pixmed.ParseInfraction(body)
	if err != nil {
		return river.JobCancel(err)
	}
	return w.work.Receive(ctx, &pixmed.Notification{Infraction: *infraction, Raw: body, Attempt: job.Attempt})
}

// newRiver makes River's tables and its client, which is stopped when the peer is.
// If work is not nil, workers are started. They fetch jobs every 2 ms at most, as
// often as the inbox's do: with River's default of 100 ms, 10 workers would work no
// more than 100 jobs in a second.
func newRiver[T any](ctx context.Context, p *peer, driver riverdriver.Driver[T], work pixmed.Receiver, body func(context.Context, int64) ([]byte, error)) (*river.Client[T], error) {
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: silent})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	config := &river.Config{Logger: silent, FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 100 * time.Millisecond}
	if work == nil {
		return river.NewClient(driver, config)
	}
	config.Workers = river.NewWorkers()
	river.AddWorker(config.Workers, &riverWorker{body: body, work: work})
	config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}}
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
