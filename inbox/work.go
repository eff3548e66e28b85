package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// work runs an attempt and settles it. It calls returned once the callback has
// returned.
func (in *Inbox) work(a *ledger.Attempt, returned func()) {
	s := in.newSettler(a)
	switch {
	case a.Lost:
		returned()
		s.lost()
		return
	case time.Until(s.deadline) < in.config.AttemptTimeout/2:
		// This process was frozen, or the commit was slow. Too little time is left for
		// the callback.
		returned()
		s.release()
		return
	}

	ctx := context.Background()
	session := in.engine.Session()
	if session != nil {
		defer session.Rollback() // also after a panic
	}
	began := time.Now()
	err := in.call(ctx, session, a, s.deadline)
	took := time.Since(began)
	if session != nil && err == nil {
		err = s.commit(ctx, session)
	}
	if session != nil {
		session.Rollback() // before others may wait for its locks
	}
	returned()
	s.end(ctx, err, took)
}

// call runs the callback.
func (in *Inbox) call(ctx context.Context, session ledger.Session, a *ledger.Attempt, deadline time.Time) error {
	if err := in.interrupted.Err(); err != nil { // Stop is cutting callbacks off
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, min(in.config.AttemptTimeout, time.Until(deadline)))
	defer cancel()
	stop := context.AfterFunc(in.interrupted, cancel)
	defer stop()
	if session != nil {
		ctx = session.Context(ctx)
	}
	if a.Reminder {
		return in.remind(ctx, a)
	}
	return in.receive(ctx, a)
}

// receive calls the receiver.
func (in *Inbox) receive(ctx context.Context, a *ledger.Attempt) error {
	infraction, err := pixmed.ParseInfraction(a.Raw)
	if err != nil { // it was valid when it was accepted
		return fmt.Errorf("the stored body does not parse: %w", err)
	}
	n := &pixmed.Notification{
		Infraction:    *infraction,
		Raw:           a.Raw,
		ReceivedAt:    a.ReceivedAt,
		Previous:      pixmed.MEDStatus(a.Previous),
		PreviousValue: pixmed.Amount(a.PreviousValue),
		PreviousAt:    a.PreviousAt,
		SeenAt:        a.SeenAt,
		Attempt:       a.Attempts + 1,
	}
	if in.config.Resume != nil {
		carried := make(map[string]string)
		if len(a.Metadata) > 0 {
			if err := json.Unmarshal(a.Metadata, &carried); err != nil {
				return fmt.Errorf("the stored metadata does not parse: %w", err)
			}
		}
		resume := in.config.Resume
		err = in.guard(ctx, a.TransactionID, func() error { return in.receiver.Receive(resume(ctx, carried), n) })
	} else {
		err = in.guard(ctx, a.TransactionID, func() error { return in.receiver.Receive(ctx, n) })
	}
	if isDuplicate(err) {
		return nil
	}
	return err
}

// guard calls a callback in a goroutine of its own, which the callback may end. A panic
// is returned as an error.
func (in *Inbox) guard(ctx context.Context, transactionID string, call func() error) error {
	ended := make(chan error)
	go func() {
		err := errors.New("the callback ended its goroutine, with runtime.Goexit or a test's FailNow")
		defer func() {
			if p := recover(); p != nil {
				in.log.ErrorContext(ctx, "pixmed: the callback panicked", "transaction_id", transactionID,
					"panic", cut(fmt.Sprint(p), maxLogText), "stack", cut(string(debug.Stack()), maxLogStack))
				err = fmt.Errorf("panic: %v", p)
			}
			ended <- err
		}()
		err = call()
	}()
	return <-ended
}

// Discard wraps an error that the receiver returns to make the notification dead at
// once: it is neither retried nor revived by a redelivery, but can be replayed. The
// result may be wrapped further, but not joined with other errors, which may be worth
// a retry.
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

// PutOff wraps the error of a receiver, or of the function of [WithDefence], that has
// not tried because it is too early: the service it calls has asked it to wait, as
// Retry-After does. The attempt does not count, and no observer is told of it. The
// next one comes after wait, but at least after the first delay of [WithBackoff] and
// at most after the longest. Like [Discard], it may be wrapped further, but not joined.
func PutOff(err error, wait time.Duration) error {
	if err == nil {
		err = errors.New("put off")
	}
	return &putOffError{err, wait}
}

type putOffError struct {
	err  error
	wait time.Duration
}

func (e *putOffError) Error() string { return e.err.Error() }
func (e *putOffError) Unwrap() error { return e.err }

// putOffFor returns how long an error puts an attempt off, if it does.
func putOffFor(err error) (wait time.Duration, ok bool) {
	found(err, func(err error) bool {
		var e *putOffError
		if e, ok = err.(*putOffError); ok { //nolint:errorlint // found unwraps
			wait = e.wait
		}
		return ok
	})
	return wait, ok
}

// found reports whether is holds for an error or one that it wraps. Errors that are
// joined with others do not count: another attempt may succeed.
func found(err error, is func(error) bool) bool {
	for err != nil {
		if is(err) {
			return true
		}
		err = errors.Unwrap(err)
	}
	return false
}
