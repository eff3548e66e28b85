package pixmed_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	reset := httpmock.NewErrorResponder(errors.New("read: connection reset by peer"))
	tests := map[string]struct {
		first   httpmock.Responder
		retried bool
		is      error
	}{
		"202":     {codeAnswer(202), true, pixmed.ErrNotReady},
		"408":     {codeAnswer(408), true, nil},
		"425":     {codeAnswer(425), true, nil},
		"429":     {codeAnswer(429), true, pixmed.ErrRateLimited},
		"500":     {codeAnswer(500), true, pixmed.ErrUnavailable},
		"502":     {codeAnswer(502), true, pixmed.ErrUnavailable},
		"503":     {codeAnswer(503), true, pixmed.ErrUnavailable},
		"504":     {codeAnswer(504), true, pixmed.ErrUnavailable},
		"599":     {codeAnswer(599), true, pixmed.ErrUnavailable},
		"refused": {refusedAnswer(), true, nil},
		"reset":   {reset, true, nil},
		"EOF":     {httpmock.NewErrorResponder(io.EOF), true, io.EOF},
		"nothing": {func(*http.Request) (*http.Response, error) { return nil, nil }, true, nil}, //nolint:nilnil // a broken transport

		"501":      {codeAnswer(501), false, pixmed.ErrUnavailable},
		"201":      {codeAnswer(201), false, nil},
		"204":      {codeAnswer(204), false, nil},
		"206":      {codeAnswer(206), false, nil},
		"304":      {codeAnswer(304), false, nil},
		"302 bare": {codeAnswer(302), false, nil},
		"400":      {codeAnswer(400), false, nil},
		"401":      {codeAnswer(401), false, pixmed.ErrUnauthorized},
		"403":      {codeAnswer(403), false, pixmed.ErrForbidden},
		"404":      {codeAnswer(404), false, pixmed.ErrNotFound},
		"409":      {codeAnswer(409), false, nil},
		"410":      {codeAnswer(410), false, nil},
		"422":      {codeAnswer(422), false, nil},
	}
	sentinels := []error{pixmed.ErrNotReady, pixmed.ErrUnauthorized, pixmed.ErrForbidden, pixmed.ErrNotFound, pixmed.ErrRateLimited, pixmed.ErrUnavailable}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pdf := receiptPDF(100)
			mock := answersOf(test.first, goodAnswer(pdf))
			receipt, err := mustClient(t, mockBase, overTransport(closing(t, mock))).Receipt(t.Context(), receiptID)
			want := 1
			if test.retried {
				want = 2
				if err != nil || !bytes.Equal(receipt.PDF, pdf) {
					t.Errorf("got %v, want the receipt at the second attempt", err)
				}
			} else if code, _ := strconv.Atoi(name[:3]); wantAPIError(t, err).StatusCode != code {
				t.Errorf("got %v", err)
			}
			if n := mock.GetTotalCallCount(); n != want {
				t.Errorf("%d requests, want %d", n, want)
			}

			// When no retry helps.
			for _, retries := range []int{0, 1, 5} {
				mock := answersOf(test.first)
				_, err := mustClient(t, mockBase, overTransport(mock), pixmed.WithRetries(retries)).Receipt(t.Context(), receiptID)
				want := 1
				if test.retried {
					want += retries
				}
				if n := mock.GetTotalCallCount(); n != want {
					t.Errorf("WithRetries(%d): %d requests, want %d", retries, n, want)
				}
				if e, found := errors.AsType[*pixmed.APIError](err); found && e.Attempts != want {
					t.Errorf("WithRetries(%d): Attempts is %d, want %d", retries, e.Attempts, want)
				}
				if test.is != nil && !errors.Is(err, test.is) || err == nil {
					t.Errorf("WithRetries(%d): got %v, want %v", retries, err, test.is)
				}
				for _, other := range sentinels {
					if !errors.Is(test.is, other) && errors.Is(err, other) {
						t.Errorf("%v is also %v", err, other)
					}
				}
			}
		})
	}
}

func TestRetriesUnlessSet(t *testing.T) {
	t.Parallel()
	mock := answersOf(codeAnswer(503))
	_, err := mustClient(t, mockBase, overTransport(mock)).Receipt(t.Context(), receiptID)
	if n := mock.GetTotalCallCount(); n != 1+pixmed.DefaultRetries {
		t.Errorf("%d requests, want %d: %v", n, 1+pixmed.DefaultRetries, err)
	}
}

