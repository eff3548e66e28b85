package pixmed

import (
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// ParseInfraction decodes and validates the body of an infraction webhook.
//
// Required are transactionId (a UUID), transactionStatus, transactionType and
// value (see [Amount]). medStatus may be absent, null or empty, unless the body
// has another member that is named like it. externalId may be absent, null,
// empty or a number, which is kept as its text. A bad e2e_id is accepted, and so
// are unknown members and a UTF-8 byte order mark.
//
// The error is, in this order: a [*SyntaxError] if the body is not exactly one
// JSON object with unique member names in valid UTF-8; [ErrNotInfraction] if it
// says that it is another kind of event; a [*ValidationError] that names every
// bad field at once. The result does not refer to body.
func ParseInfraction(body []byte) (*Infraction, error) {
	w := wires.Get().(*wire)
	defer func() {
		*w = wire{}
		wires.Put(w)
	}()
	if err := w.decode(body); err != nil {
		return nil, err
	}
	i, bad := w.infraction()
	named := "" // what else is named like a MED status
	if i.TransactionStatus != TransactionMED || i.MEDStatus == "" {
		named = findMED(body)
	}
	if err := i.check(bad, named); err != nil {
		return nil, err
	}
	return i, nil
}

var wires = sync.Pool{New: func() any { return new(wire) }}

// Validate checks an infraction that was decoded by other means, such as a web
// framework's binding, by the rules of [ParseInfraction]. It sees no members but
// the struct's: the error is a [*ValidationError], or [ErrNotInfraction] if
// TransactionStatus names another event and MEDStatus is empty.
func (i *Infraction) Validate() error { return i.check(nil, string(i.MEDStatus)) }

// check adds the fields that decoded but are not valid to those that did not
// decode. named is the name of a member that may hold a MED status, "" if there is
// none.
func (i *Infraction) check(bad fieldErrors, named string) error {
	if i.TransactionStatus != TransactionMED && named == "" && otherEvent(i.TransactionStatus) {
		return ErrNotInfraction
	}
	if i.TransactionID == "" {
		bad.add("transactionId", missing)
	} else if !validUUID(i.TransactionID) {
		bad.add("transactionId", "must be a UUID of 36 characters, found %q", clip(i.TransactionID))
	}
	if i.TransactionStatus == "" {
		bad.add("transactionStatus", missing)
	} else if i.TransactionStatus != TransactionMED {
		bad.add("transactionStatus", "must be %q, found %q", TransactionMED, clip(string(i.TransactionStatus)))
	}
	if i.TransactionType == "" {
		bad.add("transactionType", missing)
	}
	if i.Value < 0 {
		bad.add("value", "is negative")
	}
	if i.MEDStatus == "" && named != "" {
		bad.add("medStatus", "is missing, found a member named %q", clip(named))
	} else if len(i.MEDStatus) > maxStatus {
		bad.add("medStatus", "must have at most %d bytes, found %q", maxStatus, clip(string(i.MEDStatus)))
	}
	if len(bad) == 0 {
		return nil
	}
	slices.SortFunc(bad, func(a, b FieldError) int {
		return slices.Index(names[:], a.Field) - slices.Index(names[:], b.Field)
	})
	return &ValidationError{Fields: bad}
}

const missing = "is required"

type fieldErrors []FieldError

// add adds an error, unless the field has one: what did not decode is no longer
// there to be checked.
func (f *fieldErrors) add(field, format string, args ...any) {
	if !slices.ContainsFunc(*f, func(e FieldError) bool { return e.Field == field }) {
		*f = append(*f, FieldError{field, fmt.Sprintf(format, args...)})
	}
}

// validUUID accepts the canonical form alone: the uuid package also takes
// braces, urn:uuid: and 32 digits without hyphens.
func validUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

// infraction decodes the members, and returns those that it could not decode.
func (w *wire) infraction() (*Infraction, fieldErrors) {
	var bad fieldErrors
	text := func(member int, kinds string) string {
		switch kind := w[member].Kind(); {
		case kind == jsontext.KindInvalid || kind == jsontext.KindNull: // null counts as absent
		case kind == jsontext.KindString:
			b, _ := unquote(w[member]) // the decoder has checked it
			return intern(b)
		case kind == jsontext.KindNumber && kinds == textOrNumber:
			return string(w[member])
		default:
			bad.add(names[member], "must be %s, found %s", kinds, found(w[member]))
		}
		return ""
	}
	i := &Infraction{
		TransactionID:     text(transactionID, "a string"),
		TransactionStatus: TransactionStatus(text(transactionStatus, "a string")),
		TransactionType:   TransactionType(text(transactionType, "a string")),
		ExternalID:        text(externalID, textOrNumber),
		MEDStatus:         MEDStatus(text(medStatus, "a string")),
	}
	if k := w[endToEndID].Kind(); k == jsontext.KindString || k == jsontext.KindNumber {
		i.EndToEndID = EndToEndID(text(endToEndID, textOrNumber))
	}
	amount, reason := amountFromJSON(w[value])
	switch {
	case w[value] == nil:
		bad.add("value", missing)
	case reason != "":
		bad.add("value", "%s, found %s", reason, found(w[value]))
	}
	i.Value = amount
	return i, bad
}

const textOrNumber = "a string or a number"

// intern returns the string, and allocates none for a known value.
func intern(b []byte) string {
	for _, known := range [...]string{string(TransactionMED), string(CashIn), string(Acknowledged), string(Cancelled), string(Debited)} {
		if string(b) == known {
			return known
		}
	}
	return string(b)
}

// found shows a JSON value in an error.
func found(raw jsontext.Value) string {
	switch raw.Kind() {
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	case jsontext.KindString:
		text, _ := unquote(raw)
		return strconv.QuoteToGraphic(clip(string(text)))
	}
	return printable(string(raw))
}
