// Package stall ends HTTP requests to a server that has gone silent.
package stall

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Transport is an http.RoundTripper that gives a server a while to answer, and for
// each part of the answer's body.
//
// It has no CloseIdleConnections method, on purpose: go-retryablehttp calls that
// after every failure, which would close connections that other parts of the
// program share.
type Transport struct {
	Base    http.RoundTripper // nil for http.DefaultTransport
	Timeout time.Duration     // how long the server may send nothing
	Err     error             // what a request or a read then fails with, and the timeout
}

// RoundTrip sends the request.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	stalled := fmt.Errorf("%w for %v", t.Err, t.Timeout)
	timer := time.AfterFunc(t.Timeout, func() { cancel(stalled) })
	resp, err := base.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	b := &body{ctx: ctx, cancel: cancel, timer: timer, timeout: t.Timeout, stalled: stalled}
	if err != nil {
		err = b.explain(err)
		cancel(nil)
		return nil, err
	}
	if resp == nil || resp.Body == nil { // from a fake in a test; http.Client copes with both
		cancel(nil)
		return resp, nil
	}
	b.ReadCloser = resp.Body
	b.chunked = len(resp.TransferEncoding) > 0
	resp.Body = b
	return resp, nil
}

// body is a response's body. No single read of it may take longer than the
// timeout.
type body struct {
	io.ReadCloser
	ctx     context.Context //nolint:containedctx // of the request, which lasts as long as its body
	cancel  context.CancelCauseFunc
	timer   *time.Timer // cancels with stalled
	timeout time.Duration
	stalled error
	chunked bool
}

// maxChunkRead is for chunked bodies: net/http fills the whole buffer before it
// returns from Read, as long as the chunk lasts, so that a slow server would seem
// to be silent.
const maxChunkRead = 4 << 10

func (b *body) Read(p []byte) (int, error) {
	if b.chunked && len(p) > maxChunkRead {
		p = p[:maxChunkRead]
	}
	b.timer.Reset(b.timeout)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	return n, b.explain(err)
}

// explain replaces an error that follows from the end of the timeout.
func (b *body) explain(err error) error {
	if err != nil && err != io.EOF && context.Cause(b.ctx) == b.stalled { // a caller's cause may be another request's
		return b.stalled
	}
	return err
}

func (b *body) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
