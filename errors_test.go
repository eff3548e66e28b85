package pixmed_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

func TestValidationErrorText(t *testing.T) {
	t.Parallel()
	_, err := pixmed.ParseInfraction([]byte(`{"transactionId":"x","transactionStatus":"MED","transactionType":"CASH_IN","value":"1,00"}`))
	const want = `invalid infraction: transactionId must be a UUID of 36 characters, found "x"; ` +
		`value has a comma; the decimal point is a dot and thousands are not separated, found "1,00"`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// Logging an error with slog.Any logs nothing of the body.
func TestErrorsInAUsersLog(t *testing.T) {
	t.Parallel()
	malformed, invalid, _ := canaryBodies()
	log := func(err error) string {
		var out hookLog
		for _, logger := range bothLogs(&out) {
			logger.ErrorContext(t.Context(), "could not read it", slog.Any("error", err))
		}
		return out.String()
	}
	for _, body := range malformed {
		_, err := pixmed.ParseInfraction([]byte(body))
		syntax, ok := errors.AsType[*pixmed.SyntaxError](err)
		if !ok {
			t.Errorf("%.200q: %v, want a *SyntaxError", body, err)
			continue
		}
		if text := log(err); showsCanary(text) || showsCanary(err.Error()) || strings.Count(text, syntax.Reason[:5]) != 2 {
			t.Errorf("%.200q: the error is %v, the log\n%s", body, err, text)
		}
	}
	for _, body := range invalid {
		if strings.HasPrefix(body, "\x1f\x8b") {
			continue
		}
		_, err := pixmed.ParseInfraction([]byte(body))
		bad, ok := errors.AsType[*pixmed.ValidationError](err)
		if !ok {
			t.Errorf("%.200q: %v, want a *ValidationError", body, err)
			continue
		}
		names := make([]string, len(bad.Fields))
		for i, f := range bad.Fields {
			names[i] = f.Field
		}
		want := "invalid infraction: " + strings.Join(names, ", ")
		if text := log(err); showsCanary(text) || strings.Count(text, want) != 2 {
			t.Errorf("%.200q: the log is\n%s", body, text)
		}
	}
}

// No error begins with the name of the package.
func TestErrorTexts(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		pixmed.ErrNotInfraction:                  "not an infraction: transactionStatus names another kind of event",
		pixmed.ErrInvalidAmount:                  "invalid amount",
		pixmed.ErrDuplicate:                      "duplicate notification",
		pixmed.ErrBusy:                           "busy",
		pixmed.ErrEncoding:                       "unsupported content encoding",
		&pixmed.SyntaxError{Offset: 5}:           "malformed JSON at byte 5: ",
		&pixmed.SyntaxError{5, "no", "/canary"}:  "malformed JSON at byte 5: no",
		&pixmed.ValidationError{twoFields}:       "invalid infraction: a is required; b is negative",
		fmt.Errorf("x: %w", pixmed.ErrDuplicate): "x: duplicate notification",
	} {
		if err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

var twoFields = []pixmed.FieldError{{Field: "a", Detail: "is required"}, {Field: "b", Detail: "is negative"}}
