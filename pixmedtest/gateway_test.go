package pixmedtest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestNewGatewayPanics(t *testing.T) {
	t.Parallel()
	schedule := pixmedtest.Backoff(0, 0, 1)
	for name, tt := range map[string]struct {
		opts []pixmedtest.Option
		want string
	}{
		"nil option": {
			[]pixmedtest.Option{pixmedtest.WithTLS(), nil}, "option 2 is nil",
		},
		"nil schedule": {
			[]pixmedtest.Option{pixmedtest.WithSchedule(nil)}, "WithSchedule: the schedule is nil",
		},
		"nil signer": {
			[]pixmedtest.Option{pixmedtest.WithSigner(pixmedtest.BasicAuth("u", "p"), nil)}, "WithSigner: signer 2 is nil",
		},
		"timeout zero": {
			[]pixmedtest.Option{pixmedtest.WithDeliveryTimeout(0)}, "WithDeliveryTimeout: 0s is not a positive duration",
		},
		"timeout negative": {
			[]pixmedtest.Option{pixmedtest.WithDeliveryTimeout(-1)}, "WithDeliveryTimeout: -1ns is not a positive duration",
		},
		"encoding twice": {
			[]pixmedtest.Option{pixmedtest.WithEncoding(0), pixmedtest.WithEncoding(0)}, "WithEncoding is given twice",
		},
		"schedule twice": {
			[]pixmedtest.Option{pixmedtest.WithSchedule(schedule), pixmedtest.WithSchedule(schedule)}, "WithSchedule is given twice",
		},
		"timeout twice": {
			[]pixmedtest.Option{pixmedtest.WithDeliveryTimeout(1), pixmedtest.WithDeliveryTimeout(2)}, "WithDeliveryTimeout is given twice",
		},
		"gzip twice": {
			[]pixmedtest.Option{pixmedtest.WithGzip(), pixmedtest.WithGzip()}, "WithGzip is given twice",
		},
		"TLS twice": {
			[]pixmedtest.Option{pixmedtest.WithTLS(), pixmedtest.WithTLS()}, "WithTLS is given twice",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := panicked(func() { pixmedtest.NewGateway(tt.opts...).Close() })
			if want := "NewGateway: " + tt.want; got != want {
				t.Errorf("panicked with %q, want %q", got, want)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	g, _ := newGateway(t, pixmedtest.WithTLS())
	if !strings.HasPrefix(g.URL(), "https://127.0.0.1:") && !strings.HasPrefix(g.URL(), "https://[::1]:") {
		t.Errorf("URL() = %s, want https on a loopback address", g.URL())
	}
	if got := get(t, g); got.Status != http.StatusOK {
		t.Errorf("got status %d, want 200", got.Status)
	}
}

func TestPrinting(t *testing.T) {
	t.Parallel()
	const secret = "s3cret"
	g, _ := newGateway(t, pixmedtest.WithCredential("api_key", secret), pixmedtest.WithSigner(pixmedtest.HeaderSecret("X-Secret", secret)))
	if _, err := do(g, http.MethodGet, "/", http.Header{"Api_key": {secret}}); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, g); strings.Contains(s, secret) {
			t.Errorf("%s prints the secret: %s", format, s)
		}
	}
}

// TestClient fetches a receipt with the client of package pixmed.
func TestClient(t *testing.T) {
	t.Parallel()
	g, pdf := newGateway(t, pixmedtest.WithCredential("api_key", "k"))
	g.Fail(pixmedtest.Fault{Status: 503}, pixmedtest.Fault{Cut: true, At: 500},
		pixmedtest.Fault{Encoding: pixmedtest.URLSafe | pixmedtest.Unpadded | pixmedtest.Chunked})
	client, err := pixmed.NewClient(g.URL(), pixmed.WithHeader("api_key", "k"),
		pixmed.WithRetryWait(time.Millisecond, time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := client.Receipt(t.Context(), sampleID)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(receipt.PDF, pdf) {
		t.Error("the receipt differs from what AddReceipt returned")
	}
	if got := len(g.Requests()); got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
}

// TestClose closes gateways during requests and a delivery. The bubble ends only
// when all of its goroutines have ended.
func TestClose(t *testing.T) {
	t.Parallel()
	for name, fault := range patient {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				waiting := make(chan struct{})
				g := pixmedtest.NewGateway(pixmedtest.WithSchedule(
					func(ctx context.Context, _ []pixmedtest.Attempt) error {
						close(waiting)
						<-ctx.Done()
						return context.Cause(ctx)
					}))
				g.AddReceipt(sample())
				g.FailAlways(fault)
				transport := &http.Transport{}
				var all sync.WaitGroup
				for range 3 {
					ctx, sent := arrived(t.Context())
					all.Go(func() {
						if err := fetch(ctx, &http.Client{Transport: transport}, g.URL()); err == nil {
							t.Error("the request succeeded")
						}
					})
					<-sent
				}
				all.Go(func() {
					_, err := g.Deliver(t.Context(), g.URL(), pixmedtest.NewInfraction()) // gets 404
					if err == nil || !strings.Contains(err.Error(), "the gateway is closed") {
						t.Errorf("Deliver: error %v, want that the gateway is closed", err)
					}
				})
				<-waiting
				g.Close()
				all.Wait()
				transport.CloseIdleConnections()

				g.Close()
				if a := g.Post(t.Context(), g.URL(), nil); a.Err == nil {
					t.Errorf("Post after Close: %v, want an error", a)
				}
			})
		})
	}
}

// TestCloseUnread closes a gateway while a client is not reading the response.
func TestCloseUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := pixmedtest.NewGateway(pixmedtest.WithEncoding(pixmedtest.BarePDF))
		g.SetReceipt(sampleID, make([]byte, 32<<20)) // more than the buffers of a connection hold
		transport := &http.Transport{}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL()+"/transaction/"+sampleID+"/receipt", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		g.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the body is complete")
		}
		resp.Body.Close()
		transport.CloseIdleConnections()
	})
}

func TestCloseEndsIdleConnections(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(closed)
		}
	}
	server.Start()
	defer server.Close()
	g := pixmedtest.NewGateway()
	for range 3 { // on one connection: the test would close the channel twice
		if _, err := g.Deliver(t.Context(), server.URL, pixmedtest.NewInfraction()); err != nil {
			t.Error(err)
		}
	}
	g.Close()
	<-closed
}
