package envelope_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

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
				for _, chunk := range []int{0, 1, 4, 512} {
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

// A limit may be less than what it takes to know a PDF.
func TestTinyLimit(t *testing.T) {
	t.Parallel()

	for _, input := range []string{seal("JVBERi0="), seal("JVBERi0x"), seal(sampleText), "%PDF-", samplePDF} {
		for size := range int64(4) {
			d := envelope.NewDecoder(strings.NewReader(input), envelope.Options{MaxBytes: 1 + size})
			if got := drain(d, 10); got.Kind != "too large" || got.PDF != "" {
				t.Errorf("%q, at most %d bytes: %+v", input, 1+size, got)
			}
		}
	}
}

func TestEnvelopeLimit(t *testing.T) {
	t.Parallel()

	const maxBytes = 100
	const limit = 2*maxBytes + 64<<10
	good := seal(sampleText)
	fill := func(before, after, c string, over int) string {
		return before + strings.Repeat(c, limit+over-len(before)-len(after)) + after
	}
	for _, tt := range []struct {
		name, before, after, fill string
	}{
		{"white space before", "", good, " "},
		{"white space behind", good, "", "\n"},
		{"unknown member", `{"x":"`, `",` + good[1:], "x"},
		{"line breaks", `{"data":{"receipt":"`, sampleText + `"},"status":"SUCCESS"}`, "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{0, 1} {
				d := envelope.NewDecoder(strings.NewReader(fill(tt.before, tt.after, tt.fill, 0)), envelope.Options{MaxBytes: maxBytes})
				if got := drain(d, size); got.Kind != "EOF" || got.PDF != samplePDF {
					t.Errorf("at the limit: %+v", got)
				}
				d = envelope.NewDecoder(strings.NewReader(fill(tt.before, tt.after, tt.fill, 1)), envelope.Options{MaxBytes: maxBytes})
				got := drain(d, size)
				want := fmt.Sprintf("receipt too large at byte %d: the envelope has more than %[1]d bytes", limit)
				if got.Kind != "too large" || got.Error != want {
					t.Errorf("over the limit: %+v, want %s", got, want)
				}
			}
		})
	}

	t.Run("endless", func(t *testing.T) {
		t.Parallel()
		for _, start := range []string{"", "\ufeff", "{", `{"x":"`, `{"x":[`, `{"x":1`, `{"data":{"receipt":"`, seal(sampleText)} {
			for _, c := range []string{" ", "\n", "1"} {
				r := &countingReader{r: io.MultiReader(strings.NewReader(start), repeat(c, math.MaxInt64))}
				got := drain(envelope.NewDecoder(r, envelope.Options{MaxBytes: maxBytes}), 512)
				if got.Kind == "EOF" || r.n > limit+32<<10 {
					t.Errorf("%q and many times %q: %+v after %d bytes", start, c, got, r.n)
				}
			}
		}
		r := &countingReader{r: io.MultiReader(strings.NewReader(`{"status":"FAILED","x":"`), repeat("x", math.MaxInt64))}
		if got := drain(envelope.NewDecoder(r, envelope.Options{MaxBytes: maxBytes}), 512); got.Kind != "failed" || r.n > limit+32<<10 {
			t.Errorf("failed: %+v after %d bytes", got, r.n)
		}
	})
}

func TestHugeLimit(t *testing.T) {
	t.Parallel()

	for _, size := range []int64{math.MaxInt64, math.MaxInt64/2 + 1, math.MaxInt64 / 2, math.MaxInt64/2 - 32<<10, math.MaxInt64/2 - 32<<10 + 1} {
		for _, input := range []string{seal(sampleText), samplePDF} {
			d := envelope.NewDecoder(strings.NewReader(input), envelope.Options{MaxBytes: size})
			if got := drain(d, 100); got.Kind != "EOF" || got.PDF != samplePDF {
				t.Errorf("%d: %+v", size, got)
			}
		}
	}
}

func TestUnknownMembers(t *testing.T) {
	t.Parallel()

	nested := func(open, end string, depth int) string {
		return strings.Repeat(open, depth) + strings.Repeat(end, depth)
	}
	for _, tt := range []struct {
		name  string
		value string
		level int // how deep the value is nested already
		kind  string
	}{
		{"large string", `"` + strings.Repeat("x", mib) + `"`, 1, "EOF"},
		{"large string in data", `"` + strings.Repeat(`\"é`, mib/4) + `"`, 2, "EOF"},
		{"large number", strings.Repeat("1", mib), 1, "EOF"},
		{"large array", "[" + strings.Repeat(`{"a":[]},`, mib/8) + "0]", 1, "EOF"},
		{"deep array", nested("[", "]", 9_999), 1, "EOF"},
		{"deeper array", nested("[", "]", 10_000), 1, "malformed"},
		{"deep array in data", nested("[", "]", 9_998), 2, "EOF"},
		{"deeper array in data", nested("[", "]", 9_999), 2, "malformed"},
		{"deep objects", nested(`{"a":[`, `],"b":0}`, 9_998/2), 1, "EOF"},
		{"deep objects, not closed well", nested(`{"a":[`, `],"b":0]`, 9_998/2), 1, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			input := `{"x":` + tt.value + `,` + seal(sampleText)[1:]
			if tt.level == 2 {
				input = strings.Replace(seal(sampleText), `"data":{`, `"data":{"x":`+tt.value+`,`, 1)
			}
			if got := decode(strings.NewReader(input)); got.Kind != tt.kind {
				t.Errorf("got %+v", got)
			}
		})
	}

	got := decode(strings.NewReader(`{"x":` + strings.Repeat("[", 20_000)))
	if want := "not a receipt envelope at byte 10004: nested deeper than 10000 levels"; got.Error != want {
		t.Errorf("got %q, want %q", got.Error, want)
	}
	if got := decode(strings.NewReader(`{"message":` + nested("[", "]", 9_999) + `,` + seal(sampleText)[1:])); got.Kind != "EOF" {
		t.Errorf("deep message: %+v", got)
	}
	if got := decode(strings.NewReader(`{"message":` + nested("[", "]", 10_000) + `,` + seal(sampleText)[1:])); got.Kind != "malformed" {
		t.Errorf("deeper message: %+v", got)
	}
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

// repeat returns a reader of n bytes of s over and over.
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

// large returns a reader of 256 KiB of the unit between the start and the end.
func large(start, unit, end string) io.Reader {
	size := int64(mib / 4 / len(unit) * len(unit))
	return io.MultiReader(strings.NewReader(start), repeat(unit, size), strings.NewReader(end))
}

// TestMemory is not parallel: it measures what the whole program allocates.
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
				"WriteTo": run(func(d *envelope.Decoder) error {
					_, err := d.WriteTo(io.Discard)
					return err
				}),
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
				// The input itself takes some, too.
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
	d := envelope.NewDecoder(strings.NewReader(seal(sampleText)), envelope.Options{MaxBytes: mib})
	p := make([]byte, 10)
	if n, err := d.Read(p); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	for range 2 {
		d.Release()
		if n, err := d.Read(p); n != 0 || err == nil || err == io.EOF {
			t.Errorf("read after Release: %d, %v", n, err)
		}
		if n, err := d.WriteTo(io.Discard); n != 0 || err == nil {
			t.Errorf("WriteTo after Release: %d, %v", n, err)
		}
	}
}
