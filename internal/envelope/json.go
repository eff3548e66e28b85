package envelope

import (
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may be nested. It bounds the recursion
// of value.
const maxDepth = 1000

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

// value reads the rest of a value that starts with c and is nested in depth
// arrays and objects. If it belongs to a message, a string, or every string of an
// array, is added to it. In an object, the name of a member decides.
func (d *Decoder) value(c byte, depth int, message bool) error {
	if depth == maxDepth && (c == '{' || c == '[') {
		return errorf(ErrMalformed, d.offset()-1, "nested more than %d levels deep", maxDepth)
	}
	switch c {
	case '{':
		for first := true; ; first = false {
			name, end, err := d.member(first)
			if err != nil || end {
				return err
			}
			if c, err = d.token(); err != nil {
				return err
			}
			if err = d.value(c, depth+1, isMessage(name)); err != nil {
				return err
			}
		}
	case '[':
		for first := true; ; first = false {
			c, end, err := d.element(first, ']')
			if err != nil || end {
				return err
			}
			if err = d.value(c, depth+1, message); err != nil {
				return err
			}
		}
	case '"':
		if message {
			return d.addMessage()
		}
		_, _, err := d.str(nil)
		return err
	case 't':
		return d.match("rue", `"true"`)
	case 'f':
		return d.match("alse", `"false"`)
	case 'n':
		return d.match("ull", `"null"`)
	}
	if c == '-' || isDigit(c) {
		return d.number(c)
	}
	return d.unexpected(c, "a value")
}

// element returns the first byte of the next element of an array or object,
// unless it reaches the end. Only the first element has no comma before it.
func (d *Decoder) element(first bool, closing byte) (c byte, end bool, err error) {
	c, err = d.token()
	switch {
	case err != nil:
	case c == closing:
		end = true
	case first:
	case c == ',':
		c, err = d.token()
	default:
		err = d.unexpected(c, `"," or "`+string(closing)+`"`)
	}
	return c, end, err
}

// member reads the name of the next member of an object, and the colon after it,
// unless it reaches the end of the object. The name is valid until the next
// string is read, and may be cut.
func (d *Decoder) member(first bool) (name []byte, end bool, err error) {
	c, end, err := d.element(first, '}')
	if err != nil || end {
		return nil, end, err
	}
	d.nameAt = d.offset() - 1
	if c != '"' {
		return nil, false, d.unexpected(c, "the name of a member")
	}
	if name, _, err = d.str(d.scratch[:0:maxQuote]); err != nil {
		return nil, false, err
	}
	if c, err = d.token(); err == nil && c != ':' {
		err = d.unexpected(c, `":"`)
	}
	return name, false, err
}

// str reads a string whose opening quote has been read, and appends to
// dst as much of it as dst has room for. It reports whether it cut the string.
func (d *Decoder) str(dst []byte) (s []byte, cut bool, err error) {
	put := func(b []byte) {
		n := min(len(b), cap(dst)-len(dst))
		dst = append(dst, b[:n]...)
		cut = cut || n < len(b)
	}
	var char [utf8.UTFMax]byte
	var escaped rune // the last character, if it was escaped
	for {
		i := d.r
		for i < d.w && d.buf[i] >= ' ' && d.buf[i] != '"' && d.buf[i] != '\\' {
			i++
		}
		if i > d.r {
			put(d.buf[d.r:i])
			d.r = i
			escaped = 0
		}
		c, err := d.next()
		switch {
		case err != nil:
			return dst, cut, err
		case c == '"':
			return dst, cut, nil
		case c == '\\':
			r, err := d.escape()
			if err != nil {
				return dst, cut, err
			}
			// The first half of a surrogate pair has been put as U+FFFD.
			if pair := utf16.DecodeRune(escaped, r); pair != utf8.RuneError && !cut {
				dst = dst[:len(dst)-len("\ufffd")]
				r = pair
			}
			put(utf8.AppendRune(char[:0], r))
			escaped = r
		case c < ' ':
			return dst, cut, errorf(ErrMalformed, d.offset()-1, "unescaped %s in a string", describe(rune(c)))
		default:
			d.r-- // c begins a new buffer
		}
	}
}

// escape reads what follows a backslash and returns the character that it stands
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

// number reads the rest of a number that starts with c.
func (d *Decoder) number(c byte) (err error) {
	if c == '-' {
		if c, err = d.next(); err != nil {
			return err
		}
	}
	if c == '0' {
		c, err = d.next() // only a fraction or an exponent may follow
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
		d.r-- // the byte that ended the number
	}
	return err
}

// digits reads the digits, at least one, that start with c, and returns the
// byte after them.
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
