package pixmedtest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestEncoding(t *testing.T) {
	t.Parallel()
	// The base64 text of this content includes +, / and =.
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
		{"tabs", pixmedtest.Tabs, envelope(inLines(`\t`))},
		{"tabs and line breaks", pixmedtest.Tabs | pixmedtest.LineBreaks, envelope(inLines(`\r\n\t`))},
		{"raw tabs and line breaks", pixmedtest.Tabs | pixmedtest.RawLineBreaks, envelope(inLines("\r\n\t"))},
		{"leading spaces", pixmedtest.LeadingSpaces, envelope("  " + text)},
		{
			"leading spaces, data URI", pixmedtest.LeadingSpaces | pixmedtest.DataURI,
			envelope("  data:application/pdf;base64,  " + text),
		},
		{"trailing spaces", pixmedtest.TrailingSpaces, envelope(text + "  ")},
		{"URL-safe", pixmedtest.URLSafe, envelope(base64.URLEncoding.EncodeToString(content))},
		{"unpadded", pixmedtest.Unpadded, envelope(base64.RawStdEncoding.EncodeToString(content))},
		{"URL-safe and unpadded", pixmedtest.URLSafe | pixmedtest.Unpadded, envelope(base64.RawURLEncoding.EncodeToString(content))},
		{"data URI", pixmedtest.DataURI, envelope("data:application/pdf;base64," + text)},
		{
			"data URI, lines and escaped slashes",
			pixmedtest.DataURI | pixmedtest.LineBreaks | pixmedtest.EscapedSlashes,
			strings.ReplaceAll(envelope("data:application/pdf;base64,"+inLines(`\r\n`)), "/", `\/`),
		},
		{"bare", pixmedtest.BarePDF | pixmedtest.DataURI | pixmedtest.LeadingSpaces, string(content)},
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
					t.Errorf("Content-Length = %d, want %d; chunked = %t, want %t", got.Length, wantLength, got.Chunks, chunks)
				}
				body := got.Body
				if framing.encoding&pixmedtest.Gzip != 0 {
					if got.Header.Get("Content-Encoding") != "gzip" {
						t.Errorf("Content-Encoding = %q, want gzip", got.Header.Get("Content-Encoding"))
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
					t.Errorf("valid JSON: %t, want %t", !valid, valid)
				}
				if got := got.Header.Get("Content-Type"); got != wantType {
					t.Errorf("Content-Type = %q, want %q", got, wantType)
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
