package envelope_test

import (
	"strings"
	"testing"
)

func TestJSON(t *testing.T) {
	t.Parallel()

	testAccepted(t, []accepted{
		{"unknown strings", around(`"x":"","":"\"\\\/\b\f\n\r\t\u12Ef\ud800 é ` + "\xff\x7f" + `","x y":"` + strings.Repeat("z", 5000) + `"`), samplePDF, ""},
		{"unknown numbers", around(`"x":0,"x":-0,"x":1,"x":-12.5,"x":0.25,"x":1e5,"x":1E+5,"x":0e-5,"x":1234567890.0123456789E-10`), samplePDF, ""},
		{"unknown literals", around(`"x":true,"x":false,"x":null`), samplePDF, ""},
		{"unknown arrays", around(`"x":[],"x":[ ],"x":[1],"x":[[],[{}],[[1,[2]]], "a" ,null]`), samplePDF, ""},
		{"unknown objects", around(`"x":{},"x":{ },"x":{"a":1},"x":{"a":{"b":{}},"c":[{"d":[]}] , "e" : 1 }`), samplePDF, ""},
		{"long unknown name", around(`"` + strings.Repeat("status", 100) + `":1`), samplePDF, ""},
		{"known names elsewhere", `{"receipt":1,"mimeType":2,"x":{"status":"FAILED","data":null},"status":"SUCCESS","data":{"status":0,"data":[],"message":1,"receipt":"` + sampleText + `"}}`, samplePDF, ""},
		{"names in another case", `{"Status":"FAILED","DATA":null,"status":"SUCCESS","data":{"Receipt":1,"mimetype":2,"receipt":"` + sampleText + `"}}`, samplePDF, ""},
	})
}

func TestJSONRefused(t *testing.T) {
	t.Parallel()

	root := func(s string) string { return `{"x":` + s }
	testRefused(t, []refused{
		{"no name", `{1:2}`, `not a receipt envelope at byte 1: unexpected character "1", want the name of a member`, "", ""},
		{"comma first", `{,"a":1}`, `not a receipt envelope at byte 1: unexpected character ",", want the name of a member`, "", ""},
		{"comma last", `{"a":1,}`, `not a receipt envelope at byte 7: unexpected character "}", want the name of a member`, "", ""},
		{"comma last in data", `{"data":{"a":1,}}`, `not a receipt envelope at byte 15: unexpected character "}", want the name of a member`, "", ""},
		{"no comma", `{"a":1 "b":2}`, `not a receipt envelope at byte 7: unexpected character "\"", want "," or "}"`, "", ""},
		{"no comma after data", `{"data":{}"b":2}`, `not a receipt envelope at byte 10: unexpected character "\"", want "," or "}"`, "", ""},
		{"no colon", `{"a",1}`, `not a receipt envelope at byte 4: unexpected character ",", want ":"`, "", ""},
		{"no value", `{"a":}`, `not a receipt envelope at byte 5: unexpected character "}", want a value`, "", ""},
		{"wrong end", `{"a":1]`, `not a receipt envelope at byte 6: unexpected character "]", want "," or "}"`, "", ""},
		{"control character", root("\"a\nb\""), `not a receipt envelope at byte 7: unescaped character "\n" in a string`, "", ""},
		{"NUL", root("\"\x00\""), `not a receipt envelope at byte 6: unescaped character "\x00" in a string`, "", ""},
		{"control character in a name", "{\"a\r\":1}", `not a receipt envelope at byte 3: unescaped character "\r" in a string`, "", ""},
		{"unknown escape", root(`"\x"`), `not a receipt envelope at byte 7: unexpected character "x", want an escape`, "", ""},
		{"bad hexadecimal", root(`"\u12g4"`), `not a receipt envelope at byte 10: unexpected character "g", want a hexadecimal digit`, "", ""},
		{"value beyond ASCII", root("\xc3\xa9"), `not a receipt envelope at byte 5: unexpected non-ASCII character, want a value`, "", ""},
		{"true misspelt", root(`tru}`), `not a receipt envelope at byte 8: unexpected character "}", want "true"`, "", ""},
		{"false misspelt", root(`False`), `not a receipt envelope at byte 5: unexpected character "F", want a value`, "", ""},
		{"false misspelt late", root(`falsy`), `not a receipt envelope at byte 9: unexpected character "y", want "false"`, "", ""},
		{"null misspelt", root(`nil`), `not a receipt envelope at byte 6: unexpected character "i", want "null"`, "", ""},
		{"literal too long", root(`nulll`), `not a receipt envelope at byte 9: unexpected character "l", want "," or "}"`, "", ""},
		{"number with a zero", root(`01`), `not a receipt envelope at byte 6: unexpected character "1", want "," or "}"`, "", ""},
		{"number with a plus", root(`+1`), `not a receipt envelope at byte 5: unexpected character "+", want a value`, "", ""},
		{"number without digits", root(`-}`), `not a receipt envelope at byte 6: unexpected character "}", want a digit`, "", ""},
		{"number without a fraction", root(`1.}`), `not a receipt envelope at byte 7: unexpected character "}", want a digit`, "", ""},
		{"number without an integer", root(`.5`), `not a receipt envelope at byte 5: unexpected character ".", want a value`, "", ""},
		{"number without an exponent", root(`1e}`), `not a receipt envelope at byte 7: unexpected character "}", want a digit`, "", ""},
		{"number without a signed exponent", root(`1e+}`), `not a receipt envelope at byte 8: unexpected character "}", want a digit`, "", ""},
		{"array with a comma last", root(`[1,]`), `not a receipt envelope at byte 8: unexpected character "]", want a value`, "", ""},
		{"array with a comma first", root(`[,1]`), `not a receipt envelope at byte 6: unexpected character ",", want a value`, "", ""},
		{"array that ends as an object", root(`[1}`), `not a receipt envelope at byte 7: unexpected character "}", want "," or "]"`, "", ""},
		{"object that ends as an array", root(`{"a":[]]`), `not a receipt envelope at byte 12: unexpected character "]", want "," or "}"`, "", ""},
		{"object with a comma last", root(`{"a":1,}`), `not a receipt envelope at byte 12: unexpected character "}", want the name of a member`, "", ""},
		{"object with a comma first", root(`{,`), `not a receipt envelope at byte 6: unexpected character ",", want the name of a member`, "", ""},
		{"object in an object", root(`{"a":1,"b":{"c" 1}}`), `not a receipt envelope at byte 21: unexpected character "1", want ":"`, "", ""},
		{"bad message", `{"message":["a" "b"]}`, `not a receipt envelope at byte 16: unexpected character "\"", want "," or "]"`, "", ""},
		{"bad message in the end", `{"message":["a",]}`, `not a receipt envelope at byte 16: unexpected character "]", want a value`, "", ""},
	})
}

