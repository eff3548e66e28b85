package envelope_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

const junk = "\ufeff\x00junk"

// samples are inputs that, between them, reach every part of the decoder.
var samples = []struct {
	name  string
	input string
	pdf   string // empty if the input is bad
}{
	{"plain", seal(sampleText), samplePDF},
	{"all at once", "\ufeff \n{ \"x\\u0041\\ud83d\\ude00\" : [ -1.5e+3 , {\"a\":{}, \"b\": [[], 0]} , true, false, null, \"\\\"é\" ],\n" +
		`"message" : ["a\u00e9", {"b":1}, "c"], "\u0064ata" : { "y":0.5 , "receipt":"data:application\/pdf;base64,` + "\r\n" +
		strings.ReplaceAll(sampleText[:20]+`\n`+sampleText[20:30]+"\r\n"+sampleText[30:], "/", `\u002F`) +
		`", "mimeType":"application\/pdf" } , "z":1e5, "status" : "Success" , "message":null } `, samplePDF},
	{"URL-safe without padding", seal(base64.RawURLEncoding.EncodeToString([]byte(samplePDF))), samplePDF},
	{"escaped", `{"data":{"receipt":"` + escapeAll(sampleText) + `"},"status":"success"}`, samplePDF},

	{"bare", "\ufeff\n" + samplePDF, "\ufeff\n" + samplePDF},
	{"junk before the PDF", seal(" " + base64.StdEncoding.EncodeToString([]byte(junk+samplePDF))), junk + samplePDF},
	{"data URL and tabs", seal("\tdata:;base64, \\t" + sampleText[:9] + "\t" + sampleText[9:] + " \t "), samplePDF},

	{"failed", `{"message":["a\ud83d\ude00","b"],"status":"FAILED","data":{"receipt":"` + sampleText + `"},"message":"cé"}`, ""},
	{"failed later", `{"data":{"receipt":"` + sampleText + `"},"message":"why","status":"FAILED","x":[}`, ""},
	{"corrupt", seal(sampleText[:40] + "-_*" + sampleText[40:]), ""},
	{"left over", seal(sampleText[:41]), ""},
	{"data after padding", seal(sampleText + "JVBE"), ""},
	{"empty", `{"data":{"receipt":"data:;base64,\n"},"status":"SUCCESS"}`, ""},
	{"missing", `{"data":{"receipt":null},"status":"SUCCESS"}`, ""},
	{"not a PDF", seal("data:;base64,aGVsbG8sIHdvcmxk"), ""},
	{"trailing", seal(sampleText) + "\n x", ""},
	{"malformed", `{"x":{"y":[1,2,3,{"z":01}]}}`, ""},
	{"twice", `{"data":{"receipt":"` + sampleText + `"},"data":null}`, ""},
	{"HTML", "\ufeff <html><body>", ""},
	{"text", " Bad Gateway, and what the proxy has to say of it; it does go on a bit", ""},
	{"PostScript", "%!PS-Adobe-3.0", ""},
}

func TestTruncated(t *testing.T) {
	t.Parallel()

	for _, s := range samples {
		if s.pdf == "" || s.pdf == s.input { // bad, or can be cut after %%EOF
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			whole := strings.TrimRight(s.input, " ")
			for i := range len(whole) {
				got := decode(strings.NewReader(whole[:i]))
				if got.Kind != "truncated" || got.Offset != int64(i) || !strings.HasPrefix(s.pdf, got.PDF) {
					t.Errorf("cut at %d: %+v", i, got)
				}
			}
		})
	}
}

