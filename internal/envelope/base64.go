package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"unicode/utf8"

	vectorised "github.com/segmentio/asm/base64"
)

// maxPrefix is how many characters a data URL may have up to its comma.
const maxPrefix = 257

// endOfText is what char returns for the quote at the end of the receipt's text.
const endOfText = utf8.MaxRune + 1

// startText reads the start of the receipt's text, of which the opening quote
// has been read, until it has found the magic of a PDF.
func (d *Decoder) startText() error {
	offset := d.offset()
	var n int
	var found, prefixed, last bool
	for !found && !last && n < window {
		chars, c, err := d.quantum(d.scratch[n:])
		switch {
		case err != nil:
			return err
		case chars == 4:
			n += 3
		case c == ' ' && chars == 0 && n == 0:
			continue
		case c == ':' && chars == 0 && !prefixed && isData(d.scratch[:n]):
			if err := d.dataURL(); err != nil {
				return err
			}
			n, prefixed = 0, true
		default:
			if err := d.end(chars, c); err != nil {
				return err
			}
			n += chars * 3 / 4
			last = true
		}
		found = bytes.Contains(d.scratch[:min(n, window)], []byte(magic))
	}
	switch {
	case n == 0:
		d.lack = errorf(ErrEmpty, offset, "")
		return nil
	case !found:
		return d.notPDF(offset, d.scratch[:min(n, maxQuote)])
	}
	if err := d.take(n); err != nil {
		return err
	}
	d.rest = d.scratch[:n]
	if !last {
		d.phase = inText
	}
	return nil
}

// isData reports whether b is "data" decoded, in upper, lower or mixed case.
func isData(b []byte) bool {
	return len(b) == 3 && bytes.EqualFold(base64.StdEncoding.AppendEncode(nil, b), []byte("data"))
}

// dataURL reads the rest of a prefix, from after "data:" to its comma.
func (d *Decoder) dataURL() error {
	const end = ";base64,"
	s := append(d.scratch[:0], "data:"...)
	for c := rune(0); c != ','; s = append(s, byte(c)) {
		var err error
		if c, err = d.char(); err != nil {
			return err
		}
		if c < ' ' || c > '~' || len(s) == maxPrefix {
			return errorf(ErrBase64, d.charAt, "a data: prefix without %q", end)
		}
	}
	if !bytes.HasSuffix(bytes.ToLower(s), []byte(end)) {
		return errorf(ErrBase64, d.charAt, "a data: prefix without %q", end)
	}
	return nil
}

// text decodes the receipt's text into p, which must have room for three bytes.
// It stops when p is full or when it would have to wait for input.
func (d *Decoder) text(p []byte) (n int, err error) {
	for {
		n += d.block(p[n:])
		if n > 0 && (len(p)-n < 3 || d.w-d.r < 4) {
			return n, nil
		}
		chars, c, err := d.quantum(p[n:])
		if err == nil && chars < 4 {
			err = d.end(chars, c)
			d.phase = inMembers
		}
		if err == nil {
			err = d.take(chars * 3 / 4)
		}
		if err != nil {
			return n, err
		}
		n += chars * 3 / 4
		if chars < 4 {
			return n, nil
		}
	}
}

// block is the fast path of text. It decodes buffered text, with vectors where
// it can and otherwise two quanta at a time, until it meets anything but base64
// or there is no room for eight bytes, of which it uses six.
func (d *Decoder) block(p []byte) (n int) {
	if int64(len(p)) > d.left {
		p = p[:d.left]
	}
	n = d.vector(p)
	// Unlike a base64.Encoding, this takes both alphabets and stops at line breaks
	// and padding.
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

// minVector is the shortest text for which vectors pay.
const minVector = 64

// vector decodes the buffered text, except its last quantum, if all of it is in
// the standard alphabet. After the first text that is not, because of a line
// break for example, it leaves everything to its caller.
func (d *Decoder) vector(p []byte) int {
	src := d.buf[d.r:min(d.w, d.r+len(p)/3*4+1)]
	if d.mixed || len(src) < minVector {
		return 0
	}
	if end := bytes.IndexByte(src, '"'); end >= 0 {
		src = src[:max(end-1, 0)]
	}
	quanta := len(src) / 4
	if quanta == 0 {
		return 0
	}
	n, err := vectorised.StdEncoding.Decode(p[:quanta*3], src[:quanta*4])
	// Like encoding/base64, it skips line breaks and accepts padding. Then the
	// output is short.
	d.mixed = err != nil || n != quanta*3
	if d.mixed {
		return 0
	}
	return n
}

// quantum decodes four characters to dst, which must have room for three bytes.
// It returns the number of characters that are base64; if there are fewer than
// four, c is the character after them.
func (d *Decoder) quantum(dst []byte) (chars int, c rune, err error) {
	var bits uint32
	for ; chars < 4; chars++ {
		if c, err = d.char(); err != nil {
			return 0, 0, err
		}
		if c >= 256 || sextets[chars][c] == notBase64 {
			break
		}
		bits |= sextets[chars][c]
	}
	dst[0], dst[1], dst[2] = byte(bits>>16), byte(bits>>8), byte(bits)
	return chars, c, nil
}

// end reads the end of the text: what follows the given number of characters of
// the last quantum. The character after them, c, has been read.
func (d *Decoder) end(chars int, c rune) (err error) {
	padded := false
	for ; c == '=' && (chars == 2 || chars == 3); chars++ {
		padded = true
		if c, err = d.char(); err != nil {
			return err
		}
	}
	space, spaces := d.charAt, c == ' '
	for c == ' ' && chars%4 == 0 {
		if c, err = d.char(); err != nil {
			return err
		}
	}
	switch {
	case c == endOfText && (chars%4 == 0 || chars > 1 && !padded):
		return nil
	case spaces:
		return errorf(ErrBase64, space, `a space inside the text, where a "+" may have been lost`)
	case c == endOfText:
		return errorf(ErrBase64, d.charAt, "unexpected end of the text")
	}
	return errorf(ErrBase64, d.charAt, "unexpected %s", describe(c))
}

// char returns the next character of the receipt's text that is not a line break
// or a tab, and sets charAt to its offset. Of a character beyond ASCII it may
// return a part.
func (d *Decoder) char() (rune, error) {
	for {
		d.charAt = d.offset()
		b, err := d.next()
		if err != nil {
			return 0, err
		}
		c := rune(b)
		switch b {
		case '"':
			return endOfText, nil
		case '\\':
			if c, err = d.escape(); err != nil {
				return 0, err
			}
		}
		if c != '\r' && c != '\n' && c != '\t' {
			return c, nil
		}
	}
}

// sextets holds, for each of the four places in a quantum, the bits that a
// character stands for there, and notBase64 for what is in neither alphabet.
var sextets = func() (t [4][256]uint32) {
	const (
		std = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		url = "-_" // in place of the last two
	)
	for place := range t {
		for c := range t[place] {
			t[place][c] = notBase64
		}
		for bits, c := range []byte(std + url) {
			if bits >= 64 {
				bits -= len(url)
			}
			t[place][c] = uint32(bits) << (18 - 6*place)
		}
	}
	return t
}()

const notBase64 = 1 << 24
