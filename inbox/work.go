package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Discard wraps an error of the receiver's: the notification is dead at once,
// and neither retried nor revived by a redelivery. It can be replayed. It may be
// wrapped further, but not joined with other errors, which may be worth a retry.
func Discard(err error) error {
	if err == nil {
		err = errors.New("discarded")
	}
	return &discardError{err}
}

type discardError struct{ err error }

func isDiscard(err error) bool {
	_, ok := err.(*discardError) //nolint:errorlint // found unwraps
	return ok
}

func (e *discardError) Error() string { return e.err.Error() }
func (e *discardError) Unwrap() error { return e.err }

var (
	// errFailed is all that the queue's own page learns of a failed attempt: the
	// receiver's error may hold personal data.
	errFailed     = errors.New("the attempt failed; the event's last error says why")
	errSuperseded = errors.New("the attempt ended late: another one has taken over, and its outcome does not count")
)

// work runs the attempt of a job. Whatever it returns changes nothing but what
// the queue's page shows: the events alone say what happened.
func (in *Inbox) work(ctx context.Context, job int64, event string) error {
	deadline := time.Now().Add(in.config.Overdue)
	attempt, err := in.attempt(ctx, job, event)
	if errors.Is(err, ledger.ErrNone) {
		return nil // another job has taken over
	}
	if err != nil {
		in.log.ErrorContext(ctx, "inbox: an event could not be read; it will be tried again", "event_id", event, "error", err)
		return errFailed
	}
	log := in.log.With("event_id", event, "transaction_id", attempt.TransactionID, "med_status", attempt.Status, "attempt", attempt.Attempts+1)

	session := in.store.Session()
	if session != nil {
		defer session.Rollback() // whatever happens
	}
	began := time.Now()
	callErr := in.call(ctx, session, attempt)
	took := time.Since(began)
	outcome := in.outcome(ctx, attempt, callErr)
	var settled bool // whether this attempt was the live one
	op := &ledger.Op{
		TransactionID: attempt.TransactionID,
		Apply:         func(c *ledger.Case) { settled = c.Settle(job, attempt.ID, outcome) },
	}
	ended := false
	if session != nil {
		if callErr == nil {
			ended, callErr = session.Commit(context.WithoutCancel(ctx), op)
			outcome = in.outcome(ctx, attempt, callErr)
		}
		session.Rollback()
	}
	if !ended {
		if err := in.settle(ctx, op, deadline); err != nil {
			log.ErrorContext(ctx, "inbox: the outcome of an attempt could not be stored; it will be tried again", "error", err, "outcome", outcome.Error)
			return errFailed
		}
	}
	result, err := in.report(ctx, log, attempt, outcome, settled, callErr)
	in.observed(ctx, attempt, result, callErr, took)
	return err
}

// report logs how an attempt ended, and returns what the queue's page shows.
func (in *Inbox) report(ctx context.Context, log *slog.Logger, a *ledger.Attempt, o ledger.Outcome, settled bool, callErr error) (AttemptResult, error) {
	switch {
	case !settled:
		log.WarnContext(ctx, "inbox: an attempt ended late: another one has taken over, and its outcome does not count")
		return AttemptLate, errSuperseded
	case callErr == nil:
		log.DebugContext(ctx, "inbox: done")
		return AttemptDone, nil
	case o.Interrupted:
		log.InfoContext(ctx, "inbox: an attempt was cut off by Stop; it will be run again")
		return AttemptInterrupted, errFailed
	case o.Discard:
		log.ErrorContext(ctx, "inbox: a notification is dead: it was discarded", "error", callErr)
		return AttemptDead, errFailed
	case a.Failures+1 >= o.MaxFailures:
		log.ErrorContext(ctx, "inbox: a notification is dead: that was its last attempt", "error", callErr)
		return AttemptDead, errFailed
	}
	log.WarnContext(ctx, "inbox: an attempt failed", "error", callErr, "retry_in", o.Delay)
	return AttemptFailed, errFailed
}

// attempt reads the event, patiently: an attempt that cannot begin counts as one
// that failed.
func (in *Inbox) attempt(ctx context.Context, job int64, event string) (attempt *ledger.Attempt, err error) {
	// What is left until it is overdue must suffice for the callback.
	deadline := time.Now().Add((in.config.Overdue - in.config.AttemptTimeout) / 2)
	err = in.insist(ctx, deadline, func() error {
		patience := min(in.config.CommitTimeout, time.Until(deadline))
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		attempt, err = in.store.Attempt(ctx, job, event)
		return err
	})
	return attempt, err
}

