package pixmed_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

// What may be read the plain way is no matter of right or wrong, but of speed:
// the spec's example must be, and what is refused cannot be.
func TestPlainMembers(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 9 {
		many.WriteString(`"x` + strconv.Itoa(i) + `":null,`)
	}
	for _, tt := range []struct {
		name  string
		text  string
		plain bool
	}{
		{"the spec's example", specPayload, true},
		{"compact", `{"value":18,"medStatus":"DEBITED"}`, true},
		{"white space", " \t\r\n{ \"value\" :\t18\r,\n\"medStatus\" : \"\" } \n", true},
		{"literals", `{"value":null,"a":true,"b":false}`, true},
		{"numbers", `{"value":0,"a":-0,"b":10.05,"c":-1.0}`, true},
		{"other members", `{` + many.String()[:len(`"x0":null,`)*8-1] + `}`, true},

		{"too many other members", `{` + many.String() + `"value":1}`, false},
		{"a name twice", `{"value":1,"value":1}`, false},
		{"another name twice", `{"a":1,"a":1}`, false},
		{"an escape in a value", `{"value":"\u0031"}`, false},
		{"an escape in a name", `{"\u0076alue":1}`, false},
		{"beyond ASCII", `{"externalId":"é"}`, false},
		{"not UTF-8", "{\"externalId\":\"\xff\"}", false},
		{"a control character", "{\"externalId\":\"\n\"}", false},
		{"an exponent", `{"value":1e2}`, false},
		{"an object", `{"a":{}}`, false},
		{"an array", `{"a":[]}`, false},
		{"no members", `{}`, false},
		{"nothing", ``, false},
		{"not an object", `"value"`, false},
		{"no end", `{"value":1`, false},
		{"no value", `{"value":`, false},
		{"no colon", `{"value" 1}`, false},
		{"no name", `{1:1}`, false},
		{"no comma", `{"value":1 "a":1}`, false},
		{"a comma at the end", `{"value":1,}`, false},
		{"a comma at the start", `{,"value":1}`, false},
		{"a string without end", `{"value":"`, false},
		{"a name without end", `{"`, false},
		{"a leading zero", `{"value":01}`, false},
		{"a plus", `{"value":+1}`, false},
		{"a minus alone", `{"value":-}`, false},
		{"no digit before the point", `{"value":.5}`, false},
		{"no digit behind the point", `{"value":5.}`, false},
		{"half a literal", `{"value":nul}`, false},
		{"more than a literal", `{"value":nullx}`, false},
		{"something behind", `{"value":1}1`, false},
		{"a second object", `{"value":1}{}`, false},
		{"a zero byte", "{\"value\":1}\x00", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if plain := checkPlain(t, tt.text); plain != tt.plain {
				t.Errorf("read the plain way: %t, want %t", plain, tt.plain)
			}
		})
	}
}

func FuzzPlainMembers(f *testing.F) {
	for _, seed := range []string{specPayload, `{"a":1,"b":"x","c":null,"d":-1.50}`, `{"value":1,"value":2}`, `{"a":1}{`, `{"a":01}`, "{\"a\":\"\x1f\"}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) { checkPlain(t, text) })
}

// checkPlain checks that what was read the plain way is what the decoder reads.
func checkPlain(t *testing.T, text string) bool {
	t.Helper()
	got, plain := pixmed.PlainMembers([]byte(text))
	if !plain {
		return false
	}
	want, err := pixmed.DecodeMembers([]byte(text))
	if err != nil {
		t.Fatalf("%q was read, but %v", text, err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(pixmed.Wire{})); diff != "" {
		t.Errorf("%q: %s", text, diff)
	}
	return true
}
