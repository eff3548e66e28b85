package envelope_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	vectorised "github.com/segmentio/asm/base64"
)

func TestBase64(t *testing.T) {
	t.Parallel()

	raw := base64.RawStdEncoding.EncodeToString([]byte(samplePDF))
	url := base64.URLEncoding.EncodeToString([]byte(samplePDF))
	if !strings.ContainsAny(sampleText, "+/") || !strings.ContainsAny(url, "-_") || raw == sampleText {
		t.Fatal("the sample is the same in two encodings")
	}
	testAccepted(t, []accepted{
		{"escaped slashes", seal(strings.ReplaceAll(sampleText, "/", `\/`)), samplePDF, "application/pdf"},
		{"escaped base64", seal(escapeAll(sampleText)), samplePDF, "application/pdf"},
		{"escaped padding", seal(strings.ReplaceAll(sampleText, "=", `\u003d`)), samplePDF, "application/pdf"},
		{"escaped line breaks", seal(`\r\n` + strings.Join(strings.Split(sampleText, ""), `\n`) + `\r\u000a`), samplePDF, "application/pdf"},
		{"raw line breaks", seal("\r\n" + strings.Join(strings.Split(sampleText, ""), "\n\r") + "\r\n"), samplePDF, "application/pdf"},
		{"four raw line breaks", seal(sampleText[:8] + "\n\n\n\n" + sampleText[8:]), samplePDF, "application/pdf"},
		{"URL-safe alphabet", seal(url), samplePDF, "application/pdf"},
		{"both alphabets", seal(sampleText[:20] + url[20:]), samplePDF, "application/pdf"},
		{"no padding", seal(raw), samplePDF, "application/pdf"},
		{"no padding, URL-safe", seal(strings.TrimRight(url, "=")), samplePDF, "application/pdf"},
		{"one padding character", seal("JVBERi0xLjE="), "%PDF-1.1", "application/pdf"},
		{"two padding characters", seal("JVBERi0xLg=="), "%PDF-1.", "application/pdf"},
		{"two characters in the end", seal("JVBERi0xLg"), "%PDF-1.", "application/pdf"},
		{"trailing bits", seal("JVBERi0xLh=="), "%PDF-1.", "application/pdf"},
		{"trailing bits, no padding", seal("JVBERi0xLjF"), "%PDF-1.1", "application/pdf"},
		{"as short as can be", seal("JVBERi0="), "%PDF-", "application/pdf"},
		{"as short as can be, no padding", seal("JVBERi0"), "%PDF-", "application/pdf"},
		{"six bytes", seal("JVBERi0x"), "%PDF-1", "application/pdf"},

		{"data URL", seal("data:application/pdf;base64," + sampleText), samplePDF, "application/pdf"},
		{"data URL in upper case", seal("DATA:APPLICATION/PDF;BASE64," + sampleText), samplePDF, "application/pdf"},
		{"data URL escaped", seal(escapeAll("data:application/pdf;base64,") + sampleText), samplePDF, "application/pdf"},
		{"data URL with line breaks", seal("\nda\r\nta:application\\/pdf;bas\ne64\n,\n" + sampleText), samplePDF, "application/pdf"},
		{"data URL with parameters", seal(`data:application/pdf; name=\"a b\";charset=utf-8;base64,` + sampleText), samplePDF, "application/pdf"},
		{"shortest data URL", seal("data:;base64," + sampleText), samplePDF, "application/pdf"},
		{"longest data URL", seal("data:" + strings.Repeat("x", 256-12) + ";base64," + sampleText), samplePDF, "application/pdf"},
		{"data URL and a space", seal("data:application/pdf;base64, " + sampleText), samplePDF, "application/pdf"},
		{"data URL among spaces", seal(" \n data:application/pdf;base64, \r\n\t " + sampleText + " "), samplePDF, "application/pdf"},
		{"data that is no data URL", seal("data" + sampleText), "u\xabZ" + samplePDF, "application/pdf"},

		{"tabs", seal("\t" + strings.Join(strings.Split(sampleText, ""), "\t") + "\t"), samplePDF, "application/pdf"},
		{"escaped tabs", seal(`\t` + strings.Join(strings.Split(sampleText, ""), `\t`) + `\u0009`), samplePDF, "application/pdf"},
		{"spaces first", seal("   " + sampleText), samplePDF, "application/pdf"},
		{"escaped spaces first", seal(`\u0020\u0020` + sampleText), samplePDF, "application/pdf"},
		{"spaces last", seal(sampleText + "   "), samplePDF, "application/pdf"},
		{"spaces after all but the padding", seal("JVBERi0xLjEK  "), "%PDF-1.1\n", "application/pdf"},
		{"spaces after one padding character", seal("JVBERi0xLjE= "), "%PDF-1.1", "application/pdf"},
		{"spaces after two padding characters", seal("JVBERi0xLg== "), "%PDF-1.", "application/pdf"},
		{"spaces, line breaks and tabs around", seal("\n \t \r" + sampleText + "\n \r\n\t \\n \\u0020"), samplePDF, "application/pdf"},
		{"spaces after a short text", seal("JVBERi0= "), "%PDF-", "application/pdf"},
	})
}

