package pixmed_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

func TestParseInfractionSyntaxError(t *testing.T) {
	t.Parallel()
	const notObject, follows, early = "the body is not a JSON object", "invalid character after top-level value", "the body ends too early"
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
		{"HTML", "<html>", 0, "invalid character at start of value"},
		{"NUL", "\x00", 0, "invalid character"},
		{"two byte order marks", bom + bom + specPayload, 3, "invalid character"},
		{"open", "{", 1, early},
		{"cut off after a name", `{"value"`, 8, early},
		{"cut off after a colon", `{"value":`, 9, early},
		{"cut off in a string", `{"value":"18`, 12, early},
		{"cut off after a value", `{"value":18`, 11, early},
		{"cut off after a comma", `{"value":18,`, 12, early},
		{"cut off at the last byte", specPayload[:end-1], end - 1, early},
		{"comma at the end", `{"value":18,}`, 11, "invalid character"},
		{"name without quotes", `{value:18}`, 1, "invalid character"},
		{"name a number", `{1:2}`, 1, "object member name must be a string"},
		{"single quotes", `{'value':18}`, 1, "invalid character"},
		{"comment", `{/* */}`, 1, "invalid character"},
		{"NaN", `{"value":NaN}`, 9, "invalid character"},
		{"Infinity", `{"value":-Infinity}`, 10, "invalid character"},
		{"leading zero", `{"value":018}`, 10, "invalid character"},
		{"tab in a string", "{\"value\":\"\t\"}", 10, "invalid character"},
		{"byte order mark counts", bom + `{value:18}`, 4, "invalid character"},
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
		{"another object on the next line", specPayload + "\n{}", end + 1, follows},
		{"bracket", specPayload + "]", end, follows},
		{"comma after it", specPayload + ",", end, follows},
		{"word after it", specPayload + " null", end + 1, follows},
		{"NUL after it", specPayload + "\x00", end, follows},
		{"byte order mark after it", specPayload + bom, end, follows},
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
			want := fmt.Sprintf("malformed JSON at byte %d: %s", syntax.Offset, syntax.Reason) // no Pointer: it quotes the body
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

// What may be an infraction in an unknown form is not ErrNotInfraction, which
// may be acknowledged.
func TestParseInfractionInAnotherForm(t *testing.T) {
	t.Parallel()
	pascal := strings.NewReplacer(`"t`, `"T`, `"v`, `"V`, `"ext`, `"Ext`, `"e2e`, `"E2e`, `"m`, `"M`).Replace(specPayload)
	for name, body := range map[string]string{
		"a wrapping":                  `{"event":"med","data":` + specPayload + `}`,
		"a wrapping in an array":      `{"events":[` + specPayload + `]}`,
		"PascalCase":                  pascal,
		"snake_case":                  `{"transaction_status":"MED","med_status":"CANCELLED"}`,
		"an empty object":             `{}`,
		"a test event":                `{"evento":"teste_webhook"}`,
		"nothing but other members":   `{"transactionId":"x","transactionType":1,"value":null}`,
		"transactionStatus null":      `{"transactionStatus":null,"medStatus":null}`,
		"transactionStatus empty":     `{"transactionStatus":"","medStatus":""}`,
		"transactionStatus blank":     `{"transactionStatus":" \t"}`,
		"transactionStatus a number":  `{"transactionStatus":5}`,
		"PAID with a medStatus":       payloadWith(t, `"transactionStatus": "PAID"`),
		"PAID with another medStatus": `{"transactionStatus":"PAID","medStatus":5}`,
		"PAID with med":               `{"transactionStatus":"PAID","med":{}}`,
		"PAID with MED-Status inside": `{"transactionStatus":"PAID","a":[[{"b":{"MED-Status":"DEBITED"}}]]}`,
		"PAID with med status":        `{"transactionStatus":"PAID","med status":false}`,
		"PAID with an infraction":     `{"transactionStatus":"PAID","lastInfractions":[]}`,
		"PAID with an infração":       `{"transactionStatus":"PAID","Infração":"x"}`,
		"PAID with a decomposed one":  `{"transactionStatus":"PAID","infração":0}`,
		"PAID with an escaped name":   `{"transactionStatus":"PAID","m\u0065d":"x"}`,
		"med":                         payloadWith(t, `"transactionStatus": "med"`),
		"MED and a blank":             payloadWith(t, `"transactionStatus": "MED "`),
		"IN_MED":                      `{"transactionStatus":"IN_MED"}`,
		"MÉD":                         `{"transactionStatus":"MÉD"}`,
		"MEDIATION":                   `{"transactionStatus":"MEDIATION"}`,
		"UNDER MED2 REVIEW":           `{"transactionStatus":"UNDER MED2 REVIEW"}`,
		"INFRACAO":                    `{"transactionStatus":"COM_INFRACAO"}`,
		"infração":                    `{"transactionStatus":"infração"}`,
		"INFRAÇÕES":                   `{"transactionStatus":"INFRAÇÕES"}`,
		"INFRACOES_ABERTAS":           `{"transactionStatus":"INFRACOES_ABERTAS"}`,
		"PAID with infrações":         `{"transactionStatus":"PAID","infracoes":[{"status":"ACKNOWLEDGED"}]}`,
		"Infraction":                  `{"transactionStatus":"PreInfraction"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := pixmed.ParseInfraction([]byte(body))
			if _, ok := errors.AsType[*pixmed.ValidationError](err); got != nil || !ok || errors.Is(err, pixmed.ErrNotInfraction) {
				t.Errorf("ParseInfraction = %v, %v; want a *ValidationError", got, err)
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
		body := append(make([]byte, 0, 1024), text...) // the room after it is not the parser's either
		room := body[len(body):cap(body)]
		_, _ = pixmed.ParseInfraction(body)
		if string(body) != text || bytes.Trim(room, "\x00") != nil {
			t.Errorf("%q became %q, with %q after it", text, body, bytes.Trim(room, "\x00"))
		}
	}
}

// A decoder that was used for a bad body must not affect the next one, and
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
