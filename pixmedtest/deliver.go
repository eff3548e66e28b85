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
	"unicode"

	"github.com/pixmed-go/pixmed"
)

// Attempt is one attempt to deliver a webhook.
type Attempt struct {
	// StatusCode is the response's status code, or 0 if there was no response.
	StatusCode int
	// Header is the response's header, or nil.
	Header http.Header
	// Body is the response's body, at most its first 64 KiB.
	Body []byte
	// Err is why there was no response, or why its body is incomplete. It does
	// not include the URL, which may contain a secret.
	Err error
}

// maxAnswer is how much of a response's body is kept, in bytes.
const maxAnswer = 64 << 10

// Schedule decides when a webhook is sent again. It is called after each attempt
// whose response was not 200, with all attempts so far. It returns nil when
// it is time for the next attempt, or an error to give up. It may block until
// ctx ends, which it also does when the gateway is closed.
//
// A schedule that waits for the test:
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
// long each time, but never longer than most. It gives up after the given number
// of attempts, the first one included. Backoff(0, 0, 5) tries five times without
// waiting. Negative durations count as 0; there is always one attempt.
func Backoff(first, most time.Duration, attempts int) Schedule {
	first, most = max(first, 0), max(most, 0)
	return func(ctx context.Context, made []Attempt) error {
		if len(made) >= attempts {
			return errEnough
		}
		wait := min(first, most)
		for range len(made) - 1 {
			wait = 2 * min(wait, most/2)
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
	gzip     bool
	onClose  func(func()) (stop func() bool)
}

// Deliver posts the [Payload] of an infraction to a URL, again and again until
// the response is 200, and returns all attempts. Any other status is a failure,
// and so is no response. Redirects are not followed.
//
// The error is nil if the webhook was delivered. Otherwise it wraps why Deliver
// stopped: the schedule's error, the cause of ctx's end, or that the gateway was
// closed. A url that is not valid fails like a server that does not respond.
//
// To send a duplicate, deliver the same infraction twice; see also [Shuffled].
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
		// Schedules need not check whether the context has ended already.
		err := context.Cause(ctx)
		if err == nil {
			err = g.sender.schedule(ctx, attempts)
		}
		if err != nil {
			return attempts, fmt.Errorf("not delivered: attempt %d, the last one, got %v: %w", len(attempts), a, err)
		}
	}
}

// Post posts a body to a URL once, signed and compressed as deliveries are. Use
// it for anything but an infraction: other events, malformed bodies.
func (g *Gateway) Post(ctx context.Context, url string, body []byte) Attempt {
	ctx, cancel := g.sender.untilClosed(ctx)
	defer cancel()
	return g.sender.post(ctx, url, body)
}

// untilClosed returns a context that also ends when the gateway is closed, and
// a function that releases it.
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
		fmt.Errorf("no response within %v: %w", s.timeout, context.DeadlineExceeded))
	defer cancel()
	if s.gzip {
		body = compress(body)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return Attempt{Err: withoutURL(err)}
	}
	r.Header.Set("Content-Type", "application/json")
	if s.gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
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

// withoutURL removes the URL, which may contain a secret, from an error of
// package net/http.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// String returns the status code and the start of the body, or the error if
// there was no response, as one line of printable text.
func (a Attempt) String() string {
	text := fmt.Sprintf("no response (%v)", a.Err)
	if a.StatusCode != 0 {
		text = fmt.Sprintf("%d %s", a.StatusCode, a.Body[:min(len(a.Body), 200)])
	}
	words := strings.FieldsFunc(strings.ToValidUTF8(text, ""), func(r rune) bool {
		return r == ' ' || !unicode.IsPrint(r)
	})
	return strings.Join(words, " ")
}
