// Package queue is what both engines share of River: it schedules the attempts,
// hands them to workers, and has a page to look at. A job stands for one attempt
// and is never tried again by River itself.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"

	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Args are a job's arguments: the event's id and nothing else, since anybody who
// sees the queue sees them.
type Args struct {
	Event string `json:"event_id"`
}

// Kind implements [river.JobArgs].
func (Args) Kind() string { return "pixmed_attempt" }

// Queue hands the jobs of a store to workers. It is the part of [ledger.Store] that
// both engines have in common.
type Queue[T any] struct {
	*waker
	client *river.Client[T]
	work   *worker
	cancel context.CancelFunc // of the workers, once they are started
}

// New returns the queue in a driver's database. listen is the driver by which
// workers look for jobs, which may be another one.
func New[T any](driver, listen riverdriver.Driver[T], c *config.Config) (*Queue[T], error) {
	q := &Queue[T]{waker: &waker{make(chan struct{}, 1)}, work: &worker{}}
	riverConfig := Config(c)
	riverConfig.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: c.Workers}}
	riverConfig.Workers = river.NewWorkers()
	river.AddWorker(riverConfig.Workers, q.work)
	var err error
	q.client, err = river.NewClient(&wakeDriver[T]{driver, listen, q.waker}, riverConfig)
	return q, err
}

// Client returns River's client.
func (q *Queue[T]) Client() *river.Client[T] { return q.client }

// worker runs jobs. Its do is set before the client is started.
type worker struct {
	river.WorkerDefaults[Args]
	do ledger.Work
}

// Work implements [river.Worker].
func (w *worker) Work(ctx context.Context, job *river.Job[Args]) error {
	return w.do(ctx, job.ID, job.Args.Event)
}

// Timeout implements [river.Worker]: an attempt has a deadline of its own.
func (w *worker) Timeout(*river.Job[Args]) time.Duration { return -1 }

// Config returns the configuration of a client, without workers.
func Config(c *config.Config) *river.Config {
	return &river.Config{
		Schema:        c.Schema,
		PollOnly:      c.PollOnly,
		Logger:        Warnings(c.Logger),
		Plugins:       []rivertype.Plugin{&soon{}},
		FetchCooldown: min(2*time.Millisecond, c.PollInterval), FetchPollInterval: c.PollInterval,
		MaxAttempts: 1,
		JobTimeout:  -1,
		// What happened is in the events. Jobs are kept for a look at the queue.
		CompletedJobRetentionPeriod: 5 * time.Minute,
		CancelledJobRetentionPeriod: 24 * time.Hour,
		DiscardedJobRetentionPeriod: 24 * time.Hour,
		// Recovery is the inbox's own.
		RescueStuckJobsAfter: 24*time.Hour + 2*c.Overdue,
	}
}

// Start implements [ledger.Store]. It heeds ctx until the workers are started, and
// then no longer.
func (q *Queue[T]) Start(ctx context.Context, work ledger.Work) error {
	q.work.do = work
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, cancel)
	err := q.client.Start(running)
	if err == nil && !detach() {
		err = errors.Join(ctx.Err(), q.client.StopAndCancel(context.WithoutCancel(ctx)))
	}
	if err != nil {
		detach()
		cancel()
		return err
	}
	q.cancel = cancel
	return nil
}

// StopWork implements [ledger.Store].
func (q *Queue[T]) StopWork(ctx context.Context) error { return q.client.Stop(ctx) }

// CancelWork implements [ledger.Store].
func (q *Queue[T]) CancelWork() error { return q.client.StopAndCancel(context.Background()) }

// Release frees what the workers, which have stopped, have left.
func (q *Queue[T]) Release() {
	if q != nil && q.cancel != nil {
		q.cancel()
	}
}

// Insert inserts the jobs that were issued and returns their numbers by event.
func (q *Queue[T]) Insert(ctx context.Context, tx T, issues []*ledger.Issue) (map[string]int64, error) {
	params := make([]river.InsertManyParams, len(issues))
	for i, issue := range issues {
		opts := &river.InsertOpts{}
		if issue.Delay > 0 {
			opts.ScheduledAt = time.Now().Add(issue.Delay)
		}
		params[i] = river.InsertManyParams{Args: Args{issue.Event}, InsertOpts: opts}
	}
	results, err := q.client.InsertManyTx(ctx, tx, params)
	if err != nil {
		return nil, fmt.Errorf("insert jobs: %w", err)
	}
	numbers := make(map[string]int64, len(results))
	for _, r := range results {
		var args Args
		if err := json.Unmarshal(r.Job.EncodedArgs, &args); err != nil {
			return nil, fmt.Errorf("insert jobs: %w", err)
		}
		numbers[args.Event] = r.Job.ID
	}
	return numbers, nil
}

// Soon is up to when a job that is due later is made available at once. Only the
// elected leader makes scheduled ones available, every 5 seconds; workers leave an
// available one alone until it is due. River treats its own retries in the same
// way.
const Soon = 10 * time.Second

// soon makes such jobs available.
type soon struct{ river.HookDefaults }

// InsertBegin implements [rivertype.HookInsertBegin].
func (*soon) InsertBegin(_ context.Context, params *rivertype.JobInsertParams) error {
	if params.State == rivertype.JobStateScheduled && time.Until(*params.ScheduledAt) <= Soon {
		params.State = rivertype.JobStateAvailable
	}
	return nil
}

// Warnings returns a logger that passes on warnings and errors only: River tells
// its routine at Info.
func Warnings(l *slog.Logger) *slog.Logger { return slog.New(warnings{l.Handler()}) }

type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}

func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }
