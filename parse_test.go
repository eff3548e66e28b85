package pixmed_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

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

func TestParseInfractionNotInfraction(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, status string }{
		{
			"cash-in",
			`{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"PAID","transactionType":"CASH_IN","value":"100.00","debtorAccount":{"ispb":"00000000"}}`,
			"PAID",
		},
		{"cash-out failed", `{"transactionStatus":"FAILED","transactionType":"CASH_OUT","value":100.00,"error_message":"no"}`, "FAILED"},
		{"chargeback", `{"transactionStatus":"CHARGEBACK"}`, "CHARGEBACK"},
		{"MED inside of a word", `{"transactionStatus":"CONFIRMED"}`, "CONFIRMED"},
		{"and of another", `{"transactionStatus":"PERFORMED"}`, "PERFORMED"},
		{"and between letters beyond ASCII", `{"transactionStatus":"ÃMEDÃ"}`, "ÃMEDÃ"},
		{"medStatus null", `{"transactionStatus":"PAID","medStatus":null}`, "PAID"},
		{"medStatus empty", `{"transactionStatus":"PAID","data":[{"Med_Status":"","infracoes":null}]}`, "PAID"},
		{"members whose names hold others", `{"transactionStatus":"PAID","medium":"x","medStatusCode":1,"remedy":{"infra":1}}`, "PAID"},
		{"values are not names", `{"transactionStatus":"PAID","x":"med","y":["medStatus","infraction"]}`, "PAID"},
		{"a long status", `{"transactionStatus":"` + strings.Repeat("P", 1000) + `"}`, strings.Repeat("P", 64) + "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := pixmed.ParseInfraction([]byte(tt.body))
			if got != nil || !errors.Is(err, pixmed.ErrNotInfraction) {
				t.Fatalf("ParseInfraction = %v, %v; want ErrNotInfraction", got, err)
			}
			if want := pixmed.ErrNotInfraction.Error(); err.Error() != want {
				t.Errorf("Error() = %q, want %q", err, want)
			}
			if _, ok := errors.AsType[*pixmed.ValidationError](err); ok {
				t.Error("it is a *ValidationError too")
			}
		})
	}
}

