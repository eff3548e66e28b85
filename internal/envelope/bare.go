package envelope

import (
	"bytes"
	"io"
)

// eofWindow is how far from its end a PDF has its %%EOF, at the most: readers
// of PDF look no further.
const eofWindow = 1024

// startBare is called after the first byte of what should be a PDF without an
// envelope.
func (d *Decoder) startBare() error {
	offset := d.offset() - 1
	head := append(d.head[:0], magic[0])
	for len(head) < len(magic) {
		c, err := d.next()
		if err != nil {
			return err
		}
		head = append(head, c)
	}
	if string(head) != magic {
		return errorf(ErrNotPDF, offset, "it starts with %q", head)
	}
	if err := d.take(len(head)); err != nil {
		return err
	}
	d.mime = "application/pdf"
	d.rest = head
	d.keep = eofWindow
	d.phase = inBare
	return nil
}

// bare copies a PDF that has no envelope.
func (d *Decoder) bare(p []byte) (int, error) {
	if d.r == d.w {
		err := d.fill()
		if err == io.EOF && !d.known && !endsPDF(d.buf[max(0, d.w-eofWindow):d.w]) {
			return 0, d.truncated("no %%EOF at the end of the PDF")
		}
		if err != nil {
			return 0, err
		}
	}
	n := int(min(int64(len(p)), int64(d.w-d.r), max(d.left, 1)))
	if err := d.take(n); err != nil {
		return 0, err
	}
	copy(p, d.buf[d.r:d.r+n])
	d.r += n
	return n, nil
}

// endsPDF reports whether the end of a PDF is one: %%EOF with nothing but white
// space, as PDF has it, behind. A PDF that was signed or otherwise updated has
// more than one %%EOF, so that something behind the last says that it is cut.
func endsPDF(tail []byte) bool {
	i := bytes.LastIndex(tail, []byte("%%EOF"))
	return i >= 0 && len(bytes.Trim(tail[i+len("%%EOF"):], "\x00\t\n\f\r ")) == 0
}
