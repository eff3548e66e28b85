package pixmedtest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Fault describes how a receipt request fails. Its fields can be combined. The
// zero Fault changes nothing.
//
//	pixmedtest.Fault{Status: 429, RetryAfter: "2"}
//	pixmedtest.Fault{Status: 502, HTML: true}
//	pixmedtest.Fault{Status: 302, Header: http.Header{"Location": {elsewhere}}}
//	pixmedtest.Fault{Cut: true, At: 1000}
//	pixmedtest.Fault{Latency: time.Minute}
//	pixmedtest.Fault{Encoding: pixmedtest.Gzip | pixmedtest.Chunked}
type Fault struct {
	// Latency is how long the gateway waits before it responds. If the client
	// disconnects or the gateway is closed meanwhile, there is no response.
	Latency time.Duration

	// Status is the response's status code, 200 to 999; 0 leaves it unchanged.
	// Unless it is 200, the body becomes a JSON error,
	// {"message":…,"statusCode":…}.
	Status int
	// RetryAfter is the value of the Retry-After header. It is sent verbatim,
	// unless empty.
	RetryAfter string
	// Header is added to the response. It replaces headers of the same name.
	Header http.Header
	// HTML makes the body an HTML page like those of proxies.
	HTML bool
	// Body replaces the body, unless it is nil. HTML then sets only the
	// Content-Type.
	Body []byte

	// Encoding is added to the gateway's.
	Encoding Encoding

	// Cut closes the connection after At bytes of the body.
	Cut bool
	// Stall stops sending after At bytes of the body. The connection stays open
	// until the client disconnects or the gateway is closed.
	Stall bool
	// At is how many bytes of the body are sent before Cut or Stall, counted
	// after compression. 0 sends only the headers. A negative number sends no
	// response at all; if the client's http.Transport had reused a connection,
	// it then sends the request again by itself and takes the next fault.
	//
	// If the body has no more than At bytes, Cut and Stall have no effect, except
	// with Chunked: the last chunk, which marks the end, is not sent.
	At int64
}

// check panics if net/http would when it sends the status.
func (f Fault) check() {
	if f.Status != 0 && (f.Status < 200 || f.Status > 999) {
		panic(fmt.Sprintf("Fault.Status is %d, want 0 or 200 to 999", f.Status))
	}
}

const (
	jsonType = "application/json; charset=utf-8"
	htmlType = "text/html; charset=utf-8"
)

// answer is the response to a receipt request.
type answer struct {
	status      int
	contentType string
	body        []byte
}

// jsonError returns an error as the gateway writes it.
func jsonError(status int, message string) answer {
	body, _ := json.Marshal(struct { // a string and a number always encode
		Message    string `json:"message"`
		StatusCode int    `json:"statusCode"`
	}{message, status})
	return answer{status, jsonType, body}
}

// with applies a fault's status and body.
func (a answer) with(f Fault) answer {
	if f.Status == http.StatusOK {
		a.status = f.Status
	} else if f.Status != 0 {
		a = jsonError(f.Status, http.StatusText(f.Status))
	}
	if f.HTML {
		a.contentType, a.body = htmlType, htmlPage(a.status)
	}
	if f.Body != nil {
		a.body = f.Body
	}
	return a
}

func htmlPage(status int) []byte {
	title := fmt.Sprintf("%d %s", status, http.StatusText(status))
	return []byte("<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" +
		title + "</h1></center>\r\n<hr><center>proxy</center>\r\n</body>\r\n</html>\r\n")
}

// send writes the answer, or as much of it as the fault allows. wait returns
// when the client has disconnected or the gateway is closed.
func (a answer) send(w http.ResponseWriter, e Encoding, f Fault, wait func()) {
	interrupted := f.Cut || f.Stall
	interrupt := func() {
		if f.Stall {
			wait()
		}
		panic(http.ErrAbortHandler) // makes net/http close the connection
	}
	if interrupted && f.At < 0 {
		interrupt()
	}

	body, header := a.body, w.Header()
	header.Set("Content-Type", a.contentType)
	if f.RetryAfter != "" {
		header.Set("Retry-After", f.RetryAfter)
	}
	if e.has(Gzip) {
		body = compress(body)
		header.Set("Content-Encoding", "gzip")
	}
	switch {
	case a.status == http.StatusNoContent || a.status == http.StatusNotModified:
		body = nil
	case e.has(UntilClose):
		header.Set("Transfer-Encoding", "identity") // net/http's name for it
	case !e.has(Chunked):
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	for name, values := range f.Header {
		header[http.CanonicalHeaderKey(name)] = values
	}

	w.WriteHeader(a.status)
	// Errors from here on mean that the client has disconnected.
	flush := http.NewResponseController(w).Flush
	if e.has(Chunked) || interrupted {
		_ = flush() // otherwise net/http adds a Content-Length to a small body
	}
	end := int64(len(body))
	if interrupted {
		end = min(end, f.At)
	}
	for piece := range slices.Chunk(body[:end], 4<<10) { // several chunks if Chunked
		_, _ = w.Write(piece)
	}
	if interrupted && (end < int64(len(body)) || e.has(Chunked)) {
		_ = flush()
		interrupt()
	}
}

func compress(body []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // writing to a buffer never fails
	_, _ = z.Write(body)
	_ = z.Close()
	return b.Bytes()
}
