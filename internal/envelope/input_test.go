package envelope_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

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
		{"white space after", good, "", "\n"},
		{"unknown member", `{"x":"`, `",` + good[1:], "x"},
		{"line breaks", `{"data":{"receipt":"`, sampleText + `"},"status":"SUCCESS"}`, "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 24 << 10} {
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

var errBoom = errors.New("boom")

func TestReaderError(t *testing.T) {
	t.Parallel()

	for _, s := range samples {
		if s.pdf == "" {
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
					n, err := io.Copy(&pdf, d)
					if !errors.Is(err, errBoom) || errors.Is(err, envelope.ErrTruncated) || errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("error at %d: %v", i, err)
					}
					if want := fmt.Sprintf("reading the receipt envelope at byte %d: boom", i); err.Error() != want {
						t.Errorf("error at %d: %q, want %q", i, err, want)
					}
					if !strings.HasPrefix(s.pdf, pdf.String()) || n != int64(pdf.Len()) {
						t.Errorf("error at %d: delivered %q", i, pdf.String())
					}
					if _, again := d.Read(make([]byte, 10)); again != err {
						t.Errorf("error at %d: %v, then %v", i, err, again)
					}
				}

				// A reader that detects the truncation itself.
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

// lazy is a reader that returns nothing a number of times before each byte.
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
