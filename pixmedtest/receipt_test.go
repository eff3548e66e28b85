package pixmedtest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const sampleID = "5a94d48d-c9f3-46be-8448-83510ca42bde"

// newGateway returns a gateway that has the sample's receipt, and the receipt.
func newGateway(t *testing.T, opts ...pixmedtest.Option) (g *pixmedtest.Gateway, pdf []byte) {
	t.Helper()
	g = pixmedtest.NewGateway(opts...)
	t.Cleanup(g.Close)
	pdf = g.AddReceipt(pixmedtest.NewNotification().Infraction)
	return g, pdf
}

// reply is an answer as it came over the network.
type reply struct {
	Status int
	Header http.Header
	Body   string
	Length int64 // from Content-Length, or -1
	Chunks bool
	Err    error // of reading the body
}

// do sends a request, asking for no compression.
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

func TestReceipt(t *testing.T) {
	t.Parallel()
	g, pdf := newGateway(t, pixmedtest.WithCredential("api_key", "k"), pixmedtest.WithCredential("api_secret", "s"), nil)
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
		{name: "other method", method: http.MethodPost, path: "/transaction/" + sampleID + "/receipt", status: 405, body: `{"message":"Cannot POST /transaction/` + sampleID + `/receipt","statusCode":405}`},
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
				t.Errorf("Content-Length is %d, Content-Type %q", got.Length, got.Header.Get("Content-Type"))
			}
			if allow := got.Header.Get("Allow"); (allow == http.MethodGet) != (tt.status == http.StatusMethodNotAllowed) {
				t.Errorf("Allow is %q", allow)
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
		t.Error("changing the returned PDF changes the one that is served")
	}
}

func TestEncoding(t *testing.T) {
	t.Parallel()
	// Content whose base64 text has +, / and = in it.
	content := bytes.Repeat([]byte{0xfb, 0xff, 0xfe, '?', '>'}, 100)
	text := base64.StdEncoding.EncodeToString(content)
	inLines := func(separator string) string {
		var lines []string
		rest := text
		for ; len(rest) > 76; rest = rest[76:] {
			lines = append(lines, rest[:76])
		}
		return strings.Join(append(lines, rest), separator)
	}
	envelope := func(text string) string {
		return `{"status":"SUCCESS","data":{"receipt":"` + text + `","mimeType":"application/pdf"}}`
	}
	for _, tt := range []struct {
		name     string
		encoding pixmedtest.Encoding
		want     string
	}{
		{"standard", 0, envelope(text)},
		{"escaped slashes", pixmedtest.EscapedSlashes, strings.ReplaceAll(envelope(text), "/", `\/`)},
		{"escaped Unicode", pixmedtest.EscapedUnicode, strings.NewReplacer("/", `\u002F`, "+", `\u002B`, "=", `\u003D`).Replace(envelope(text))},
		{"line breaks", pixmedtest.LineBreaks, envelope(inLines(`\r\n`))},
		{"raw line breaks", pixmedtest.RawLineBreaks, envelope(inLines("\r\n"))},
		{"URL-safe", pixmedtest.URLSafe, envelope(base64.URLEncoding.EncodeToString(content))},
		{"unpadded", pixmedtest.Unpadded, envelope(base64.RawStdEncoding.EncodeToString(content))},
		{"URL-safe and unpadded", pixmedtest.URLSafe | pixmedtest.Unpadded, envelope(base64.RawURLEncoding.EncodeToString(content))},
		{"data URI", pixmedtest.DataURI, envelope("data:application/pdf;base64," + text)},
		{
			"data URI, lines and escaped slashes",
			pixmedtest.DataURI | pixmedtest.LineBreaks | pixmedtest.EscapedSlashes,
			strings.ReplaceAll(envelope("data:application/pdf;base64,"+inLines(`\r\n`)), "/", `\/`),
		},
		{"bare", pixmedtest.BarePDF | pixmedtest.DataURI, string(content)},
	} {
		for _, framing := range []struct {
			name     string
			encoding pixmedtest.Encoding
		}{
			{"Content-Length", 0},
			{"chunked", pixmedtest.Chunked},
			{"until close", pixmedtest.UntilClose},
			{"gzip", pixmedtest.Gzip},
			{"gzip, chunked", pixmedtest.Gzip | pixmedtest.Chunked},
		} {
			t.Run(tt.name+"/"+framing.name, func(t *testing.T) {
				t.Parallel()
				g, _ := newGateway(t, pixmedtest.WithEncoding(tt.encoding))
				g.SetReceipt(sampleID, content)
				g.Fail(pixmedtest.Fault{Encoding: framing.encoding})
				got := get(t, g)
				if got.Err != nil {
					t.Fatal(got.Err)
				}
				wantLength := int64(len(got.Body))
				if framing.encoding&(pixmedtest.Chunked|pixmedtest.UntilClose) != 0 {
					wantLength = -1
				}
				if chunks := framing.encoding&pixmedtest.Chunked != 0; got.Length != wantLength || got.Chunks != chunks {
					t.Errorf("Content-Length is %d, want %d; chunked is %t, want %t", got.Length, wantLength, got.Chunks, chunks)
				}
				body := got.Body
				if framing.encoding&pixmedtest.Gzip != 0 {
					if got.Header.Get("Content-Encoding") != "gzip" {
						t.Errorf("Content-Encoding is %q", got.Header.Get("Content-Encoding"))
					}
					body = gunzip(t, body)
				}
				if body != tt.want {
					t.Errorf("got %s\nwant %s", body, tt.want)
				}
				wantType := "application/json; charset=utf-8"
				if tt.encoding&pixmedtest.BarePDF != 0 {
					wantType = "application/pdf"
				} else if valid := tt.encoding&pixmedtest.RawLineBreaks == 0; json.Valid([]byte(body)) != valid {
					t.Errorf("the JSON is valid: %t, want %t", !valid, valid)
				}
				if got := got.Header.Get("Content-Type"); got != wantType {
					t.Errorf("Content-Type is %q, want %q", got, wantType)
				}
			})
		}
	}
}

