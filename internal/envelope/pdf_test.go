package envelope_test

import (
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

func TestBare(t *testing.T) {
	t.Parallel()

	testAccepted(t, []accepted{
		{"bare PDF", samplePDF, samplePDF, "application/pdf"},
		{"bare PDF with a byte order mark", "\ufeff" + samplePDF, "\ufeff" + samplePDF, "application/pdf"},
		{"bare PDF with much after it", samplePDF + strings.Repeat("\x00", 1024-len("%%EOF\n")), samplePDF + strings.Repeat("\x00", 1024-len("%%EOF\n")), "application/pdf"},
		{"shortest bare PDF", "%PDF-%%EOF", "%PDF-%%EOF", "application/pdf"},
		{"white space first", " \t\r\n" + samplePDF, " \t\r\n" + samplePDF, "application/pdf"},
		{"byte order mark and white space first", "\ufeff\n" + samplePDF, "\ufeff\n" + samplePDF, "application/pdf"},
		{"as much white space as there may be", strings.Repeat(" ", 1019) + samplePDF, strings.Repeat(" ", 1019) + samplePDF, "application/pdf"},
	})
}

func TestNotPDF(t *testing.T) {
	t.Parallel()

	testRefused(t, []refused{
		{"some text", seal("aGVsbG8sIHdvcmxk"), `not a PDF at byte 39: no %PDF- in the first 1024 bytes; it starts with "hello, world"`, "", ""},
		{"an image", seal("iVBORw0KGgo="), `not a PDF at byte 39: no %PDF- in the first 1024 bytes; it starts with "PNG\r\n\x1a\n"`, "", ""},
		{"one byte", seal("JQ=="), `not a PDF at byte 39: no %PDF- in the first 1024 bytes; it starts with "%"`, "", ""},
		{"four bytes", seal("JVBERg=="), `not a PDF at byte 39: no %PDF- in the first 1024 bytes; it starts with "%PDF"`, "", ""},
		{"three bytes", seal("JVBE"), `not a PDF at byte 39: no %PDF- in the first 1024 bytes; it starts with "%PD"`, "", ""},
		{"another start that looks like a data URL", seal("dataabcd"), `not a PDF at byte 39: no %PDF- in the first 1024 bytes; it starts with "uZi\x1d"`, "", ""},
		{"nothing but data", seal("data"), `not a PDF at byte 39: no %PDF- in the first 1024 bytes; it starts with "uZ"`, "", ""},
		{"PostScript", "%!PS-Adobe-3.0", `not a PDF at byte 0: no %PDF- in the first 1024 bytes; it starts with "%!PS-"`, "", ""},
	})
}

func TestBareRefused(t *testing.T) {
	t.Parallel()

	testRefused(t, []refused{
		{"too much white space", strings.Repeat(" ", 1020) + samplePDF, `not a PDF at byte 1020: no %PDF- in the first 1024 bytes; it starts with "%PDF-"`, "", ""},
		{"a buffer of white space", strings.Repeat(" ", 32<<10) + samplePDF, `not a PDF at byte 32768: no %PDF- in the first 1024 bytes; it starts with "%PDF-"`, "", ""},
		{"white space and something else", " %DPF-1.4", `not a PDF at byte 1: no %PDF- in the first 1024 bytes; it starts with "%DPF-"`, "", ""},
		{"junk first", "x%PDF-1.4", `not a receipt envelope at byte 0: it starts with "x%PDF-1.4", want a JSON object`, "", ""},
		{"bare PDF cut in the magic", "%PDF", `truncated receipt envelope at byte 4`, "", ""},
		{"bare PDF without end", "%PDF-1.4\n%%EO", `truncated receipt envelope at byte 13: no %%EOF at the end of the PDF`, "%PDF-1.4\n%%EO", "application/pdf"},
		{"bare PDF cut after the end of an earlier version", "%PDF-1.4\n%%EOF\n2 0 obj", `truncated receipt envelope at byte 22: no %%EOF at the end of the PDF`, "%PDF-1.4\n%%EOF\n2 0 obj", "application/pdf"},
		{"bare PDF with its end too far away", "%PDF-1.4\n%%EOF" + strings.Repeat("\n", 1020), `truncated receipt envelope at byte 1034: no %%EOF at the end of the PDF`, "%PDF-1.4\n%%EOF" + strings.Repeat("\n", 1020), "application/pdf"},
	})
}

// PDF readers look for %PDF- in the first 1,024 bytes.
func TestWindow(t *testing.T) {
	t.Parallel()

	for _, before := range []int{1, 2, 3, 4, 500, 1017, 1018, 1019, 1020, 1021, 1022, 1024, 3000} {
		t.Run(fmt.Sprint(before), func(t *testing.T) {
			t.Parallel()
			good := before+len("%PDF-") <= 1024
			pdf := strings.Repeat("%PDF", before)[:before] + samplePDF
			text := base64.StdEncoding.EncodeToString([]byte(pdf))
			for _, text := range []string{text, "data:;base64, " + wrap(text, "\n"), wrap(text, `\t`) + " "} {
				input := seal(text)
				want := decode(strings.NewReader(input))
				if good && (want.Kind != "EOF" || want.PDF != pdf) || !good && (want.Kind != "not a PDF" || want.PDF != "") {
					t.Fatalf("%+v", want)
				}
				for i := range len(input) {
					c := chunks{input[:i], input[i:]}
					if diff := cmp.Diff(want, decode(&c)); diff != "" {
						t.Fatalf("split at %d: (-want +got)\n%s", i, diff)
					}
				}
				d := envelope.NewDecoder(strings.NewReader(input), envelope.Options{MaxBytes: int64(len(pdf) - 1)})
				if got := drain(d, 1000); good && got.Kind != "too large" {
					t.Errorf("one byte over the limit: %+v", got)
				}
			}

			// Nothing is delivered before the last byte of the magic.
			text = base64.RawStdEncoding.EncodeToString([]byte(pdf[:before+len("%PDF")]))
			input, _, _ := strings.Cut(seal(text), text)
			if got := decode(strings.NewReader(input + text)); got.Kind == "EOF" || got.PDF != "" {
				t.Errorf("before the magic: %+v", got)
			}
		})
	}
}

func TestBareTruncated(t *testing.T) {
	t.Parallel()

	for i := range strings.Index(samplePDF, "%%EOF") + len("%%EOF") {
		got := decode(strings.NewReader(samplePDF[:i]))
		if got.Kind != "truncated" || got.Offset != int64(i) || !strings.HasPrefix(samplePDF, got.PDF) {
			t.Errorf("cut at %d: %+v", i, got)
		}
	}
}

func TestKnownLength(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct{ name, input, kind string }{
		{"bare PDF without end", "%PDF-1.4\n", "EOF"},
		{"magic only", "%PDF-", "EOF"},
		{"not even that", "%PDF", "truncated"},
		{"envelope", seal(sampleText), "EOF"},
		{"half an envelope", seal(sampleText)[:50], "truncated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := envelope.NewDecoder(strings.NewReader(tt.input), envelope.Options{MaxBytes: mib, KnownLength: true})
			if got := drain(d, 100); got.Kind != tt.kind {
				t.Errorf("got %+v, want %s", got, tt.kind)
			}
		})
	}
}

