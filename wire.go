package pixmed

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

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

// newDecoder returns a decoder of text, which the caller must release.
func newDecoder(text []byte) *decoder {
	d := decoders.Get().(*decoder)
	d.input = *bytes.NewBuffer(text) // the decoder reads from a Buffer in place
	d.Reset(&d.input)
	return d
}

func (d *decoder) release() {
	d.input = bytes.Buffer{}
	d.Reset(&d.input) // let go of the text
	decoders.Put(d)
}

const (
	emptyBody    = "the body is empty"
	endsTooEarly = "the body ends too early"
)

var byteOrderMark = []byte("\ufeff")

// blank reports whether text has nothing but JSON's white space.
func blank(text []byte) bool { return len(bytes.TrimLeft(text, " \t\r\n")) == 0 }

// decodeWire splits a body into its members, which refer to body. It does not
// unmarshal into a struct, so that a wrong type does not end it at the first bad
// field.
func decodeWire(body []byte) (wire, error) {
	text := bytes.TrimPrefix(body, byteOrderMark)
	skipped := int64(len(body) - len(text))
	if blank(text) {
		return wire{}, &SyntaxError{Offset: skipped, Reason: emptyBody}
	}
	d := newDecoder(text)
	defer d.release()
	w, err := d.members(text)
	if err != nil {
		err := syntaxError(err, d.InputOffset())
		err.Offset += skipped
		return wire{}, err
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
		name, _ = unquote(name)  // the decoder has checked it
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
	_, _ = d.ReadToken() // the end of the object, which PeekKind has seen
	end := d.InputOffset()
	if _, err := d.ReadToken(); err != io.EOF {
		return w, &SyntaxError{Offset: end, Reason: "data after the JSON object"}
	}
	return w, nil
}

// syntaxError turns a decoder's error into the package's own, whose reason
// quotes nothing of the body.
func syntaxError(err error, offset int64) *SyntaxError {
	if own, ok := errors.AsType[*SyntaxError](err); ok {
		return own
	}
	e := &SyntaxError{Offset: offset, Reason: endsTooEarly}
	syntactic, ok := errors.AsType[*jsontext.SyntacticError](err)
	if ok {
		e.Offset, e.Pointer = syntactic.ByteOffset, string(syntactic.JSONPointer)
	}
	if ok && !errors.Is(err, io.ErrUnexpectedEOF) {
		e.Reason = withoutQuote(syntactic.Err.Error())
	}
	return e
}

// withoutQuote returns the decoder's reason without the part of the body that
// it quotes, which is the first quotation in it.
func withoutQuote(reason string) string {
	i := strings.IndexAny(reason, "'\"`")
	if i < 0 {
		return reason
	}
	quoted, err := strconv.QuotedPrefix(reason[i:])
	if err != nil {
		quoted = reason[i:]
	}
	return strings.TrimSpace(reason[:i]) + reason[i+len(quoted):]
}

// unquote returns the text of a JSON string: a part of raw if nothing in it is
// escaped.
func unquote(raw jsontext.Value) ([]byte, error) {
	if len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	return jsontext.AppendUnquote(nil, raw)
}

// findMED returns the name of the first member of a valid body, at any depth,
// that is named like a MED status or an infraction and is neither null nor "".
// It returns "" if there is none.
func findMED(body []byte) (name string) {
	d := newDecoder(bytes.TrimPrefix(body, byteOrderMark))
	defer d.release()
	for {
		token, err := d.ReadToken()
		if err != nil {
			return "" // io.EOF
		}
		if kind, n := d.StackIndex(d.StackDepth()); kind != jsontext.KindBeginObject || n%2 == 0 {
			continue // not a name
		}
		if name = token.String(); !namesMED(name) {
			continue
		}
		switch value, _ := d.ReadValue(); string(value) {
		case `null`, `""`:
		default:
			return name
		}
	}
}

// namesMED reports whether a member's name is that of a MED status or of an
// infraction in some spelling.
func namesMED(name string) bool {
	name = strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || unicode.IsSpace(r) {
			return -1
		}
		return r
	}, fold(name))
	return name == "MED" || name == "MEDSTATUS" || mentionsInfraction(name)
}

// otherEvent reports whether a transactionStatus says that an event is not an
// infraction: it is not blank and has no trace of MED.
func otherEvent(status TransactionStatus) bool {
	text := strings.TrimSpace(fold(string(status)))
	if text == "" || mentionsInfraction(text) || strings.HasPrefix(text, "MED") {
		return false
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })
	return !slices.Contains(words, "MED")
}

func mentionsInfraction(folded string) bool {
	return strings.Contains(folded, "INFRACAO") || strings.Contains(folded, "INFRACTION")
}

// fold returns s in upper case and without accents.
func fold(s string) string {
	const accented, plain = "ÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖÙÚÛÜ", "AAAAAACEEEEIIIINOOOOOUUUU"
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) { // an accent of its own
			return -1
		}
		r = unicode.ToUpper(r)
		if i := strings.IndexRune(accented, r); i >= 0 {
			return rune(plain[i/2])
		}
		return r
	}, s)
}
