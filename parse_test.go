package pixmed_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

const bom = "\ufeff"

// payloadWith returns the spec's example with a member in the place of the one
// of the same name, or without it if member is only a name.
func payloadWith(t *testing.T, member string) string {
	t.Helper()
	name, _, keep := strings.Cut(member, ":")
	lines := strings.Split(specPayload, "\n")
	at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "  "+name+":") })
	if at < 0 {
		t.Fatalf("the example has no member %s", name)
	}
	lines = slices.Delete(lines, at, at+1)
	if keep {
		lines = slices.Insert(lines, 1, "  "+member+",")
	}
	body := strings.Join(lines, "\n")
	return strings.Replace(body, ",\n}", "\n}", 1)
}

// infractionWith is what the spec's example says after a change.
func infractionWith(change func(*pixmed.Infraction)) *pixmed.Infraction {
	i := specInfraction()
	change(&i)
	return &i
}

func TestParseInfractionAccepts(t *testing.T) {
	t.Parallel()
	spec := specInfraction()
	for _, tt := range []struct {
		name, body string
		want       *pixmed.Infraction
		lenient    bool // encoding/json and JSON v2 say something else
	}{
		{name: "the spec's example", body: specPayload, want: &spec},
		{name: "in one line", body: strings.NewReplacer("\n", "", "  ", "", ": ", ":").Replace(specPayload), want: &spec},
		{name: "CRLF and white space around", body: " \t\r\n" + strings.ReplaceAll(specPayload, "\n", "\r\n") + "\r\n \t", want: &spec},
		{name: "byte order mark", body: bom + specPayload, want: &spec, lenient: true},
		{name: "byte order mark, then white space", body: bom + "\n" + specPayload, want: &spec, lenient: true},
		{
			name: "members in another order",
			body: `{"medStatus":"ACKNOWLEDGED","e2e_id":"E082535392025011818245238600338f","externalId":"T&ste378","value":"18",` +
				`"transactionType":"CASH_IN","transactionStatus":"MED","transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde"}`,
			want: &spec,
		},
		{name: "unknown members", body: `{"debtorAccount":{"ispb":"00000000","x":[1,{"y":null}]},"id":1e400,"":true,` + specPayload[1:], want: &spec},
		{
			name: "names in other letter case are other members",
			body: `{"TransactionID":"x","TRANSACTIONSTATUS":"PAID","medstatus":5,"Value":"1,00",` + specPayload[1:],
			want: &spec, lenient: true,
		},
		{
			name: "escaped names and values",
			body: strings.NewReplacer(`"medStatus"`, `"m\u0065dStatus"`, `"ACKNOWLEDGED"`, `"\u0041CKNOWLEDGED"`, `"MED"`, `"M\u0045D"`,
				`"T&ste378"`, `"T\u0026ste378"`, `"5a94`, `"\u0035a94`).Replace(specPayload),
			want: &spec,
		},
		{
			name: "surrogate pair and other scripts", body: payloadWith(t, `"externalId": "\ud83d\ude00 ação \u0000\/\n"`),
			want: infractionWith(func(i *pixmed.Infraction) { i.ExternalID = "😀 ação \x00/\n" }),
		},
		{
			name: "UUID in upper case keeps its case", body: payloadWith(t, `"transactionId": "5A94D48D-C9F3-46BE-8448-83510CA42BDE"`),
			want: infractionWith(func(i *pixmed.Infraction) { i.TransactionID = "5A94D48D-C9F3-46BE-8448-83510CA42BDE" }),
		},
		{
			name: "UUID of zeros", body: payloadWith(t, `"transactionId": "00000000-0000-0000-0000-000000000000"`),
			want: infractionWith(func(i *pixmed.Infraction) { i.TransactionID = "00000000-0000-0000-0000-000000000000" }),
		},
		{
			name: "another transaction type", body: payloadWith(t, `"transactionType": "CASH_OUT"`),
			want: infractionWith(func(i *pixmed.Infraction) { i.TransactionType = "CASH_OUT" }),
		},
		{name: "cancelled", body: payloadWith(t, `"medStatus": "CANCELLED"`), want: infractionWith(func(i *pixmed.Infraction) { i.MEDStatus = pixmed.Cancelled })},
		{name: "debited", body: payloadWith(t, `"medStatus": "DEBITED"`), want: infractionWith(func(i *pixmed.Infraction) { i.MEDStatus = pixmed.Debited })},
		{name: "unknown MED status", body: payloadWith(t, `"medStatus": "Under review"`), want: infractionWith(func(i *pixmed.Infraction) { i.MEDStatus = "Under review" })},
		{name: "zero value", body: payloadWith(t, `"value": 0`), want: infractionWith(func(i *pixmed.Infraction) { i.Value = 0 })},
		{name: "value as text", body: payloadWith(t, `"value": "1234.50"`), want: infractionWith(func(i *pixmed.Infraction) { i.Value = 123450 })},

		{name: "externalId absent", body: payloadWith(t, `"externalId"`), want: infractionWith(func(i *pixmed.Infraction) { i.ExternalID = "" })},
		{name: "externalId null", body: payloadWith(t, `"externalId": null`), want: infractionWith(func(i *pixmed.Infraction) { i.ExternalID = "" })},
		{name: "externalId empty", body: payloadWith(t, `"externalId": ""`), want: infractionWith(func(i *pixmed.Infraction) { i.ExternalID = "" })},
		{
			name: "externalId a number", body: payloadWith(t, `"externalId": 378`), lenient: true,
			want: infractionWith(func(i *pixmed.Infraction) { i.ExternalID = "378" }),
		},
		{
			name: "externalId a number that no float holds", body: payloadWith(t, `"externalId": -12345678901234567890.120e+5`), lenient: true,
			want: infractionWith(func(i *pixmed.Infraction) { i.ExternalID = "-12345678901234567890.120e+5" }),
		},
		{
			name: "externalId of kilobytes", body: payloadWith(t, `"externalId": `+strconv.Quote(strings.Repeat("x", 5000))),
			want: infractionWith(func(i *pixmed.Infraction) { i.ExternalID = strings.Repeat("x", 5000) }),
		},

		{name: "e2e_id absent", body: payloadWith(t, `"e2e_id"`), want: infractionWith(func(i *pixmed.Infraction) { i.EndToEndID = "" })},
		{name: "e2e_id null", body: payloadWith(t, `"e2e_id": null`), want: infractionWith(func(i *pixmed.Infraction) { i.EndToEndID = "" })},
		{name: "e2e_id empty", body: payloadWith(t, `"e2e_id": ""`), want: infractionWith(func(i *pixmed.Infraction) { i.EndToEndID = "" })},
		{name: "e2e_id malformed", body: payloadWith(t, `"e2e_id": "not an id"`), want: infractionWith(func(i *pixmed.Infraction) { i.EndToEndID = "not an id" })},
		{name: "e2e_id a number", body: payloadWith(t, `"e2e_id": 5`), lenient: true, want: infractionWith(func(i *pixmed.Infraction) { i.EndToEndID = "5" })},
		{name: "e2e_id true", body: payloadWith(t, `"e2e_id": true`), lenient: true, want: infractionWith(func(i *pixmed.Infraction) { i.EndToEndID = "" })},
		{name: "e2e_id an object", body: payloadWith(t, `"e2e_id": {"id": "E"}`), lenient: true, want: infractionWith(func(i *pixmed.Infraction) { i.EndToEndID = "" })},
		{name: "e2e_id an array", body: payloadWith(t, `"e2e_id": ["E"]`), lenient: true, want: infractionWith(func(i *pixmed.Infraction) { i.EndToEndID = "" })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := pixmed.ParseInfraction([]byte(tt.body))
			if err != nil {
				t.Fatalf("ParseInfraction: %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ParseInfraction (-want +got):\n%s", diff)
			}
			if err := got.Validate(); err != nil {
				t.Errorf("Validate: %v", err)
			}
			if tt.lenient {
				return
			}
			var v1, v2 pixmed.Infraction
			if err := json.Unmarshal([]byte(tt.body), &v1); err != nil {
				t.Errorf("encoding/json: %v", err)
			}
			if diff := cmp.Diff(tt.want, &v1); diff != "" {
				t.Errorf("encoding/json (-want +got):\n%s", diff)
			}
			if err := jsonv2.Unmarshal([]byte(tt.body), &v2); err != nil {
				t.Errorf("JSON v2: %v", err)
			}
			if diff := cmp.Diff(tt.want, &v2); diff != "" {
				t.Errorf("JSON v2 (-want +got):\n%s", diff)
			}
		})
	}
}