// call runs the receiver. A panic is an error.
func (in *Inbox) call(ctx context.Context, session ledger.Session, a *ledger.Attempt) (err error) {
	if err := in.interrupted.Err(); err != nil { // Stop is cutting callbacks off
		return err
	}
	infraction, err := pixmed.ParseInfraction(a.Raw)
	if err != nil { // it was valid when it was accepted
		return fmt.Errorf("the stored body does not parse: %w", err)
	}
	n := &pixmed.Notification{
		Infraction: *infraction,
		Raw:        a.Raw,
		ReceivedAt: a.ReceivedAt,
		Previous:   pixmed.MEDStatus(a.Previous),
		SeenAt:     a.SeenAt,
		Attempt:    a.Attempts + 1,
	}
	ctx, cancel := context.WithTimeout(ctx, in.config.AttemptTimeout)
	defer cancel()
	stop := context.AfterFunc(in.interrupted, cancel)
	defer stop()
	if session != nil {
		ctx = session.Context(ctx)
	}
	carried := make(map[string]string)
	if len(a.Metadata) > 0 {
		if err := json.Unmarshal(a.Metadata, &carried); err != nil {
			return fmt.Errorf("the stored metadata does not parse: %w", err)
		}
	}
	err = in.receive(ctx, n, carried)
	if found(err, func(err error) bool { return err == pixmed.ErrDuplicate }) { //nolint:errorlint // found unwraps
		return nil // the receiver has handled it before
	}
	return err
}

// receive calls the receiver in a goroutine of its own, since one that ends its
// goroutine would end River's, which then waits for it for ever.
func (in *Inbox) receive(ctx context.Context, n *pixmed.Notification, carried map[string]string) error {
	ended := make(chan error)
	go func() {
		err := errors.New("the receiver has ended its goroutine, with runtime.Goexit or a test's FailNow")
		defer func() {
			if p := recover(); p != nil {
				in.log.ErrorContext(ctx, "inbox: the receiver panicked", "transaction_id", n.Key().TransactionID, "panic", p, "stack", string(debug.Stack()))
				err = fmt.Errorf("panic: %v", p)
			}
			ended <- err
		}()
		if in.config.Resume != nil {
			ctx = in.config.Resume(ctx, carried) //nolint:fatcontext // once for each call
		}
		err = in.receiver.Receive(ctx, n)
	}()
	return <-ended
}

// found reports whether an error, or one that it wraps alone, is what is looked
// for. What is joined with others does not count: those may be failures that
// another attempt would mend.
func found(err error, is func(error) bool) bool {
	for err != nil {
		if is(err) {
			return true
		}
		err = errors.Unwrap(err)
	}
	return false
}

// interruptedDelay is how long an attempt waits that Stop has cut off, so that the
// workers that are stopping, which may look for jobs once more, leave it alone.
const interruptedDelay = time.Second

// outcome says what an attempt comes to.
func (in *Inbox) outcome(ctx context.Context, a *ledger.Attempt, callErr error) ledger.Outcome {
	o := ledger.Outcome{
		Done:        callErr == nil,
		Discard:     found(callErr, isDiscard),
		Error:       errorText(callErr),
		MaxFailures: in.config.MaxAttempts,
		Delay:       backoff(in.config.FirstDelay, in.config.MaxDelay, a.Failures),
	}
	switch {
	case o.Done:
	case errors.Is(context.Cause(ctx), rivertype.ErrJobCancelledRemotely):
		o.Discard, o.Error = true, "cancelled by an operator: "+o.Error
	case in.interrupted.Err() != nil:
		o.Interrupted, o.Delay = true, interruptedDelay
	}
	return o
}

// settle stores an outcome, and tries again for as long as nobody else would
// take the attempt over.
func (in *Inbox) settle(ctx context.Context, op *ledger.Op, deadline time.Time) error {
	return in.insist(ctx, deadline, func() error { return in.committer.commit(context.WithoutCancel(ctx), op) })
}

func (in *Inbox) insist(ctx context.Context, deadline time.Time, do func() error) error {
	const longest = time.Second
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, longest) {
		err := do()
		if err == nil || errors.Is(err, ledger.ErrNone) || errors.Is(err, errStopping) || time.Now().Add(wait).After(deadline) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// backoff returns how long to wait after one more failure.
func backoff(first, longest time.Duration, failures int) time.Duration {
	delay := longest
	if failures < 62 && first <= longest>>failures {
		delay = first << failures
	}
	return delay - rand.N(delay/2+1) //nolint:gosec // nobody gains by guessing it
}

// maxErrorText bounds what is kept of an error, in bytes.
const maxErrorText = 4 << 10

// errorText makes an error's text fit for a column.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "\uFFFD"), "\x00", "\uFFFD")
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	if text == "" {
		text = "an error without a text"
	}
	return text
}
