package envelope

import (
	"bytes"
	"errors"
)

// Limits in bytes.
const (
	maxQuote   = 64  // of the input in an error
	maxMessage = 200 // of the gateway's message in an error
	maxMIME    = 255
)

// members is a set of the members that may come only once.
type members uint8

const (
	seenStatus members = 1 << iota
	seenData
	seenReceipt
	seenMIMEType
)

// start finds out what the input is.
func (d *Decoder) start() error {
	d.keep = window // for startBare
	c, err := d.next()
	if err == nil && c == 0xef {
		if err := d.match("\xbb\xbf", "a byte order mark"); err != nil {
			return err
		}
		c, err = d.next()
	}
	for err == nil && isSpace(c) {
		c, err = d.next()
	}
	if e, ok := errors.AsType[*Error](err); ok && errors.Is(e, ErrTruncated) {
		e.Detail = "empty body"
	}
	switch {
	case err != nil:
		return err
	case c == magic[0]:
		return d.startBare()
	case c == '<':
		return errorf(ErrMalformed, d.offset()-1, "an HTML page, not JSON: is there a proxy in between?")
	case c != '{':
		return d.notAnObject()
	}
	d.keep = 0
	d.first = true
	d.phase = inMembers
	return nil
}

// notAnObject returns an error that quotes the start of the input, which may be
// all that a proxy has to say.
func (d *Decoder) notAnObject() error {
	d.r--
	offset := d.offset()
	s := d.scratch[:0]
	for len(s) < maxQuote {
		c, err := d.next()
		if err != nil {
			break
		}
		s = append(s, c)
	}
	return errorf(ErrMalformed, offset, "it starts with %s, want a JSON object", d.quote(s))
}

// envelope is members, except that a status other than SUCCESS takes precedence
// over any error after it, since it explains more.
func (d *Decoder) envelope() error {
	err := d.members()
	if d.failed != nil {
		return d.withMessage(d.failed)
	}
	return err
}

// members reads members of the envelope and of its data until there are bytes of
// the PDF to deliver or the input ends. It returns io.EOF if all is well.
func (d *Decoder) members() error {
	for {
		name, end, err := d.member(d.first)
		d.first = false
		var c byte
		switch {
		case err != nil:
			return err
		case end && d.inData:
			d.inData = false
			if d.seen&seenReceipt == 0 {
				d.lack = errorf(ErrMissing, d.offset()-1, "no receipt in data")
			}
			continue
		case end:
			return d.finish()
		}
		if c, err = d.token(); err != nil {
			return err
		}
		if d.inData {
			err = d.dataMember(name, c)
		} else {
			err = d.rootMember(name, c)
		}
		if err != nil || len(d.rest) > 0 {
			return err
		}
	}
}

// rootMember reads the value, which starts with c, of a member of the envelope.
func (d *Decoder) rootMember(name []byte, c byte) error {
	switch {
	case d.failed != nil:
		// Only the message matters now.
	case string(name) == "status":
		return d.status(c)
	case string(name) == "data":
		if err := d.once(seenData, "data"); err != nil {
			return err
		}
		if c != '{' {
			return d.noReceipt(c, "data", "an object")
		}
		d.inData, d.first = true, true
		return nil
	}
	return d.value(c, 1, isMessage(name))
}

// dataMember reads the value, which starts with c, of a member of data. Of the
// receipt it reads only the start.
func (d *Decoder) dataMember(name []byte, c byte) error {
	switch string(name) {
	case "receipt":
		if err := d.once(seenReceipt, "receipt"); err != nil {
			return err
		}
		if c != '"' {
			return d.noReceipt(c, "receipt", "a string")
		}
		return d.startText()
	case "mimeType":
		return d.mimeType(c)
	}
	return d.value(c, 2, isMessage(name))
}

