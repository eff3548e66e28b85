package pixmedtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
)

// Attempt is one attempt at delivering a webhook.
type Attempt struct {
	// StatusCode is the answer's, or 0 when there was none.
	StatusCode int
	// Header is the answer's, or nil.
	Header http.Header
	// Body is the answer's, up to the first 64 KiB.
	Body []byte
	// Err says why there was no answer, or not the whole of it. It does not
	// contain the URL, which may hold a secret.
	Err error
}

// maxAnswer is how much of an answer's body is kept, in bytes.
const maxAnswer = 64 << 10

// Schedule decides when a webhook is sent again. It is called after every
// attempt that was not answered with 200, with all attempts so far, and returns
// nil when it is time for the next one, or an error to give up. It may take as
// long as it likes, until ctx ends: also when the gateway is closed.
//
// A test that wants to decide itself blocks on a channel:
//
//	again := make(chan struct{})
//	g := pixmedtest.NewGateway(pixmedtest.WithSchedule(
//		func(ctx context.Context, attempts []pixmedtest.Attempt) error {
//			select {
//			case <-again:
//				return nil
//			case <-ctx.Done():
//				return ctx.Err()
//			}
//		}))
type Schedule func(ctx context.Context, attempts []Attempt) error

var errEnough = errors.New("the schedule has no more attempts")

// Backoff returns a [Schedule] that waits for the duration first, then twice as
// long each time, but no longer than most, and that gives up after so many
// attempts in all. Backoff(0, 0, 5) tries five times without waiting.
func Backoff(first, most time.Duration, attempts int) Schedule {
	return func(ctx context.Context, made []Attempt) error {
		if len(made) >= attempts {
			return errEnough
		}
		wait := max(0, min(first, most))
		for range len(made) - 1 {
			if wait > most/2 {
				wait = most
				break
			}
			wait *= 2
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sender delivers webhooks.
type sender struct {
	client   *http.Client
	signers  []Signer
	schedule Schedule
	timeout  time.Duration
	onClose  func(func()) (stop func() bool)
}

// Deliver posts the [Payload] of an infraction to a URL, again and again until
// the answer is exactly 200, and returns all attempts. Redirects are not
// followed. Every status but 200 is a failure, as is no answer.
//
// The error is nil when the webhook was delivered. Otherwise the schedule gave
// up, ctx ended or the gateway was closed, and the error wraps what it was.
//
// A duplicate is a second Deliver of the same infraction; [Shuffled] makes
// duplicates and disorder.
func (g *Gateway) Deliver(ctx context.Context, url string, i pixmed.Infraction) ([]Attempt, error) {
	ctx, cancel := g.sender.untilClosed(ctx)
	defer cancel()
	body := Payload(i)
	var attempts []Attempt
	for {
		a := g.sender.post(ctx, url, body)
		attempts = append(attempts, a)
		if a.StatusCode == http.StatusOK {
			return attempts, nil
		}
		// The context's end comes first: a schedule need not look at it.
		err := context.Cause(ctx)
		if err == nil {
			err = g.sender.schedule(ctx, attempts)
		}
		if err != nil {
			return attempts, fmt.Errorf("not delivered: attempt %d, the last, got %v: %w", len(attempts), a, err)
		}
	}
}

// Post posts a body to a URL once, signed as a delivery is. It is for bodies
// that no infraction has: malformed ones, or other kinds of events.
func (g *Gateway) Post(ctx context.Context, url string, body []byte) Attempt {
	ctx, cancel := g.sender.untilClosed(ctx)
	defer cancel()
	return g.sender.post(ctx, url, body)
}

// untilClosed returns a context that also ends when the gateway is closed.
func (s *sender) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := s.onClose(func() { cancel(errClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

func (s *sender) post(ctx context.Context, url string, body []byte) Attempt {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout,
		fmt.Errorf("no answer within %v: %w", s.timeout, context.DeadlineExceeded))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return Attempt{Err: withoutURL(err)}
	}
	r.Header.Set("Content-Type", "application/json")
	sign(r, body, s.signers)
	resp, err := s.client.Do(r)
	if err != nil {
		return Attempt{Err: withoutURL(err)}
	}
	defer resp.Body.Close()
	a := Attempt{StatusCode: resp.StatusCode, Header: resp.Header}
	a.Body, a.Err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return a
}

// withoutURL takes the URL out of an error of package net/http: a secret may be
// in its query.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// String describes the attempt in a line: the error, or the status code and the
// start of the body.
func (a Attempt) String() string {
	if a.StatusCode == 0 {
		return fmt.Sprintf("no answer (%v)", a.Err)
	}
	const most = 200
	body := strings.TrimSpace(string(a.Body[:min(len(a.Body), most)]))
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.StatusCode, strings.ToValidUTF8(body, "")))
}