// What another attempt cannot mend is not retried.
func TestHopelessErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err     error
		retried bool
	}{
		"plain http":         {http.ErrSchemeMismatch, false},
		"no TLS":             {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, false},
		"unverified":         {&tls.CertificateVerificationError{Err: errors.New("bad")}, false},
		"unverified, hidden": {&tls.CertificateVerificationError{Err: errors.New("bad\x1b")}, false}, // so that its text is replaced
		"unknown authority":  {x509.UnknownAuthorityError{}, false},
		"another host":       {x509.HostnameError{Certificate: &x509.Certificate{}, Host: "gateway.example"}, false},
		"expired":            {x509.CertificateInvalidError{Reason: x509.Expired}, false},
		"alert":              {&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, false},
		"alert about itself": {&net.OpError{Op: "remote error", Err: errors.New("tls: internal error")}, true},
		"unsupported scheme": {errors.New(`unsupported protocol scheme "ftp"`), false},
		"reset":              {&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, true},
		"no such host":       {&net.DNSError{Err: "no such host", Name: "gateway.example", IsNotFound: true}, true},
		"handshake timeout":  {errors.New("net/http: TLS handshake timeout"), true},
	} {
		mock := answersOf(httpmock.NewErrorResponder(test.err))
		_, err := mustClient(t, mockBase, overTransport(mock), pixmed.WithRetries(2)).Receipt(t.Context(), receiptID)
		if n := mock.GetTotalCallCount(); err == nil || n > 1 != test.retried {
			t.Errorf("%s: got %v after %d requests", name, err, n)
		}
	}
}

// The same with real servers.
func TestHopelessServers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		start func(*httptest.Server)
		trust bool
		want  string
	}{
		"an unknown certificate":        {(*httptest.Server).StartTLS, false, "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		"plain http":                    {(*httptest.Server).Start, true, "http: server gave HTTP response to HTTPS client"},
		"a client certificate required": {func(s *httptest.Server) { s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}; s.StartTLS() }, true, "remote error: tls: certificate required"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var connections atomic.Int32
			srv := httptest.NewUnstartedServer(http.NotFoundHandler())
			srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			srv.Config.ConnState = countNew(&connections)
			test.start(srv)
			t.Cleanup(srv.Close)
			transport := freshTransport(t)
			if test.trust && srv.TLS != nil {
				transport = srv.Client().Transport.(*http.Transport)
			}
			_, err := mustClient(t, strings.Replace(srv.URL, "http://", "https://", 1), overTransport(transport)).Receipt(t.Context(), receiptID)
			if err == nil || !strings.HasSuffix(err.Error(), test.want+"; check the base URL and the certificates") || connections.Load() != 1 {
				t.Errorf("got %v after %d connections, want %s after 1", err, connections.Load(), test.want)
			}
		})
	}
}

// Waits double from the shortest to the longest, and jitter shortens each by up to a
// half.
func TestBackoff(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		shortest, longest time.Duration
		first             httpmock.Responder
		want              []time.Duration
	}{
		"doubling":           {time.Second, 10 * time.Second, codeAnswer(503), []time.Duration{1e9, 2e9, 4e9, 8e9, 10e9, 10e9}},
		"connection errors":  {time.Second, 10 * time.Second, refusedAnswer(), []time.Duration{1e9, 2e9, 4e9, 8e9, 10e9, 10e9}},
		"constant":           {time.Minute, time.Minute, codeAnswer(429), []time.Duration{60e9, 60e9, 60e9}},
		"defaults":           {pixmed.DefaultRetryWaitMin, pixmed.DefaultRetryWaitMax, codeAnswer(500), []time.Duration{5e8, 1e9, 2e9, 4e9, 8e9, 16e9, 30e9, 30e9}},
		"Retry-After of 0":   {time.Second, 10 * time.Second, codeAnswer(503, "Retry-After", "0"), []time.Duration{1e9, 2e9, 4e9}},
		"negative":           {time.Second, 10 * time.Second, codeAnswer(503, "Retry-After", "-5"), []time.Duration{1e9, 2e9, 4e9}},
		"garbage":            {time.Second, 10 * time.Second, codeAnswer(503, "Retry-After", "soon"), []time.Duration{1e9, 2e9, 4e9}},
		"a date long past":   {time.Second, 10 * time.Second, codeAnswer(503, "Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"), []time.Duration{1e9, 2e9}},
		"more than 62 waits": {1, time.Hour, refusedAnswer(), append(doubling(1, time.Hour), make3600(30)...)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var times []time.Time
				client := mustClient(t, mockBase, pixmed.WithRetryWait(test.shortest, test.longest), pixmed.WithRetries(len(test.want)),
					overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
						times = append(times, time.Now())
						return test.first(r)
					})))
				if _, err := client.Receipt(t.Context(), receiptID); err == nil {
					t.Error("no error")
				}
				if len(times) != len(test.want)+1 {
					t.Fatalf("%d requests, want %d", len(times), len(test.want)+1)
				}
				jitter := false
				for i, want := range test.want {
					got := times[i+1].Sub(times[i])
					if got < want/2 || got > want {
						t.Errorf("wait %d took %v, want %v to %v", i, got, want/2, want)
					}
					jitter = jitter || got != want && want > time.Second/2
				}
				if !jitter {
					t.Error("no jitter")
				}
			})
		})
	}
}

