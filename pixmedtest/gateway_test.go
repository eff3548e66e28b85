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

func TestTLS(t *testing.T) {
	t.Parallel()
	g, _ := newGateway(t, pixmedtest.WithTLS())
	if !strings.HasPrefix(g.URL(), "https://127.0.0.1:") && !strings.HasPrefix(g.URL(), "https://[::1]:") {
		t.Errorf("the URL is %s", g.URL())
	}
	if got := get(t, g); got.Status != http.StatusOK {
		t.Errorf("got %d", got.Status)
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
			t.Errorf("%s shows the secret: %s", format, s)
		}
	}
}

// TestClient runs the client of package pixmed against the gateway.
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
		t.Error("the receipt differs from the one that was added")
	}
	if got := len(g.Requests()); got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
}

// TestClose closes gateways with requests and a delivery in flight. The test
// ends only when all goroutines that were started in its bubble have ended.
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
				g.AddReceipt(pixmedtest.NewNotification().Infraction)
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
					_, err := g.Deliver(t.Context(), g.URL(), pixmedtest.NewInfraction()) // which answers 404
					if err == nil || !strings.Contains(err.Error(), "the gateway is closed") {
						t.Errorf("Deliver: error %v", err)
					}
				})
				<-waiting
				g.Close()
				all.Wait()
				transport.CloseIdleConnections()

				g.Close()
				if a := g.Post(t.Context(), g.URL(), nil); a.Err == nil {
					t.Errorf("after Close: %v", a)
				}
			})
		})
	}
}

// TestCloseUnread closes a gateway whose client has stopped to read.
func TestCloseUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := pixmedtest.NewGateway(pixmedtest.WithEncoding(pixmedtest.BarePDF))
		g.SetReceipt(sampleID, make([]byte, 32<<20)) // more than any socket's buffers hold
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
			t.Error("the body arrived whole")
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
	for range 3 { // over one connection, or closed would be closed twice
		if _, err := g.Deliver(t.Context(), server.URL, pixmedtest.NewInfraction()); err != nil {
			t.Error(err)
		}
	}
	g.Close()
	<-closed
}
