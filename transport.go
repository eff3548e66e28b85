package pixmed

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// transport ends requests to a gateway that has gone silent.
//
// It stands between the http.Client and the user's transport and has no
// CloseIdleConnections method, on purpose: go-retryablehttp calls that after
// every failure, which would close connections that other parts of the program
// share.
type transport struct {
	base  http.RoundTripper // nil for http.DefaultTransport
	stall time.Duration
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.base
	if base == nil {
		base = http.DefaultTransport
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	stalled := fmt.Errorf("%w for %v", ErrStalled, t.stall)
	timer := time.AfterFunc(t.stall, func() { cancel(stalled) })
	resp, err := base.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	body := &watchedBody{ctx: ctx, cancel: cancel, timer: timer, stall: t.stall}
	if err != nil {
		err = body.explain(err)
		cancel(nil)
		return nil, err
	}
	body.ReadCloser = resp.Body
	resp.Body = body
	return resp, nil
}

// watchedBody is a response's body whose reads, one by one, may not take longer
// than the stall timeout.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	timer  *time.Timer // cancels
	stall  time.Duration
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	return n, b.explain(err)
}

// explain puts the reason in the place of the "context canceled" that follows
// from it.
func (b *watchedBody) explain(err error) error {
	if cause := context.Cause(b.ctx); err != nil && err != io.EOF && cause != nil {
		return cause
	}
	return err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
