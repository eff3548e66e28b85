package pixmedtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestFault(t *testing.T) {
	t.Parallel()
	const jsonType, htmlType = "application/json; charset=utf-8", "text/html; charset=utf-8"
	html := func(title string) string {
		return "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title +
			"</h1></center>\r\n<hr><center>proxy</center>\r\n</body>\r\n</html>\r\n"
	}
	for name, tt := range map[string]struct {
		fault  pixmedtest.Fault
		status int
		header http.Header
		body   string
	}{
		"status": {
			pixmedtest.Fault{Status: 503},
			503,
			http.Header{"Content-Type": {jsonType}},
			`{"message":"Service Unavailable","statusCode":503}`,
		},
		"Retry-After": {
			pixmedtest.Fault{Status: 429, RetryAfter: "soon"},
			429,
			http.Header{"Content-Type": {jsonType}, "Retry-After": {"soon"}},
			`{"message":"Too Many Requests","statusCode":429}`,
		},
		"redirect": {
			pixmedtest.Fault{Status: 302, Header: http.Header{"location": {"https://example.com/"}}},
			302,
			http.Header{"Content-Type": {jsonType}, "Location": {"https://example.com/"}},
			`{"message":"Found","statusCode":302}`,
		},
		"HTML": {
			pixmedtest.Fault{Status: 502, HTML: true},
			502,
			http.Header{"Content-Type": {htmlType}},
			html("502 Bad Gateway"),
		},
		"HTML and 200": {
			pixmedtest.Fault{Status: 200, HTML: true},
			200,
			http.Header{"Content-Type": {htmlType}},
			html("200 OK"),
		},
		"body and headers": {
			pixmedtest.Fault{Body: []byte("verbatim"), Header: http.Header{"Content-Type": {"x/y"}, "X-Request-Id": {"r-1"}}},
			200,
			http.Header{"Content-Type": {"x/y"}, "X-Request-Id": {"r-1"}},
			"verbatim",
		},
		"empty body": {
			pixmedtest.Fault{Body: []byte{}}, 200, http.Header{"Content-Type": {jsonType}}, "",
		},
		"status without a body": {
			pixmedtest.Fault{Status: 204, Encoding: pixmedtest.Chunked},
			204,
			http.Header{"Content-Type": {jsonType}},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := newGateway(t)
			g.Fail(tt.fault)
			got := get(t, g)
			got.Header.Del("Date")
			got.Header.Del("Content-Length")
			if diff := cmp.Diff(reply{Status: tt.status, Header: tt.header, Body: tt.body},
				reply{Status: got.Status, Header: got.Header, Body: got.Body}); diff != "" {
				t.Errorf("response (-want +got):\n%s", diff)
			}
			if got := get(t, g); got.Status != http.StatusOK || !json.Valid([]byte(got.Body)) {
				t.Errorf("response to the next request: %d %s, want 200 and JSON", got.Status, got.Body)
			}
		})
	}
}

func TestFaultStatusInvalid(t *testing.T) {
	t.Parallel()
	g, _ := newGateway(t)
	for _, status := range []int{-1, 20, 199, 1000} {
		f := pixmedtest.Fault{Status: status}
		want := fmt.Sprintf("Fault.Status is %d, want 0 or 200 to 999", status)
		if got := panicked(func() { g.Fail(pixmedtest.Fault{}, f) }); got != want {
			t.Errorf("Fail panicked with %q, want %q", got, want)
		}
		if got := panicked(func() { g.FailAlways(f) }); got != want {
			t.Errorf("FailAlways panicked with %q, want %q", got, want)
		}
	}
	if got := get(t, g); got.Status != http.StatusOK {
		t.Errorf("status after the panics: %d, want 200", got.Status)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	const all = 1 << 40
	for _, encoding := range []pixmedtest.Encoding{
		0, pixmedtest.Chunked, pixmedtest.UntilClose, pixmedtest.Gzip, pixmedtest.Gzip | pixmedtest.Chunked,
		pixmedtest.BarePDF, pixmedtest.BarePDF | pixmedtest.Chunked, pixmedtest.BarePDF | pixmedtest.UntilClose,
	} {
		t.Run(fmt.Sprintf("encoding %b", encoding), func(t *testing.T) {
			t.Parallel()
			g, _ := newGateway(t, pixmedtest.WithEncoding(encoding))
			whole := get(t, g)
			size := int64(len(whole.Body))
			for _, at := range []int64{0, 1, 1000, size - 1, size, all} {
				g.Fail(pixmedtest.Fault{Cut: true, At: at})
				got := get(t, g)
				if want := whole.Body[:min(at, size)]; got.Body != want {
					t.Errorf("At = %d: got %d bytes, want %d", at, len(got.Body), len(want))
				}
				var wantErr error
				if encoding&pixmedtest.UntilClose == 0 && (at < size || encoding&pixmedtest.Chunked != 0) {
					wantErr = io.ErrUnexpectedEOF
				}
				if !errors.Is(got.Err, wantErr) {
					t.Errorf("At = %d of %d: error %v, want %v", at, size, got.Err, wantErr)
				}
			}
		})
	}
}

func TestCutBeforeHeader(t *testing.T) {
	t.Parallel()
	g, _ := newGateway(t)
	g.FailAlways(pixmedtest.Fault{Cut: true, At: -1})
	if r, err := do(g, http.MethodGet, "/transaction/"+sampleID+"/receipt", nil); err == nil {
		t.Errorf("got status %d, want an error", r.Status)
	}
}

// patient holds faults that last until the client disconnects or Close is called.
var patient = map[string]pixmedtest.Fault{
	"stall before the header": {Stall: true, At: -1},
	"stall after the header":  {Stall: true},
	"stall in the body":       {Stall: true, At: 100},
	"stall after the body":    {Stall: true, At: 1 << 40, Encoding: pixmedtest.Chunked},
	"latency":                 {Latency: time.Hour},
}

// arrived returns a context, and a channel that is closed once a request with
// that context has been sent.
func arrived(ctx context.Context) (context.Context, <-chan struct{}) {
	sent := make(chan struct{})
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) },
	}), sent
}

func TestStallEndsWithClient(t *testing.T) {
	t.Parallel()
	for name, fault := range patient {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := newGateway(t)
			g.Fail(fault)
			ctx, sent := arrived(t.Context())
			ctx, cancel := context.WithCancel(ctx)
			go func() {
				<-sent
				cancel()
			}()
			if err := fetch(ctx, g.Client(), g.URL()); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want context.Canceled", err)
			}
		})
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	g, _ := newGateway(t)
	const latency = 20 * time.Millisecond
	g.Fail(pixmedtest.Fault{Latency: latency})
	start := time.Now()
	if got := get(t, g); got.Status != http.StatusOK {
		t.Errorf("got status %d, want 200", got.Status)
	}
	if took := time.Since(start); took < latency {
		t.Errorf("the response took %v, want at least %v", took, latency)
	}
}