// A MED without a status is accepted; a status under another name is not one.
func TestParseInfractionWithoutMEDStatus(t *testing.T) {
	t.Parallel()
	want := infractionWith(func(i *pixmed.Infraction) { i.MEDStatus = "" })
	for name, tt := range map[string]struct{ member, named string }{
		"absent":                      {`"medStatus"`, ""},
		"null":                        {`"medStatus": null`, ""},
		"empty":                       {`"medStatus": ""`, ""},
		"others are empty":            {`"medStatus": "", "med_status": null, "x": {"infraction": ""}`, ""},
		"med_status":                  {`"medStatus": null, "med_status": "CANCELLED"`, "med_status"},
		"MedStatus":                   {`"medStatus": "", "MedStatus": ""`, ""},
		"medStatus in a member":       {`"medStatus": "", "x": [{"medStatus": "CANCELLED"}]`, "medStatus"},
		"med, a number":               {`"medStatus": "", "Med": 0`, "Med"},
		"infractionStatus":            {`"medStatus": "", "infractionStatus": "CANCELLED"`, "infractionStatus"},
		"statusDaInfração, an object": {`"medStatus": "", "statusDaInfração": {}`, "statusDaInfração"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := pixmed.ParseInfraction([]byte(payloadWith(t, tt.member)))
			if tt.named == "" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return
			}
			invalid, ok := errors.AsType[*pixmed.ValidationError](err)
			if !ok {
				t.Fatalf("ParseInfraction = %v, %v; want a *ValidationError", got, err)
			}
			bad := []pixmed.FieldError{{Field: "medStatus", Detail: fmt.Sprintf("is missing, found a member named %q", tt.named)}}
			if diff := cmp.Diff(bad, invalid.Fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
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
			{"transactionId", missing}, {"transactionType", missing}, {"value", missing},
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
		}},
		{"every field empty but the kind", `{"transactionId":"","transactionStatus":"MED","transactionType":"","value":"","externalId":"","e2e_id":"","medStatus":""}`, []pixmed.FieldError{
			{"transactionId", missing}, {"transactionType", missing}, {"value", `is empty, found ""`},
		}},
		{"no kind", payloadWith(t, `"transactionStatus"`), one("transactionStatus", missing)},
		{"kind null", payloadWith(t, `"transactionStatus": null`), one("transactionStatus", missing)},
		{"kind empty", payloadWith(t, `"transactionStatus": ""`), one("transactionStatus", missing)},
		{"kind a number", payloadWith(t, `"transactionStatus": 1`), one("transactionStatus", "must be a string, found 1")},
		{"kind a number and no state", `{"transactionStatus":1,"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionType":"CASH_IN","value":1}`, one("transactionStatus", "must be a string, found 1")},
		{"state a number and no kind", `{"medStatus":1,"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionType":"CASH_IN","value":1}`, []pixmed.FieldError{
			{"transactionStatus", missing}, {"medStatus", "must be a string, found 1"},
		}},
		{"externalId true", payloadWith(t, `"externalId": true`), one("externalId", "must be a string or a number, found true")},
		{"externalId an array", payloadWith(t, `"externalId": ["a"]`), one("externalId", "must be a string or a number, found an array")},
		{"another kind, and a state", payloadWith(t, `"transactionStatus": "PAID"`), one("transactionStatus", `must be "MED", found "PAID"`)},
		{"kind in other letter case", payloadWith(t, `"transactionStatus": "Med"`), one("transactionStatus", `must be "MED", found "Med"`)},
		{"state over the limit", payloadWith(t, `"medStatus": "`+strings.Repeat("x", 65)+`"`), one("medStatus", `must have at most 64 bytes, found "`+strings.Repeat("x", 64)+`…"`)},
		{"state over the limit, in few characters", payloadWith(t, `"medStatus": "`+strings.Repeat("é", 33)+`"`), one("medStatus", `must have at most 64 bytes, found "`+strings.Repeat("é", 32)+`…"`)},
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

// Each body also has the faults of those after it.
func TestParseInfractionPrecedence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ body, want string }{
		{`{"transactionStatus":"PAID","value":"1,00"}x`, "syntax"},
		{`{"value":"1,00","transactionStatus":"PAID","transactionStatus":"MED"}`, "syntax"},
		{`{"transactionStatus":"PAID","value":"1,00"}`, "other event"},
		{`{"value":"1,00"}`, "invalid"},
		{`{"transactionStatus":"PAID","med":1}`, "invalid"},
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
		{name: "no status", change: func(i *pixmed.Infraction) { i.MEDStatus = "" }},
		{name: "longest status", change: func(i *pixmed.Infraction) { i.MEDStatus = pixmed.MEDStatus(strings.Repeat("x", 64)) }},
		{name: "paid", change: func(i *pixmed.Infraction) { i.TransactionStatus, i.MEDStatus = "PAID", "" }, other: true},
		{
			name:   "paid, with a MED status",
			change: func(i *pixmed.Infraction) { i.TransactionStatus = "PAID" },
			want:   []pixmed.FieldError{{"transactionStatus", `must be "MED", found "PAID"`}},
		},
		{
			name:   "too long a status",
			change: func(i *pixmed.Infraction) { i.MEDStatus = pixmed.MEDStatus(strings.Repeat("x", 65)) },
			want:   []pixmed.FieldError{{"medStatus", `must have at most 64 bytes, found "` + strings.Repeat("x", 64) + `…"`}},
		},
		{
			name:   "zero",
			change: func(i *pixmed.Infraction) { *i = pixmed.Infraction{} },
			want:   []pixmed.FieldError{{"transactionId", "is required"}, {"transactionStatus", "is required"}, {"transactionType", "is required"}},
		},
		{
			name: "all bad",
			change: func(i *pixmed.Infraction) {
				*i = pixmed.Infraction{TransactionStatus: "MED", Value: -1, TransactionID: "x"}
			},
			want: []pixmed.FieldError{
				{"transactionId", `must be a UUID of 36 characters, found "x"`},
				{"transactionType", "is required"},
				{"value", "is negative"},
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

func FuzzParseInfraction(f *testing.F) {
	for _, seed := range []string{
		specPayload, bom + specPayload, specPayload + specPayload, specPayload[:100], "", "{}", "[]", "null", "\xff", bom, " ",
		`{"transactionStatus":"PAID"}`, `{"transactionStatus":"MED"}`, `{"medStatus":"X"}`, `{"transactionStatus":1}`,
		`{"transactionId":"5A94D48D-C9F3-46BE-8448-83510CA42BDE","transactionStatus":"MED","transactionType":"x","value":"1.50","externalId":1e400,"e2e_id":[],"medStatus":"\u00e9","x":{"y":[{}]}}`,
		`{"transactionStatus":"PAID","x":[{"Med-Status":""},{"infração":{}}]}`, `{"transactionStatus":"CONFIRMED"}`, `{"transactionStatus":"pré-med"}`,
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
			if quoted := expecting.ReplaceAllString(err.Error(), ""); strings.ContainsAny(quoted, "'\"`\\") {
				t.Fatalf("the error may quote the body: %v", err)
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
			var event any
			d := json.NewDecoder(bytes.NewReader(text))
			d.UseNumber() // of any size
			if err := d.Decode(&event); err != nil {
				t.Fatalf("encoding/json: %v", err)
			}
			status := event.(map[string]any)["transactionStatus"].(string)
			if strings.TrimSpace(status) == "" || medStatus.MatchString(status) || holdsMED(event) {
				t.Fatalf("%v, but it may be an infraction", err)
			}
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

// expecting is the part of a SyntaxError's text in which nothing of the body is
// quoted.
var expecting = regexp.MustCompile(`\(expecting [^)]*\)`)

// What a transactionStatus and a member's name look like if the event may be an
// infraction, in text without combining accents.
var (
	medStatus = regexp.MustCompile(`(?i)^\s*m[eéèêë]d|(^|\PL)m[eéèêë]d(\PL|$)|infra[cç][aàáâãäå]o|infraction`)
	medName   = regexp.MustCompile(`(?i)^[\s_-]*m[\s_-]*[eéèêë][\s_-]*d[\s_-]*(status[\s_-]*)?$|infraction|infra[cç][aàáâãäå]o`)
)

// holdsMED reports whether a value has a member with such a name that holds
// anything.
func holdsMED(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, holdsMED)
	case map[string]any:
		for name, member := range v {
			if medName.MatchString(name) && member != nil && member != "" || holdsMED(member) {
				return true
			}
		}
	}
	return false
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