// once records that m has been read. A second one is an error, since another
// decoder might take the other and see another receipt.
func (d *Decoder) once(m members, name string) error {
	if d.seen&m != 0 {
		return errorf(ErrMalformed, d.nameAt, "duplicate member %q", name)
	}
	d.seen |= m
	return nil
}

// noReceipt records that the named member, whose value starts with c, is not what
// it should be, and skips it: a status that explains why may follow.
func (d *Decoder) noReceipt(c byte, name, want string) error {
	kind := ErrMalformed
	if c == 'n' {
		kind = ErrMissing
	}
	d.lack = errorf(kind, d.offset()-1, "%s is %s", name, mistyped(c, want))
	return d.value(c, 1, false)
}

// mistyped describes the type of a value that starts with c and is not wanted.
func mistyped(c byte, want string) string {
	if c == 'n' {
		return "null"
	}
	return "not " + want
}

func (d *Decoder) status(c byte) error {
	if err := d.once(seenStatus, "status"); err != nil {
		return err
	}
	offset := d.offset() - 1
	if c != '"' {
		d.failed = errorf(ErrFailed, offset, "status is %s", mistyped(c, "a string"))
		return d.value(c, 1, false)
	}
	s, _, err := d.str(d.scratch[:0:maxQuote])
	// Without its length, "ſuccess" would do: EqualFold takes ſ for S.
	const want = "SUCCESS"
	if err == nil && (len(s) != len(want) || !bytes.EqualFold(s, []byte(want))) {
		d.failed = errorf(ErrFailed, offset, "status %s", d.quote(s))
	}
	return err
}

func (d *Decoder) mimeType(c byte) error {
	if err := d.once(seenMIMEType, "mimeType"); err != nil {
		return err
	}
	offset := d.offset() - 1
	switch c {
	case '"':
		s, cut, err := d.str(d.scratch[:0:maxMIME])
		if err != nil {
			return err
		}
		if cut {
			return errorf(ErrMalformed, offset, "mimeType has more than %d bytes", maxMIME)
		}
		d.mime = string(s)
		return nil
	case 'n':
		return d.value(c, 2, false)
	}
	return errorf(ErrMalformed, offset, "mimeType is not a string")
}

// isMessage reports whether the strings in the member of that name are what the
// gateway has to say, wherever in the envelope it is.
func isMessage(name []byte) bool {
	for _, s := range []string{"message", "error", "detail"} {
		if bytes.EqualFold(name, []byte(s)) {
			return true
		}
	}
	return false
}

// addMessage reads a string whose opening quote has been read, and adds
// as much of it to the message as there is room for.
func (d *Decoder) addMessage() error {
	if d.message == nil {
		d.message = make([]byte, 0, maxMessage)
	}
	n := len(d.message)
	s := d.message
	if n > 0 {
		s = append(s, "; "[:min(2, cap(s)-n)]...)
	}
	start := len(s)
	s, _, err := d.str(s)
	if len(s) > start { // it is not empty
		d.message = s
	}
	return err
}

// withMessage adds the message to e.
func (d *Decoder) withMessage(e *Error) *Error {
	if len(d.message) > 0 {
		if e.Detail != "" {
			e.Detail += ", "
		}
		e.Detail += "message " + d.quote(d.message)
	}
	return e
}

// finish is called at the end of the envelope. It returns io.EOF if all is well.
func (d *Decoder) finish() error {
	offset := d.offset() - 1
	switch {
	case d.failed != nil:
		return d.failed
	case d.seen&seenStatus == 0:
		d.failed = errorf(ErrFailed, offset, "no status")
		return d.failed
	case d.seen&seenData == 0:
		d.lack = errorf(ErrMissing, offset, "no data")
	}
	if d.lack != nil {
		return d.withMessage(d.lack)
	}
	for {
		if d.r == d.w {
			if err := d.fill(); err != nil {
				return err
			}
		}
		c := d.buf[d.r]
		if !isSpace(c) {
			return errorf(ErrTrailing, d.offset(), "%s", describe(rune(c)))
		}
		d.r++
	}
}
