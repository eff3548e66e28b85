package inbox

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// settler stores how an attempt ended.
type settler struct {
	in       *Inbox
	attempt  *ledger.Attempt
	log      *slog.Logger
	deadline time.Time // when the lease ends

	outcome   ledger.Outcome
	decision  ledger.Settlement
	ambiguous bool // the callback's transaction may have been committed
	landed    bool // and it was
}

func (in *Inbox) newSettler(a *ledger.Attempt) *settler {
	s := &settler{in: in, attempt: a, deadline: a.Since.Add(in.config.Overdue)}
	if a.Reminder {
		s.log = in.log.With("transaction_id", a.TransactionID, "attempt", a.Failures+1)
		return s
	}
	s.log = in.log.With("event_id", a.ID, "transaction_id", a.TransactionID, "med_status", a.Status, "attempt", a.Attempts+1)
	return s
}

// settle ends an attempt in its case.
func settle(c *ledger.Case, a *ledger.Attempt, o ledger.Outcome) ledger.Settlement {
	if a.Reminder {
		return c.SettleReminder(a.Lease, a.Reminded, a.Failures, o)
	}
	return c.Settle(a.Lease, a.ID, o)
}

// lostReason is the last error of an attempt that did not end in time.
const lostReason = "the attempt did not end in time: its process was killed, or its callback ignored its context"

// lost settles the attempt before this one, whose lease ran out.
func (s *settler) lost() {
	s.outcome = ledger.Outcome{Error: lostReason, MaxFailures: s.in.config.MaxAttempts, Delay: s.delay()}
	if !s.settle(context.Background()) {
		return
	}
	switch {
	case s.dies() && s.attempt.Reminder:
		s.log.Error("pixmed: a reminder is given up: its last attempt did not end in time")
	case s.dies():
		s.log.Error("pixmed: a notification is dead: its last attempt did not end in time")
	default:
		s.log.Warn("pixmed: an attempt did not end in time; it will run again", "retry_in", s.outcome.Delay)
	}
}

// release gives back an attempt that was not started.
func (s *settler) release() {
	s.outcome = ledger.Outcome{Released: true}
	if s.settle(context.Background()) {
		s.log.Warn("pixmed: an attempt was not started because too little of its time was left; it will run again")
	}
}

// commit settles a successful attempt in its callback's transaction, if there is one.
func (s *settler) commit(ctx context.Context, session ledger.Session) error {
	s.outcome = ledger.Outcome{Done: true}
	used, err := session.Commit(ctx, s.op())
	if err != nil {
		s.decision = 0
		s.ambiguous = errors.Is(err, ledger.ErrUnknown)
		return err
	}
	if !used {
		s.decision = 0
		return nil
	}
	s.in.committer.wake()
	return nil
}

// end stores how an attempt ended, unless that was done already, logs it and tells
// the observer.
func (s *settler) end(ctx context.Context, err error, took time.Duration) {
	if s.decision == 0 {
		s.outcome = s.in.outcome(s.attempt, err)
		if !s.settle(ctx) {
			return
		}
	}
	if s.outcome.PutOff {
		s.log.DebugContext(ctx, "pixmed: an attempt was put off", "error", logText(err), "retry_in", s.outcome.Delay)
		return
	}
	if s.landed {
		err, s.outcome = nil, ledger.Outcome{Done: true}
	}
	s.in.observed(ctx, s.attempt, s.report(ctx, err), err, took)
}

// settle stores the outcome through the committer. It tries again until the lease
// ends, when others take the attempt over.
func (s *settler) settle(ctx context.Context) bool {
	const longest = time.Second
	op := s.op()
	if s.ambiguous && !s.attempt.Reminder {
		op.Event = s.attempt.ID // which tells what became of the callback's transaction
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, longest) {
		err := s.in.committer.commit(ctx, op)
		if err == nil {
			return true
		}
		if errors.Is(err, errStopping) || time.Now().Add(wait).After(s.deadline) {
			s.log.ErrorContext(ctx, "pixmed: the outcome of an attempt could not be stored; it will run again",
				"error", logText(err), "outcome", logString(s.outcome.Error))
			return false
		}
		time.Sleep(wait)
	}
}

