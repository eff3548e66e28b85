package envelope_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

const mib = 1 << 20

// A small PDF, and its text in a receipt.
const samplePDF = "%PDF-1.4\n1 0 obj ~~~??? endobj\n%%EOF\n"

var sampleText = base64.StdEncoding.EncodeToString([]byte(samplePDF))

var kinds = map[string]error{
	"malformed": envelope.ErrMalformed,
	"failed":    envelope.ErrFailed,
	"missing":   envelope.ErrMissing,
	"empty":     envelope.ErrEmpty,
	"truncated": envelope.ErrTruncated,
	"base64":    envelope.ErrBase64,
	"trailing":  envelope.ErrTrailing,
	"too large": envelope.ErrTooLarge,
	"not a PDF": envelope.ErrNotPDF,
}

// kindOf returns the name of the kind of err, which must have exactly one.
func kindOf(err error) string {
	if err == io.EOF {
		return "EOF"
	}
	var found []string
	for name, kind := range kinds {
		if errors.Is(err, kind) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return "none or many: " + strings.Join(found, ", ")
	}
	return found[0]
}

// A result is everything that a decoder returned.
type result struct {
	PDF    string
	MIME   string
	Kind   string // "EOF" if the envelope is good
	Offset int64  // of the error
	Error  string
}

// drain reads d to its end in pieces of the given size.
func drain(d *envelope.Decoder, size int) result {
	var pdf strings.Builder
	var err error
	p := make([]byte, size)
	for n := 0; err == nil; {
		n, err = d.Read(p)
		pdf.Write(p[:n])
	}
	res := result{PDF: pdf.String(), MIME: d.MIMEType(), Kind: kindOf(err), Error: err.Error()}
	if e, ok := errors.AsType[*envelope.Error](err); ok {
		res.Offset = e.Offset
	}
	return res
}

// decode decodes r with a large limit.
func decode(r io.Reader) result {
	return drain(envelope.NewDecoder(r, envelope.Options{MaxBytes: 64 * mib}), 512)
}

// accepted is a good envelope, the PDF in it, and its MIME type.
type accepted struct{ name, input, pdf, mime string }

func testAccepted(t *testing.T, tests []accepted) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := result{PDF: tt.pdf, MIME: tt.mime, Kind: "EOF", Error: "EOF"}
			if diff := cmp.Diff(want, decode(strings.NewReader(tt.input))); diff != "" {
				t.Error("(-want +got)\n", diff)
			}
		})
	}
}

// refused is a bad envelope, its error, and what is delivered before the error.
type refused struct{ name, input, error, pdf, mime string }

func testRefused(t *testing.T, tests []refused) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := decode(strings.NewReader(tt.input))
			want := result{PDF: tt.pdf, MIME: tt.mime, Error: tt.error, Kind: got.Kind, Offset: got.Offset}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error("(-want +got)\n", diff)
			}
			if kind, ok := kinds[got.Kind]; !ok || !strings.HasPrefix(got.Error, fmt.Sprintf("%s at byte %d", kind, got.Offset)) {
				t.Errorf("%q is of the kind %q, at byte %d", got.Error, got.Kind, got.Offset)
			}
		})
	}
}

// makePDF returns size bytes that begin and end as a PDF does.
func makePDF(size int) []byte {
	const start, end = "%PDF-1.7\n", "\n%%EOF\n"
	pdf := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(pdf)
	copy(pdf, start)
	copy(pdf[size-len(end):], end)
	return pdf
}

// seal puts the text of a receipt into an envelope.
func seal(text string) string {
	return `{"status":"SUCCESS","data":{"receipt":"` + text + `","mimeType":"application/pdf"}}`
}

// around returns a good envelope with other members before and after its own.
func around(members string) string {
	return `{` + members + `,"status":"SUCCESS","data":{` + members + `,"receipt":"` + sampleText + `",` + members + `},` + members + `}`
}

// wrap inserts a line break after every 76 characters.
func wrap(text, lineBreak string) string {
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76])
		b.WriteString(lineBreak)
		text = text[76:]
	}
	b.WriteString(text)
	return b.String()
}

// escapeAll writes every character of s as a \u escape.
func escapeAll(s string) string {
	const hex = "0123456789aBcDeF"
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(`\u00`)
		b.WriteByte(hex[s[i]>>4])
		b.WriteByte(hex[s[i]&15])
	}
	return b.String()
}

// chunks is a reader that returns one of its strings at a time.
type chunks []string

func (c *chunks) Read(p []byte) (int, error) {
	if len(*c) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*c)[0])
	if (*c)[0] = (*c)[0][n:]; (*c)[0] == "" {
		*c = (*c)[1:]
	}
	return n, nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// repeat returns a reader of n bytes, s over and over.
func repeat(s string, n int64) io.Reader {
	return io.LimitReader(&repeater{s: strings.Repeat(s, 1024)}, n)
}

type repeater struct {
	s string
	i int
}

func (r *repeater) Read(p []byte) (n int, _ error) {
	for n < len(p) {
		m := copy(p[n:], r.s[r.i:])
		r.i = (r.i + m) % len(r.s)
		n += m
	}
	return n, nil
}

// large returns a reader of start, 256 KiB of units, and end.
func large(start, unit, end string) io.Reader {
	size := int64(mib / 4 / len(unit) * len(unit))
	return io.MultiReader(strings.NewReader(start), repeat(unit, size), strings.NewReader(end))
}