func gunzip(t *testing.T, s string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

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
		"no such status": {
			pixmedtest.Fault{Status: 20},
			500,
			http.Header{"Content-Type": {jsonType}},
			`{"message":"Fault.Status is 20, want 200 to 999","statusCode":500}`,
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
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := get(t, g); got.Status != http.StatusOK || !json.Valid([]byte(got.Body)) {
				t.Errorf("the next request got %d %s", got.Status, got.Body)
			}
		})
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
	if _, err := do(g, http.MethodGet, "/elsewhere", nil); err != nil { // takes no fault
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{500, 401, 502, 503, 503}, statuses(5)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	g.FailAlways(pixmedtest.Fault{})
	if diff := cmp.Diff([]int{401}, statuses(1)); diff != "" {
		t.Errorf("after FailAlways(Fault{}) (-want +got):\n%s", diff)
	}

	requests := g.Requests()
	if len(requests) != 7 {
		t.Fatalf("%d requests were recorded, want 7", len(requests))
	}
	if r := requests[0]; r.Method != http.MethodGet || r.Path != "/elsewhere" || r.Header.Get("Accept-Encoding") != "identity" || r.Time.IsZero() {
		t.Errorf("the first request is %+v", r)
	}
	requests[1].Header.Set("Accept-Encoding", "changed")
	if got := g.Requests()[1].Header.Get("Accept-Encoding"); got != "identity" {
		t.Errorf("changing the copy changes the record: %q", got)
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
					t.Errorf("at %d: got %d bytes, want %d", at, len(got.Body), len(want))
				}
				var wantErr error
				if encoding&pixmedtest.UntilClose == 0 && (at < size || encoding&pixmedtest.Chunked != 0) {
					wantErr = io.ErrUnexpectedEOF
				}
				if !errors.Is(got.Err, wantErr) {
					t.Errorf("at %d of %d: error %v, want %v", at, size, got.Err, wantErr)
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
		t.Errorf("got %d, want an error", r.Status)
	}
}

// patient are faults that only the client or Close ends.
var patient = map[string]pixmedtest.Fault{
	"stall before the header": {Stall: true, At: -1},
	"stall after the header":  {Stall: true},
	"stall in the body":       {Stall: true, At: 100},
	"stall behind the body":   {Stall: true, At: 1 << 40, Encoding: pixmedtest.Chunked},
	"latency":                 {Latency: time.Hour},
}

// arrived returns a context and a channel that is closed when a request with
// this context was sent.
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

// fetch fetches the sample's receipt, and returns what stopped it.
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

func TestLatency(t *testing.T) {
	t.Parallel()
	g, _ := newGateway(t)
	const latency = 20 * time.Millisecond
	g.Fail(pixmedtest.Fault{Latency: latency})
	start := time.Now()
	if got := get(t, g); got.Status != http.StatusOK {
		t.Errorf("got %d", got.Status)
	}
	if took := time.Since(start); took < latency {
		t.Errorf("the answer came after %v, before the latency of %v", took, latency)
	}
}

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