func doubling(from, to time.Duration) (waits []time.Duration) {
	for ; from < to; from *= 2 {
		waits = append(waits, from)
	}
	return waits
}

func make3600(n int) (waits []time.Duration) {
	for range n {
		waits = append(waits, time.Hour)
	}
	return waits
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const longest = 30 * time.Second
	in := func(d time.Duration) func() string {
		return func() string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	}
	is := func(s string) func() string { return func() string { return s } }
	tests := map[string]struct {
		code  int
		value func() string
		asked time.Duration // 0 for the ordinary wait
		ends  bool
	}{
		"seconds":               {503, is("7"), 7 * time.Second, false},
		"seconds of a 429":      {429, is("7"), 7 * time.Second, false},
		"seconds of a 500":      {500, is("7"), 7 * time.Second, false},
		"white space":           {503, is(" 7 "), 7 * time.Second, false},
		"date":                  {503, in(9 * time.Second), 9 * time.Second, false},
		"past date":             {503, in(-9 * time.Second), 0, false},
		"now":                   {503, in(0), 0, false},
		"negative":              {503, is("-1"), 0, false},
		"garbage":               {503, is("a while"), 0, false},
		"fraction":              {503, is("1.5"), 0, false},
		"zero":                  {503, is("0"), 0, false},
		"exactly the longest":   {503, is("30"), longest, false},
		"date at the longest":   {503, in(longest), longest, false},
		"one over":              {503, is("31"), 31 * time.Second, true},
		"one over, 429":         {429, is("31"), 31 * time.Second, true},
		"date one over":         {503, in(31 * time.Second), 31 * time.Second, true},
		"a year":                {503, is("31536000"), 8760 * time.Hour, true},
		"more than fits":        {503, is("9223372037"), 9223372036 * time.Second, true},
		"more than an int64":    {503, is("99999999999999999999999"), 9223372036 * time.Second, true},
		"a date in a far year":  {503, is("Fri, 31 Dec 9999 23:59:59 GMT"), 1<<63 - 1, true},
		"on what is not tried":  {404, is("31"), 31 * time.Second, true},
		"on what is not there":  {403, is("7"), 7 * time.Second, true},
		"of a gone transaction": {410, is(""), 0, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var times []time.Duration
				client := mustClient(t, mockBase, pixmed.WithRetryWait(time.Second, longest), pixmed.WithRetries(1),
					overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
						times = append(times, time.Since(start))
						if len(times) > 1 {
							return goodAnswer(receiptPDF(20))(r)
						}
						return codeAnswer(test.code, "Retry-After", test.value())(r)
					})))
				_, err := client.Receipt(t.Context(), receiptID)
				if test.ends {
					e := wantAPIError(t, err)
					if e.RetryAfter != test.asked || len(times) != 1 || e.Attempts != 1 {
						t.Errorf("RetryAfter %v, %d requests, want %v and 1", e.RetryAfter, len(times), test.asked)
					}
					retriable := test.code == 429 || test.code == 503
					if says := strings.Contains(err.Error(), "it asks to wait "+e.RetryAfter.String()+", longer than the longest wait of 30s (see WithRetryWait)"); says != retriable {
						t.Errorf("got %v", err)
					}
					return
				}
				if err != nil || len(times) != 2 {
					t.Fatalf("got %v after %d requests, want the receipt after 2", err, len(times))
				}
				switch waited := times[1]; {
				case test.asked > 0 && waited != test.asked:
					t.Errorf("waited %v, want %v", waited, test.asked)
				case test.asked == 0 && (waited < time.Second/2 || waited > time.Second):
					t.Errorf("waited %v, want the ordinary wait", waited)
				}
			})
		})
	}
}

