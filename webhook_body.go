package pixmed

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// bodyTimeout is how long a body may take to arrive where the server sets no
// limit.
const bodyTimeout = 10 * time.Second

// readBody reads a request's body, within the limits.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	if restored, ok := r.Body.(restoredBody); ok { // within another Handler's limit
		return io.ReadAll(restored)
	}
	lift := h.limitBody(w, r)
	if r.ContentLength > h.bodyLimit {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // or the server would read it before the answer
		}
		return nil, &http.MaxBytesError{Limit: h.bodyLimit}
	}
	room := max(0, min(r.ContentLength, DefaultBodyLimit)) + bytes.MinRead // which ReadFrom wants to see the end
	b := bytes.NewBuffer(make([]byte, 0, room))
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, h.bodyLimit))
	if err == nil {
		lift()
	}
	return b.Bytes(), err
}

// limitBody limits the time that the body may take, since a server without a
// ReadTimeout would wait for a slow one forever. A ReadTimeout of the server's
// takes precedence. Setting a deadline may be unsupported by a middleware's
// ResponseWriter; then the server's is all there is.
//
// The limit must be lifted once the body has been read. The server does so itself
// when it reads the body's end; but if a middleware read the body earlier and put
// it back, the deadline would end the request's context in the middle of a
// callback. After an error, and if the answer does not need the body, the limit
// stays: the server reads the rest of a body before it sends the answer. It does
// not outlast the request.
func (h *Handler) limitBody(w http.ResponseWriter, r *http.Request) (lift func()) {
	_, arrived := r.Body.(restoredBody)
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	rc := http.NewResponseController(w)
	if arrived || r.ContentLength == 0 || server != nil && server.ReadTimeout > 0 ||
		rc.SetReadDeadline(time.Now().Add(h.bodyTimeout)) != nil {
		return func() {}
	}
	return func() { _ = rc.SetReadDeadline(time.Time{}) }
}

// decompress returns the text of a body that is not blank. The content decides:
// senders put charsets into Content-Encoding, and middleware that decompresses
// leaves the header. The error is a [*SyntaxError], [ErrEncoding] or an
// [*http.MaxBytesError].
func decompress(body []byte, header http.Header, limit int64) ([]byte, error) {
	coding := compression(header)
	switch {
	case bytes.HasPrefix(body, []byte{0x1f, 0x8b}) && coding == "":
		return gunzip(body, limit)
	case coding == "", bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(body, byteOrderMark), " \t\r\n"), []byte("{")):
		return body, nil
	}
	return nil, fmt.Errorf("%w %s: send the body uncompressed or as gzip", ErrEncoding, coding)
}

// compression returns the compression other than gzip that a Content-Encoding
// names, or "".
func compression(header http.Header) string {
	for coding := range strings.SplitSeq(strings.Join(header.Values("Content-Encoding"), ","), ",") {
		switch coding = strings.ToLower(strings.TrimSpace(coding)); coding {
		case "br", "compress", "x-compress", "deflate", "zstd":
			return coding
		}
	}
	return ""
}

// gunzip decompresses all members of a gzip file, up to a limit.
func gunzip(body []byte, limit int64) ([]byte, error) {
	var text []byte
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err == nil {
		limit = min(limit, math.MaxInt64-1)
		text, err = io.ReadAll(io.LimitReader(z, limit+1))
	}
	switch {
	case int64(len(text)) > limit:
		return nil, &http.MaxBytesError{Limit: limit}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, &SyntaxError{Offset: int64(len(body)), Reason: "the gzip body ends too early"}
	case err != nil:
		return nil, &SyntaxError{Reason: "the gzip body is corrupt"}
	}
	return text, nil
}

// other answers an event that is not an infraction: the fallback does, with the
// body unread.
func (h *Handler) other(w http.ResponseWriter, r *http.Request, text []byte, err error) Outcome {
	if h.fallback == nil {
		return reject(w, ResultOther, err, parseProblem(err))
	}
	again := r.WithContext(r.Context()) // a shallow copy: the caller's request keeps its drained body
	again.Body = restoredBody{bytes.NewReader(text)}
	again.ContentLength = int64(len(text))
	again.TransferEncoding = nil
	again.Header = r.Header.Clone()
	again.Header.Del("Content-Encoding")
	again.Header.Set("Content-Length", strconv.Itoa(len(text)))
	h.fallback.ServeHTTP(w, again)
	return Outcome{Result: ResultOther, Err: err}
}

// restoredBody is a body that was read and can be read again.
type restoredBody struct{ *bytes.Reader }

func (restoredBody) Close() error { return nil }
