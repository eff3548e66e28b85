// Package envelope decodes the JSON object in which the gateway wraps the PDF
// of a receipt:
//
//	{"status":"SUCCESS","data":{"receipt":"<base64>","mimeType":"application/pdf"}}
//
// It decodes a stream in constant memory: it never holds the envelope, the
// base64 text, the PDF or an unknown member, however large they are.
//
// # What is accepted
//
// The envelope must be valid JSON, nested at most 1,000 levels deep. Beyond
// that, the decoder accepts what encoders and gateways are known to send:
//
//   - members in any order, and unknown members with any value, in the envelope
//     and in its data;
//   - a byte order mark before the envelope;
//   - a status in upper, lower or mixed case;
//   - JSON escapes in the base64 text;
//   - line breaks and tabs anywhere in the text, escaped or raw (JSON forbids
//     raw ones, and the decoder refuses them in every other string);
//   - spaces before the text, and spaces after it if the number of characters
//     before them, padding included, is a multiple of four;
//   - the standard and the URL-safe alphabet, padding or none, and trailing
//     bits that are not zero;
//   - a prefix "data:...;base64," with at most 256 printable ASCII characters
//     before its comma;
//   - anything before the %PDF- of the content, as long as %PDF- lies within the
//     first 1,024 bytes, where PDF readers look for it;
//   - the PDF itself in place of the envelope, with at most a byte order mark
//     and white space before it.
//
// What precedes %PDF- is delivered as it came, like the rest of the PDF.
//
// # What is refused
//
// Everything else is refused, each fault with its own error. In particular, a
// space anywhere else in the text is corrupt base64, since form decoding turns
// "+" into a space. Only [io.EOF] means that the envelope was read and verified
// to its end: bytes delivered before any other error may be part of a PDF.
package envelope

import (
	"errors"
	"io"
	"math"
	"sync"
)

const (
	bufferSize = 32 << 10 // of the input

	// overhead is how much an envelope may hold besides the base64 text. It need
	// not be exact: it ends an endless stream of unknown members.
	overhead = 64 << 10
)

// Options configure a [Decoder].
type Options struct {
	// MaxBytes is the size of the largest PDF to accept. It also limits the
	// envelope, to 2*MaxBytes + 64 KiB, which leaves room for escapes in the text
	// and for other members.
	MaxBytes int64

	// KnownLength reports whether the reader itself detects a truncated input, as
	// the body of an HTTP response with a Content-Length does. A PDF without an
	// envelope then need not end with %%EOF.
	KnownLength bool

	// Redact, unless nil, removes secrets from text of the input before an error
	// quotes it. The text has been cut to a few hundred bytes by then.
	Redact func(string) string
}

// A Decoder reads the PDF from an envelope. It delivers nothing until it has
// found %PDF-.
//
// Errors are sticky. Errors about the input are of type [*Error]; errors of the
// underlying reader are wrapped.
type Decoder struct {
	// The input; see input.go.
	src     io.Reader
	buf     []byte
	pooled  *buffer // the array of buf, unless Release returned it
	r, w    int     // buf[r:w] has been read from src and not yet decoded
	base    int64   // offset of buf[0] in the input
	limit   int64   // size of the largest input
	keep    int     // how many bytes before buf[w] to keep when filling buf
	readErr error   // what to return after buf[r:w]

	// The envelope; see members.go.
	first   bool    // the next member is the first of its object
	inData  bool    // the next member is one of data
	nameAt  int64   // offset of the last member's name
	seen    members // the known members read so far
	failed  *Error  // why the status is not SUCCESS
	lack    *Error  // why there is no receipt if the status is SUCCESS
	message []byte  // what the gateway has to say
	mime    string
	redact  func(string) string

	// The PDF; see base64.go and pdf.go.
	maxBytes int64
	left     int64 // how many more bytes it may have
	known    bool  // see Options.KnownLength
	charAt   int64 // offset of the last character of the text
	mixed    bool  // the text is not plain standard base64

	phase phase
	rest  []byte // decoded but not yet delivered
	err   error

	scratch [window + 2]byte // backs rest and every string but message
}

// A phase is what a Decoder reads next.
type phase uint8

const (
	atStart phase = iota
	inMembers
	inText
	inBare
)

// buffers recycles buffers, since a new one costs as much as decoding a small
// receipt.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

type buffer [bufferSize]byte

// NewDecoder returns a Decoder that reads from r. It never closes r.
func NewDecoder(r io.Reader, o Options) *Decoder {
	b := buffers.Get().(*buffer)
	d := newDecoder(r, o, b[:])
	d.pooled = b
	return d
}

// newDecoder is NewDecoder with a given input buffer.
func newDecoder(r io.Reader, o Options, buf []byte) *Decoder {
	maxBytes := max(o.MaxBytes, 0)
	return &Decoder{
		src:      r,
		buf:      buf,
		limit:    2*min(maxBytes, (math.MaxInt64-overhead)/2) + overhead,
		maxBytes: maxBytes,
		left:     maxBytes,
		known:    o.KnownLength,
		redact:   o.Redact,
	}
}

// Release makes the Decoder's buffer available to other Decoders. After it,
// Read returns an error. Calling Release is optional, and calling it again does
// nothing, but it must not run while Read or another Release does: they would use
// a buffer that belongs to another Decoder.
func (d *Decoder) Release() {
	d.err, d.rest = errReleased, nil
	if d.pooled != nil {
		buffers.Put(d.pooled)
		d.pooled, d.buf, d.r, d.w = nil, nil, 0, 0
	}
}

var errReleased = errors.New("read from a released decoder")

// Read reads the next bytes of the PDF into p. It returns [io.EOF] only after
// it has verified the whole envelope: the status is SUCCESS, the object is
// closed, and nothing but white space follows it.
func (d *Decoder) Read(p []byte) (n int, err error) {
	for n == 0 {
		switch {
		case len(d.rest) > 0:
			n = copy(p, d.rest)
			d.rest = d.rest[n:]
			return n, nil
		case d.err != nil || len(p) == 0:
			return 0, d.err
		case d.phase == atStart:
			d.err = d.start()
		case d.phase == inMembers:
			d.err = d.envelope()
		case d.phase == inBare:
			n, d.err = d.bare(p)
		case len(p) < 3: // too small for a quantum
			n, d.err = d.text(d.scratch[:3])
			n, d.rest = 0, d.scratch[:n]
		default:
			n, d.err = d.text(p)
		}
	}
	return n, nil
}

// MIMEType returns the type of the content as the envelope gives it, at most
// 255 bytes long and otherwise unchecked, or application/pdf for a PDF without
// an envelope. It is empty until the type is known, and final after [io.EOF].
func (d *Decoder) MIMEType() string { return d.mime }
