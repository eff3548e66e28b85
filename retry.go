package pixmed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/pixmed-go/pixmed/internal/retryafter"
)

// call is the state of one call of the user. Its requests share one budget of
// retries, whether they follow an error or resume a broken download.
type call struct {
	about       slog.Attr // which call, for the log
	url         string
	shownURL    string // without the query, which may hold a secret
	requests    int
	retriesLeft int
	lastAnswer  *APIError // the last response, if it was an error
	lastError   error     // of the last request, if it got no response
}

// newCall returns a call for a path below the base URL, and maybe a query.
func (c *Client) newCall(path, query string, about slog.Attr) *call {
	base := c.base.String() // ends with a slash
	shown := base + c.credentials.Show(path, maxText)
	if query != "" {
		path += "?" + query
	}
	return &call{about: about, url: base + path, shownURL: shown, retriesLeft: c.http.RetryMax}
}

// retry takes one retry from the budget.
func (c *call) retry() bool {
	c.retriesLeft--
	return c.retriesLeft >= 0
}

type callKey struct{}

// send sends the request until the response is 200 or retries do not help.
func (c *Client) send(ctx context.Context, call *call) (*http.Response, error) {
	r, err := retryablehttp.NewRequestWithContext(context.WithValue(ctx, callKey{}, call), http.MethodGet, call.url, nil)
	if err != nil {
		return nil, err
	}
	c.credentials.setHeader(r.Header)
	resp, err := c.http.Do(r)
	if err != nil {
		if resp != nil {
			_ = resp.Body.Close()
		}
		return nil, call.explain(ctx, err)
	}
	return resp, nil
}

// checkEncoding returns an error if a response's body is compressed. A header that
// names no compression, such as utf-8, means nothing.
func (c *Client) checkEncoding(resp *http.Response) error {
	e := strings.Join(resp.Header.Values("Content-Encoding"), ", ")
	if compression(resp.Header) != "" || strings.Contains(strings.ToLower(e), "gzip") {
		return fmt.Errorf("it has the Content-Encoding %s, which the transport does not undo", quoted(c.credentials.Show(e, maxFound)))
	}
	return nil
}

// explain adds to the error that ended a call what the gateway said before.
func (c *call) explain(ctx context.Context, err error) error {
	if _, isAnswer := errors.AsType[*APIError](err); isAnswer {
		return err
	}
	if ended := ended(ctx); ended != nil {
		err = ended
		if c.lastError != nil {
			err = fmt.Errorf("%w after %s; before that, %w", ended, attempts(c.requests), c.lastError)
		} else if c.lastAnswer != nil {
			last := *c.lastAnswer
			last.Attempts, last.Err = c.requests, ended
			return &last
		}
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
// it with an error of its own.
func (c *Client) checkRetry(ctx context.Context, resp *http.Response, err error) (retry bool, _ error) {
	call := ctx.Value(callKey{}).(*call) // send put it there
	call.requests++
	if err != nil {
		retry, err = c.checkError(ctx, call, resp, err)
	} else {
		retry, err = c.checkStatus(call, resp)
	}
	switch {
	case ctx.Err() != nil:
		return false, ended(ctx)
	case !retry:
		return false, err
	case !call.retry():
		if call.requests > 1 && call.lastError != nil { // an APIError says so itself
			err = fmt.Errorf("%w, after %s", err, attempts(call.requests))
		}
		return false, err
	}
	c.logRetry(ctx, call, "pixmed: request failed, trying again", err)
	return true, nil
}

// logRetry logs that another request follows, and why. The cause is clean but for
// what it quotes of a response's body.
func (c *Client) logRetry(ctx context.Context, call *call, message string, cause error) {
	if answer, ok := errors.AsType[*APIError](cause); ok {
		brief := *answer
		brief.Message = ""
		cause = &brief
	}
	c.logger.LogAttrs(ctx, slog.LevelInfo, message, //nolint:sloglint // the callers' are constants
		call.about, slog.Int("attempt", call.requests), slog.String("error", cause.Error()))
}

// checkStatus decides whether a response is worth another attempt, and makes an
// error of it unless it is a 200.
func (c *Client) checkStatus(call *call, resp *http.Response) (bool, error) {
	call.lastAnswer, call.lastError = nil, nil
	if resp.StatusCode == http.StatusOK {
		return false, nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what arrived is enough
	answer := c.newAPIError(resp, body, call.requests)
	call.lastAnswer = answer
	temporary := resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented ||
		slices.Contains([]int{http.StatusAccepted, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}, resp.StatusCode)
	if temporary && answer.RetryAfter > c.http.RetryWaitMax {
		answer.Err = fmt.Errorf("it asks to wait %v, longer than the longest wait of %v (see WithRetryWait)", answer.RetryAfter, c.http.RetryWaitMax)
		return false, answer
	}
	return temporary, answer
}

// checkError decides whether a request that got no response is worth another
// attempt.
func (c *Client) checkError(ctx context.Context, call *call, resp *http.Response, err error) (bool, error) {
	if errors.Is(err, ErrRedirect) {
		return false, errors.Unwrap(err) // the URL around it is the other origin's
	}
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // http.Client returns nothing else, and made it for us
		e.URL = call.shownURL // after a redirect it is another one
	}
	if ctx.Err() != nil || resp != nil { // both err and resp: the user's CheckRedirect refused
		return false, err
	}
	call.lastError = err
	if hopeless(err) {
		return false, fmt.Errorf("%w; check the base URL and the certificates", err)
	}
	retry, _ := retryablehttp.ErrorPropagatedRetryPolicy(ctx, nil, err) // it returns err itself, or nil
	return retry, err
}

// hopeless reports whether TLS failed in a way that another attempt cannot mend:
// the port speaks plain http, or one side refuses the other's certificate.
func hopeless(err error) bool {
	// An alert has no type that is exported. An internal error may pass.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return op.Err.Error() != "tls: internal error"
	}
	return errors.Is(err, http.ErrSchemeMismatch) ||
		isType[tls.RecordHeaderError](err) ||
		isType[*tls.CertificateVerificationError](err) ||
		isType[x509.UnknownAuthorityError](err) ||
		isType[x509.HostnameError](err) ||
		isType[x509.CertificateInvalidError](err)
}

// backoff waits as long as the gateway asks, or else about twice as long as the
// last time. checkRetry has made sure that the gateway does not ask for too much.
func backoff(shortest, longest time.Duration, retry int, resp *http.Response) time.Duration {
	if resp != nil {
		if asked := retryAfterOf(resp); asked > 0 {
			return asked
		}
	}
	wait := longest
	if shortest <= longest>>retry { // which becomes 0 in the end
		wait = shortest << retry
	}
	return wait - rand.N(wait/2+1) //nolint:gosec // jitter needs no secrecy
}

// pause waits before a broken download is fetched again, as before a first retry:
// the gateway did answer.
func (c *Client) pause(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, backoff(c.http.RetryWaitMin, c.http.RetryWaitMax, 0, nil))
	defer cancel()
	<-wait.Done()
	return ended(ctx)
}

// retryAfterOf returns how long a response asks to wait, 0 if it does not say.
func retryAfterOf(resp *http.Response) time.Duration {
	return retryafter.Parse(resp.Header.Get("Retry-After"), time.Now())
}
