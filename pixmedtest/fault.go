package pixmedtest

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Fault says how a receipt request is answered otherwise than well. Its fields
// combine; the zero Fault changes nothing.
//
//	pixmedtest.Fault{Status: 429, RetryAfter: "2"}
//	pixmedtest.Fault{Status: 502, HTML: true}
//	pixmedtest.Fault{Status: 302, Header: http.Header{"Location": {elsewhere}}}
//	pixmedtest.Fault{Cut: true, At: 1000}
//	pixmedtest.Fault{Latency: time.Minute}
//	pixmedtest.Fault{Encoding: pixmedtest.Gzip | pixmedtest.Chunked}
type Fault struct {
	// Latency is waited before the answer begins. It ends early, and with it
	// the connection, when the client goes or the gateway is closed.
	Latency time.Duration

	// Status is the status code, from 200; 0 leaves it as it would be. With
	// any but 200 the body is a JSON error, {"message":…,"statusCode":…}.
	Status int
	// RetryAfter is the value of the header Retry-After, verbatim.
	RetryAfter string
	// Header is added to the answer's, in the place of those of the same name.
	Header http.Header
	// HTML makes the body an HTML page, as proxies send it.
	HTML bool
	// Body is the body, verbatim, unless nil. HTML then only sets its type.
	Body []byte

	// Encoding is added to the gateway's.
	Encoding Encoding

	// Cut breaks the connection after At bytes of the body.
	Cut bool
	// Stall sends nothing more after At bytes of the body, until the client
	// goes or the gateway is closed.
	Stall bool
	// At is where Cut and Stall happen: after so many bytes of the body as it
	// is sent, compressed if it is. 0 is after the header, and -1 before it: the
	// request gets no answer at all. (Where the connection had served a request
	// before, Go's http.Transport then sends it again by itself, and takes the
	// next fault.) At or behind the body's end Cut and Stall have no effect,
	// but with Chunked, where the last chunk, which marks the end, is withheld.
	At int64
}

const (
	jsonType = "application/json; charset=utf-8"
	htmlType = "text/html; charset=utf-8"
)

// answer is what a receipt request is answered with.
type answer struct {
	status      int
	contentType string
	body        func(io.Writer) error
	allow       string // for the header Allow
	encoding    Encoding
	fault       Fault
}

// jsonError is an answer as the gateway gives it when something is wrong.
func jsonError(status int, message string) answer {
	body, _ := json.Marshal(struct { // a string and a number
		Message    string `json:"message"`
		StatusCode int    `json:"statusCode"`
	}{message, status})
	return answer{status: status, contentType: jsonType, body: verbatim(body)}
}

func verbatim(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// with applies a fault, but for what it does while the answer is sent.
func (a answer) with(f Fault) answer {
	switch {
	case f.Status == 0:
	case f.Status < 200 || f.Status > 999: // net/http would panic
		a = jsonError(http.StatusInternalServerError, fmt.Sprintf("Fault.Status is %d, want 200 to 999", f.Status))
	case f.Status == http.StatusOK:
		a.status = f.Status
	default:
		a = jsonError(f.Status, http.StatusText(f.Status))
	}
	if f.HTML {
		a.contentType, a.body = htmlType, verbatim(htmlPage(a.status))
	}
	if f.Body != nil {
		a.body = verbatim(f.Body)
	}
	a.fault = f
	return a
}

func htmlPage(status int) []byte {
	title := fmt.Sprintf("%d %s", status, http.StatusText(status))
	return []byte("<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" +
		title + "</h1></center>\r\n<hr><center>proxy</center>\r\n</body>\r\n</html>\r\n")
}

// send writes the answer. wait returns when the client is gone or the gateway
// closed.
func (a answer) send(w http.ResponseWriter, wait func()) {
	f := a.fault
	interrupt := func() {
		if f.Stall {
			wait()
		}
		panic(http.ErrAbortHandler) // net/http's way to break the connection
	}
	interrupted := f.Cut || f.Stall
	if interrupted && f.At < 0 {
		interrupt()
	}

	body := a.body
	if a.encoding.has(Gzip) {
		body = compressed(body)
	}
	header := w.Header()
	header.Set("Content-Type", a.contentType)
	if a.allow != "" {
		header.Set("Allow", a.allow)
	}
	if f.RetryAfter != "" {
		header.Set("Retry-After", f.RetryAfter)
	}
	switch {
	case a.status == http.StatusNoContent || a.status == http.StatusNotModified:
		body = verbatim(nil)
	case a.encoding.has(UntilClose):
		header.Set("Transfer-Encoding", "identity") // net/http's name for it
	case !a.encoding.has(Chunked):
		length := counter(0)
		_ = body(&length) // never fails
		header.Set("Content-Length", strconv.FormatInt(int64(length), 10))
	}
	if a.encoding.has(Gzip) {
		header.Set("Content-Encoding", "gzip")
	}
	for name, values := range f.Header {
		header[http.CanonicalHeaderKey(name)] = values
	}

	w.WriteHeader(a.status)
	flush := http.NewResponseController(w).Flush
	if a.encoding.has(Chunked) || interrupted {
		_ = flush() // or net/http counts a small body by itself; an error is the client's going
	}
	out := io.Writer(w)
	if interrupted {
		out = &limited{w, f.At}
	}
	err := body(out)
	if interrupted && (errors.Is(err, errLimit) || err == nil && a.encoding.has(Chunked)) {
		_ = flush()
		interrupt()
	}
}

func compressed(body func(io.Writer) error) func(io.Writer) error {
	return func(w io.Writer) error {
		z := gzip.NewWriter(w)
		if err := body(z); err != nil {
			return err
		}
		return z.Close()
	}
}

// counter counts the bytes written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

var errLimit = errors.New("the fault's At is reached")

// limited writes so many bytes, and fails with errLimit if there are more.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	n, err := l.w.Write(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	if err == nil && n < len(p) {
		err = errLimit
	}
	return n, err
}
