package pixmed

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// names are those of an infraction's members, in the spec's order, and the
// constants are their places.
var names = [...]string{"transactionId", "transactionStatus", "transactionType", "value", "externalId", "e2e_id", "medStatus"}

const transactionID, transactionStatus, transactionType, value, externalID, endToEndID, medStatus = 0, 1, 2, 3, 4, 5, 6

// wire holds the text of each member, nil where absent: that distinguishes a
// missing field from a zero one.
type wire [len(names)]jsontext.Value

// UnmarshalJSONFrom keeps values of any type, so that a wrong one does not end
// the decoding at the first bad field.
func (w *wire) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	_, _ = d.ReadToken() // decode has seen the brace
	for d.PeekKind() != jsontext.KindEndObject {
		quoted, _ := d.ReadValue() // a decoder's errors are sticky
		name, _ := unquote(quoted)
		member := slices.Index(names[:], string(name))
		text, err := d.ReadValue()
		if err != nil {
			return err
		}
		if member >= 0 {
			w[member] = text // stays valid: json.Unmarshal decodes its input in place
		}
	}
	_, err := d.ReadToken()
	return err
}

const emptyBody = "the body is empty"

var byteOrderMark = []byte("\ufeff")

// blank reports whether text has nothing but JSON's white space.
func blank(text []byte) bool { return len(bytes.TrimLeft(text, " \t\r\n")) == 0 }

// decode splits a body into its members.
func (w *wire) decode(body []byte) error {
	text := bytes.TrimPrefix(body, byteOrderMark)
	skipped := int64(len(body) - len(text))
	switch text := bytes.TrimLeft(text, " \t\r\n"); {
	case len(text) == 0:
		return &SyntaxError{Offset: skipped, Reason: emptyBody}
	case jsontext.Value(text[:1]).Kind() != jsontext.KindInvalid && text[0] != '{':
		return &SyntaxError{Offset: skipped, Reason: "the body is not a JSON object"}
	}
	if err := json.Unmarshal(text, w); err != nil {
		return syntaxError(err, skipped)
	}
	return nil
}

// syntaxError turns a decoder's error into the package's own, whose reason
// quotes nothing of the body.
func syntaxError(err error, skipped int64) *SyntaxError {
	e := &SyntaxError{Offset: skipped, Reason: "the body ends too early"}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		e.Offset, e.Pointer = skipped+syntactic.ByteOffset, string(syntactic.JSONPointer)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			e.Reason = withoutQuote(syntactic.Err.Error())
		}
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
	d := jsontext.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, byteOrderMark)))
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
		if value, _ := d.ReadValue(); string(value) != `null` && string(value) != `""` {
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

// mentionsInfraction finds infração, infrações, infraction and infractions.
func mentionsInfraction(folded string) bool { return strings.Contains(folded, "INFRAC") }

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
