package pixmed

import (
	"fmt"
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
	i, problems := w.infraction()
	named := "" // what else is named like a MED status
	if i.TransactionStatus != TransactionMED || i.MEDStatus == "" {
		named = findMED(body)
	}
	if err := i.check(problems, named); err != nil {
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

// check adds the fields that decoded but are not valid to problems, which holds
// those that did not decode. named is the name of a member that may hold a MED
// status, "" if there is none.
func (i *Infraction) check(problems fieldErrors, named string) error {
	if otherEvent(i.TransactionStatus) && named == "" {
		return fmt.Errorf("%w: transactionStatus is %q", ErrNotInfraction, clip(string(i.TransactionStatus), maxFound))
	}

	// In the spec's order, decoding's problems and these together.
	var all fieldErrors
	field := func(name string, ok bool, detail func() string) {
		if p, found := problems.find(name); found {
			all = append(all, p)
		} else if !ok {
			all = append(all, FieldError{name, detail()})
		}
	}
	field("transactionId", validUUID(i.TransactionID), func() string {
		if i.TransactionID == "" {
			return missing
		}
		return fmt.Sprintf("must be a UUID of 36 characters, found %q", clip(i.TransactionID, maxFound))
	})
	field("transactionStatus", i.TransactionStatus == TransactionMED, func() string {
		if i.TransactionStatus == "" {
			return missing
		}
		return fmt.Sprintf("must be %q, found %q", TransactionMED, clip(string(i.TransactionStatus), maxFound))
	})
	field("transactionType", i.TransactionType != "", func() string { return missing })
	field("value", i.Value >= 0, func() string { return "is negative" })
	field("externalId", true, nil)
	field("medStatus", len(i.MEDStatus) <= maxStatus && (i.MEDStatus != "" || named == ""), func() string {
		if i.MEDStatus == "" {
			return fmt.Sprintf("is missing, found a member named %q", clip(named, maxFound))
		}
		return fmt.Sprintf("must have at most %d bytes, found %q", maxStatus, clip(string(i.MEDStatus), maxFound))
	})
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

// validUUID accepts the canonical form alone: the uuid package also takes
// braces, urn:uuid: and 32 digits without hyphens.
func validUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

// infraction decodes the members, and returns those that it could not decode.
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
		TransactionID:     text("transactionId", w.TransactionID.Value),
		TransactionStatus: TransactionStatus(text("transactionStatus", w.TransactionStatus.Value, string(TransactionMED))),
		TransactionType:   TransactionType(text("transactionType", w.TransactionType.Value, string(CashIn))),
		ExternalID:        textOrNumber("externalId", w.ExternalID.Value),
		MEDStatus:         MEDStatus(text("medStatus", w.MEDStatus.Value, string(Acknowledged), string(Cancelled), string(Debited))),
	}
	if k := w.EndToEndID.Value.Kind(); k == jsontext.KindString || k == jsontext.KindNumber {
		i.EndToEndID = EndToEndID(textOrNumber("e2e_id", w.EndToEndID.Value))
	}
	if w.Value.Value == nil {
		problems = append(problems, FieldError{"value", missing})
	} else if amount, reason := amountFromJSON(w.Value.Value); reason != "" {
		problems = append(problems, FieldError{"value", reason + ", found " + found(w.Value.Value)})
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
