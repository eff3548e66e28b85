package envelope_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

// samples are inputs that between them go through all of the decoder. The good
// ones are envelopes, so that every cut can be told.
var samples = []struct {
	name  string
	input string
	good  bool
}{
	{"plain", seal(sampleText), true},
	{"all at once", "\ufeff \n{ \"x\\u0041\\ud83d\\ude00\" : [ -1.5e+3 , {\"a\":{}, \"b\": [[], 0]} , true, false, null, \"\\\"é\" ],\n" +
		`"message" : ["a\u00e9", {"b":1}, "c"], "\u0064ata" : { "y":0.5 , "receipt":"data:application\/pdf;base64,` + "\r\n" +
		strings.ReplaceAll(sampleText[:20]+`\n`+sampleText[20:30]+"\r\n"+sampleText[30:], "/", `\u002F`) +
		`", "mimeType":"application\/pdf" } , "z":1e5, "status" : "Success" , "message":null } `, true},
	{"URL-safe without padding", seal(base64.RawURLEncoding.EncodeToString([]byte(samplePDF))), true},
	{"escaped", `{"data":{"receipt":"` + escapeAll(sampleText) + `"},"status":"success"}`, true},

	{"bare", "\ufeff" + samplePDF, false}, // good, but can be cut behind %%EOF
	{"failed", `{"message":["a\ud83d\ude00","b"],"status":"FAILED","data":{"receipt":"` + sampleText + `"},"message":"cé"}`, false},
	{"failed later", `{"data":{"receipt":"` + sampleText + `"},"message":"why","status":"FAILED","x":[}`, false},
	{"corrupt", seal(sampleText[:40] + "-_*" + sampleText[40:]), false},
	{"left over", seal(sampleText[:41]), false},
	{"data after padding", seal(sampleText + "JVBE"), false},
	{"empty", `{"data":{"receipt":"data:;base64,\n"},"status":"SUCCESS"}`, false},
	{"missing", `{"data":{"receipt":null},"status":"SUCCESS"}`, false},
	{"not a PDF", seal("data:;base64,aGVsbG8sIHdvcmxk"), false},
	{"trailing", seal(sampleText) + "\n x", false},
	{"malformed", `{"x":{"y":[1,2,3,{"z":01}]}}`, false},
	{"twice", `{"data":{"receipt":"` + sampleText + `"},"data":null}`, false},
	{"HTML", "\ufeff <html><body>", false},
	{"text", " Bad Gateway, and what the proxy has to say of it; it does go on a bit", false},
	{"PostScript", "%!PS-Adobe-3.0", false},
}

func TestTruncated(t *testing.T) {
	t.Parallel()

	for _, s := range samples {
		if !s.good {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			whole := strings.TrimRight(s.input, " ")
			for i := range len(whole) {
				got := decode(strings.NewReader(whole[:i]))
				if got.Kind != "truncated" || got.Offset != int64(i) || !strings.HasPrefix(samplePDF, got.PDF) {
					t.Errorf("cut at %d: %+v", i, got)
				}
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

func TestChunks(t *testing.T) {
	t.Parallel()

	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			want := decode(strings.NewReader(s.input))
			if s.good && (want.PDF != samplePDF || want.Kind != "EOF") {
				t.Fatalf("the sample is no good: %+v", want)
			}
			if !s.good && s.name != "bare" && want.Kind == "EOF" {
				t.Fatalf("the sample is good: %+v", want)
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

			for size := range 71 { // 0 is WriteTo
				d := envelope.NewDecoder(strings.NewReader(s.input), envelope.Options{MaxBytes: mib})
				if diff := cmp.Diff(want, drain(d, size)); diff != "" {
					t.Errorf("size %d: (-want +got)\n%s", size, diff)
				}
			}
		})
	}
}

// TestLarge crosses the borders of the buffer at all the places.
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
				for _, chunk := range []int{0, 1, 512, 32<<10 + 1} {
					got := drain(envelope.NewDecoder(strings.NewReader(tt.input), options), chunk)
					if got.PDF != string(pdf) || got.Kind != "EOF" {
						t.Errorf("read by %d: %d bytes, %s", chunk, len(got.PDF), got.Error)
					}
				}
				got := drain(envelope.NewDecoder(iotest.HalfReader(strings.NewReader(tt.input)), options), 0)
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
		if !s.good && s.name != "bare" {
			continue
		}
		d := envelope.NewDecoder(strings.NewReader(s.input), envelope.Options{MaxBytes: mib})
		if err := iotest.TestReader(d, []byte(samplePDF)); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

var errBoom = errors.New("boom")

func TestReaderError(t *testing.T) {
	t.Parallel()

	for _, s := range samples {
		if !s.good && s.name != "bare" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for i := range len(s.input) + 1 {
				for _, r := range []io.Reader{
					io.MultiReader(strings.NewReader(s.input[:i]), iotest.ErrReader(errBoom)),
					&lastWords{s.input[:i], errBoom},
				} {
					d := envelope.NewDecoder(r, envelope.Options{MaxBytes: mib})
					var pdf bytes.Buffer
					n, err := d.WriteTo(&pdf)
					if !errors.Is(err, errBoom) || errors.Is(err, envelope.ErrTruncated) || errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("error at %d: %v", i, err)
					}
					if want := fmt.Sprintf("reading the receipt envelope at byte %d: boom", i); err.Error() != want {
						t.Errorf("error at %d: %q, want %q", i, err, want)
					}
					if !strings.HasPrefix(samplePDF, pdf.String()) || n != int64(pdf.Len()) {
						t.Errorf("error at %d: delivered %q", i, pdf.String())
					}
					if _, again := d.Read(make([]byte, 10)); again != err {
						t.Errorf("error at %d: %v, then %v", i, err, again)
					}
				}

				// A reader that knows of the truncation itself.
				for _, unexpected := range []error{io.ErrUnexpectedEOF, fmt.Errorf("%w: %w", errBoom, io.ErrUnexpectedEOF)} {
					d := envelope.NewDecoder(&lastWords{s.input[:i], unexpected}, envelope.Options{MaxBytes: mib, KnownLength: true})
					_, err := io.ReadAll(d)
					if !errors.Is(err, envelope.ErrTruncated) || !errors.Is(err, unexpected) || !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%v at %d: %v", unexpected, i, err)
					}
				}
			}

			_, err := io.ReadAll(envelope.NewDecoder(iotest.TimeoutReader(iotest.HalfReader(strings.NewReader(s.input))), envelope.Options{MaxBytes: mib}))
			if len(s.input) > 1 && !errors.Is(err, iotest.ErrTimeout) {
				t.Errorf("timeout: %v", err)
			}
		})
	}
}

