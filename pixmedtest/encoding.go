package pixmedtest

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
)

// Encoding is a set of differences between a receipt response and the example in
// the gateway's documentation. The zero Encoding has none: it is a JSON object
// with the PDF in padded standard base64, sent with a Content-Length. Real
// encoders, frameworks and proxies cause each of these differences. Combine them
// with |:
//
//	pixmedtest.URLSafe | pixmedtest.Unpadded
type Encoding uint

const (
	// EscapedSlashes writes every / in the JSON as \/, as PHP does.
	EscapedSlashes Encoding = 1 << iota
	// EscapedUnicode writes every +, / and = in the JSON as \u002B, \u002F and
	// \u003D, as .NET and others do.
	EscapedUnicode
	// LineBreaks breaks the base64 text into lines of 76 characters, with the
	// escapes \r\n.
	LineBreaks
	// RawLineBreaks breaks the base64 text into lines of 76 characters, with
	// unescaped CR and LF, which JSON forbids.
	RawLineBreaks
	// Tabs writes the escape \t after every 76 characters of the base64 text, at
	// the start of the next line if there are line breaks. With RawLineBreaks the
	// tabs are not escaped either.
	Tabs
	// LeadingSpaces writes two spaces before the base64 text. With DataURI there
	// are two spaces on each side of the prefix.
	LeadingSpaces
	// TrailingSpaces writes two spaces after the base64 text. With Unpadded,
	// package pixmed rejects the receipt unless the length of the text is a
	// multiple of four: the spaces may be a + that was lost.
	TrailingSpaces
	// URLSafe uses the base64 alphabet with - and _ in place of + and /.
	URLSafe
	// Unpadded omits the = at the end of the base64 text.
	Unpadded
	// DataURI writes data:application/pdf;base64, before the base64 text.
	DataURI
	// BarePDF sends the PDF itself as application/pdf, without JSON. The flags
	// above then have no effect.
	BarePDF

	// Gzip compresses the body, whether or not the client asked for it. Unlike
	// the flags above, Gzip, Chunked and UntilClose apply to every response,
	// including errors.
	Gzip
	// Chunked sends the body in chunks, without a Content-Length. It has no
	// effect together with UntilClose.
	Chunked
	// UntilClose sends the body without a Content-Length and without chunks, as
	// HTTP/1.0 does. The end of the connection is the end of the body, so a client
	// that gets only a part of it (see [Fault]) can tell only from its content.
	UntilClose
)

// has reports whether e includes one of the flags.
func (e Encoding) has(flags Encoding) bool { return e&flags != 0 }

func (e Encoding) contentType() string {
	if e.has(BarePDF) {
		return "application/pdf"
	}
	return jsonType
}

// encode returns the body of a receipt response.
func (e Encoding) encode(content []byte) []byte {
	if e.has(BarePDF) {
		return content
	}
	var before, after string
	if e.has(LeadingSpaces) {
		before = "  "
	}
	if e.has(DataURI) {
		before += "data:application/pdf;base64," + before
	}
	if e.has(TrailingSpaces) {
		after = "  "
	}
	body := `{"status":"SUCCESS","data":{"receipt":"` + before + e.text(content) + after + `","mimeType":"application/pdf"}}`
	// JSON itself has none of the characters that are escaped.
	switch {
	case e.has(EscapedUnicode):
		body = strings.NewReplacer("+", `\u002B`, "/", `\u002F`, "=", `\u003D`).Replace(body)
	case e.has(EscapedSlashes):
		body = strings.ReplaceAll(body, "/", `\/`)
	}
	return []byte(body)
}

// text returns the base64 text, in lines if e says so.
func (e Encoding) text(content []byte) string {
	encoding := base64.StdEncoding
	if e.has(URLSafe) {
		encoding = base64.URLEncoding
	}
	if e.has(Unpadded) {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	lineBreak, tab := `\r\n`, `\t`
	if e.has(RawLineBreaks) {
		lineBreak, tab = "\r\n", "\t"
	}
	var separator string
	if e.has(LineBreaks | RawLineBreaks) {
		separator = lineBreak
	}
	if e.has(Tabs) {
		separator += tab
	}
	lines := slices.Collect(slices.Chunk(encoding.AppendEncode(nil, content), 76))
	return string(bytes.Join(lines, []byte(separator)))
}
