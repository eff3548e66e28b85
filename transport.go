package pixmed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/pixmed-go/pixmed/internal/stall"
)

// transport makes errors that quote the gateway fit to be shown, and says why a
// context has ended. It sits between the http.Client and the user's transport.
type transport struct {
	stall.Transport
	credentials credentials
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	explain := func(err error) error {
		if err == nil || err == io.EOF {
			return err
		}
		if ended := ended(r.Context()); ended != nil {
			return ended
		}
		return t.credentials.Clean(err, maxText)
	}
	if err := ended(r.Context()); err != nil { // a fake might not look
		return nil, err
	}
	resp, err := t.Transport.RoundTrip(r)
	if err != nil || resp == nil || resp.Body == nil { // from a fake in a test; http.Client copes with both
		return resp, explain(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols { // the body is the connection, which outlives the context
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}
	if _, err := resp.Location(); resp.StatusCode/100 == 3 && err != nil && !errors.Is(err, http.ErrNoLocation) {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: its Location is not a URL", ErrRedirect) // http.Client would show it
	}
	resp.Body = explainedBody{resp.Body, explain}
	return resp, nil
}

// explainedBody is a response's body whose errors can be shown.
type explainedBody struct {
	io.ReadCloser
	explain func(error) error
}

func (b explainedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	return n, b.explain(err)
}

// ended returns why ctx has ended, or nil: its error together with its cause.
// [ErrClosed] is returned by itself, since it was not the caller's context that ended.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || errors.Is(cause, err) || cause == ErrClosed { //nolint:errorlint // a caller's cause may be another call's
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
