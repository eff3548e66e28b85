package envelope

import "bytes"

// Longest texts to quote in errors, and longest MIME type.
const (
	maxQuote   = 64
	maxMessage = 200
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
	c, err := d.next()
	if err == nil && c == 0xef {
		if err = d.match("\xbb\xbf", "a byte order mark"); err != nil {
			return err
		}
		c, err = d.next()
	}
	if err == nil && c == magic[0] {
		return d.startBare()
	}
	if err == nil && isSpace(c) {
		c, err = d.token()
	}
	switch {
	case err != nil:
		// The error of a reader is never an *Error without a wrapper.
		if e, ok := err.(*Error); ok && e.Kind == ErrTruncated { //nolint:errorlint // so this is our own
			e.Detail = "empty body"
		}
		return err
	case c == '<':
		return errorf(ErrMalformed, d.offset()-1, "an HTML page, not JSON: is there a proxy in between?")
	case c != '{':
		return d.notAnObject()
	}
	d.first = true
	d.phase = inMembers
	return nil
}

// notAnObject reports input that starts as neither an envelope nor a PDF does,
// and shows the start, which may well be all that a proxy has to say.
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
	return errorf(ErrMalformed, offset, "%s, want an object", d.quote(s))
}

// envelope reads the members of the envelope, and of its data, until there are
// bytes of the PDF to deliver or the input has ended. An error is of less
// interest than a status that says why there should be no receipt at all.
func (d *Decoder) envelope() error {
	err := d.scanMembers()
	if d.failed == "" {
		return err
	}
	detail := d.failed
	if len(d.message) > 0 {
		detail += ", message " + d.quote(d.message)
	}
	return &Error{Kind: ErrFailed, Offset: d.failedAt, Detail: detail}
}

func (d *Decoder) scanMembers() error {
	for {
		name, end, err := d.member()
		switch {
		case err != nil:
			return err
		case !d.inData && end:
			return d.finish()
		case !d.inData:
			err = d.rootMember(name)
		case end:
			d.closeData()
		default:
			err = d.dataMember(name)
		}
		if err != nil || d.phase == inText || len(d.rest) > 0 {
			return err
		}
	}
}

// member reads the name of the next member of the object that is being read and
// what is around it, unless it gets to the object's end. The name is good until
// the next string is read; if it is a long one, not all of it is returned.
func (d *Decoder) member() (name []byte, end bool, err error) {
	c, err := d.token()
	if err != nil {
		return nil, false, err
	}
	if c == '}' {
		return nil, true, nil
	}
	if !d.first {
		if c != ',' {
			return nil, false, d.unexpected(c, `"," or "}"`)
		}
		if c, err = d.token(); err != nil {
			return nil, false, err
		}
	}
	d.first = false
	d.nameAt = d.offset() - 1
	name, err = d.name(c, d.scratch[:0])
	return name, false, err
}

// once notes that m has been read, which must not happen twice: a decoder that
// took the other one would see another receipt.
func (d *Decoder) once(m members, name string) error {
	if d.seen&m != 0 {
		return errorf(ErrMalformed, d.nameAt, "%q for the second time", name)
	}
	d.seen |= m
	return nil
}

// rootMember reads the value of a member of the envelope.
func (d *Decoder) rootMember(name []byte) error {
	c, err := d.token()
	if err != nil {
		return err
	}
	switch {
	case string(name) == "message":
		return d.readMessage(c)
	case d.failed != "":
		// Nothing else matters any more, least of all the data.
	case string(name) == "status":
		return d.readStatus(c)
	case string(name) == "data":
		return d.openData(c)
	}
	return d.skip(c, 1)
}

// dataMember reads the value of a member of data, or the start of the receipt.
func (d *Decoder) dataMember(name []byte) error {
	c, err := d.token()
	if err != nil {
		return err
	}
	switch string(name) {
	case "receipt":
		return d.openReceipt(c)
	case "mimeType":
		return d.readMIME(c)
	}
	return d.skip(c, 2)
}

