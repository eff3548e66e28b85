package pixmed

import (
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// ParseInfraction decodes and validates the body of an infraction webhook.
//
// Required are transactionId (a UUID), transactionStatus, transactionType,
// value (see [Amount]) and medStatus. externalId may be absent, null, empty or
// a number, which is kept as its text; a bad e2e_id is never refused; unknown
// members are accepted, and so is a UTF-8 byte order mark.
//
// The error is, in this order: a [*SyntaxError] when the body is not exactly
// one JSON object with unique member names in valid UTF-8; [ErrNotInfraction]
// when it is another kind of event; a [*ValidationError] that names every bad
// field at once. The result does not refer to body.
func ParseInfraction(body []byte) (*Infraction, error) {
	w, err := decodeWire(body)
	if err != nil {
		return nil, err
	}
	i, problems := w.infraction()
	if err := i.check(problems); err != nil {
		return nil, err
	}
	return i, nil
}

// Validate checks an infraction that was decoded by other means, such as a web
// framework's binding, by the rules of [ParseInfraction]. The error is
// [ErrNotInfraction] or a [*ValidationError].
func (i *Infraction) Validate() error { return i.check(nil) }

// check adds to problems, which hold what decoding found, the fields that
// decoded but are not valid.
func (i *Infraction) check(problems fieldErrors) error {
	bad := func(field string) bool { return problems.has(field) }

	switch status := i.TransactionStatus; {
	case status == TransactionMED || bad("transactionStatus"):
	case status != "":
		return fmt.Errorf("%w: transactionStatus is %q", ErrNotInfraction, clip(string(status), maxFound))
	case i.MEDStatus == "" && !bad("medStatus"):
		return fmt.Errorf("%w: neither transactionStatus nor medStatus is there", ErrNotInfraction)
	}

	// In the spec's order, decoding's problems and these together.
	var all fieldErrors
	field := func(name, detail string, ok bool) {
		if p, found := problems.find(name); found {
			all = append(all, p)
		} else if !ok {
			all = append(all, FieldError{name, detail})
		}
	}
	idDetail, idOK := missing, validUUID(i.TransactionID)
	if !idOK && i.TransactionID != "" {
		idDetail = fmt.Sprintf("must be a UUID of 36 characters, found %q", clip(i.TransactionID, maxFound))
	}
	field("transactionId", idDetail, idOK)
	field("transactionStatus", missing, i.TransactionStatus != "")
	field("transactionType", missing, i.TransactionType != "")
	field("value", "is negative", i.Value >= 0)
	field("externalId", "", true)
	field("medStatus", missing, i.MEDStatus != "")
	if len(all) > 0 {
		return &ValidationError{Fields: all}
	}
	return nil
}

const missing = "is required"

type fieldErrors []FieldError

func (f fieldErrors) find(name string) (FieldError, bool) {
	for _, e := range f {
		if e.Field == name {
			return e, true
		}
	}
	return FieldError{}, false
}

func (f fieldErrors) has(name string) bool {
	_, found := f.find(name)
	return found
}

// validUUID accepts the canonical form alone: the uuid package also takes
// braces, urn:uuid: and 32 digits without hyphens.
func validUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

// infraction decodes the members, and says which could not be.
func (w *wire) infraction() (*Infraction, fieldErrors) {
	var problems fieldErrors
	text := func(field string, raw jsontext.Value, known ...string) string {
		switch raw.Kind() {
		case jsontext.KindInvalid, jsontext.KindNull: // absent, or as good as
			return ""
		case jsontext.KindString:
			b, _ := unquote(raw) // the decoder has checked it
			for _, k := range known {
				if string(b) == k {
					return k
				}
			}
			return string(b)
		}
		kind := "a string"
		if field == "externalId" {
			kind = "a string or a number"
		}
		problems = append(problems, FieldError{field, "must be " + kind + ", found " + found(raw)})
		return ""
	}
	textOrNumber := func(field string, raw jsontext.Value) string {
		if raw.Kind() == jsontext.KindNumber {
			return string(raw)
		}
		return text(field, raw)
	}

	i := &Infraction{
		TransactionID:     text("transactionId", w.transactionID),
		TransactionStatus: TransactionStatus(text("transactionStatus", w.transactionStatus, string(TransactionMED))),
		TransactionType:   TransactionType(text("transactionType", w.transactionType, string(CashIn))),
		ExternalID:        textOrNumber("externalId", w.externalID),
		MEDStatus:         MEDStatus(text("medStatus", w.medStatus, string(Acknowledged), string(Cancelled), string(Debited))),
	}
	if k := w.endToEndID.Kind(); k == jsontext.KindString || k == jsontext.KindNumber {
		i.EndToEndID = EndToEndID(textOrNumber("e2e_id", w.endToEndID))
	}
	if w.value == nil {
		problems = append(problems, FieldError{"value", missing})
	} else if amount, reason := amountFromJSON(w.value); reason != "" {
		problems = append(problems, FieldError{"value", reason + ", found " + found(w.value)})
	} else {
		i.Value = amount
	}
	return i, problems
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
		return strconv.QuoteToGraphic(clip(string(text), maxFound))
	}
	return clip(string(raw), maxFound)
}
