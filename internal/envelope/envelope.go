// Package envelope decodes the JSON object in which the gateway wraps the PDF
// of a receipt:
//
//	{"status":"SUCCESS","data":{"receipt":"<base64>","mimeType":"application/pdf"}}
//
// It does so as a stream and in constant memory: neither the envelope nor the
// base64 text nor the PDF is ever held, whatever its size, and neither is any
// member the package does not know.
//
// # What is accepted
//
// The envelope is scanned strictly as JSON, by the grammar and with the nesting
// limit of encoding/json. On top of that the decoder bears with what encoders
// and gateways are known to emit:
//
//   - members in any order, and unknown members with any value, both in the
//     envelope and in its data;
//   - a byte order mark at the start;
//   - a status in any (ASCII) case;
//   - JSON escapes in the base64 text, and CR and LF anywhere in it, escaped or
//     (against the grammar, and in no other string) raw;
//   - the standard and the URL-safe alphabet, padding that is right or absent,
//     and trailing bits that are not zero;
//   - a prefix "data:...;base64," of printable ASCII characters, at most 256 of
//     them before the comma;
//   - in place of an envelope, the PDF itself.
//
// # What is refused
//
// Everything else, and each reason has its error. In particular [io.EOF] says
// that the envelope was read and verified to its end; bytes that came before
// any other error are a part of a PDF at best.
package envelope

import (
	"errors"
	"io"
	"math"
	"sync"
)

const (
	bufferSize = 32 << 10           // of the input
	chunkSize  = bufferSize / 4 * 3 // what a full buffer decodes to

	// overhead is what an envelope may hold besides a PDF of the largest size
	// in base64, which itself needs but 4/3 of that size: the envelope's bound
	// is there to end a stream of unknown members, not to be exact.
	overhead = 64 << 10
)

// Options are the limits of a [Decoder] and what is known of its input.
type Options struct {
	// MaxBytes is the size of the largest PDF to accept. It must be positive.
	// It bounds the envelope too, to 2*MaxBytes + 64 KiB: so much may be escaped
	// in the text of the largest PDF, or be there besides it, but no more.
	MaxBytes int64

	// KnownLength says that the reader itself proves its end, as the body of an
	// HTTP response with a Content-Length does. A PDF that comes without an
	// envelope then need not end in %%EOF.
	KnownLength bool

	// Redact, unless nil, takes out of a text what errors must not show: they
	// quote the input, which may quote the credentials that it was asked for with.
	Redact func(string) string
}

// A Decoder reads the PDF out of an envelope. It delivers nothing before it has
// seen that the content starts as a PDF does.
//
// Errors are sticky. Those about the input are of type [*Error], those of the
// underlying reader are wrapped.
type Decoder struct {
	// The input; see input.go.
	src     io.Reader
	buf     []byte
	pooled  *buffer             // what buf is in, if it is to be used again
	r, w    int                 // buf[r:w] is yet to be read
	base    int64               // offset of buf[0] in the input
	limit   int64               // largest input
	keep    int                 // how many bytes before buf[w] to keep for looking back
	readErr error               // what to return when buf[r:w] has been read
	redact  func(string) string // see Options.Redact

	// The envelope; see members.go.
	first    bool    // the next member is the first of its object
	inData   bool    // the members are those of data
	nameAt   int64   // offset of the last member's name
	seen     members // those read so far
	lack     error   // why there is no receipt, to be returned after a good status
	failed   string  // what is wrong with the status, "" if nothing is so far
	failedAt int64   // offset of that
	message  []byte  // the envelope's message
	mime     string

	// The PDF; see base64.go and bare.go.
	maxBytes int64
	left     int64 // how many bytes it may still have
	known    bool  // see Options.KnownLength
	mixed    bool  // the text is not all of base64's standard alphabet

	phase phase
	rest  []byte // decoded but not delivered; empty when err is set
	err   error

	head    [6]byte // backs rest
	scratch [256]byte
	msg     [200]byte // backs message
}

// A phase is what a Decoder has before it.
type phase uint8

const (
	atStart phase = iota
	inMembers
	inText
	inBare
)

// buffers are used again: to make them takes as long as to decode a small receipt.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

type buffer [bufferSize]byte

// NewDecoder returns a Decoder that reads from r, and from r alone: it is for
// the caller to close r if need be. NewDecoder panics if o.MaxBytes is not
// positive.
func NewDecoder(r io.Reader, o Options) *Decoder {
	b := buffers.Get().(*buffer)
	d := newDecoder(r, o, b[:])
	d.pooled = b
	return d
}

// Release ends the reading and makes the Decoder's memory available to others.
// It is not needed: a Decoder may be forgotten as it is.
func (d *Decoder) Release() {
	d.err, d.rest = errReleased, nil
	if d.pooled != nil {
		buffers.Put(d.pooled)
		d.pooled, d.buf, d.r, d.w = nil, nil, 0, 0
	}
}

var errReleased = errors.New("envelope: the Decoder was released")

// newDecoder is NewDecoder with a buffer for the input.
func newDecoder(r io.Reader, o Options, buf []byte) *Decoder {
	if o.MaxBytes <= 0 {
		panic("envelope: MaxBytes must be positive")
	}
	limit := int64(math.MaxInt64)
	if o.MaxBytes <= (math.MaxInt64-overhead)/2 {
		limit = 2*o.MaxBytes + overhead
	}
	return &Decoder{
		src:      r,
		buf:      buf,
		limit:    limit,
		maxBytes: o.MaxBytes,
		left:     o.MaxBytes,
		known:    o.KnownLength,
		redact:   o.Redact,
	}
}

// Read reads the next bytes of the PDF into p. It returns [io.EOF] only once
// the whole envelope has been verified: the status is SUCCESS, the object is
// closed, and nothing but white space is between it and the end of the input.
func (d *Decoder) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, d.err
	}
	for {
		if len(d.rest) > 0 {
			n := copy(p, d.rest)
			d.rest = d.rest[n:]
			return n, nil
		}
		if d.err != nil {
			return 0, d.err
		}
		var n int
		switch d.phase {
		case atStart:
			d.err = d.start()
		case inMembers:
			d.err = d.envelope()
		case inText:
			n, d.err = d.text(p)
		case inBare:
			n, d.err = d.bare(p)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// WriteTo writes the PDF, or what has not been read of it, to w. Where w fails,
// bytes are lost between the Decoder and w: the error is sticky like any other.
func (d *Decoder) WriteTo(w io.Writer) (int64, error) {
	var total int64
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	chunk := b[:chunkSize]
	for {
		n, err := d.Read(chunk)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		m, err := w.Write(chunk[:n])
		total += int64(m)
		if err == nil && m != n {
			err = io.ErrShortWrite
		}
		if err != nil {
			d.err = err
			return total, err
		}
	}
}

// MIMEType returns the type of the content as the envelope gives it, unchecked,
// or application/pdf if there is no envelope around the PDF. It is empty as
// long as the type is not known, and final after [io.EOF].
func (d *Decoder) MIMEType() string { return d.mime }
