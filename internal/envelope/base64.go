package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"

	vectorised "github.com/segmentio/asm/base64"
)

// magic is what a PDF starts with.
const magic = "%PDF-"

// maxPrefix is how many characters of a data URL may come before its comma.
const maxPrefix = 256

// endOfText stands for the quote at the end of the receipt's text.
const endOfText = -1

// startText reads the start of the receipt's text, of which the opening quote
// has been read: as much as it takes to tell that a PDF is in it.
func (d *Decoder) startText() error {
	offset := d.offset()
	n, last, err := d.quantum(d.head[:])
	if n == 3 && bytes.EqualFold(base64.StdEncoding.AppendEncode(d.scratch[:0], d.head[:n]), []byte("data")) {
		if err = d.dataURL(offset); err == nil {
			n, last, err = d.quantum(d.head[:])
		}
	}
	if err == nil && n == 3 && !last {
		n, last, err = d.quantum(d.head[n:])
		n += 3
	}
	switch {
	case err != nil:
		return err
	case n == 0:
		d.lack = errorf(ErrEmpty, offset, "")
		return nil
	case !bytes.HasPrefix(d.head[:n], []byte(magic)):
		return errorf(ErrNotPDF, offset, "it starts with %q", d.head[:n])
	}
	if err := d.take(n); err != nil {
		return err
	}
	d.rest = d.head[:n]
	if !last {
		d.phase = inText
	}
	return nil
}

// dataURL reads a data URL from behind its "data" to the comma before the
// base64. That "data" might also have been base64, but then not of a PDF.
func (d *Decoder) dataURL(offset int64) error {
	c, at, err := d.char()
	if err != nil {
		return err
	}
	if c != ':' {
		return errorf(ErrNotPDF, offset, "it starts with %q", d.head[:3])
	}
	s := append(d.scratch[:0], "data:"...)
	for c != ',' {
		if c, at, err = d.char(); err != nil {
			return err
		}
		switch {
		case c == ',':
			// The end.
		case c == endOfText:
			return errorf(ErrBase64, at, "a data: prefix without a comma")
		case c < ' ' || c > '~':
			return errorf(ErrBase64, at, "%s in a data: prefix", describe(c))
		case len(s) == maxPrefix:
			return errorf(ErrBase64, at, "a data: prefix of more than %d characters", maxPrefix)
		default:
			s = append(s, byte(c))
		}
	}
	const want = ";base64"
	if i := len(s) - len(want); i < 0 || !bytes.EqualFold(s[i:], []byte(want)) {
		return errorf(ErrBase64, at, "a data: prefix without %q", want)
	}
	return nil
}

// text decodes the receipt's text into p until p is full, or until it would
// have to wait for input. It may also decode a few bytes to d.rest, or nothing.
func (d *Decoder) text(p []byte) (n int, err error) {
	for {
		n += d.block(p[n:])
		if n > 0 && (len(p)-n < 3 || d.w-d.r < 4) {
			return n, nil
		}
		dst := p[n:]
		if len(dst) < 3 {
			dst = d.head[:]
		}
		m, last, err := d.quantum(dst)
		if err == nil {
			err = d.take(m)
		}
		if err != nil {
			return n, err
		}
		if last {
			d.phase = inMembers
		}
		if len(p[n:]) < 3 {
			d.rest = d.head[:m]
			return n, nil
		}
		n += m
		if last {
			return n, nil
		}
	}
}

// block is the fast path of text. It decodes what is buffered of the text, as
// far as vectors go and then two quanta at a time, until it meets anything but
// base64 or there is no room for eight bytes, of which six are good.
func (d *Decoder) block(p []byte) (n int) {
	if int64(len(p)) > d.left {
		p = p[:d.left]
	}
	n = d.vector(p)
	// Unlike base64.Encoding, this takes both alphabets, and stops where there
	// is a line break or padding.
	src := d.buf[d.r+n/3*4 : d.w]
	for len(src) >= 8 && len(p)-n >= 8 {
		hi := sextets[0][src[0]] | sextets[1][src[1]] | sextets[2][src[2]] | sextets[3][src[3]]
		lo := sextets[0][src[4]] | sextets[1][src[5]] | sextets[2][src[6]] | sextets[3][src[7]]
		if hi|lo >= notBase64 {
			break
		}
		binary.BigEndian.PutUint64(p[n:], uint64(hi)<<40|uint64(lo)<<16)
		src = src[8:]
		n += 6
	}
	d.r = d.w - len(src)
	d.left -= int64(n)
	return n
}

