package pixmedtest

import (
	"encoding/base64"
	"io"
	"strings"
)

// Encoding says in what ways a receipt's answer differs from the one in the
// specification, which is the zero Encoding: a JSON object with the PDF in
// padded standard base64, sent with a Content-Length. All of them are what real
// encoders, frameworks and proxies do. They combine with |:
//
//	pixmedtest.URLSafe | pixmedtest.Unpadded
type Encoding uint

const (
	// EscapedSlashes writes / as \/ throughout, as PHP does.
	EscapedSlashes Encoding = 1 << iota
	// EscapedUnicode writes +, / and = as \u002B, \u002F and \u003D, as .NET
	// and others do.
	EscapedUnicode
	// LineBreaks breaks the base64 text into lines of 76 characters by the
	// escapes \r\n.
	LineBreaks
	// RawLineBreaks does it by the characters themselves, which JSON forbids.
	RawLineBreaks
	// URLSafe uses the base64 alphabet with - and _ for + and /.
	URLSafe
	// Unpadded leaves out the = at the end of the base64 text.
	Unpadded
	// DataURI writes data:application/pdf;base64, before the base64 text.
	DataURI
	// BarePDF sends the PDF itself as application/pdf, without any JSON. What
	// stands above has no effect then.
	BarePDF

	// Gzip compresses the body, whether or not the client asked for it. It and
	// what stands below hold for every answer with a body, errors included.
	Gzip
	// Chunked sends the body in chunks, without a Content-Length. It has no
	// effect together with UntilClose.
	Chunked
	// UntilClose sends the body without a Content-Length and without chunks,
	// as HTTP/1.0 does: it ends where the connection is closed, and a client
	// does not see a [Fault].Cut but by what is missing.
	UntilClose
)

func (e Encoding) has(flag Encoding) bool { return e&flag != 0 }

func (e Encoding) contentType() string {
	if e.has(BarePDF) {
		return "application/pdf"
	}
	return jsonType
}

// write writes the answer's body for a receipt. It holds no copy of it: the
// content may be large, and the memory of its client under test.
func (e Encoding) write(w io.Writer, content []byte) error {
	if e.has(BarePDF) {
		_, err := w.Write(content)
		return err
	}

	// None of the three characters is JSON punctuation, so the whole document
	// can pass through.
	switch {
	case e.has(EscapedUnicode):
		w = replacer{w, strings.NewReplacer("+", `\u002B`, "/", `\u002F`, "=", `\u003D`)}
	case e.has(EscapedSlashes):
		w = replacer{w, strings.NewReplacer("/", `\/`)}
	}
	text := w
	switch {
	case e.has(RawLineBreaks):
		text = &lines{w: w, separator: "\r\n"}
	case e.has(LineBreaks):
		text = &lines{w: w, separator: `\r\n`}
	}
	encoding := base64.StdEncoding
	if e.has(URLSafe) {
		encoding = base64.URLEncoding
	}
	if e.has(Unpadded) {
		encoding = encoding.WithPadding(base64.NoPadding)
	}

	before := `{"status":"SUCCESS","data":{"receipt":"`
	if e.has(DataURI) {
		before += "data:application/pdf;base64,"
	}
	if _, err := io.WriteString(w, before); err != nil {
		return err
	}
	encoder := base64.NewEncoder(encoding, text)
	if _, err := encoder.Write(content); err != nil {
		return err
	}
	if err := encoder.Close(); err != nil {
		return err
	}
	_, err := io.WriteString(w, `","mimeType":"application/pdf"}}`)
	return err
}

// replacer replaces single characters in what is written.
type replacer struct {
	w        io.Writer
	replacer *strings.Replacer
}

func (r replacer) Write(p []byte) (int, error) {
	if _, err := r.replacer.WriteString(r.w, string(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// lines puts a separator between lines of 76 characters, as MIME has them.
type lines struct {
	w         io.Writer
	separator string
	column    int
}

func (l *lines) Write(p []byte) (int, error) {
	const width = 76
	for rest := p; len(rest) > 0; {
		if l.column == width {
			if _, err := io.WriteString(l.w, l.separator); err != nil {
				return 0, err
			}
			l.column = 0
		}
		n := min(len(rest), width-l.column)
		if _, err := l.w.Write(rest[:n]); err != nil {
			return 0, err
		}
		l.column += n
		rest = rest[n:]
	}
	return len(p), nil
}
