package pixmed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// transport ends requests to a gateway that has gone silent, and makes errors
// that quote the gateway fit to be shown.
//
// It stands between the http.Client and the user's transport and has no
// CloseIdleConnections method, on purpose: go-retryablehttp calls that after
// every failure, which would close connections that other parts of the program
// share.
type transport struct {
	base        http.RoundTripper // nil for http.DefaultTransport
	stall       time.Duration
	credentials credentials
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := ended(r.Context()); err != nil { // a fake might not look
		return nil, err
	}
	base := t.base
	if base == nil {
		base = http.DefaultTransport
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	stalled := fmt.Errorf("%w for %v", ErrStalled, t.stall)
	timer := time.AfterFunc(t.stall, func() { cancel(stalled) })
	resp, err := base.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	body := &watchedBody{ctx: ctx, cancel: cancel, timer: timer, stall: t.stall, stalled: stalled, clean: t.credentials.clean}
	if err != nil {
		err = body.explain(err)
		cancel(nil)
		return nil, err
	}
	if resp == nil || resp.Body == nil { // from a fake in a test; http.Client copes with both
		cancel(nil)
		return resp, nil
	}
	if resp.StatusCode == http.StatusSwitchingProtocols { // the body is the connection, which outlives the context
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}
	body.ReadCloser = resp.Body
	body.chunked = len(resp.TransferEncoding) > 0
	resp.Body = body
	if _, err := resp.Location(); resp.StatusCode/100 == 3 && err != nil && !errors.Is(err, http.ErrNoLocation) {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: its Location is not a URL", ErrRedirect) // http.Client would show it
	}
	return resp, nil
}

// watchedBody is a response's body of which no single read may take longer than
// the stall timeout.
type watchedBody struct {
	io.ReadCloser
	ctx     context.Context //nolint:containedctx // of the request, which lasts as long as its body
	cancel  context.CancelCauseFunc
	timer   *time.Timer // cancels with stalled
	stall   time.Duration
	stalled error
	clean   func(error) error

	chunked bool
}

// maxChunkRead is for chunked bodies: net/http fills the whole buffer before it
// returns from Read, as long as the chunk lasts, so that a slow gateway would
// seem to be silent.
const maxChunkRead = 4 << 10

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.chunked && len(p) > maxChunkRead {
		p = p[:maxChunkRead]
	}
	b.timer.Reset(b.stall)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	return n, b.explain(err)
}

// explain replaces "context canceled" with its cause, and cleans any other error.
func (b *watchedBody) explain(err error) error {
	if err == nil || err == io.EOF || b.ctx.Err() == nil {
		return b.clean(err)
	}
	if context.Cause(b.ctx) == b.stalled { //nolint:errorlint // a caller's cause may be another call's
		return b.stalled
	}
	return ended(b.ctx)
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// ended returns why ctx has ended, or nil: its error together with its cause.
// [ErrClosed] stands alone, since it was not the caller's context that ended.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || errors.Is(cause, err) || cause == ErrClosed { //nolint:errorlint // a caller's cause may be another call's
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