func TestBase64Refused(t *testing.T) {
	t.Parallel()

	const space = `a space inside the text, where a "+" may have been lost`
	testRefused(t, []refused{
		{"corrupt at once", seal("!VBERi0x"), `corrupt base64 at byte 39: unexpected character "!"`, "", ""},
		{"corrupt before the magic", seal("JVBE Ri0x"), `corrupt base64 at byte 43: ` + space, "", ""},
		{"corrupt later", seal("JVBERi0xLjQ*"), `corrupt base64 at byte 50: unexpected character "*"`, "%PDF-1", ""},
		{"corrupt in the third quantum", seal("JVBERi0xLjEKJSVFT0YK?"), `corrupt base64 at byte 59: unexpected character "?"`, "%PDF-1.1\n%%EOF\n", ""},
		{"a space after a quantum", seal("JVBERi0xLjEK JSVF"), `corrupt base64 at byte 51: ` + space, "%PDF-1.1\n", ""},
		{"a space in a quantum", seal("JVBERi0xLjEKJ SVF"), `corrupt base64 at byte 52: ` + space, "%PDF-1.1\n", ""},
		{"an escaped space", seal(`JVBERi0xLjEK\u0020JSVF`), `corrupt base64 at byte 51: ` + space, "%PDF-1.1\n", ""},
		{"the first of several spaces", seal("JVBERi0xLjEK \n  JSVF"), `corrupt base64 at byte 51: ` + space, "%PDF-1.1\n", ""},
		{"a space after one character", seal("JVBERi0xL "), `corrupt base64 at byte 48: ` + space, "%PDF-1", ""},
		{"a space after two characters", seal("JVBERi0xLg "), `corrupt base64 at byte 49: ` + space, "%PDF-1", ""},
		{"a space after three characters", seal("JVBERi0xLjE "), `corrupt base64 at byte 50: ` + space, "%PDF-1", ""},
		{"a space in the padding", seal("JVBERi0xLg= ="), `corrupt base64 at byte 50: ` + space, "%PDF-1", ""},
		{"a space before the padding", seal("JVBERi0xLg =="), `corrupt base64 at byte 49: ` + space, "%PDF-1", ""},
		{"a space and more after the padding", seal("JVBERi0xLg== LjEK"), `corrupt base64 at byte 51: ` + space, "%PDF-1", ""},
		{"a space early after the start", seal(" JVBE Ri0x"), `corrupt base64 at byte 44: ` + space, "", ""},
		{"a no-break space", seal("\u00a0" + sampleText), `corrupt base64 at byte 39: unexpected non-ASCII character`, "", ""},
		{"a form feed", seal(`\f` + sampleText), `corrupt base64 at byte 39: unexpected character "\f"`, "", ""},
		{"NUL in base64", seal("JVBERi0x\x00"), `corrupt base64 at byte 47: unexpected character "\x00"`, "%PDF-1", ""},
		{"beyond ASCII", seal("JVBERi0x€"), `corrupt base64 at byte 47: unexpected non-ASCII character`, "%PDF-1", ""},
		{"escaped beyond ASCII", seal(`JVBERi0x\u20ac`), `corrupt base64 at byte 47: unexpected non-ASCII character`, "%PDF-1", ""},
		{"escaped just beyond ASCII", seal(`JVBERi0x\u00c3`), `corrupt base64 at byte 47: unexpected non-ASCII character`, "%PDF-1", ""},
		{"escaped quote", seal(`JVBERi0x\"`), `corrupt base64 at byte 47: unexpected character "\""`, "%PDF-1", ""},
		{"bad escape in base64", seal(`JVBERi0x\a`), `not a receipt envelope at byte 48: unexpected character "a", want an escape`, "%PDF-1", ""},
		{"escaped line break, raw", seal("JVBERi0x\\\n"), `not a receipt envelope at byte 48: unexpected character "\n", want an escape`, "%PDF-1", ""},
		{"one character left over", seal("JVBERi0xL"), `corrupt base64 at byte 48: unexpected end of the text`, "%PDF-1", ""},
		{"one character", seal("J"), `corrupt base64 at byte 40: unexpected end of the text`, "", ""},
		{"padding for one character", seal("JVBERi0xL==="), `corrupt base64 at byte 48: unexpected character "="`, "%PDF-1", ""},
		{"padding for none", seal("JVBERi0x===="), `corrupt base64 at byte 47: unexpected character "="`, "%PDF-1", ""},
		{"padding only", seal("===="), `corrupt base64 at byte 39: unexpected character "="`, "", ""},
		{"incomplete padding", seal("JVBERi0xLg="), `corrupt base64 at byte 50: unexpected end of the text`, "%PDF-1", ""},
		{"padding cut by a character", seal("JVBERi0xLg=A"), `corrupt base64 at byte 50: unexpected character "A"`, "%PDF-1", ""},
		{"too much padding", seal("JVBERi0xLjE=="), `corrupt base64 at byte 51: unexpected character "="`, "%PDF-1", ""},
		{"data after padding", seal("JVBERi0xLg==LjEK"), `corrupt base64 at byte 51: unexpected character "L"`, "%PDF-1", ""},
		{"two texts", seal(sampleText + sampleText), `corrupt base64 at byte 91: unexpected character "J"`, samplePDF[:36], ""},
		{"data URL without a comma", seal("data:application/pdf;base64"), `corrupt base64 at byte 66: a data: prefix without ";base64,"`, "", ""},
		{"data URL without base64", seal("data:application/pdf," + sampleText), `corrupt base64 at byte 59: a data: prefix without ";base64,"`, "", ""},
		{"data URL with long s", seal("data:;baſe64," + sampleText), `corrupt base64 at byte 47: a data: prefix without ";base64,"`, "", ""},
		{"data URL with a control character", seal("data:\x00;base64," + sampleText), `corrupt base64 at byte 44: a data: prefix without ";base64,"`, "", ""},
		{"data URL with an escaped control character", seal(`data:\f;base64,` + sampleText), `corrupt base64 at byte 44: a data: prefix without ";base64,"`, "", ""},
		{"data URL that is too short", seal("data:base64," + sampleText), `corrupt base64 at byte 50: a data: prefix without ";base64,"`, "", ""},
		{"data URL that is too long", seal("data:" + strings.Repeat("x", 257-12) + ";base64," + sampleText), `corrupt base64 at byte 296: a data: prefix without ";base64,"`, "", ""},
		{"data URL with a bad escape", seal(`data:\z;base64,` + sampleText), `not a receipt envelope at byte 45: unexpected character "z", want an escape`, "", ""},
		{"data URL twice", seal("data:;base64,data:;base64," + sampleText), `corrupt base64 at byte 56: unexpected character ":"`, "", ""},
	})
}

