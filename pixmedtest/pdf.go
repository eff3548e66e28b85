package pixmedtest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pixmed-go/pixmed"
)

// PDF returns a receipt for an infraction's transaction. It is a valid PDF of one
// page, in Portuguese, that shows the ids, value, type and time of the
// transaction and states that it is for tests. The time is taken from the
// EndToEndID.
//
// The same transaction gives the same bytes, whatever its MEDStatus. Characters
// outside Latin-1 appear as question marks, and very long ids are cut.
func PDF(i pixmed.Infraction) []byte { return PDFOfSize(i, 0) }

// PDFOfSize returns what [PDF] does, padded to exactly size bytes, for tests with
// large receipts. The lines of the padding are numbered, so that no two parts
// are the same. A PDF that already has size bytes or more is not padded.
func PDFOfSize(i pixmed.Infraction, size int) []byte {
	var d document
	d.Grow(max(size, 4<<10))
	d.WriteString("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n") // bytes over 127 mark the file as binary
	d.object("<< /Type /Catalog /Pages 2 0 R /Lang (pt-BR) >>")
	d.object("<< /Type /Pages /Kids [3 0 R] /Count 1 >>")
	d.object(fmt.Sprintf("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d]"+
		" /Resources << /Font << /F1 5 0 R /F2 6 0 R >> >> /Contents 4 0 R >>", pageWidth, pageHeight))
	content := page(i)
	d.object(fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(content), content))
	d.object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
	d.object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>")
	d.object("<< /Title " + pdfString(title) + " /Producer (pixmedtest) >>")

	table := d.Len()
	fmt.Fprintf(&d, "xref\n0 %d\n0000000000 65535 f \n", len(d.offsets)+1)
	for _, offset := range d.offsets {
		fmt.Fprintf(&d, "%010d 00000 n \n", offset)
	}
	fmt.Fprintf(&d, "trailer\n<< /Size %d /Root 1 0 R /Info 7 0 R >>\n", len(d.offsets)+1)
	end := fmt.Sprintf("startxref\n%d\n%%%%EOF\n", table)
	d.pad(size - len(end)) // after everything that an offset points to
	d.WriteString(end)
	return d.Bytes()
}

// document is a PDF that is being written.
type document struct {
	bytes.Buffer
	offsets []int // of the objects, starting with object 1
}

func (d *document) object(body string) {
	d.offsets = append(d.offsets, d.Len())
	fmt.Fprintf(d, "%d 0 obj\n%s\nendobj\n", len(d.offsets), body)
}

// pad adds lines of numbered comments until the document has size bytes.
func (d *document) pad(size int) {
	if size <= d.Len() {
		return
	}
	for n := 1; d.Len() < size; n++ {
		fmt.Fprintf(d, "%% padding %052d\n", n) // 64 bytes
	}
	d.Truncate(size)
	d.Bytes()[size-1] = '\n' // ends the last comment, if it was cut
}

// The layout of the page: A4, in points.
const (
	pageWidth, pageHeight = 595, 842
	left, right           = 56, 539
	valueColumn           = 210
	valueWidth, valueMost = 48, 4 // characters per line, and lines

	title = "Comprovante de transação Pix"
)

// brasilia returns the time zone of the receipts. Brazil has had no daylight
// saving time since 2019.
func brasilia() *time.Location { return time.FixedZone("BRT", -3*60*60) }

// page returns the page's drawing instructions.
func page(i pixmed.Infraction) string {
	var b strings.Builder
	text := func(x, y int, font string, size int, gray, s string) {
		fmt.Fprintf(&b, "BT /%s %d Tf %s g %d %d Td %s Tj ET\n", font, size, gray, x, y, pdfString(s))
	}
	rule := func(y int, width, gray string) {
		fmt.Fprintf(&b, "%s w %s G %d %d m %d %d l S\n", width, gray, left, y, right, y)
	}
	const regular, bold, black, dim, faint = "F1", "F2", "0", "0.4", "0.85"

	text(left, 768, bold, 20, black, title)
	rule(752, "1.5", "0.2")
	text(left, 716, regular, 10, dim, "Valor")
	text(left, 686, bold, 26, black, i.Value.BRL())

	kind := string(i.TransactionType)
	if i.TransactionType == pixmed.CashIn {
		kind = "Pix recebido (CASH_IN)"
	}
	when := "não informada"
	if t := i.EndToEndID.Time(); !t.IsZero() {
		when = t.In(brasilia()).Format("02/01/2006 15:04") + " (horário de Brasília)"
	}
	y := 640
	rule(y+20, "0.5", faint)
	for _, row := range []struct{ label, value string }{
		{"ID da transação", i.TransactionID},
		{"ID fim a fim (E2E)", string(i.EndToEndID)},
		{"ID externo", i.ExternalID},
		{"Tipo", kind},
		{"Data e hora", when},
	} {
		text(left, y, regular, 10, dim, row.label)
		for n, line := range wrap(row.value) {
			if n > 0 {
				y -= 14
			}
			text(valueColumn, y, regular, 10, black, line)
		}
		rule(y-10, "0.5", faint)
		y -= 30
	}

	text(left, 90, bold, 10, dim, "DOCUMENTO DE TESTE")
	text(left, 76, regular, 9, dim, "Gerado por um gateway simulado (pixmedtest). Não comprova pagamento e não tem valor legal.")
	return strings.TrimSuffix(b.String(), "\n")
}

// wrap splits a value into lines. There is always at least one.
func wrap(s string) []string {
	var lines []string
	for line := range slices.Chunk([]rune(s), valueWidth) {
		if len(lines) == valueMost {
			lines[valueMost-1] += "..."
			return lines
		}
		lines = append(lines, string(line))
	}
	if lines == nil {
		return []string{"-"}
	}
	return lines
}

// pdfString returns text as a PDF string in WinAnsiEncoding. Characters outside
// Latin-1 become question marks.
func pdfString(s string) string {
	b := []byte{'('}
	for _, r := range s {
		switch {
		case r == '(' || r == ')' || r == '\\':
			b = append(b, '\\', byte(r))
		case ' ' <= r && r <= '~' || 0xa0 <= r && r <= 0xff:
			b = append(b, byte(r))
		default:
			b = append(b, '?')
		}
	}
	return string(append(b, ')'))
}
