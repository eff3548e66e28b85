package envelope

import (
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may be nested, as in encoding/json.
const maxDepth = 10_000

// token returns the next byte that is not white space.
func (d *Decoder) token() (byte, error) {
	for {
		c, err := d.next()
		if err != nil || !isSpace(c) {
			return c, err
		}
	}
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t'
}

// skip reads the rest of the value that starts with c and is nested in depth
// arrays and objects.
func (d *Decoder) skip(c byte, depth int) error {
	// Of the arrays and objects that are open, one bit says which it is.
	var objects [maxDepth/64 + 1]uint64
	isObject := func() bool { return objects[depth/64]>>(depth%64)&1 != 0 }

	for outer := depth; ; {
		var err error
		switch {
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return errorf(ErrMalformed, d.offset()-1, "nested deeper than %d levels", maxDepth)
			}
			objects[depth/64] &^= 1 << (depth % 64)
			end := byte(']')
			if c == '{' {
				objects[depth/64] |= 1 << (depth % 64)
				end = '}'
			}
			if c, err = d.token(); err != nil {
				return err
			}
			if c != end {
				if c, err = d.element(c, isObject()); err != nil {
					return err
				}
				continue
			}
			depth--
		case c == '"':
			_, _, err = d.str(nil)
		case c == '-' || isDigit(c):
			err = d.number(c)
		default:
			err = d.literal(c)
		}
		if err != nil {
			return err
		}

		// A value has ended, and maybe what it was the last of.
		for {
			if depth == outer {
				return nil
			}
			if c, err = d.token(); err != nil {
				return err
			}
			if c == ',' {
				break
			}
			switch object := isObject(); {
			case object && c != '}':
				return d.unexpected(c, `"," or "}"`)
			case !object && c != ']':
				return d.unexpected(c, `"," or "]"`)
			}
			depth--
		}
		if c, err = d.token(); err != nil {
			return err
		}
		if c, err = d.element(c, isObject()); err != nil {
			return err
		}
	}
}

// element returns the first byte of the value of the array element, or object
// member, that starts with c.
func (d *Decoder) element(c byte, object bool) (byte, error) {
	if !object {
		return c, nil
	}
	if _, err := d.name(c, nil); err != nil {
		return 0, err
	}
	return d.token()
}

// name reads the member name that starts with c, and the colon behind it. It
// returns the name as str does.
func (d *Decoder) name(c byte, dst []byte) ([]byte, error) {
	if c != '"' {
		return nil, d.unexpected(c, "the name of a member")
	}
	dst, _, err := d.str(dst)
	if err != nil {
		return nil, err
	}
	if c, err = d.token(); err != nil {
		return nil, err
	}
	if c != ':' {
		return nil, d.unexpected(c, `":"`)
	}
	return dst, nil
}

// str reads a string, of which the opening quote has been read, and appends to
// dst what its capacity has room for. If that is not all, cut is true.
func (d *Decoder) str(dst []byte) (s []byte, cut bool, err error) {
	put := func(b []byte) {
		n := min(len(b), cap(dst)-len(dst))
		dst = append(dst, b[:n]...)
		if n < len(b) {
			cut = true
		}
	}
	var char [utf8.UTFMax]byte
	putRune := func(r rune) { put(utf8.AppendRune(char[:0], r)) }

	var high rune // half of a surrogate pair, yet without its other half
	for {
		i := d.r
		for i < d.w && d.buf[i] >= ' ' && d.buf[i] != '"' && d.buf[i] != '\\' {
			i++
		}
		if high != 0 && i > d.r {
			putRune(high)
			high = 0
		}
		put(d.buf[d.r:i])
		d.r = i

		if i == d.w {
			if err := d.more(); err != nil {
				return dst, cut, err
			}
			continue
		}
		d.r++
		switch c := d.buf[i]; c {
		case '"':
			if high != 0 {
				putRune(high)
			}
			return dst, cut, nil
		case '\\':
			r, err := d.escape()
			if err != nil {
				return dst, cut, err
			}
			if high != 0 {
				pair := utf16.DecodeRune(high, r)
				if pair == utf8.RuneError {
					putRune(high)
				} else {
					r = pair
				}
				high = 0
			}
			if 0xd800 <= r && r < 0xdc00 {
				high = r
			} else {
				putRune(r)
			}
		default:
			return dst, cut, errorf(ErrMalformed, d.offset()-1, "%s in a string, not escaped", describe(rune(c)))
		}
	}
}

// escape reads what follows a backslash and returns the character it stands
// for, which may be half of a surrogate pair.
func (d *Decoder) escape() (rune, error) {
	c, err := d.next()
	if err != nil {
		return 0, err
	}
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return d.hex4()
	}
	return 0, d.unexpected(c, "an escape")
}

// hex4 reads four hexadecimal digits.
func (d *Decoder) hex4() (rune, error) {
	var r rune
	for range 4 {
		c, err := d.next()
		if err != nil {
			return 0, err
		}
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, d.unexpected(c, "a hexadecimal digit")
		}
		r = r<<4 | rune(c)
	}
	return r, nil
}

// number reads the rest of the number that starts with c.
func (d *Decoder) number(c byte) (err error) {
	if c == '-' {
		if c, err = d.next(); err != nil {
			return err
		}
	}
	if c == '0' {
		c, err = d.next() // nothing but a fraction or an exponent may follow
	} else {
		c, err = d.digits(c)
	}
	if err == nil && c == '.' {
		if c, err = d.next(); err == nil {
			c, err = d.digits(c)
		}
	}
	if err == nil && (c == 'e' || c == 'E') {
		if c, err = d.next(); err == nil && (c == '+' || c == '-') {
			c, err = d.next()
		}
		if err == nil {
			_, err = d.digits(c)
		}
	}
	if err == nil {
		d.r-- // what ended the number is not part of it
	}
	return err
}

// digits reads the digits, at least one, that start with c, and returns the
// byte behind them.
func (d *Decoder) digits(c byte) (byte, error) {
	if !isDigit(c) {
		return 0, d.unexpected(c, "a digit")
	}
	for isDigit(c) {
		var err error
		if c, err = d.next(); err != nil {
			return 0, err
		}
	}
	return c, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// literal reads the rest of the literal that starts with c.
func (d *Decoder) literal(c byte) error {
	switch c {
	case 't':
		return d.match("rue", `"true"`)
	case 'f':
		return d.match("alse", `"false"`)
	case 'n':
		return d.match("ull", `"null"`)
	}
	return d.unexpected(c, "a value")
}

// match reads s, which is the rest of what is wanted.
func (d *Decoder) match(s, want string) error {
	for i := range len(s) {
		c, err := d.next()
		if err != nil {
			return err
		}
		if c != s[i] {
			return d.unexpected(c, want)
		}
	}
	return nil
}