func (d *Decoder) readStatus(c byte) error {
	if err := d.once(seenStatus, "status"); err != nil {
		return err
	}
	offset := d.offset() - 1
	switch c {
	case '"':
		s, cut, err := d.str(d.scratch[:0:maxQuote])
		if err != nil {
			return err
		}
		// Characters beyond ASCII that fold to S are longer than it is.
		const want = "SUCCESS"
		if cut || len(s) != len(want) || !bytes.EqualFold(s, []byte(want)) {
			d.fail(offset, "status "+d.quote(s))
		}
		return nil
	case 'n':
		if err := d.literal(c); err != nil {
			return err
		}
		d.fail(offset, "status is null")
		return nil
	}
	return d.wrongType("status", c, "a string")
}

// fail notes that the gateway reports no success.
func (d *Decoder) fail(offset int64, detail string) {
	d.failed, d.failedAt = detail, offset
}

// readMessage reads what the gateway has to say: a string or an array of such.
func (d *Decoder) readMessage(c byte) (err error) {
	d.message = d.msg[:0]
	switch c {
	case '"':
		d.message, _, err = d.str(d.message)
		return err
	case '[':
		// Below.
	default:
		return d.skip(c, 1)
	}

	if c, err = d.token(); err != nil || c == ']' {
		return err
	}
	for {
		if c == '"' {
			if len(d.message) > 0 {
				d.message = append(d.message, "; "[:min(2, cap(d.message)-len(d.message))]...)
			}
			d.message, _, err = d.str(d.message)
		} else {
			err = d.skip(c, 2)
		}
		if err != nil {
			return err
		}
		if c, err = d.token(); err != nil || c == ']' {
			return err
		}
		if c != ',' {
			return d.unexpected(c, `"," or "]"`)
		}
		if c, err = d.token(); err != nil {
			return err
		}
	}
}

func (d *Decoder) openData(c byte) error {
	if err := d.once(seenData, "data"); err != nil {
		return err
	}
	switch c {
	case '{':
		d.inData = true
		d.first = true
		return nil
	case 'n':
		d.lack = errorf(ErrMissing, d.offset()-1, "data is null")
		return d.literal(c)
	}
	return d.wrongType("data", c, "an object")
}

func (d *Decoder) closeData() {
	d.inData = false
	d.first = false
	if d.seen&seenReceipt == 0 {
		d.lack = errorf(ErrMissing, d.offset()-1, "no receipt in data")
	}
}

func (d *Decoder) openReceipt(c byte) error {
	if err := d.once(seenReceipt, "receipt"); err != nil {
		return err
	}
	switch c {
	case '"':
		return d.startText()
	case 'n':
		d.lack = errorf(ErrMissing, d.offset()-1, "receipt is null")
		return d.literal(c)
	}
	return d.wrongType("receipt", c, "a string")
}

func (d *Decoder) readMIME(c byte) error {
	if err := d.once(seenMIMEType, "mimeType"); err != nil {
		return err
	}
	switch c {
	case '"':
		offset := d.offset() - 1
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
		return d.literal(c)
	}
	return d.wrongType("mimeType", c, "a string")
}

// finish is called at the end of the envelope. If all is well, it returns
// io.EOF.
func (d *Decoder) finish() error {
	switch offset := d.offset() - 1; {
	case d.failed != "":
		return nil
	case d.seen&seenStatus == 0:
		d.fail(offset, "no status")
		return nil
	case d.lack != nil:
		return d.lack
	case d.seen&seenData == 0:
		return errorf(ErrMissing, offset, "no data")
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

// wrongType complains about the value that starts with c and is not null.
func (d *Decoder) wrongType(name string, c byte, want string) error {
	var is string
	switch c {
	case '{':
		is = "an object"
	case '[':
		is = "an array"
	case '"':
		is = "a string"
	case 't', 'f':
		is = "a boolean"
	default:
		if c != '-' && !isDigit(c) {
			return d.unexpected(c, want)
		}
		is = "a number"
	}
	return errorf(ErrMalformed, d.offset()-1, "%s is %s, want %s", name, is, want)
}