func TestMaxBytes(t *testing.T) {
	t.Parallel()

	for _, size := range []int{16, 17, 18, 19, 20, 21, 22, 23, 1000, 24 << 10, 40_000} {
		pdf := makePDF(size)
		std := base64.StdEncoding.EncodeToString(pdf)
		for _, tt := range []struct{ name, input string }{
			{"padded", seal(std)},
			{"unpadded", seal(base64.RawStdEncoding.EncodeToString(pdf))},
			{"lines", seal(wrap(std, `\n`))},
			{"bare", string(pdf)},
		} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, size), func(t *testing.T) {
				t.Parallel()
				for _, chunk := range []int{1, 4, 512, 24 << 10} {
					for over := range 7 {
						limit := size - over
						d := envelope.NewDecoder(strings.NewReader(tt.input), envelope.Options{MaxBytes: int64(limit)})
						got := drain(d, chunk)
						switch {
						case over == 0 && (got.Kind != "EOF" || got.PDF != string(pdf)):
							t.Errorf("at the limit: %d bytes, %v", len(got.PDF), got.Error)
						case over > 0 && (got.Kind != "too large" || len(got.PDF) > limit || !strings.HasPrefix(string(pdf), got.PDF)):
							t.Errorf("%d over the limit: %d bytes, %v", over, len(got.PDF), got.Error)
						case over > 0 && !strings.HasSuffix(got.Error, fmt.Sprintf(": the PDF has more than %d bytes", limit)):
							t.Errorf("%d over the limit: %v", over, got.Error)
						}
					}
				}
			})
		}
	}
}

// A limit may be smaller than the magic.
func TestTinyLimit(t *testing.T) {
	t.Parallel()

	for _, input := range []string{seal("JVBERi0="), seal("JVBERi0x"), seal(sampleText), "%PDF-", samplePDF} {
		for _, size := range []int64{math.MinInt64, -1, 0, 1, 2, 3, 4} {
			d := envelope.NewDecoder(strings.NewReader(input), envelope.Options{MaxBytes: size})
			if got := drain(d, 10); got.Kind != "too large" || got.PDF != "" {
				t.Errorf("%q, at most %d bytes: %+v", input, size, got)
			}
		}
	}
}