// minVector is the least text that is worth a try with vectors.
const minVector = 64

// vector decodes what is buffered of the text, but for its last quantum, as long
// as all of it is of the standard alphabet. Once there has been anything else,
// such as a line break, it leaves the text to others.
func (d *Decoder) vector(p []byte) int {
	src := d.buf[d.r:d.w]
	if d.mixed || len(src) < minVector {
		return 0
	}
	if end := bytes.IndexByte(src, '"'); end >= 0 {
		src = src[:max(end-1, 0)]
	}
	quanta := min(len(src)/4, len(p)/3)
	if quanta < minVector/4 {
		return 0
	}
	n, err := vectorised.StdEncoding.Decode(p[:quanta*3], src[:quanta*4])
	// It leaves out line breaks, and ends with padding: then bytes are missing.
	d.mixed = err != nil || n != quanta*3
	if d.mixed {
		return 0
	}
	return n
}

// take counts n bytes of the PDF.
func (d *Decoder) take(n int) error {
	if int64(n) > d.left {
		return errorf(ErrTooLarge, d.offset(), "the PDF has more than %d bytes", d.maxBytes)
	}
	d.left -= int64(n)
	return nil
}

// quantum decodes four characters, or fewer with which the text ends, to dst,
// which must have room for three bytes. At the end of the text, the quote
// included, last is true.
func (d *Decoder) quantum(dst []byte) (n int, last bool, err error) {
	var bits uint32
	var chars int
	for chars < 4 && !last {
		c, at, err := d.char()
		if err != nil {
			return 0, false, err
		}
		switch {
		case 0 <= c && c < 256 && sextets[chars][c] < notBase64:
			bits |= sextets[chars][c]
			chars++
		case c == endOfText && chars == 1:
			return 0, false, errorf(ErrBase64, at, "one character too many or three too few")
		case c == endOfText:
			last = true
		case c == '=':
			if err := d.padding(chars, at); err != nil {
				return 0, false, err
			}
			last = true
		default:
			return 0, false, errorf(ErrBase64, at, "%s", describe(c))
		}
	}
	dst[0], dst[1], dst[2] = byte(bits>>16), byte(bits>>8), byte(bits)
	return chars * 3 / 4, last, nil
}

// padding reads from behind the first "=", at the given offset and after the
// given number of characters, to the end of the text.
func (d *Decoder) padding(chars int, at int64) error {
	if chars < 2 {
		return errorf(ErrBase64, at, "padding where none belongs")
	}
	for range 3 - chars {
		c, at, err := d.char()
		if err != nil {
			return err
		}
		if c != '=' {
			return errorf(ErrBase64, at, "incomplete padding")
		}
	}
	c, at, err := d.char()
	if err == nil && c != endOfText {
		err = errorf(ErrBase64, at, "%s after the padding", describe(c))
	}
	return err
}

// char returns the next character of the receipt's text that is neither CR nor
// LF, and its offset. Beyond ASCII it may return any other such character.
func (d *Decoder) char() (c rune, offset int64, err error) {
	for {
		offset = d.offset()
		b, err := d.next()
		if err != nil {
			return 0, offset, err
		}
		switch {
		case b == '"':
			return endOfText, offset, nil
		case b == '\\':
			if c, err = d.escape(); err != nil {
				return 0, offset, err
			}
		default:
			c = rune(b)
		}
		if c != '\r' && c != '\n' {
			return c, offset, nil
		}
	}
}

// sextets holds, for each of the four places in a quantum, the bits that a
// character there stands for, and notBase64 for what is in neither alphabet.
var sextets = func() (t [4][256]uint32) {
	for c := range 256 {
		bits := uint32(notBase64)
		switch {
		case 'A' <= c && c <= 'Z':
			bits = uint32(c - 'A')
		case 'a' <= c && c <= 'z':
			bits = uint32(c - 'a' + 26)
		case '0' <= c && c <= '9':
			bits = uint32(c - '0' + 52)
		case c == '+' || c == '-':
			bits = 62
		case c == '/' || c == '_':
			bits = 63
		}
		for place := range t {
			t[place][c] = bits
			if bits < notBase64 {
				t[place][c] <<= 18 - 6*place
			}
		}
	}
	return t
}()

const notBase64 = 1 << 24
