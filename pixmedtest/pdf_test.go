package pixmedtest_test

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestPDFStructure(t *testing.T) {
	t.Parallel()
	awkward := pixmedtest.NewInfraction(func(i *pixmed.Infraction) {
		i.ExternalID = "a) \\ (b\x00\n日本" + strings.Repeat("é", 4000)
		i.EndToEndID = "malformed"
		i.TransactionType = "CASH_OUT"
		i.Value = -1
	})
	for name, tt := range map[string]struct {
		infraction pixmed.Infraction
		size       int
	}{
		"sample":  {infraction: sample()},
		"awkward": {infraction: awkward},
		"zero":    {},
		"padded":  {infraction: awkward, size: 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pdf := pixmedtest.PDFOfSize(tt.infraction, tt.size)
			checkPDF(t, pdf)
			if !bytes.Equal(pdf, pixmedtest.PDFOfSize(tt.infraction, tt.size)) {
				t.Error("a second call returned another PDF")
			}
		})
	}
}

// checkPDF checks the trailer, the table of offsets and the length of the
// stream.
func checkPDF(t *testing.T, pdf []byte) {
	t.Helper()
	if !bytes.HasPrefix(pdf, []byte("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")) {
		t.Errorf("the PDF starts with %q", pdf[:min(len(pdf), 20)])
	}
	end := regexp.MustCompile(`\nstartxref\n(\d+)\n%%EOF\n$`).FindSubmatch(pdf)
	if end == nil {
		t.Fatalf("the PDF ends with %q", pdf[max(0, len(pdf)-100):])
	}
	at := atoi(t, end[1])
	if at > len(pdf) {
		t.Fatalf("startxref is %d, after the end", at)
	}
	table := regexp.MustCompile(`^xref\n0 (\d+)\n0000000000 65535 f \n((?:\d{10} 00000 n \n)+)trailer\n<< /Size (\d+) /Root 1 0 R /Info 7 0 R >>\n`).FindSubmatch(pdf[at:])
	if table == nil {
		t.Fatalf("no xref table at %d, found %q", at, pdf[at:min(len(pdf), at+100)])
	}
	entries := bytes.SplitAfter(bytes.TrimSuffix(table[2], []byte("\n")), []byte("\n"))
	if got, size := len(entries)+1, atoi(t, table[1]); got != size || atoi(t, table[3]) != size {
		t.Errorf("the xref table has %d entries, but its sizes are %s and %s", got, table[1], table[3])
	}
	for n, entry := range entries {
		offset := atoi(t, entry[:10])
		if want := strconv.Itoa(n+1) + " 0 obj\n"; !bytes.HasPrefix(pdf[offset:], []byte(want)) {
			t.Errorf("object %d: got %q at its offset", n+1, pdf[offset:offset+20])
		}
	}
	if got := bytes.Count(pdf, []byte(" 0 obj\n")); got != len(entries) {
		t.Errorf("%d objects, but %d in the xref table", got, len(entries))
	}
	stream := regexp.MustCompile(`<< /Length (\d+) >>\nstream\n`).FindSubmatchIndex(pdf)
	if stream == nil {
		t.Fatal("no stream")
	}
	if rest := pdf[stream[1]+atoi(t, pdf[stream[2]:stream[3]]):]; !bytes.HasPrefix(rest, []byte("\nendstream\nendobj\n")) {
		t.Errorf("got %q where the stream should end", rest[:min(len(rest), 30)])
	}
}

func atoi(t *testing.T, b []byte) int {
	t.Helper()
	n, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPDFText(t *testing.T) {
	t.Parallel()
	text := func(i pixmed.Infraction) []string {
		var shown []string
		for _, m := range regexp.MustCompile(`(?s)Td \((.*?)\) Tj ET\n`).FindAllSubmatch(pixmedtest.PDF(i), -1) {
			shown = append(shown, string(m[1]))
		}
		return shown[:len(shown)-2] // all but the notice
	}
	got := text(sample())
	want := []string{
		"Comprovante de transa\xe7\xe3o Pix",
		"Valor", "R$ 18,00",
		"ID da transa\xe7\xe3o", "5a94d48d-c9f3-46be-8448-83510ca42bde",
		"ID fim a fim \\(E2E\\)", "E082535392025011818245238600338f",
		"ID externo", "T&ste378",
		"Tipo", "Pix recebido \\(CASH_IN\\)",
		"Data e hora", "18/01/2025 15:24 \\(hor\xe1rio de Bras\xedlia\\)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the sample's text (-want +got):\n%s", diff)
	}

	for name, tt := range map[string]struct {
		externalID string
		want       []string
	}{
		"empty":         {"", []string{"-"}},
		"escaped":       {`(a\b)`, []string{`\(a\\b\)`}},
		"latin":         {"\u00a0¿çÿ", []string{"\xa0\xbf\xe7\xff"}},
		"unknown":       {"日\x00\n\x7f\u0080\xff😀€", []string{"????????"}},
		"wrapped":       {strings.Repeat("x", 50), []string{strings.Repeat("x", 48), "xx"}},
		"wrapped whole": {strings.Repeat("x", 4*48), []string{strings.Repeat("x", 48), strings.Repeat("x", 48), strings.Repeat("x", 48), strings.Repeat("x", 48)}},
		"cut":           {strings.Repeat("x", 4*48+1), []string{strings.Repeat("x", 48), strings.Repeat("x", 48), strings.Repeat("x", 48), strings.Repeat("x", 48) + "..."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := text(pixmed.Infraction{ExternalID: tt.externalID, TransactionType: "PIX"})
			if diff := cmp.Diff(append(tt.want, "Tipo", "PIX", "Data e hora", "n\xe3o informada"), got[8:]); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPDFOfSize(t *testing.T) {
	t.Parallel()
	i := sample()
	least := len(pixmedtest.PDF(i))
	for _, size := range []int{-1, 0, 1, least - 1, least} {
		if got := len(pixmedtest.PDFOfSize(i, size)); got != least {
			t.Errorf("size %d: got %d bytes, want %d", size, got, least)
		}
	}
	for size := least; size < least+200; size++ {
		pdf := pixmedtest.PDFOfSize(i, size)
		if len(pdf) != size {
			t.Fatalf("size %d: got %d bytes", size, len(pdf))
		}
		checkPDF(t, pdf)
	}
	const large = 3<<20 + 1
	if pdf := pixmedtest.PDFOfSize(i, large); len(pdf) != large {
		t.Errorf("size %d: got %d bytes", large, len(pdf))
	} else {
		checkPDF(t, pdf)
	}
}