// A deadline or a cancellation does not hide what the gateway said before.
func TestContextEndsDuringBackoff(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		deadline bool
		answers  []httpmock.Responder
		want     string
		attempts int // of the APIError, 0 for none
	}{
		"deadline": {
			true,
			[]httpmock.Responder{httpmock.NewStringResponder(503, `{"message":"closed for lunch","statusCode":503}`)},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: the gateway answered 503 Service Unavailable: "closed for lunch", after 2 attempts; no further attempt: context deadline exceeded`, 2,
		},
		"cancel": {
			false,
			[]httpmock.Responder{codeAnswer(500)},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: the gateway answered 500 Internal Server Error, after 2 attempts; no further attempt: context canceled`, 2,
		},
		"deadline after a connection error": {
			true,
			[]httpmock.Responder{refusedAnswer()},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: context deadline exceeded after 2 attempts; before that, Get "https://gateway.example/v1/transaction/b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5/receipt": dial tcp 192.0.2.1:443: connect: connection refused`, 0,
		},
		"deadline after an answer and a connection error": {
			true,
			[]httpmock.Responder{codeAnswer(502), refusedAnswer()},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: context deadline exceeded after 2 attempts; before that, Get "https://gateway.example/v1/transaction/b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5/receipt": dial tcp 192.0.2.1:443: connect: connection refused; before that, the gateway answered 502 Bad Gateway`, 1,
		},
		"deadline after a connection error and an answer": {
			true,
			[]httpmock.Responder{refusedAnswer(), codeAnswer(502)},
			`receipt of transaction b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5: the gateway answered 502 Bad Gateway, after 2 attempts; no further attempt: context deadline exceeded`, 2,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := mustClient(t, mockBase, pixmed.WithRetryWait(4*time.Second, 4*time.Second), overTransport(answersOf(test.answers...)))
				ctx, cancel := context.WithCancel(t.Context())
				want := context.Canceled
				if test.deadline {
					ctx, cancel = context.WithTimeout(t.Context(), 4*time.Second)
					want = context.DeadlineExceeded
				} else {
					time.AfterFunc(4*time.Second, cancel)
				}
				defer cancel()
				start := time.Now()
				_, err := client.Receipt(ctx, receiptID)
				if waited := time.Since(start); waited != 4*time.Second {
					t.Errorf("returned after %v, want 4s", waited)
				}
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				if diff := gocmp.Diff(test.want, fmt.Sprint(err)); diff != "" {
					t.Error(diff)
				}
				if test.attempts > 0 {
					e := wantAPIError(t, err)
					if e.Attempts != test.attempts || !errors.Is(err, pixmed.ErrUnavailable) {
						t.Errorf("%d attempts, want %d: %v", e.Attempts, test.attempts, err)
					}
				}
			})
		})
	}
}

// The context ends during a request.
func TestContextEndsDuringRequest(t *testing.T) {
	t.Parallel()
	hang := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	late := func(code int) httpmock.Responder { // answers after the context has ended
		return func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return httpmock.NewStringResponse(code, `{"message":"too late"}`), nil
		}
	}
	tests := map[string]struct {
		answers  []httpmock.Responder
		want     string
		attempts int
	}{
		"the first":         {[]httpmock.Responder{hang}, "context deadline exceeded", 0},
		"after an answer":   {[]httpmock.Responder{codeAnswer(503), hang}, "the gateway answered 503 Service Unavailable, after 2 attempts; no further attempt: context deadline exceeded", 2},
		"after an error":    {[]httpmock.Responder{refusedAnswer(), hang}, `context deadline exceeded after 2 attempts; before that, Get "` + receiptURL + `": dial tcp 192.0.2.1:443: connect: connection refused`, 0},
		"with a late error": {[]httpmock.Responder{late(503)}, `the gateway answered 503 Service Unavailable: "too late"; no further attempt: context deadline exceeded`, 1},
		"with a late 404":   {[]httpmock.Responder{late(404)}, `the gateway answered 404 Not Found: "too late"; no further attempt: context deadline exceeded`, 1},
		"with a late 200":   {[]httpmock.Responder{late(200)}, "context deadline exceeded", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				var n atomic.Int32
				client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
					return test.answers[n.Add(1)-1](r)
				})))
				_, err := client.Receipt(ctx, receiptID)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want a deadline error", err)
				}
				if diff := gocmp.Diff("receipt of transaction "+receiptID+": "+test.want, fmt.Sprint(err)); diff != "" {
					t.Error(diff)
				}
				if test.attempts > 0 {
					if e := wantAPIError(t, err); e.Attempts != test.attempts {
						t.Errorf("%d attempts, want %d", e.Attempts, test.attempts)
					}
				}
			})
		})
	}
}

func TestCancelledBeforeTheCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1) }))
	t.Cleanup(srv.Close)
	_, err := mustClient(t, srv.URL, overTransport(freshTransport(t))).Receipt(ctx, receiptID)
	if !errors.Is(err, context.Canceled) || n.Load() != 0 {
		t.Errorf("got %v and %d requests, want a context error and none", err, n.Load())
	}
}

// The error has the last answer, whatever ended the call.
func TestLastAnswerIsNeverLost(t *testing.T) {
	t.Parallel()
	const prefix = "receipt of transaction " + receiptID + ": "
	get := `Get "` + receiptURL + `": `
	tests := map[string]struct {
		retries int
		answers []httpmock.Responder
		want    string
		is      error
	}{
		"one refused connection":     {0, []httpmock.Responder{refusedAnswer()}, get + "dial tcp 192.0.2.1:443: connect: connection refused", nil},
		"some refused connections":   {2, []httpmock.Responder{refusedAnswer()}, get + "dial tcp 192.0.2.1:443: connect: connection refused, after 3 attempts", nil},
		"answer, refused":            {1, []httpmock.Responder{codeAnswer(503), refusedAnswer()}, get + "dial tcp 192.0.2.1:443: connect: connection refused, after 2 attempts; before that, the gateway answered 503 Service Unavailable", pixmed.ErrUnavailable},
		"answers, refused twice":     {3, []httpmock.Responder{codeAnswer(500), codeAnswer(429), refusedAnswer()}, get + "dial tcp 192.0.2.1:443: connect: connection refused, after 4 attempts; before that, the gateway answered 429 Too Many Requests, after 2 attempts", pixmed.ErrRateLimited},
		"refused, answer":            {1, []httpmock.Responder{refusedAnswer(), codeAnswer(503)}, "the gateway answered 503 Service Unavailable, after 2 attempts", pixmed.ErrUnavailable},
		"answer, not found":          {5, []httpmock.Responder{codeAnswer(503), codeAnswer(404)}, "the gateway answered 404 Not Found, after 2 attempts; check the transaction id and the base URL", pixmed.ErrNotFound},
		"answer, redirect elsewhere": {5, []httpmock.Responder{codeAnswer(503), codeAnswer(302, "Location", "https://else.example/?token=x")}, "the gateway redirects to another origin: https://else.example; before that, the gateway answered 503 Service Unavailable", pixmed.ErrRedirect},
		"answer, asked to wait":      {5, []httpmock.Responder{codeAnswer(503), codeAnswer(429, "Retry-After", "3600")}, "the gateway answered 429 Too Many Requests, after 2 attempts; no further attempt: it asks to wait 1h0m0s, longer than the longest wait of 1ns (see WithRetryWait)", pixmed.ErrRateLimited},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := mustClient(t, mockBase, overTransport(answersOf(test.answers...)), pixmed.WithRetries(test.retries)).Receipt(t.Context(), receiptID)
			if diff := gocmp.Diff(prefix+test.want, fmt.Sprint(err)); diff != "" {
				t.Error(diff)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
		})
	}
}

func TestRetriesAreLogged(t *testing.T) {
	t.Parallel()
	logged := &logRecords{}
	pdf := receiptPDF(3000)
	cut := httpmock.NewStringResponder(200, receiptJSON(pdf)[:1000])
	client := mustClient(t, mockBase, pixmed.WithLogger(slog.New(logged)),
		overTransport(answersOf(httpmock.NewStringResponder(503, `{"message":"for Maria da Silva","code":"E1"}`), refusedAnswer(), cut, goodAnswer(pdf))))
	if _, err := client.Receipt(t.Context(), receiptID); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`INFO pixmed: request failed, trying again transaction_id=` + receiptID + ` attempt=1 error=the gateway answered 503 Service Unavailable, code "E1"`,
		`INFO pixmed: request failed, trying again transaction_id=` + receiptID + ` attempt=2 error=Get "` + receiptURL + `": dial tcp 192.0.2.1:443: connect: connection refused`,
		`INFO pixmed: receipt download broke, resuming transaction_id=` + receiptID + ` attempt=3 error=at byte 720 of the PDF: truncated receipt envelope at byte 1000`,
	}
	if diff := gocmp.Diff(want, logged.all()); diff != "" {
		t.Error(diff)
	}
}