func TestUnknownMembers(t *testing.T) {
	t.Parallel()

	nested := func(open, end string, depth int) string {
		return strings.Repeat(open, depth) + strings.Repeat(end, depth)
	}
	for _, tt := range []struct {
		name  string
		value string
		level int // the depth at which the value stands
		kind  string
	}{
		{"large string", `"` + strings.Repeat("x", mib) + `"`, 1, "EOF"},
		{"large string in data", `"` + strings.Repeat(`\"é`, mib/4) + `"`, 2, "EOF"},
		{"large number", strings.Repeat("1", mib), 1, "EOF"},
		{"large array", "[" + strings.Repeat(`{"a":[]},`, mib/8) + "0]", 1, "EOF"},
		{"deep array", nested("[", "]", 999), 1, "EOF"},
		{"deeper array", nested("[", "]", 1000), 1, "malformed"},
		{"deep array in data", nested("[", "]", 998), 2, "EOF"},
		{"deeper array in data", nested("[", "]", 999), 2, "malformed"},
		{"deep objects", nested(`{"a":[`, `],"b":0}`, 998/2), 1, "EOF"},
		{"deep objects, not closed well", nested(`{"a":[`, `],"b":0]`, 998/2), 1, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			input := `{"x":` + tt.value + `,` + seal(sampleText)[1:]
			if tt.level == 2 {
				input = strings.Replace(seal(sampleText), `"data":{`, `"data":{"x":`+tt.value+`,`, 1)
			}
			if got := decode(strings.NewReader(input)); got.Kind != tt.kind {
				t.Errorf("got %+v", got)
			}
		})
	}

	got := decode(strings.NewReader(`{"x":` + strings.Repeat("[", 20_000)))
	if want := "not a receipt envelope at byte 1004: nested more than 1000 levels deep"; got.Error != want {
		t.Errorf("got %q, want %q", got.Error, want)
	}
	if got := decode(strings.NewReader(`{"message":` + nested("[", "]", 999) + `,` + seal(sampleText)[1:])); got.Kind != "EOF" {
		t.Errorf("deep message: %+v", got)
	}
	if got := decode(strings.NewReader(`{"message":` + nested("[", "]", 1000) + `,` + seal(sampleText)[1:])); got.Kind != "malformed" {
		t.Errorf("deeper message: %+v", got)
	}
}