// op returns the operation that stores the outcome.
func (s *settler) op() *ledger.Op {
	a := s.attempt
	op := &ledger.Op{TransactionID: a.TransactionID, Delayed: s.outcome.Delay > 0}
	if a.Alone && !s.ambiguous {
		op.Guess = a.Claimed
	}
	op.Apply = func(c *ledger.Case) {
		s.decision = settle(c, a, s.outcome)
		e := c.Event(a.ID)
		s.landed = s.ambiguous && s.decision == ledger.Before && (a.Reminder || (e != nil && e.State == ledger.Done))
	}
	return op
}

// outcome returns the outcome of an attempt that ended with err.
func (in *Inbox) outcome(a *ledger.Attempt, err error) ledger.Outcome {
	if err == nil {
		return ledger.Outcome{Done: true}
	}
	if errors.Is(err, errNobodyToRemind) {
		return ledger.Outcome{PutOff: true, Delay: putOff}
	}
	if wait, ok := putOffFor(err); ok {
		return ledger.Outcome{PutOff: true, Error: errorText(err), Delay: min(max(wait, in.config.FirstDelay), in.config.MaxDelay)}
	}
	o := ledger.Outcome{
		Error:       errorText(err),
		Discard:     found(err, isDiscard),
		MaxFailures: in.config.MaxAttempts,
		Delay:       backoff(in.config.FirstDelay, in.config.MaxDelay, a.Failures),
	}
	if in.interrupted.Err() != nil && !o.Discard {
		o.Interrupted, o.Delay = true, 0
	}
	return o
}

func (s *settler) delay() time.Duration {
	return backoff(s.in.config.FirstDelay, s.in.config.MaxDelay, s.attempt.Failures)
}

// dies reports whether one more failure is the last.
func (s *settler) dies() bool { return s.attempt.Failures+1 >= s.outcome.MaxFailures }

// report logs how an attempt ended.
func (s *settler) report(ctx context.Context, err error) AttemptResult {
	switch {
	case s.decision == ledger.Late:
		s.log.WarnContext(ctx, "pixmed: an attempt ended late: another one has taken over, and this outcome is ignored")
		return AttemptLate
	case s.attempt.Reminder && err == nil:
		s.log.DebugContext(ctx, "pixmed: a reminder is done")
		return AttemptDone
	case s.attempt.Reminder && !s.outcome.Interrupted && (s.outcome.Discard || s.dies()):
		s.log.ErrorContext(ctx, "pixmed: a reminder is given up", "error", logText(err))
		return AttemptDead
	case s.attempt.Reminder && !s.outcome.Interrupted:
		s.log.WarnContext(ctx, "pixmed: a reminder failed", "error", logText(err), "retry_in", s.outcome.Delay)
		return AttemptFailed
	case err == nil:
		s.log.DebugContext(ctx, "pixmed: a notification is done")
		return AttemptDone
	case s.outcome.Interrupted:
		s.log.InfoContext(ctx, "pixmed: Stop interrupted an attempt; it will run again")
		return AttemptInterrupted
	case s.outcome.Discard:
		s.log.ErrorContext(ctx, "pixmed: a notification is dead: the receiver discarded it", "error", logText(err))
		return AttemptDead
	case s.dies():
		s.log.ErrorContext(ctx, "pixmed: a notification is dead: that was its last attempt", "error", logText(err))
		return AttemptDead
	}
	s.log.WarnContext(ctx, "pixmed: an attempt failed", "error", logText(err), "retry_in", s.outcome.Delay)
	return AttemptFailed
}

// backoff returns how long to wait after one more failure.
func backoff(first, longest time.Duration, failures int) time.Duration {
	delay := longest
	if failures < 62 && first <= longest>>failures {
		delay = first << failures
	}
	return delay - rand.N(delay/2+1) //nolint:gosec // nobody gains by guessing it
}
