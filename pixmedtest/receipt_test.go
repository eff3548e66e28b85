package pixmedtest_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestReceipt(t *testing.T) {
	t.Parallel()
	g, pdf := newGateway(t, pixmedtest.WithCredential("api_key", "k"), pixmedtest.WithCredential("api_secret", "s"))
	g.SetReceipt("00000000-0000-0000-0000-00000000000A", []byte("not a PDF"))
	g.SetReceipt("00000000-0000-0000-0000-00000000000b", []byte{})
	g.SetReceipt("00000000-0000-0000-0000-00000000000c", pdf)
	g.SetReceipt("00000000-0000-0000-0000-00000000000C", nil)
	good := http.Header{"Api_key": {"k"}, "Api_secret": {"s"}}
	envelope := func(content []byte) string {
		return `{"status":"SUCCESS","data":{"receipt":"` + base64.StdEncoding.EncodeToString(content) + `","mimeType":"application/pdf"}}`
	}
	for _, tt := range []struct {
		name, method, path string
		header             http.Header
		status             int
		body               string
	}{
		{name: "known", path: "/transaction/" + sampleID + "/receipt", status: 200, body: envelope(pdf)},
		{name: "upper case", path: "/transaction/" + strings.ToUpper(sampleID) + "/receipt", status: 200, body: envelope(pdf)},
		{name: "own content", path: "/transaction/00000000-0000-0000-0000-00000000000a/receipt", status: 200, body: envelope([]byte("not a PDF"))},
		{name: "empty", path: "/transaction/00000000-0000-0000-0000-00000000000b/receipt", status: 200, body: envelope(nil)},
		{name: "removed", path: "/transaction/00000000-0000-0000-0000-00000000000c/receipt", status: 404, body: `{"message":"Transaction not found","statusCode":404}`},
		{name: "unknown", path: "/transaction/b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5/receipt", status: 404, body: `{"message":"Transaction not found","statusCode":404}`},
		{name: "not a UUID", path: "/transaction/42/receipt", status: 400, body: `{"message":"Validation failed (uuid is expected)","statusCode":400}`},
		{name: "braces", path: "/transaction/%7B" + sampleID + "%7D/receipt", status: 400, body: `{"message":"Validation failed (uuid is expected)","statusCode":400}`},
		{name: "other path", path: "/transaction/" + sampleID, status: 404, body: `{"message":"Cannot GET /transaction/` + sampleID + `","statusCode":404}`},
		{name: "two slashes", path: "//transaction/" + sampleID + "/receipt", status: 404, body: `{"message":"Cannot GET //transaction/` + sampleID + `/receipt","statusCode":404}`},
		{name: "control character", path: "/%01", status: 404, body: `{"message":"Cannot GET /\u0001","statusCode":404}`},
		{name: "other method", method: http.MethodPost, path: "/transaction/" + sampleID + "/receipt", status: 404, body: `{"message":"Cannot POST /transaction/` + sampleID + `/receipt","statusCode":404}`},
		{name: "no credentials", path: "/transaction/" + sampleID + "/receipt", header: http.Header{}, status: 401, body: `{"message":"Unauthorized: header api_key is missing or wrong","statusCode":401}`},
		{name: "wrong credential", path: "/transaction/" + sampleID + "/receipt", header: http.Header{"Api_key": {"k"}, "Api_secret": {"x"}}, status: 401, body: `{"message":"Unauthorized: header api_secret is missing or wrong","statusCode":401}`},
		{name: "credential twice", path: "/transaction/" + sampleID + "/receipt", header: http.Header{"Api_key": {"k", "k"}, "Api_secret": {"s"}}, status: 401, body: `{"message":"Unauthorized: header api_key is missing or wrong","statusCode":401}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			method, header := tt.method, tt.header
			if method == "" {
				method = http.MethodGet
			}
			if header == nil {
				header = good
			}
			got, err := do(g, method, tt.path, header)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != tt.status || got.Body != tt.body {
				t.Errorf("got %d %s\nwant %d %s", got.Status, got.Body, tt.status, tt.body)
			}
			if got.Length != int64(len(tt.body)) || got.Header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("Content-Length = %d, Content-Type = %q, want %d and JSON in UTF-8",
					got.Length, got.Header.Get("Content-Type"), len(tt.body))
			}
		})
	}
}

func TestSetReceiptCopies(t *testing.T) {
	t.Parallel()
	g, pdf := newGateway(t)
	before := get(t, g)
	pdf[0] = 'x'
	if after := get(t, g); after.Body != before.Body {
		t.Error("a change to the returned PDF changed the one that is served")
	}
}

func TestFaultOrder(t *testing.T) {
	t.Parallel()
	g, _ := newGateway(t, pixmedtest.WithCredential("api_key", "k"))
	statuses := func(n int) (got []int) {
		for range n {
			got = append(got, get(t, g).Status)
		}
		return got
	}
	g.FailAlways(pixmedtest.Fault{Status: 503})
	g.Fail(pixmedtest.Fault{Status: 500}, pixmedtest.Fault{})
	g.Fail(pixmedtest.Fault{Status: 502})
	if _, err := do(g, http.MethodGet, "/elsewhere", nil); err != nil { // does not take a fault
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{500, 401, 502, 503, 503}, statuses(5)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	g.FailAlways(pixmedtest.Fault{})
	if diff := cmp.Diff([]int{401}, statuses(1)); diff != "" {
		t.Errorf("statuses after FailAlways(Fault{}) (-want +got):\n%s", diff)
	}

	requests := g.Requests()
	if len(requests) != 7 {
		t.Fatalf("Requests() has %d requests, want 7", len(requests))
	}
	if r := requests[0]; r.Method != http.MethodGet || r.Path != "/elsewhere" || r.Header.Get("Accept-Encoding") != "identity" || r.Time.IsZero() {
		t.Errorf("Requests()[0] = %+v", r)
	}
	requests[1].Header.Set("Accept-Encoding", "changed")
	if got := g.Requests()[1].Header.Get("Accept-Encoding"); got != "identity" {
		t.Errorf("a change to the result changed the gateway's record: Accept-Encoding = %q", got)
	}
}