// lastWords is a reader that returns its error together with the last data.
type lastWords struct {
	s   string
	err error
}

func (r *lastWords) Read(p []byte) (int, error) {
	n := copy(p, r.s)
	if r.s = r.s[n:]; r.s == "" {
		return n, r.err
	}
	return n, nil
}

// A bad status is worth more than a connection that breaks behind it.
func TestReaderErrorAfterFailure(t *testing.T) {
	t.Parallel()

	got := decode(&lastWords{`{"status":"FAILED","message":"why","data":`, errBoom})
	want := result{Kind: "failed", Offset: 10, Error: `the gateway does not report success at byte 10: status "FAILED", message "why"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
}

// lazy is a reader that returns nothing, so many times, before every byte.
type lazy struct {
	r            io.Reader
	times, count int
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.count < l.times {
		l.count++
		return 0, nil
	}
	l.count = 0
	return l.r.Read(p[:1])
}

func TestNoProgress(t *testing.T) {
	t.Parallel()

	got := decode(&lazy{r: strings.NewReader(seal(sampleText)), times: 99})
	if got.PDF != samplePDF || got.Kind != "EOF" {
		t.Errorf("99 empty reads: %+v", got)
	}
	for _, input := range []string{"", "%PDF-1", "{", seal(sampleText)[:60], seal(sampleText)} {
		d := envelope.NewDecoder(io.MultiReader(strings.NewReader(input), &lazy{r: strings.NewReader("x"), times: 100}), envelope.Options{MaxBytes: mib})
		_, err := io.ReadAll(d)
		if !errors.Is(err, io.ErrNoProgress) || errors.Is(err, envelope.ErrTruncated) {
			t.Errorf("100 empty reads after %q: %v", input, err)
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
		want := err
		if err == io.EOF {
			want = nil
		}
		if n, again := d.WriteTo(io.Discard); n != 0 || again != want {
			t.Errorf("%s: %v, then %d, %v from WriteTo", s.name, err, n, again)
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

func TestReadThenWriteTo(t *testing.T) {
	t.Parallel()

	for i := range len(samplePDF) {
		d := envelope.NewDecoder(strings.NewReader(seal(sampleText)), envelope.Options{MaxBytes: mib})
		start := make([]byte, i)
		if _, err := io.ReadFull(d, start); err != nil {
			t.Fatal(err)
		}
		var rest strings.Builder
		n, err := d.WriteTo(&rest)
		if string(start)+rest.String() != samplePDF || n != int64(rest.Len()) || err != nil {
			t.Errorf("%q, then %q, %d, %v", start, rest.String(), n, err)
		}
	}
}

// badWriter takes so many bytes, and then fails.
type badWriter struct {
	room int
	err  error // nil for a silent short write
}

func (w *badWriter) Write(p []byte) (int, error) {
	if len(p) <= w.room {
		w.room -= len(p)
		return len(p), nil
	}
	return w.room, w.err
}

func TestBadWriter(t *testing.T) {
	t.Parallel()

	input := seal(base64.StdEncoding.EncodeToString(makePDF(100_000)))
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"failing", errBoom, errBoom},
		{"short", nil, io.ErrShortWrite},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, room := range []int{0, 1, 10_000, 99_999} {
				d := envelope.NewDecoder(strings.NewReader(input), envelope.Options{MaxBytes: mib})
				w := &badWriter{room, tt.err}
				n, err := d.WriteTo(w)
				if n > int64(room) || n < int64(room)-24<<10 || !errors.Is(err, tt.want) {
					t.Errorf("room for %d: %d, %v", room, n, err)
				}
				if n, err := d.WriteTo(io.Discard); n != 0 || !errors.Is(err, tt.want) {
					t.Errorf("room for %d: %d, %v the second time", room, n, err)
				}
				if n, err := d.Read(make([]byte, 10)); n != 0 || !errors.Is(err, tt.want) {
					t.Errorf("room for %d: %d, %v from Read", room, n, err)
				}
			}
		})
	}
}
