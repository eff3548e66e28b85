//go:build !race

// Under the race detector a sync.Pool drops items at random, which changes what is
// allocated.

package pixmed_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

//nolint:paralleltest // allocations are counted for the whole process
func TestParseInfractionAllocations(t *testing.T) {
	body := []byte(specPayload)
	allocs := testing.AllocsPerRun(1000, func() {
		if _, err := pixmed.ParseInfraction(body); err != nil {
			t.Error(err)
		}
	})
	if allocs > 4 { // the Infraction and its three strings
		t.Errorf("%v allocations, want at most 4", allocs)
	}
}

// A receipt in memory takes its own size if the gateway says the length, and up to
// 2.6 times that otherwise; as a stream, next to nothing.
//
//nolint:paralleltest // allocations are counted for the whole process
func TestReceiptAllocations(t *testing.T) {
	receipt := func(body []byte, contentLength int64) (int, error) {
		transport := httpmock.NewMockTransport()
		transport.RegisterNoResponder(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{},
				Body: io.NopCloser(bytes.NewReader(body)), ContentLength: contentLength,
			}, nil
		})
		client, err := pixmed.NewClient("https://gateway.example",
			pixmed.WithHTTPClient(&http.Client{Transport: transport}), pixmed.WithMaxReceiptSize(64<<20))
		if err != nil {
			return 0, err
		}
		r, err := client.Receipt(t.Context(), specInfraction().TransactionID)
		if err != nil {
			return 0, err
		}
		return len(r.PDF), nil
	}
	known := func(body []byte) (int, error) { return receipt(body, int64(len(body))) }
	unknown := func(body []byte) (int, error) { return receipt(body, -1) }
	stream := func(body []byte) (int, error) {
		r, err := pixmed.DecodeReceipt(bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		n, err := io.Copy(io.Discard, r)
		return int(n), err
	}
	for _, tt := range []struct {
		name string
		run  func([]byte) (int, error)
		size int
		want float64 // sizes of the PDF, at most
	}{
		{"length known, 64 KiB", known, 64 << 10, 1.35}, // with a client, and rounded up to pages
		{"length known, 1 MiB", known, 1 << 20, 1.05},
		{"length known, 40 MiB", known, 40 << 20, 1.15}, // a sixteenth before the rest is believed
		{"length unknown, 64 KiB", unknown, 64 << 10, 2.6},
		{"length unknown, 1 MiB", unknown, 1 << 20, 2.6},
		{"length unknown, 32 MiB", unknown, 32 << 20, 2.6},
		{"stream", stream, 1 << 20, 0.02},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(receiptJSON(receiptPDF(tt.size)))
			// The least of a few runs: a collection may empty the pools before any.
			const runs = 5
			least := uint64(math.MaxUint64)
			for range 1 + runs { // the first one fills the pools
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				if n, err := tt.run(body); n != tt.size || err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
				runtime.ReadMemStats(&after)
				least = min(least, after.TotalAlloc-before.TotalAlloc)
			}
			if got := float64(least) / float64(tt.size); got > tt.want {
				t.Errorf("%.3f sizes of the PDF allocated, want at most %v", got, tt.want)
			}
		})
	}
}

// A text from outside is cut before it is searched for credentials: a huge one
// costs no more than receiving it.
//
//nolint:paralleltest // allocations are counted for the whole process
func TestHugeTextsAreCutFirst(t *testing.T) {
	huge := strings.Repeat("x\u00e9\\u0041&amp;%41", 9<<20/20)
	header := func(code int, name string) httpmock.Responder {
		return httpmock.NewStringResponder(code, "").HeaderSet(http.Header{name: {huge}})
	}
	for name, responder := range map[string]httpmock.Responder{
		"request id":       header(503, "X-Request-Id"),
		"ray":              header(404, "Cf-Ray"),
		"Retry-After":      header(503, "Retry-After"),
		"Content-Encoding": header(200, "Content-Encoding"),
		"error":            httpmock.NewErrorResponder(errors.New(huge)),
		"body":             httpmock.NewStringResponder(400, huge),
	} {
		transport := httpmock.NewMockTransport()
		transport.RegisterNoResponder(responder)
		client, err := pixmed.NewClient("https://gateway.example", pixmed.WithRetries(0), pixmed.WithBearerToken("0123456789abcdef"),
			pixmed.WithHTTPClient(&http.Client{Transport: transport}))
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = client.Receipt(t.Context(), specInfraction().TransactionID)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; err == nil || len(err.Error()) > 2000 || got > 1<<20 {
			t.Errorf("%s: %d bytes allocated for an error of %d", name, got, len(fmt.Sprint(err)))
		}
	}
}
