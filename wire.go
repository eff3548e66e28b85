package pixmed

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// wire holds an infraction's members as they stand in the body, nil where
// absent: that tells a missing field from a zero one.
type wire struct {
	transactionID, transactionStatus, transactionType,
	value, externalID, endToEndID, medStatus jsontext.Value
}

func (w *wire) member(name []byte) *jsontext.Value {
	switch string(name) {
	case "transactionId":
		return &w.transactionID
	case "transactionStatus":
		return &w.transactionStatus
	case "transactionType":
		return &w.transactionType
	case "value":
		return &w.value
	case "externalId":
		return &w.externalID
	case "e2e_id":
		return &w.endToEndID
	case "medStatus":
		return &w.medStatus
	}
	return nil
}

// decoder is a JSON decoder with the buffer that it reads from, kept for reuse:
// making one costs more than decoding a notification.
type decoder struct {
	jsontext.Decoder
	input bytes.Buffer
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

var byteOrderMark = []byte("\ufeff")

const emptyBody = "the body is empty"

func blank(text []byte) bool { return len(bytes.TrimLeft(text, " \t\r\n")) == 0 }

// decodeWire splits a body into its members. It does not unmarshal into a struct,
// so that a wrong type does not end it at the first bad field and no value is
// copied.
func decodeWire(body []byte) (wire, error) {
	text := bytes.TrimPrefix(body, byteOrderMark)
	skipped := int64(len(body) - len(text))
	if blank(text) {
		return wire{}, &SyntaxError{Offset: skipped, Reason: emptyBody}
	}

	if w, ok := plainMembers(text); ok {
		return w, nil
	}
	w, err := decodeMembers(text)
	if err != nil {
		err.Offset += skipped
		return wire{}, err
	}
	return w, nil
}

// decodeMembers reads any body, and says what is wrong with it.
func decodeMembers(text []byte) (wire, *SyntaxError) {
	d := decoders.Get().(*decoder)
	d.input = *bytes.NewBuffer(text) // the decoder reads from a Buffer in place
	d.Reset(&d.input)
	defer func() {
		d.input = bytes.Buffer{}
		d.Reset(&d.input) // let go of the body
		decoders.Put(d)
	}()
	w, err := d.members(text)
	if err != nil {
		return wire{}, syntaxError(err, d.InputOffset())
	}
	return w, nil
}

func (d *decoder) members(text []byte) (w wire, err error) {
	if k := d.PeekKind(); k != jsontext.KindBeginObject && k != jsontext.KindInvalid {
		return w, &SyntaxError{Offset: d.InputOffset(), Reason: "the body is not a JSON object"}
	}
	if _, err := d.ReadToken(); err != nil {
		return w, err
	}
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadValue()
		if err != nil {
			return w, err
		}
		name, err = unquote(name)
		if err != nil {
			return w, err
		}
		member := w.member(name) // before the next read, which may move name
		value, err := d.ReadValue()
		if err != nil {
			return w, err
		}
		if member != nil {
			end := d.InputOffset()
			*member = text[end-int64(len(value)) : end]
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return w, err
	}
	end := d.InputOffset()
	if _, err := d.ReadToken(); err != io.EOF {
		return w, &SyntaxError{Offset: end, Reason: "something follows the JSON object"}
	}
	return w, nil
}

// syntaxError turns a decoder's error into the package's own.
func syntaxError(err error, offset int64) *SyntaxError {
	if own, ok := errors.AsType[*SyntaxError](err); ok {
		return own
	}
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		return &SyntaxError{Offset: offset, Reason: err.Error()} // io.ErrUnexpectedEOF
	}
	reason := strings.TrimPrefix(syntactic.Err.Error(), "jsontext: ")
	if errors.Is(err, io.ErrUnexpectedEOF) {
		reason = "the body ends too early"
	}
	return &SyntaxError{Offset: syntactic.ByteOffset, Reason: reason, Pointer: string(syntactic.JSONPointer)}
}

// unquote returns the text of a JSON string: a part of raw when nothing in it
// is escaped.
func unquote(raw jsontext.Value) ([]byte, error) {
	if len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	return jsontext.AppendUnquote(nil, raw)
}

// plainMembers reads the kind of body that nearly every webhook has: one object of
// strings, numbers and literals, in ASCII and without escapes. It leaves everything
// else to the decoder, errors above all, and finds in what it reads what the decoder
// would find.
func plainMembers(text []byte) (w wire, ok bool) {
	var (
		s      = scanner{text: text}
		others [8][]byte // names that are not an infraction's, to see one twice
		n      int
	)
	if !s.skip('{') {
		return wire{}, false
	}
	for {
		name := s.value()
		if name.Kind() != jsontext.KindString || !s.skip(':') {
			return wire{}, false
		}
		member := w.member(name[1 : len(name)-1])
		if member == nil {
			if n == len(others) || slices.ContainsFunc(others[:n], func(o []byte) bool { return bytes.Equal(o, name) }) {
				return wire{}, false
			}
			others[n], n = name, n+1
			member = new(jsontext.Value)
		}
		if *member != nil { // there is one of that name already
			return wire{}, false
		}
		if *member = s.value(); *member == nil {
			return wire{}, false
		}
		if s.skip('}') {
			return w, s.at == len(text)
		}
		if !s.skip(',') {
			return wire{}, false
		}
	}
}

// scanner reads what [plainMembers] does.
type scanner struct {
	text []byte
	at   int
}

// skip reads a character, with the white space around it.
func (s *scanner) skip(c byte) bool {
	s.space()
	if s.at == len(s.text) || s.text[s.at] != c {
		return false
	}
	s.at++
	s.space()
	return true
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// value reads a value. It returns nil if it is not plain.
func (s *scanner) value() jsontext.Value {
	text, end := s.text[s.at:], 0
	if len(text) > 0 {
		switch text[0] {
		case '"':
			end = plainString(text)
		case 'n':
			end = plainLiteral(text, "null")
		case 't':
			end = plainLiteral(text, "true")
		case 'f':
			end = plainLiteral(text, "false")
		default:
			end = plainNumber(text)
		}
	}
	if end == 0 {
		return nil
	}
	s.at += end
	return text[:end:end]
}

// The following return how long the value at the start of a text is, 0 if it is
// not plain.

func plainString(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1
		case c < ' ', c == '\\', c >= utf8.RuneSelf:
			return 0
		}
	}
	return 0
}

func plainLiteral(text []byte, literal string) int {
	if len(text) < len(literal) || string(text[:len(literal)]) != literal {
		return 0
	}
	return len(literal)
}

// plainNumber leaves exponents to the decoder.
func plainNumber(text []byte) int {
	digits := func(i int) int {
		for i < len(text) && '0' <= text[i] && text[i] <= '9' {
			i++
		}
		return i
	}
	start := 0
	if len(text) > 0 && text[0] == '-' {
		start = 1
	}
	end := digits(start)
	if end == start || text[start] == '0' && end > start+1 {
		return 0
	}
	if end < len(text) && text[end] == '.' {
		whole := end
		if end = digits(whole + 1); end == whole+1 {
			return 0
		}
	}
	return end
}