// The documentation of WithBodyLimit states it.
func TestSpecPayloadLength(t *testing.T) {
	t.Parallel()
	if got := len(specPayload); got != 245 {
		t.Errorf("the spec's example has %d bytes", got)
	}
}

func TestParseInfractionSyntaxError(t *testing.T) {
	t.Parallel()
	const notObject, follows, early = "the body is not a JSON object", "something follows the JSON object", "the body ends too early"
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	big := `"` + strings.Repeat("x", 10<<20) + `"`
	end := int64(len(specPayload))
	for _, tt := range []struct {
		name, body string
		offset     int64
		reason     string // where it starts, for texts of the JSON package
	}{
		{"empty", "", 0, "the body is empty"},
		{"white space", " \t\r\n", 0, "the body is empty"},
		{"byte order mark alone", bom, 3, "the body is empty"},
		{"byte order mark and white space", bom + "\n", 3, "the body is empty"},
		{"null", "null", 0, notObject},
		{"true", "true", 0, notObject},
		{"number", "18", 0, notObject},
		{"string", `"MED"`, 0, notObject},
		{"array", "[" + specPayload + "]", 0, notObject},
		{"byte order mark and an array", bom + "[]", 3, notObject},
		{"form", "transactionId=5a94d48d", 0, notObject},
		{"HTML", "<html>", 0, "invalid character '<'"},
		{"NUL", "\x00", 0, `invalid character '\x00'`},
		{"two byte order marks", bom + bom + specPayload, 3, `invalid character '\ufeff'`},
		{"open", "{", 1, early},
		{"cut off after a name", `{"value"`, 8, early},
		{"cut off after a colon", `{"value":`, 9, early},
		{"cut off in a string", `{"value":"18`, 12, early},
		{"cut off after a value", `{"value":18`, 11, early},
		{"cut off after a comma", `{"value":18,`, 12, early},
		{"cut off at the last byte", specPayload[:end-1], end - 1, early},
		{"comma at the end", `{"value":18,}`, 11, "invalid character ','"},
		{"name without quotes", `{value:18}`, 1, "invalid character 'v'"},
		{"name a number", `{1:2}`, 1, "object member name must be a string"},
		{"single quotes", `{'value':18}`, 1, `invalid character '\''`},
		{"comment", `{/* */}`, 1, "invalid character '/'"},
		{"NaN", `{"value":NaN}`, 9, "invalid character 'N'"},
		{"Infinity", `{"value":-Infinity}`, 10, "invalid character 'I'"},
		{"leading zero", `{"value":018}`, 10, "invalid character '1'"},
		{"tab in a string", "{\"value\":\"\t\"}", 10, `invalid character '\t'`},
		{"byte order mark counts", bom + `{value:18}`, 4, "invalid character 'v'"},
		{"unknown escape", `{"value":"\x"}`, 10, `invalid escape sequence`},

		{"member twice", `{"value":18,"value":18}`, 12, "duplicate object member name (in /value)"},
		{"member twice, once escaped", `{"value":18,"v\u0061lue":18}`, 12, "duplicate object member name (in /value)"},
		{"unknown member twice", `{"x":1,"x":1}`, 7, "duplicate object member name (in /x)"},
		{"member twice in an unknown one", `{"x":{"y":[{"z":1,"z":2}]}}`, 18, "duplicate object member name (in /x/y/0/z)"},
		{"member twice in an object that is a bad field", `{"value":{"a":1,"a":2}}`, 16, "duplicate object member name (in /value/a)"},

		{"invalid UTF-8", "{\"value\":\"\xff\"}", 10, "invalid UTF-8"},
		{"invalid UTF-8 in a name", "{\"\xff\":1}", 2, "invalid UTF-8"},
		{"UTF-8 cut off", "{\"value\":\"\xc3\"}", 10, "invalid UTF-8"},
		{"surrogate in UTF-8", "{\"value\":\"\xed\xa0\x80\"}", 10, "invalid UTF-8"},
		{"Latin-1", "{\"externalId\":\"a\xe7\xe3o\"}", 16, "invalid UTF-8"},
		{"UTF-16", "\xff\xfe{\x00}\x00", 0, "invalid character"},
		{"lone high surrogate", `{"value":"\ud800"}`, 10, "invalid surrogate pair"},
		{"lone low surrogate", `{"value":"\udc00"}`, 10, "invalid surrogate pair"},
		{"lone surrogate in an unknown member", `{"x":["\ud800x"]}`, 7, "invalid surrogate pair"},
		{"lone surrogate in a name", `{"\ud800":1}`, 2, "invalid surrogate pair"},

		{"another object", specPayload + specPayload, end, follows},
		{"another object on the next line", specPayload + "\n{}", end, follows},
		{"bracket", specPayload + "]", end, follows},
		{"comma behind", specPayload + ",", end, follows},
		{"word behind", specPayload + " null", end, follows},
		{"NUL behind", specPayload + "\x00", end, follows},
		{"byte order mark behind", specPayload + bom, end, follows},
		{"byte order marks on both sides", bom + specPayload + bom, end + 3, follows},

		{"100,000 arrays deep", `{"value":` + deep + `}`, 10_008, "exceeded max depth"},
		{"100,000 objects deep", strings.Repeat(`{"x":`, 100_000), 50_000, "exceeded max depth"},
		{"10 MiB, then cut off", `{"x":` + big, int64(len(big)) + 5, early},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := pixmed.ParseInfraction([]byte(tt.body))
			syntax, ok := errors.AsType[*pixmed.SyntaxError](err)
			if got != nil || !ok {
				t.Fatalf("ParseInfraction = %v, %v; want a *SyntaxError", got, err)
			}
			if syntax.Offset != tt.offset {
				t.Errorf("offset %d, want %d (%v)", syntax.Offset, tt.offset, err)
			}
			reason := syntax.Reason
			if syntax.Pointer != "" {
				reason += " (in " + syntax.Pointer + ")"
			}
			if !strings.HasPrefix(reason, tt.reason) {
				t.Errorf("reason %q, want %q", reason, tt.reason)
			}
			want := fmt.Sprintf("malformed JSON at byte %d: %s", syntax.Offset, reason)
			if len(syntax.Pointer) > 64 {
				want = fmt.Sprintf("malformed JSON at byte %d: %s (in %q)", syntax.Offset, syntax.Reason, syntax.Pointer[:64]+"…")
			}
			if err.Error() != want {
				t.Errorf("Error() = %q, want %q", err, want)
			}
			if len(err.Error()) > 300 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestParseInfractionTenMebibytes(t *testing.T) {
	t.Parallel()
	body := `{"x":"` + strings.Repeat("x", 10<<20) + `",` + specPayload[1:]
	got, err := pixmed.ParseInfraction([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(specInfraction(), *got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseInfractionNotInfraction(t *testing.T) {
	t.Parallel()
	const neither = "not an infraction: neither transactionStatus nor medStatus is there"
	status := func(s string) string { return fmt.Sprintf("not an infraction: transactionStatus is %q", s) }
	for _, tt := range []struct{ name, body, text string }{
		{
			"cash-in",
			`{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"PAID","transactionType":"CASH_IN","value":"100.00","debtorAccount":{"ispb":"00000000"}}`,
			status("PAID"),
		},
		{"cash-out failed", `{"transactionStatus":"FAILED","transactionType":"CASH_OUT","value":100.00,"error_message":"no"}`, status("FAILED")},
		{"chargeback", `{"transactionStatus":"CHARGEBACK"}`, status("CHARGEBACK")},
		{"with a medStatus", payloadWith(t, `"transactionStatus": "PAID"`), status("PAID")},
		{"lower case", payloadWith(t, `"transactionStatus": "med"`), status("med")},
		{"trailing space", payloadWith(t, `"transactionStatus": "MED "`), status("MED ")},
		{"a long status", `{"transactionStatus":"` + strings.Repeat("P", 1000) + `"}`, status(strings.Repeat("P", 64) + "…")},
		{"empty object", `{}`, neither},
		{"test event", `{"evento":"teste_webhook"}`, neither},
		{"all but the two", `{"transactionId":"x","transactionType":1,"value":null}`, neither},
		{"both null", `{"transactionStatus":null,"medStatus":null}`, neither},
		{"both empty", `{"transactionStatus":"","medStatus":""}`, neither},
		{"in other letter case", `{"TransactionStatus":"MED","MedStatus":"CANCELLED"}`, neither},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := pixmed.ParseInfraction([]byte(tt.body))
			if got != nil || !errors.Is(err, pixmed.ErrNotInfraction) {
				t.Fatalf("ParseInfraction = %v, %v; want ErrNotInfraction", got, err)
			}
			if err.Error() != tt.text {
				t.Errorf("Error() = %q, want %q", err, tt.text)
			}
			if _, ok := errors.AsType[*pixmed.ValidationError](err); ok {
				t.Error("it is a *ValidationError too")
			}
		})
	}
}

func TestParseInfractionValidationError(t *testing.T) {
	t.Parallel()
	const missing = "is required"
	one := func(field, detail string) []pixmed.FieldError {
		return []pixmed.FieldError{{Field: field, Detail: detail}}
	}
	tests := []struct {
		name, body string
		want       []pixmed.FieldError
	}{
		{"nothing but the kind", `{"transactionStatus":"MED"}`, []pixmed.FieldError{
			{"transactionId", missing}, {"transactionType", missing}, {"value", missing}, {"medStatus", missing},
		}},
		{"nothing but the state", `{"medStatus":"CANCELLED"}`, []pixmed.FieldError{
			{"transactionId", missing}, {"transactionStatus", missing}, {"transactionType", missing}, {"value", missing},
		}},
		{
			"every type wrong",
			`{"medStatus":[],"e2e_id":{},"externalId":{"a":1},"value":true,"transactionType":1.50,"transactionStatus":false,"transactionId":5}`,
			[]pixmed.FieldError{
				{"transactionId", "must be a string, found 5"},
				{"transactionStatus", "must be a string, found false"},
				{"transactionType", "must be a string, found 1.50"},
				{"value", "is neither a number nor a string, found true"},
				{"externalId", "must be a string or a number, found an object"},
				{"medStatus", "must be a string, found an array"},
			},
		},
		{"every field null but the kind", `{"transactionId":null,"transactionStatus":"MED","transactionType":null,"value":null,"externalId":null,"e2e_id":null,"medStatus":null}`, []pixmed.FieldError{
			{"transactionId", missing},
			{"transactionType", missing},
			{"value", "is neither a number nor a string, found null"},
			{"medStatus", missing},
		}},
		{"every field empty but the kind", `{"transactionId":"","transactionStatus":"MED","transactionType":"","value":"","externalId":"","e2e_id":"","medStatus":""}`, []pixmed.FieldError{
			{"transactionId", missing}, {"transactionType", missing}, {"value", `is empty, found ""`}, {"medStatus", missing},
		}},
		{"no kind", payloadWith(t, `"transactionStatus"`), one("transactionStatus", missing)},
		{"kind null", payloadWith(t, `"transactionStatus": null`), one("transactionStatus", missing)},
		{"kind empty", payloadWith(t, `"transactionStatus": ""`), one("transactionStatus", missing)},
		{"kind a number", payloadWith(t, `"transactionStatus": 1`), one("transactionStatus", "must be a string, found 1")},
		{"kind a number and no state", `{"transactionStatus":1,"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionType":"CASH_IN","value":1}`, []pixmed.FieldError{
			{"transactionStatus", "must be a string, found 1"}, {"medStatus", missing},
		}},
		{"state a number and no kind", `{"medStatus":1,"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionType":"CASH_IN","value":1}`, []pixmed.FieldError{
			{"transactionStatus", missing}, {"medStatus", "must be a string, found 1"},
		}},
		{"externalId true", payloadWith(t, `"externalId": true`), one("externalId", "must be a string or a number, found true")},
		{"externalId an array", payloadWith(t, `"externalId": ["a"]`), one("externalId", "must be a string or a number, found an array")},
		{"comma", payloadWith(t, `"value": "1,00"`), one("value", reasonComma+`, found "1,00"`)},
		{"three decimals", payloadWith(t, `"value": 18.505`), one("value", reasonDecimals+", found 18.505")},
		{"negative", payloadWith(t, `"value": -18`), one("value", reasonNegative+", found -18")},
		{"value an object", payloadWith(t, `"value": {"amount": 18}`), one("value", reasonType+", found an object")},
	}
	for _, id := range []string{
		"5a94d48d", "5a94d48dc9f346be844883510ca42bde", "{5a94d48d-c9f3-46be-8448-83510ca42bde}",
		"urn:uuid:5a94d48d-c9f3-46be-8448-83510ca42bde", "5a94d48d-c9f3-46be-8448-83510ca42bdg", "5a94d48dc-9f3-46be-8448-83510ca42bde",
		" 5a94d48d-c9f3-46be-8448-83510ca42bde", "5a94d48d-c9f3-46be-8448-83510ca42bd", "5a94d48d-c9f3-46be-8448-83510ca42bd\u00e9",
	} {
		tests = append(tests, struct {
			name, body string
			want       []pixmed.FieldError
		}{
			"id " + id, payloadWith(t, `"transactionId": "`+id+`"`),
			one("transactionId", fmt.Sprintf("must be a UUID of 36 characters, found %q", id)),
		})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := pixmed.ParseInfraction([]byte(tt.body))
			invalid, ok := errors.AsType[*pixmed.ValidationError](err)
			if got != nil || !ok {
				t.Fatalf("ParseInfraction = %v, %v; want a *ValidationError", got, err)
			}
			if diff := cmp.Diff(tt.want, invalid.Fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if errors.Is(err, pixmed.ErrNotInfraction) {
				t.Error("it is ErrNotInfraction too")
			}
		})
	}
}

func TestValidationErrorText(t *testing.T) {
	t.Parallel()
	_, err := pixmed.ParseInfraction([]byte(`{"transactionId":"x","transactionStatus":"MED","transactionType":"CASH_IN","value":"1,00"}`))
	const want = `invalid infraction: transactionId must be a UUID of 36 characters, found "x"; ` +
		`value has a comma; the decimal point is a dot and thousands are not separated, found "1,00"; medStatus is required`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
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

// Each body has every fault from its own on.
func TestParseInfractionPrecedence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ body, want string }{
		{`{"transactionStatus":"PAID","value":"1,00"}x`, "syntax"},
		{`{"value":"1,00","transactionStatus":"PAID","transactionStatus":"MED"}`, "syntax"},
		{`{"transactionStatus":"PAID","value":"1,00"}`, "other event"},
		{`{"value":"1,00"}`, "other event"},
		{`{"transactionStatus":"MED","value":"1,00"}`, "invalid"},
	} {
		_, err := pixmed.ParseInfraction([]byte(tt.body))
		var got []string
		if _, ok := errors.AsType[*pixmed.SyntaxError](err); ok {
			got = append(got, "syntax")
		}
		if errors.Is(err, pixmed.ErrNotInfraction) {
			got = append(got, "other event")
		}
		if _, ok := errors.AsType[*pixmed.ValidationError](err); ok {
			got = append(got, "invalid")
		}
		if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.body, diff)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*pixmed.Infraction)
		want   []pixmed.FieldError
		other  bool
	}{
		{name: "valid", change: func(*pixmed.Infraction) {}},
		{name: "zero value, no external id, no end-to-end id", change: func(i *pixmed.Infraction) { i.Value, i.ExternalID, i.EndToEndID = 0, "", "" }},
		{name: "malformed end-to-end id", change: func(i *pixmed.Infraction) { i.EndToEndID = "x" }},
		{name: "unknown status", change: func(i *pixmed.Infraction) { i.MEDStatus = "x" }},
		{name: "zero", change: func(i *pixmed.Infraction) { *i = pixmed.Infraction{} }, other: true},
		{name: "paid", change: func(i *pixmed.Infraction) { i.TransactionStatus = "PAID" }, other: true},
		{
			name: "all bad",
			change: func(i *pixmed.Infraction) {
				*i = pixmed.Infraction{TransactionStatus: "MED", Value: -1, TransactionID: "x"}
			},
			want: []pixmed.FieldError{
				{"transactionId", `must be a UUID of 36 characters, found "x"`},
				{"transactionType", "is required"},
				{"value", "is negative"},
				{"medStatus", "is required"},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := infractionWith(tt.change)
			err := i.Validate()
			if tt.other {
				if !errors.Is(err, pixmed.ErrNotInfraction) {
					t.Errorf("Validate() = %v, want ErrNotInfraction", err)
				}
				return
			}
			if tt.want == nil {
				if err != nil {
					t.Errorf("Validate() = %v", err)
				}
				return
			}
			invalid, ok := errors.AsType[*pixmed.ValidationError](err)
			if !ok {
				t.Fatalf("Validate() = %v, want a *ValidationError", err)
			}
			if diff := cmp.Diff(tt.want, invalid.Fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseInfractionDoesNotKeepTheBody(t *testing.T) {
	t.Parallel()
	body := []byte(payloadWith(t, `"medStatus": "SOMETHING_NEW"`)) // not one of the constants
	got, err := pixmed.ParseInfraction(body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = '#'
	}
	want := infractionWith(func(i *pixmed.Infraction) { i.MEDStatus = "SOMETHING_NEW" })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the body changed (-want +got):\n%s", diff)
	}
}

func TestParseInfractionDoesNotChangeTheBody(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		specPayload, bom + specPayload, specPayload + "x", `{"a":1,"a":2}`, strings.ReplaceAll(specPayload, "e", `\u0065`),
	} {
		body := append(make([]byte, 0, 1024), text...) // with room behind, which is not the parser's either
		room := body[len(body):cap(body)]
		_, _ = pixmed.ParseInfraction(body)
		if string(body) != text || bytes.Trim(room, "\x00") != nil {
			t.Errorf("%q became %q, and %q behind it", text, body, bytes.Trim(room, "\x00"))
		}
	}
}

// A decoder that was used for a bad body must not spoil the next one, and
// goroutines must not share one.
func TestParseInfractionConcurrently(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for n := range 200 {
				id := fmt.Sprintf("%d-%d", g, n)
				body := payloadWith(t, `"externalId": "`+id+`"`)
				switch n % 4 {
				case 1:
					if _, err := pixmed.ParseInfraction([]byte(body[:len(body)-1-n%100])); err == nil {
						t.Errorf("%s: cut off, and accepted", id)
					}
				case 2:
					body = bom + body
				case 3:
					if _, err := pixmed.ParseInfraction([]byte(body + id)); err == nil {
						t.Errorf("%s: trailing data, and accepted", id)
					}
				}
				got, err := pixmed.ParseInfraction([]byte(body))
				if err != nil || got.ExternalID != id {
					t.Errorf("%s: got %v, %v", id, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzParseInfraction(f *testing.F) {
	for _, seed := range []string{
		specPayload, bom + specPayload, specPayload + specPayload, specPayload[:100], "", "{}", "[]", "null", "\xff", bom, " ",
		`{"transactionStatus":"PAID"}`, `{"transactionStatus":"MED"}`, `{"medStatus":"X"}`, `{"transactionStatus":1}`,
		`{"transactionId":"5A94D48D-C9F3-46BE-8448-83510CA42BDE","transactionStatus":"MED","transactionType":"x","value":"1.50","externalId":1e400,"e2e_id":[],"medStatus":"\u00e9","x":{"y":[{}]}}`,
		`{"value":1,"value":2}`, `{"x":"\ud800"}`, `{"m\u0065dStatus":null,"value":-1}`, `{"x":{"a":1,"\u0061":1}}`,
		`{"Value":3,` + specPayload[1:], `{"transactionId":5,"transactionStatus":"MED","transactionType":{},"value":[],"externalId":true,"medStatus":null}`,
	} {
		f.Add([]byte(seed))
	}
	fields := []string{"transactionId", "transactionStatus", "transactionType", "value", "externalId", "medStatus"}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		got, err := pixmed.ParseInfraction(body)
		if !bytes.Equal(before, body) {
			t.Fatalf("the body changed to %q", body)
		}
		text := bytes.TrimPrefix(body, []byte(bom))

		syntax, isSyntax := errors.AsType[*pixmed.SyntaxError](err)
		invalid, isInvalid := errors.AsType[*pixmed.ValidationError](err)
		kinds := 0
		for _, is := range []bool{err == nil, isSyntax, isInvalid, errors.Is(err, pixmed.ErrNotInfraction)} {
			if is {
				kinds++
			}
		}
		if kinds != 1 || (got == nil) != (err != nil) {
			t.Fatalf("not exactly one outcome: %v, %v", got, err)
		}
		if !json.Valid(text) && !isSyntax {
			t.Fatalf("not JSON, but %v", err)
		}
		switch {
		case isSyntax:
			if syntax.Offset < 0 || syntax.Offset > int64(len(body)) || syntax.Reason == "" {
				t.Fatalf("offset %d of %d bytes, reason %q", syntax.Offset, len(body), syntax.Reason)
			}
			return
		case isInvalid:
			last := -1
			for _, field := range invalid.Fields {
				at := slices.Index(fields, field.Field)
				if at <= last || field.Detail == "" {
					t.Fatalf("fields not in the spec's order, or unknown, or without a detail: %v", invalid.Fields)
				}
				last = at
			}
			if last < 0 {
				t.Fatal("a *ValidationError without a field")
			}
			return
		case err != nil:
			return
		}

		if err := got.Validate(); err != nil {
			t.Fatalf("accepted, but Validate says: %v", err)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatalf("encoding/json: %v", err)
		}
		for name, value := range map[string]string{
			"transactionId": got.TransactionID, "transactionStatus": string(got.TransactionStatus),
			"transactionType": string(got.TransactionType), "externalId": got.ExternalID,
			"e2e_id": string(got.EndToEndID), "medStatus": string(got.MEDStatus),
		} {
			if want := textOf(members[name]); value != want {
				t.Errorf("%s is %q, encoding/json finds %q", name, value, want)
			}
		}
		want, ok := new(big.Rat).SetString(textOf(members["value"]))
		if ok && want.Cmp(big.NewRat(int64(got.Value), 100)) != 0 {
			t.Errorf("value is %v, encoding/json finds %v", got.Value, want)
		}
	})
}

// textOf decodes a string, keeps a number as it is written, and is empty for
// everything else.
func textOf(raw json.RawMessage) string {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	_ = d.Decode(&v) // nothing, for a member that is absent
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return string(v)
	default:
		return ""
	}
}
