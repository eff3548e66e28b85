package pixmed_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

func TestInvalidAnswers(t *testing.T) {
	t.Parallel()
	const (
		bad     = `{"transactionStatus":"MED","value":"1,00"}`
		badText = `transactionId is required; transactionType is required; value has a comma; the decimal point is a dot and thousands are not separated, found "1,00"`
		fields  = "invalid infraction: transactionId, transactionType, value"
	)
	invalid := pixmed.Outcome{Result: pixmed.ResultInvalid}
	again := map[string]string{"Retry-After": "10"}
	keep := func(err error) []pixmed.HandlerOption { return []pixmed.HandlerOption{invalidResult(err)} }
	testAnswers(t, []answerTest{
		{
			name: "malformed", body: `{"value":NaN}`,
			status: 400, detail: "Malformed JSON at byte 9: invalid character at start of value (in /value).",
			outcome: invalid, err: "malformed JSON at byte 9: invalid character at start of value",
		},
		{
			name: "member twice", body: `{"value":1,"value":2}`,
			status: 400, detail: "Malformed JSON at byte 11: duplicate object member name (in /value).",
			outcome: invalid, err: "malformed JSON at byte 11: duplicate object member name",
		},
		{
			name: "not valid", body: bad, status: 422, detail: "Invalid infraction: " + badText + ".",
			errors: []pixmed.FieldError{
				{Field: "transactionId", Detail: "is required"},
				{Field: "transactionType", Detail: "is required"},
				{Field: "value", Detail: `has a comma; the decimal point is a dot and thousands are not separated, found "1,00"`},
			},
			outcome: invalid, err: "invalid infraction: " + badText, logged: fields,
		},
		{
			name: "status too long", body: payloadWith(t, `"medStatus": "`+strings.Repeat("X", 65)+`"`),
			status: 422, detail: `Invalid infraction: medStatus must have at most 64 bytes, found "` + strings.Repeat("X", 64) + `…".`,
			errors:  []pixmed.FieldError{{Field: "medStatus", Detail: `must have at most 64 bytes, found "` + strings.Repeat("X", 64) + `…"`}},
			outcome: invalid, err: `invalid infraction: medStatus must have at most 64 bytes, found "` + strings.Repeat("X", 64) + `…"`,
			logged: "invalid infraction: medStatus",
		},
		{name: "malformed, kept", opts: keep(nil), body: "{", status: 200, outcome: invalid, err: "malformed JSON at byte 1: the body ends too early"},
		{name: "not valid, kept", opts: keep(nil), body: bad, status: 200, outcome: invalid, err: "invalid infraction: " + badText, logged: fields},
		{
			name: "not valid, could not be kept", opts: keep(errBoom), body: bad,
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed}, err: errBoom.Error(),
		},
		{
			name: "not valid, no room", opts: keep(pixmed.ErrBusy), body: bad,
			status: 503, header: again, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultBusy}, err: "busy",
		},
		{
			name: "not valid, keeping it took too long", body: bad,
			opts: []pixmed.HandlerOption{pixmed.WithInvalid(func(ctx context.Context, _ []byte, _ error) error {
				<-ctx.Done()
				return ctx.Err()
			})},
			status: 503, header: again, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultBusy}, err: "context deadline exceeded",
		},
		{
			name: "not valid, keeping it panics", body: bad,
			opts:   []pixmed.HandlerOption{pixmed.WithInvalid(func(context.Context, []byte, error) error { panic(errBoom) })},
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed}, err: "the WithInvalid callback panicked: " + errBoom.Error(),
		},
	})
}

// No answer shows a callback's error or a panic's value.
func TestAnswersDoNotTellWhatFailed(t *testing.T) {
	t.Parallel()
	for name, receiver := range map[string]pixmed.ReceiverFunc{
		"error":     answer(errors.New("canary")),
		"busy":      answer(fmt.Errorf("canary: %w", pixmed.ErrBusy)),
		"duplicate": answer(fmt.Errorf("canary: %w", pixmed.ErrDuplicate)),
		"panic":     func(context.Context, *pixmed.Notification) error { panic("canary") },
	} {
		h := newHook(t, receiver, pixmed.WithoutVerification())
		w := h.serve(webhookRequest(t))
		if text := fmt.Sprint(w.Header(), w.Body); strings.Contains(text, "canary") {
			t.Errorf("%s: the answer is %s", name, text)
		}
		if !strings.Contains(h.log.String(), "canary") {
			t.Errorf("%s: the log does not say what failed: %s", name, h.log)
		}
	}
}