// The error has both the context's error and its cause, wherever the call was.
func TestContextCause(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(50_000)
	half := receiptJSON(pdf)[:10_003]
	unfinished := func(r *http.Request) (*http.Response, error) { return unfinished(r, half) }
	late := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, io.ErrUnexpectedEOF
	}
	for name, answers := range map[string][]httpmock.Responder{
		"before the answer":                  {hangingAnswer},
		"before the answer, another error":   {late},
		"in the wait after an answer":        {codeAnswer(503)},
		"in the wait after an error":         {refusedAnswer()},
		"before the second answer":           {codeAnswer(503), hangingAnswer},
		"before the answer, after an error":  {refusedAnswer(), hangingAnswer},
		"in the body":                        {unfinished},
		"in an error's body":                 {func(r *http.Request) (*http.Response, error) { return withCode(404)(unfinished(r)) }},
		"in the wait before resuming":        {broken(pdf, 10_003)},
		"in the answer that resumes":         {broken(pdf, 10_003), hangingAnswer},
		"in the wait of that":                {broken(pdf, 10_003), codeAnswer(503)},
		"in what was delivered already":      {broken(pdf, 20_003), unfinished},
		"after what was delivered already":   {broken(pdf, 5000), unfinished},
		"in the wait before it starts again": {broken(pdf, 10_003), goodAnswer(receiptPDF(50_001)), refusedAnswer()},
	} {
		for kind, cancelled := range map[string]func(context.Context, error) (context.Context, context.CancelFunc){
			"cancelled": func(ctx context.Context, cause error) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(3*time.Hour-time.Second, func() { cancel(cause) })
				return ctx, func() { cancel(nil) }
			},
			"deadline": func(ctx context.Context, cause error) (context.Context, context.CancelFunc) {
				return context.WithTimeoutCause(ctx, 3*time.Hour-time.Second, cause)
			},
			// An errgroup cancels with the error of another call.
			"another call's error": func(ctx context.Context, cause error) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(3*time.Hour-time.Second, func() { cancel(fmt.Errorf("%w: %w: %w", pixmed.ErrStalled, pixmed.ErrClosed, cause)) })
				return ctx, func() { cancel(nil) }
			},
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cause := errors.New("the server is shutting down")
					ctx, cancel := cancelled(t.Context(), cause)
					defer cancel()
					mock := answersOf(answers...)
					client := mustClient(t, mockBase, overTransport(closing(t, mock)), pixmed.WithRetryWait(time.Hour, time.Hour), pixmed.WithRetries(10), pixmed.WithStallTimeout(1000*time.Hour))
					start := time.Now()
					_, err := client.Receipt(ctx, receiptID)
					if took := time.Since(start); took != 3*time.Hour-time.Second {
						t.Errorf("returned after %v", took)
					}
					want := context.Canceled
					if kind == "deadline" {
						want = context.DeadlineExceeded
					}
					if !errors.Is(err, want) || !errors.Is(err, cause) {
						t.Errorf("got %v, want %v and its cause", err, want)
					}
				})
			})
		}
	}
}

// withCode changes a response's status code.
func withCode(code int) func(*http.Response, error) (*http.Response, error) {
	return func(resp *http.Response, err error) (*http.Response, error) {
		resp.StatusCode = code
		return resp, err
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{
		"", "0", "1", "-1", "+1", "1.5", "31", "9223372036", "9223372037", "18446744073709551616", "1e9", " 5 ", "0x10", "soon",
		"Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		client := mustClient(t, mockBase, pixmed.WithRetries(0), pixmed.WithRetryWait(1, 30*time.Second),
			overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
				resp := httpmock.NewStringResponse(http.StatusServiceUnavailable, "")
				resp.Header = http.Header{"Retry-After": {value}}
				return resp, nil
			})))
		_, err := client.Receipt(t.Context(), receiptID)
		e := wantAPIError(t, err)
		if e.RetryAfter < 0 || (e.Err != nil) != (e.RetryAfter > 30*time.Second) {
			t.Errorf("%q: %v, %v", value, e.RetryAfter, e.Err)
		}
	})
}
