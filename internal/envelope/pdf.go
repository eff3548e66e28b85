package envelope

import (
	"bytes"
	"io"
)

const (
	// magic begins a PDF.
	magic = "%PDF-"

	// window is how far from the start of a PDF its magic, and how far from the
	// end its %%EOF, may lie: PDF readers look no further.
	window = 1024
)

// startBare reads the start of a PDF without an envelope, of which the first
// byte of the magic has been read. What precedes it is still in buf.
func (d *Decoder) startBare() error {
	offset := d.offset() - 1
	for range len(magic) - 1 {
		if _, err := d.next(); err != nil {
			return err
		}
	}
	head := d.buf[d.r-len(magic) : d.r]
	if offset > window-int64(len(magic)) || string(head) != magic {
		return d.notPDF(offset, head)
	}
	if err := d.take(d.r); err != nil { // base is 0
		return err
	}
	d.rest = d.buf[:d.r]
	d.mime = "application/pdf"
	d.phase = inBare
	return nil
}

// bare copies a PDF without an envelope.
func (d *Decoder) bare(p []byte) (int, error) {
	if d.r == d.w {
		err := d.fill()
		if err == io.EOF && !d.known && !endsPDF(d.buf[max(0, d.w-window):d.w]) {
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

// endsPDF reports whether the last bytes of a PDF are %%EOF, followed by nothing
// but what PDF calls white space. A PDF that was signed or updated has several
// %%EOF, so anything else after one of them means that the PDF is truncated.
func endsPDF(tail []byte) bool {
	return bytes.HasSuffix(bytes.TrimRight(tail, "\x00\t\n\f\r "), []byte("%%EOF"))
}

// take counts n bytes of the PDF.
func (d *Decoder) take(n int) error {
	if int64(n) > d.left {
		return errorf(ErrTooLarge, d.offset(), "the PDF has more than %d bytes", d.maxBytes)
	}
	d.left -= int64(n)
	return nil
}

// notPDF returns an error about content that begins with head at the offset.
func (d *Decoder) notPDF(offset int64, head []byte) error {
	return errorf(ErrNotPDF, offset, "no %s in the first %d bytes; it starts with %s", magic, window, d.quote(head))
}
