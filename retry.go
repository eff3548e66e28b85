package pixmed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// call is the state of one call of the user: its requests share one budget of
// retries, whether they follow an error or resume a broken download.
type call struct {
	transactionID string
	url           string
	requests      int
	retriesLeft   int
	lastAnswer    *APIError // the last response, if it was an error
	lastError     error     // of the last request, if it got no response
}

func (c *Client) newCall(transactionID string) *call {
	return &call{
		transactionID: transactionID,
		url:           c.base.JoinPath("transaction", transactionID, "receipt").String(),
		retriesLeft:   c.http.RetryMax,
	}
}

// retry takes one retry from the budget.
func (c *call) retry() bool {
	c.retriesLeft--
	return c.retriesLeft >= 0
}

type callKey struct{}

// get requests the receipt until a response is 200 or retries do not help.
func (c *Client) get(ctx context.Context, call *call) (*http.Response, error) {
	r, err := retryablehttp.NewRequestWithContext(context.WithValue(ctx, callKey{}, call), http.MethodGet, call.url, nil)
	if err != nil {
		return nil, err
	}
	c.credentials.setHeader(r.Header)
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, call.explain(ctx, err)
	}
	return resp, nil
}

// explain adds to the error that ended a call what the gateway said before.
func (c *call) explain(ctx context.Context, err error) error {
	if _, isAnswer := errors.AsType[*APIError](err); isAnswer {
		return err
	}
	switch ended := ctx.Err(); {
	case ended != nil && c.lastError != nil:
		err = fmt.Errorf("%w after %s; before that, %w", ended, attempts(c.requests), c.lastError)
	case ended != nil && c.lastAnswer != nil:
		last := *c.lastAnswer
		last.Attempts, last.Err = c.requests, ended
		return &last
	}
	if c.lastAnswer != nil {
		return fmt.Errorf("%w; before that, %w", err, c.lastAnswer)
	}
	return err
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return strconv.Itoa(n) + " attempts"
}

// checkRetry is the retry policy. It returns an error whenever the response is
// not a 200, so that the library neither drops the last response nor replaces
// it by an error of its own.
func (c *Client) checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	call := ctx.Value(callKey{}).(*call) // get put it there
	call.requests++
	retry := false
	if err != nil {
		retry, err = c.checkError(ctx, call, resp, err)
	} else {
		retry, err = c.checkAnswer(call, resp)
	}
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case !retry:
		return false, err
	case !call.retry():
		if call.requests > 1 && call.lastError != nil { // an APIError says so itself
			err = fmt.Errorf("%w, after %s", err, attempts(call.requests))
		}
		return false, err
	}
	c.logger.LogAttrs(ctx, slog.LevelInfo, "pixmed: receipt request failed, trying again",
		slog.String("transaction_id", call.transactionID),
		slog.Int("attempt", call.requests),
		slog.String("error", c.credentials.redact(err.Error())))
	return true, nil
}

// checkAnswer tells whether a response is worth another attempt, and makes an
// error of it unless it is a 200.
func (c *Client) checkAnswer(call *call, resp *http.Response) (bool, error) {
	call.lastAnswer, call.lastError = nil, nil
	if resp.StatusCode == http.StatusOK {
		return false, nil
	}
	answer := c.apiError(resp, call.requests)
	call.lastAnswer = answer
	temporary := resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented
	if temporary && answer.RetryAfter > c.http.RetryWaitMax {
		answer.Err = fmt.Errorf("it asks to wait %v, longer than the longest wait of %v (see WithRetryWait)", answer.RetryAfter, c.http.RetryWaitMax)
		return false, answer
	}
	return temporary, answer
}

// checkError tells whether a request that got no response is worth another
// attempt.
func (c *Client) checkError(ctx context.Context, call *call, resp *http.Response, err error) (bool, error) {
	if errors.Is(err, ErrRedirect) {
		return false, errors.Unwrap(err) // the URL around it is the other origin's
	}
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // http.Client returns nothing else, and made it for us
		e.URL = call.url // after a redirect it is another one, whose query may be a secret
	}
	if ctx.Err() != nil || resp != nil { // both err and resp: the user's CheckRedirect refused
		return false, err
	}
	call.lastError = err
	retry, _ := retryablehttp.ErrorPropagatedRetryPolicy(ctx, nil, err) // it returns err itself, or nil
	return retry, err
}

// backoff waits as long as the gateway asks, or else about twice as long as the
// last time. checkRetry has seen to it that the gateway does not ask for too much.
func backoff(shortest, longest time.Duration, retry int, resp *http.Response) time.Duration {
	if resp != nil {
		if asked := retryAfterOf(resp.Header); asked > 0 {
			return asked
		}
	}
	wait := longest
	if shortest <= longest>>retry { // which is 0 in the end
		wait = shortest << retry
	}
	return wait - rand.N(wait/2+1) //nolint:gosec // jitter needs no secrecy
}

// retryAfterOf returns how long a response asks to wait, 0 if it does not say.
func retryAfterOf(h http.Header) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		const most = uint64(1<<63-1) / uint64(time.Second)
		return time.Duration(min(seconds, most)) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}
