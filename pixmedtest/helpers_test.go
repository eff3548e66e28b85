package pixmedtest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const sampleID = "5a94d48d-c9f3-46be-8448-83510ca42bde"

// newGateway returns a gateway that serves the sample's receipt, and the receipt.
func newGateway(t *testing.T, opts ...pixmedtest.Option) (g *pixmedtest.Gateway, pdf []byte) {
	t.Helper()
	g = pixmedtest.NewGateway(opts...)
	t.Cleanup(g.Close)
	pdf = g.AddReceipt(sample())
	return g, pdf
}

// reply is a response as it was received.
type reply struct {
	Status int
	Header http.Header
	Body   string
	Length int64 // from Content-Length, or -1
	Chunks bool
	Err    error // of reading the body
}

// do sends a request that does not ask for compression.
func do(g *pixmedtest.Gateway, method, path string, header http.Header) (reply, error) {
	r, err := http.NewRequestWithContext(context.Background(), method, g.URL()+path, http.NoBody)
	if err != nil {
		return reply{}, err
	}
	r.Header = header.Clone()
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	r.Header.Set("Accept-Encoding", "identity")
	resp, err := g.Client().Transport.RoundTrip(r)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{
		resp.StatusCode, resp.Header, string(body), resp.ContentLength,
		len(resp.TransferEncoding) == 1 && resp.TransferEncoding[0] == "chunked", err,
	}, nil
}

func get(t *testing.T, g *pixmedtest.Gateway) reply {
	t.Helper()
	r, err := do(g, http.MethodGet, "/transaction/"+sampleID+"/receipt", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fetch reads the sample's receipt to its end and returns the error, if any.
func fetch(ctx context.Context, client *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/transaction/"+sampleID+"/receipt", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// merchant starts a server that responds with these statuses in turn and
// records the requests that it receives.
func merchant(t *testing.T, statuses ...int) (url string, requests func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		status := statuses[len(got)%len(statuses)]
		got = append(got, r.Method+" "+r.Header.Get("Content-Type")+" "+string(body))
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_, _ = io.WriteString(w, http.StatusText(status))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

func codes(attempts []pixmedtest.Attempt) (codes []int) {
	for _, a := range attempts {
		codes = append(codes, a.StatusCode)
	}
	return codes
}

// newHandler returns a handler that does not log.
func newHandler(t *testing.T, r pixmed.Receiver, opts ...pixmed.HandlerOption) http.Handler {
	t.Helper()
	h, err := pixmed.NewHandler(r, append(opts, pixmed.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// receive returns a receiver that calls f.
func receive(f func(*pixmed.Notification) error) pixmed.Receiver {
	return pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error { return f(n) })
}

// panicked returns what f panics with, as text.
func panicked(f func()) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	f()
	return ""
}

// sample returns what the gateway's sample decodes to.
func sample() pixmed.Infraction {
	i, err := pixmed.ParseInfraction([]byte(pixmedtest.Sample))
	if err != nil {
		panic(err)
	}
	return *i
}