func TestChunks(t *testing.T) {
	t.Parallel()

	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			want := decode(strings.NewReader(s.input))
			if (s.pdf != "") != (want.Kind == "EOF") || s.pdf != "" && s.pdf != want.PDF {
				t.Fatalf("bad sample: %+v", want)
			}
			check := func(how string, r io.Reader) {
				t.Helper()
				if diff := cmp.Diff(want, decode(r)); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", how, diff)
				}
			}
			for i := range len(s.input) + 1 {
				c := chunks{s.input[:i], s.input[i:]}
				check(fmt.Sprint("split at ", i), &c)
				c = chunks{s.input[:i], s.input[i:]}
				check(fmt.Sprint("split with io.EOF at ", i), iotest.DataErrReader(&c))
			}
			check("one byte", iotest.OneByteReader(strings.NewReader(s.input)))
			check("half", iotest.HalfReader(strings.NewReader(s.input)))
			check("data with error", iotest.DataErrReader(strings.NewReader(s.input)))
			check("one byte with error", iotest.DataErrReader(iotest.OneByteReader(strings.NewReader(s.input))))

			for size := 1; size < 71; size++ {
				d := envelope.NewDecoder(strings.NewReader(s.input), envelope.Options{MaxBytes: mib})
				if diff := cmp.Diff(want, drain(d, size)); diff != "" {
					t.Errorf("size %d: (-want +got)\n%s", size, diff)
				}
			}
		})
	}
}

// TestLarge decodes more than a buffer of every encoding.
func TestLarge(t *testing.T) {
	t.Parallel()

	for _, size := range []int{24<<10 - 5, 24 << 10, 24<<10 + 1, 100_000, 100_001} {
		pdf := makePDF(size)
		std := base64.StdEncoding.EncodeToString(pdf)
		for _, tt := range []struct{ name, input string }{
			{"plain", seal(std)},
			{"no padding", seal(base64.RawStdEncoding.EncodeToString(pdf))},
			{"URL-safe", seal(base64.URLEncoding.EncodeToString(pdf))},
			{"raw lines", seal(wrap(std, "\r\n"))},
			{"raw lines and spoilt phase", seal(wrap("\n"+std, "\n"))},
			{"escaped lines", seal(wrap(std, `\r\n`))},
			{"escaped slashes", seal(strings.ReplaceAll(std, "/", `\/`))},
			{"escaped altogether", seal(escapeAll(std))},
			{"bare", string(pdf)},
		} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, size), func(t *testing.T) {
				t.Parallel()
				options := envelope.Options{MaxBytes: mib}
				for _, chunk := range []int{1, 512, 32<<10 + 1} {
					got := drain(envelope.NewDecoder(strings.NewReader(tt.input), options), chunk)
					if got.PDF != string(pdf) || got.Kind != "EOF" {
						t.Errorf("read by %d: %d bytes, %s", chunk, len(got.PDF), got.Error)
					}
				}
				got := drain(envelope.NewDecoder(iotest.HalfReader(strings.NewReader(tt.input)), options), 24<<10)
				if got.PDF != string(pdf) || got.Kind != "EOF" {
					t.Errorf("half reader: %d bytes, %s", len(got.PDF), got.Error)
				}
				got = drain(envelope.NewDecoder(iotest.OneByteReader(strings.NewReader(tt.input)), options), 100)
				if got.PDF != string(pdf) || got.Kind != "EOF" {
					t.Errorf("one byte reader: %d bytes, %s", len(got.PDF), got.Error)
				}
			})
		}
	}
}

