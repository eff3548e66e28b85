//go:build !race

// Under the race detector a sync.Pool drops things at random, and nothing could
// be said about allocations.

package pixmed_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"runtime"
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

// A receipt in memory takes its own size where the gateway says the length, and
// twice that where it does not; as a stream, next to nothing.
//
//nolint:paralleltest // allocations are counted for the whole process
func TestReceiptAllocations(t *testing.T) {
	const size = 1 << 20
	pdf := append([]byte("%PDF-1.7\n"), make([]byte, size-len("%PDF-1.7\n"))...)
	body := []byte(`{"status":"SUCCESS","data":{"receipt":"` + base64.StdEncoding.EncodeToString(pdf) + `","mimeType":"application/pdf"}}`)

	receipt := func(contentLength int64) func() (int, error) {
		transport := httpmock.NewMockTransport()
		transport.RegisterNoResponder(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{},
				Body: io.NopCloser(bytes.NewReader(body)), ContentLength: contentLength,
			}, nil
		})
		client, err := pixmed.NewClient("https://gateway.example", pixmed.WithHTTPClient(&http.Client{Transport: transport}))
		if err != nil {
			t.Fatal(err)
		}
		return func() (int, error) {
			r, err := client.Receipt(t.Context(), specInfraction().TransactionID)
			if err != nil {
				return 0, err
			}
			return len(r.PDF), nil
		}
	}
	for _, tt := range []struct {
		name string
		run  func() (int, error)
		want float64 // sizes of the PDF, at most
	}{
		{"length known", receipt(int64(len(body))), 1.1},
		{"length unknown", receipt(-1), 2.2},
		{"stream", func() (int, error) {
			r, err := pixmed.DecodeReceipt(bytes.NewReader(body))
			if err != nil {
				return 0, err
			}
			n, err := io.Copy(io.Discard, r)
			return int(n), err
		}, 0.02},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const runs = 10
			var before, after runtime.MemStats
			for i := range 1 + runs { // the first one fills the pool
				if i == 1 {
					runtime.ReadMemStats(&before)
				}
				if n, err := tt.run(); n != size || err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
			}
			runtime.ReadMemStats(&after)
			if got := float64(after.TotalAlloc-before.TotalAlloc) / runs / size; got > tt.want {
				t.Errorf("%.3f sizes of the PDF allocated, want at most %v", got, tt.want)
			}
		})
	}
}
