package stall_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pixmed-go/pixmed/internal/stall"
)

var errStalled = errors.New("silence")

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// pauses is a server that answers after the first wait, and sends a line of its
// body after each further one.
func pauses(answer time.Duration, lines ...time.Duration) http.RoundTripper {
	return roundTripFunc(func(r *http.Request) (*http.Response, error) {
		if err := sleep(r.Context(), answer); err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: http.StatusOK, Body: &slowBody{ctx: r.Context(), lines: lines}}, nil
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d): // on the bubble's clock
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type slowBody struct {
	ctx    context.Context //nolint:containedctx // as that of a response
	lines  []time.Duration
	closed bool
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.lines) == 0 {
		return 0, io.EOF
	}
	wait := b.lines[0]
	b.lines = b.lines[1:]
	return copy(p, "line\n"), sleep(b.ctx, wait)
}

func (b *slowBody) Close() error {
	b.closed = true
	return nil
}

// fetch sends a request and reads the answer, with a wait before each read.
func fetch(ctx context.Context, base http.RoundTripper, readEvery time.Duration) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway.example", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := (&stall.Transport{Base: base, Timeout: time.Minute, Err: errStalled}).RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for buf := make([]byte, 100); ; {
		time.Sleep(readEvery) // on the bubble's clock
		if _, err := resp.Body.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	const almost, much = time.Minute - 1, time.Minute + 1
	for name, test := range map[string]struct {
		server    http.RoundTripper
		readEvery time.Duration
		deadline  time.Duration // of the caller
		want      string
	}{
		"slow":                {pauses(almost, almost, almost), 0, time.Hour, "<nil>"},
		"a slow reader":       {pauses(0, 0, 0), time.Hour, 5 * time.Hour, "<nil>"},
		"no answer":           {pauses(much), 0, time.Hour, "silence for 1m0s"},
		"body":                {pauses(0, 0, much), 0, time.Hour, "silence for 1m0s"},
		"caller, no answer":   {pauses(much), 0, time.Second, "context deadline exceeded"},
		"caller, body":        {pauses(0, much), 0, time.Second, "context deadline exceeded"},
		"an error of its own": {roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, io.ErrClosedPipe }), 0, time.Hour, "io: read/write on closed pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
				defer cancel()
				err := fetch(ctx, test.server, test.readEvery)
				if fmt.Sprint(err) != test.want || errors.Is(err, errStalled) != strings.HasPrefix(test.want, "silence") {
					t.Errorf("got %v, want %s", err, test.want)
				}
			})
		})
	}
}

// The error of another request may be why the caller has cancelled this one.
func TestCauseOfTheCallers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("%w for 1s", errStalled))
	if err := fetch(ctx, pauses(time.Hour), 0); err != context.Canceled {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestCloseEndsTheRequest(t *testing.T) {
	t.Parallel()
	inner := &slowBody{}
	var sent *http.Request
	base := roundTripFunc(func(r *http.Request) (*http.Response, error) {
		sent = r
		return &http.Response{Body: inner}, nil
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://gateway.example", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&stall.Transport{Base: base, Timeout: time.Minute, Err: errStalled}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if sent.Context().Err() != nil {
		t.Error("the request's context ends before its body is read")
	}
	if err := resp.Body.Close(); err != nil || !inner.closed || sent.Context().Err() == nil {
		t.Errorf("Close = %v, closed %v, context %v", err, inner.closed, sent.Context().Err())
	}
}

// Of a chunked body a read takes little, since net/http would wait for more.
func TestChunkedBody(t *testing.T) {
	t.Parallel()
	for encoding, want := range map[string]int{"chunked": 4096, "": 10_000} {
		base := roundTripFunc(func(*http.Request) (*http.Response, error) {
			resp := &http.Response{Body: io.NopCloser(strings.NewReader(strings.Repeat("x", 10_000)))}
			if encoding != "" {
				resp.TransferEncoding = []string{encoding}
			}
			return resp, nil
		})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://gateway.example", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&stall.Transport{Base: base, Timeout: time.Minute, Err: errStalled}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := resp.Body.Read(make([]byte, 20_000)); n != want || err != nil {
			t.Errorf("%q: %d bytes, %v; want %d", encoding, n, err, want)
		}
		_ = resp.Body.Close()
	}
}

// Fakes in tests answer with nothing, or with no body.
func TestNoBody(t *testing.T) {
	t.Parallel()
	for _, answer := range []*http.Response{nil, {StatusCode: http.StatusNotFound}} {
		base := roundTripFunc(func(*http.Request) (*http.Response, error) { return answer, nil })
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://gateway.example", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&stall.Transport{Base: base, Timeout: time.Minute, Err: errStalled}).RoundTrip(r) //nolint:bodyclose // it has none
		if resp != answer || err != nil {
			t.Errorf("got %v, %v", resp, err)
		}
	}
}