func TestReaderContract(t *testing.T) {
	t.Parallel()

	for _, s := range samples {
		if s.pdf == "" {
			continue
		}
		d := envelope.NewDecoder(strings.NewReader(s.input), envelope.Options{MaxBytes: mib})
		if err := iotest.TestReader(d, []byte(s.pdf)); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

func TestSticky(t *testing.T) {
	t.Parallel()

	for _, s := range samples {
		d := envelope.NewDecoder(strings.NewReader(s.input), envelope.Options{MaxBytes: mib})
		var err error
		for p := make([]byte, 7); err == nil; {
			_, err = d.Read(p)
		}
		for _, size := range []int{0, 1, 100} {
			if n, again := d.Read(make([]byte, size)); n != 0 || again != err {
				t.Errorf("%s: %v, then %d, %v", s.name, err, n, again)
			}
		}
	}
}

func TestEmptyRead(t *testing.T) {
	t.Parallel()

	d := envelope.NewDecoder(strings.NewReader(seal(sampleText)), envelope.Options{MaxBytes: mib})
	for _, p := range [][]byte{nil, {}} {
		if n, err := d.Read(p); n != 0 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	if got := drain(d, 10); got.PDF != samplePDF {
		t.Errorf("got %+v", got)
	}
}

// TestMemory is not parallel, since it measures the allocations of the whole
// program.
func TestMemory(t *testing.T) { //nolint:paralleltest // see above
	const (
		start = `{"status":"SUCCESS","data":{"receipt":"JVBERi0x`
		end   = `"}}`
	)
	for _, tt := range []struct{ name, start, unit, end string }{ //nolint:paralleltest // see above
		{"plain", start, "QUFB", end},
		{"URL-safe", start, "_-_-", end},
		{"raw lines", start, "QUFBQU\r\n", end},
		{"escaped", start, `Q\u0055\/B`, end},
		{"unknown string", start + `","x":"`, `abcdé\n`, end},
		{"unknown members", start + `","x":[`, `{"a":["b\n",1.5e1,true,{}]},`, `0]}}`},
		{"bare", "%PDF-", "0123456789\n", "%%EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			input := func() io.Reader { return large(tt.start, tt.unit, tt.end) }
			run := func(discard func(*envelope.Decoder) error) func() {
				return func() {
					d := envelope.NewDecoder(input(), envelope.Options{MaxBytes: 16 * mib})
					if err := discard(d); err != nil {
						t.Error(err)
					}
				}
			}
			buf := make([]byte, 4096)
			for how, f := range map[string]func(){
				"Read": run(func(d *envelope.Decoder) error {
					for {
						if _, err := d.Read(buf); err == io.EOF {
							return nil
						} else if err != nil {
							return err
						}
					}
				}),
			} {
				// Without the allocations of the input.
				base := testing.AllocsPerRun(1, func() { input() })
				if n := testing.AllocsPerRun(1, f) - base; n > 6 {
					t.Errorf("%s: %v allocations", how, n)
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				f()
				runtime.ReadMemStats(&after)
				if n := after.TotalAlloc - before.TotalAlloc; n > 128<<10 {
					t.Errorf("%s: %d bytes allocated", how, n)
				}
			}
		})
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()

	released := envelope.NewDecoder(strings.NewReader(seal(sampleText)), envelope.Options{MaxBytes: mib})
	p := make([]byte, 10)
	if n, err := released.Read(p); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	for range 2 {
		released.Release()
		if n, err := released.Read(p); n != 0 || err == nil || err == io.EOF {
			t.Errorf("read after Release: %d, %v", n, err)
		}
	}
}

// A buffer that was put into the pool twice would serve two Decoders at once.
func TestReleaseTwice(t *testing.T) {
	t.Parallel()

	for range 100 {
		d := envelope.NewDecoder(strings.NewReader(seal(sampleText)), envelope.Options{MaxBytes: mib})
		d.Release()
		d.Release()
		var decoders [4]*envelope.Decoder
		var pdfs [len(decoders)]string
		for i := range decoders {
			pdfs[i] = string(makePDF(100 + i))
			decoders[i] = envelope.NewDecoder(strings.NewReader(pdfs[i]), envelope.Options{MaxBytes: mib})
			one := make([]byte, 1)
			if _, err := decoders[i].Read(one); err != nil { // fills the buffer
				t.Fatal(err)
			}
		}
		for i, d := range decoders {
			if got := drain(d, 30); got.PDF != pdfs[i][1:] || got.Kind != "EOF" {
				t.Fatalf("decoder %d: %+v", i, got)
			}
			d.Release()
		}
	}
}
