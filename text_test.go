package pixmed_test

import (
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

// Text from outside can neither fake a line nor fill the log.
func TestPrintingOddText(t *testing.T) {
	t.Parallel()
	n := specNotification()
	n.MEDStatus, n.Previous = "X\nlevel=ERROR", "Y\x1b[2J"
	n.TransactionID, n.ExternalID = strings.Repeat("é", 100), "a/b\u202e"
	shown := strings.Repeat("é", 32) + "…"
	for got, want := range map[string]string{
		n.String():            `MED "X\nlevel=ERROR" for transaction ` + shown + ` (R$ 18,00), after "Y\x1b[2J", attempt 3`,
		n.Infraction.String(): `MED "X\nlevel=ERROR" for transaction ` + shown + ` (R$ 18,00)`,
		n.Key().String():      shown + `/"a/b\u202e"`,
		pixmed.Key{TransactionID: "ação", ExternalID: "T&ste 378"}.String(): "ação/T&ste 378",
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestParseInfractionErrorsAreShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 50_000)
	for _, body := range []string{
		payloadWith(t, `"transactionId": "x`+long+`"`), payloadWith(t, `"value": "x`+long+`"`),
		payloadWith(t, `"value": `+strings.Repeat("1", 50_000)), payloadWith(t, `"transactionType": `+strings.Repeat("1", 50_000)),
		payloadWith(t, `"transactionStatus": "x`+long+`"`),
		`{"x` + long + `":1,"x` + long + `":2}`, `{"x` + long + `":nul}`,
	} {
		_, err := pixmed.ParseInfraction([]byte(body))
		if err == nil {
			t.Fatalf("%.60s is accepted", body)
		}
		if text := err.Error(); len(text) > 300 || strings.ContainsRune(text, '\ufffd') || strings.Contains(text, `\x`) {
			t.Errorf("%d bytes, or a broken character: %.400s", len(text), text)
		}
	}
}

// A log shows more of an id than an error does, but not all of it.
func TestLogCutsText(t *testing.T) {
	t.Parallel()
	n := specNotification()
	long := strings.Repeat("é", 200) // 400 bytes
	n.ExternalID, n.TransactionType, n.EndToEndID = long, pixmed.TransactionType(strings.Repeat("x", 256)), "a\x1b[2J"+pixmed.EndToEndID(long)
	got := map[string]string{}
	for _, a := range n.LogValue().Group() {
		got[a.Key] = a.Value.String()
	}
	for name, want := range map[string]string{
		"external_id":      strings.Repeat("é", 128) + "…",
		"transaction_type": strings.Repeat("x", 256),
		"e2e_id":           `"a\x1b[2J` + strings.Repeat("é", 125) + `…"`,
	} {
		if got[name] != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got[name], want)
		}
	}
}