// With any byte anywhere in the text, the vectorised decoder accepts what the
// standard library does, decodes it to the same bytes, and writes no others.
func TestVectorsAreTheStandardLibrary(t *testing.T) {
	t.Parallel()

	alphabet := []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
	for _, length := range []int{4, 32, 44, 64, 68, 96, 100, 128, 300} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			t.Parallel()
			text := slices.Repeat(alphabet, 5)[:length]
			const beyond = 40
			want, got := make([]byte, length/4*3+beyond), make([]byte, length/4*3+beyond)
			for at := range text {
				good := text[at]
				for c := range rune(256) {
					text[at] = byte(c)
					clear(want)
					clear(got)
					n, err := base64.StdEncoding.Decode(want[:length/4*3], text)
					m, errVector := vectorised.StdEncoding.Decode(got[:length/4*3], text)
					if n != m || (err == nil) != (errVector == nil) || !bytes.Equal(want[:n], got[:n]) {
						t.Fatalf("%q at %d: %d bytes, %v; the standard library gives %d, %v", c, at, m, errVector, n, err)
					}
					if i := slices.IndexFunc(got[length/4*3:], func(b byte) bool { return b != 0 }); i >= 0 {
						t.Fatalf("%q at %d: wrote %d bytes past the end", c, at, i+1)
					}
				}
				text[at] = good
			}
		})
	}
}

// Text that arrives byte by byte is never decoded with vectors.
func TestVectorsChangeNothing(t *testing.T) {
	t.Parallel()

	pdf := makePDF(400)
	text := base64.StdEncoding.EncodeToString(pdf)
	for at := range text {
		for _, c := range []string{"", "A", "-", "_", " ", "=", "==", "\n", `\r\n`, `\/`, `\`, `"`, ",", "\x00", "\x80", "é"} {
			input := seal(text[:at] + c + text[at+1:])
			want := decode(iotest.OneByteReader(strings.NewReader(input)))
			if diff := cmp.Diff(want, decode(strings.NewReader(input))); diff != "" {
				t.Fatalf("%q at %d: (-byte by byte +vectors)\n%s", c, at, diff)
			}
		}
	}
}
