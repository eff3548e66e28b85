package pixmed_test

import (
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
