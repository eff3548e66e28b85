package envelope_test

import (
	"encoding/base64"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

func TestAccept(t *testing.T) {
	t.Parallel()

	const pdfType = "application/pdf"
	raw := base64.RawStdEncoding.EncodeToString([]byte(samplePDF))
	url := base64.URLEncoding.EncodeToString([]byte(samplePDF))
	if !strings.ContainsAny(sampleText, "+/") || !strings.ContainsAny(url, "-_") || raw == sampleText {
		t.Fatal("the sample does not tell the encodings apart")
	}
	member := func(s string) string {
		return `{` + s + `,"status":"SUCCESS","data":{` + s + `,"receipt":"` + sampleText + `",` + s + `},` + s + `}`
	}

	for _, tt := range []struct {
		name  string
		input string
		pdf   string
		mime  string
	}{
		{"as specified", seal(sampleText), samplePDF, pdfType},
		{"indented", "{\n    \"status\": \"SUCCESS\",\r\n\t\"data\" : {\n \"receipt\" :\t\"" + sampleText + "\" ,\n \"mimeType\": \"application/pdf\"\n }\n}\n", samplePDF, pdfType},
		{"white space around", " \t\r\n" + seal(sampleText) + "\n\r\t ", samplePDF, pdfType},
		{"byte order mark", "\ufeff" + seal(sampleText), samplePDF, pdfType},
		{"byte order mark and white space", "\ufeff\n" + seal(sampleText), samplePDF, pdfType},
		{"status behind data", `{"data":{"mimeType":"application/pdf","receipt":"` + sampleText + `"},"status":"SUCCESS"}`, samplePDF, pdfType},
		{"status in lower case", strings.Replace(seal(sampleText), "SUCCESS", "success", 1), samplePDF, pdfType},
		{"status in mixed case", strings.Replace(seal(sampleText), "SUCCESS", "Success", 1), samplePDF, pdfType},
		{"status escaped", strings.Replace(seal(sampleText), "SUCCESS", escapeAll("SUCCESS"), 1), samplePDF, pdfType},
		{"names escaped", `{"` + escapeAll("status") + `":"SUCCESS","d\u0061ta":{"` + escapeAll("receipt") + `":"` + sampleText + `","\u006dimeType":"application\/pdf"}}`, samplePDF, pdfType},
		{"a message with success", member(`"message":"all is well","message":["more","of","it"],"message":null`), samplePDF, ""},

		{"no MIME type", `{"status":"SUCCESS","data":{"receipt":"` + sampleText + `"}}`, samplePDF, ""},
		{"null MIME type", strings.Replace(seal(sampleText), `"application/pdf"`, "null", 1), samplePDF, ""},
		{"empty MIME type", strings.Replace(seal(sampleText), `application/pdf`, "", 1), samplePDF, ""},
		{"another MIME type", strings.Replace(seal(sampleText), `application/pdf`, `text/x; a=\"b\"`, 1), samplePDF, `text/x; a="b"`},
		{"longest MIME type", strings.Replace(seal(sampleText), `application/pdf`, strings.Repeat("x", 255), 1), samplePDF, strings.Repeat("x", 255)},
		{"every escape", strings.Replace(seal(sampleText), `application/pdf`, `\"\\\/\b\f\n\r\t\u00e9\u20AC`, 1), samplePDF, "\"\\/\b\f\n\r\té€"},
		{"surrogate pair", strings.Replace(seal(sampleText), `application/pdf`, `-\ud83d\ude00-`, 1), samplePDF, "-😀-"},
		{"halves of surrogate pairs", strings.Replace(seal(sampleText), `application/pdf`, `\ud83d-\ude00\ud83d\ud83d\ude00\ud83dA\ud83d\n\ud83d`, 1), samplePDF, "\ufffd-\ufffd\ufffd😀\ufffdA\ufffd\n\ufffd"},
		{"invalid UTF-8", strings.Replace(seal(sampleText), `application/pdf`, "a\xff\xc3", 1), samplePDF, "a\xff\xc3"},

		{"unknown strings", member(`"x":"","":"\"\\\/\b\f\n\r\t\u12Ef\ud800 é ` + "\xff\x7f" + `","x y":"` + strings.Repeat("z", 5000) + `"`), samplePDF, ""},
		{"unknown numbers", member(`"x":0,"x":-0,"x":1,"x":-12.5,"x":0.25,"x":1e5,"x":1E+5,"x":0e-5,"x":1234567890.0123456789E-10`), samplePDF, ""},
		{"unknown literals", member(`"x":true,"x":false,"x":null`), samplePDF, ""},
		{"unknown arrays", member(`"x":[],"x":[ ],"x":[1],"x":[[],[{}],[[1,[2]]], "a" ,null]`), samplePDF, ""},
		{"unknown objects", member(`"x":{},"x":{ },"x":{"a":1},"x":{"a":{"b":{}},"c":[{"d":[]}] , "e" : 1 }`), samplePDF, ""},
		{"long unknown name", member(`"` + strings.Repeat("status", 100) + `":1`), samplePDF, ""},
		{"known names elsewhere", `{"receipt":1,"mimeType":2,"x":{"status":"FAILED","data":null},"status":"SUCCESS","data":{"status":0,"data":[],"message":1,"receipt":"` + sampleText + `"}}`, samplePDF, ""},
		{"names in another case", `{"Status":"FAILED","DATA":null,"status":"SUCCESS","data":{"Receipt":1,"mimetype":2,"receipt":"` + sampleText + `"}}`, samplePDF, ""},

		{"escaped slashes", seal(strings.ReplaceAll(sampleText, "/", `\/`)), samplePDF, pdfType},
		{"escaped base64", seal(escapeAll(sampleText)), samplePDF, pdfType},
		{"escaped padding", seal(strings.ReplaceAll(sampleText, "=", `\u003d`)), samplePDF, pdfType},
		{"escaped line breaks", seal(`\r\n` + strings.Join(strings.Split(sampleText, ""), `\n`) + `\r\u000a`), samplePDF, pdfType},
		{"raw line breaks", seal("\r\n" + strings.Join(strings.Split(sampleText, ""), "\n\r") + "\r\n"), samplePDF, pdfType},
		{"four raw line breaks", seal(sampleText[:8] + "\n\n\n\n" + sampleText[8:]), samplePDF, pdfType},
		{"URL-safe alphabet", seal(url), samplePDF, pdfType},
		{"both alphabets", seal(sampleText[:20] + url[20:]), samplePDF, pdfType},
		{"no padding", seal(raw), samplePDF, pdfType},
		{"no padding, URL-safe", seal(strings.TrimRight(url, "=")), samplePDF, pdfType},
		{"one padding character", seal("JVBERi0xLjE="), "%PDF-1.1", pdfType},
		{"two padding characters", seal("JVBERi0xLg=="), "%PDF-1.", pdfType},
		{"two characters in the end", seal("JVBERi0xLg"), "%PDF-1.", pdfType},
		{"trailing bits", seal("JVBERi0xLh=="), "%PDF-1.", pdfType},
		{"trailing bits, no padding", seal("JVBERi0xLjF"), "%PDF-1.1", pdfType},
		{"as short as can be", seal("JVBERi0="), "%PDF-", pdfType},
		{"as short as can be, no padding", seal("JVBERi0"), "%PDF-", pdfType},
		{"six bytes", seal("JVBERi0x"), "%PDF-1", pdfType},

		{"data URL", seal("data:application/pdf;base64," + sampleText), samplePDF, pdfType},
		{"data URL in upper case", seal("DATA:APPLICATION/PDF;BASE64," + sampleText), samplePDF, pdfType},
		{"data URL escaped", seal(escapeAll("data:application/pdf;base64,") + sampleText), samplePDF, pdfType},
		{"data URL with line breaks", seal("\nda\r\nta:application\\/pdf;bas\ne64\n,\n" + sampleText), samplePDF, pdfType},
		{"data URL with parameters", seal(`data:application/pdf; name=\"a b\";charset=utf-8;base64,` + sampleText), samplePDF, pdfType},
		{"shortest data URL", seal("data:;base64," + sampleText), samplePDF, pdfType},
		{"longest data URL", seal("data:" + strings.Repeat("x", 256-12) + ";base64," + sampleText), samplePDF, pdfType},

		{"bare PDF", samplePDF, samplePDF, pdfType},
		{"bare PDF with a byte order mark", "\ufeff" + samplePDF, samplePDF, pdfType},
		{"bare PDF with much behind it", samplePDF + strings.Repeat("\x00", 1024-len("%%EOF\n")), samplePDF + strings.Repeat("\x00", 1024-len("%%EOF\n")), pdfType},
		{"shortest bare PDF", "%PDF-%%EOF", "%PDF-%%EOF", pdfType},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := result{PDF: tt.pdf, MIME: tt.mime, Kind: "EOF", Error: "EOF"}
			if diff := cmp.Diff(want, decode(strings.NewReader(tt.input))); diff != "" {
				t.Error("(-want +got)\n", diff)
			}
		})
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()

	const pdfType = "application/pdf"
	root := func(s string) string { return `{"x":` + s }
	long := strings.Repeat("x", 1000)

	for _, tt := range []struct {
		name  string
		input string
		kind  string
		error string
		pdf   string // what is delivered all the same
		mime  string
	}{
		// Something else altogether.
		{"HTML", "\r\n<!DOCTYPE html><html>", "malformed", `not a receipt envelope at byte 2: an HTML page, not JSON: is there a proxy in between?`, "", ""},
		{"text", "upstream connect error or disconnect/reset before headers. reset reason: connection failure", "malformed", `not a receipt envelope at byte 0: "upstream connect error or disconnect/reset before headers. reset", want an object`, "", ""},
		{"text cut in a character", " " + strings.Repeat("é", 20) + strings.Repeat("€", 20), "malformed", `not a receipt envelope at byte 1: "` + strings.Repeat("é", 20) + strings.Repeat("€", 8) + `", want an object`, "", ""},
		{"binary", "\x1f\x8b\x08\x00\xff", "malformed", `not a receipt envelope at byte 0: "\x1f\b\x00", want an object`, "", ""},
		{"array", "[]", "malformed", `not a receipt envelope at byte 0: "[]", want an object`, "", ""},
		{"null", "null", "malformed", `not a receipt envelope at byte 0: "null", want an object`, "", ""},
		{"string", ` "SUCCESS"`, "malformed", `not a receipt envelope at byte 1: "\"SUCCESS\"", want an object`, "", ""},
		{"other byte order mark", "\xef\xbb\xbe{}", "malformed", `not a receipt envelope at byte 2: a character beyond ASCII, want a byte order mark`, "", ""},
		{"byte order mark twice", "\ufeff\ufeff{}", "malformed", `not a receipt envelope at byte 3: "\ufeff{}", want an object`, "", ""},
		{"byte order mark behind white space", " \ufeff{}", "malformed", `not a receipt envelope at byte 1: "\ufeff{}", want an object`, "", ""},
		{"white space before a bare PDF", "\n" + samplePDF, "malformed", `not a receipt envelope at byte 1: "%PDF-1.4\n1 0 obj ~~~??? endobj\n%%EOF\n", want an object`, "", ""},
		{"nothing", "", "truncated", `truncated receipt envelope at byte 0: empty body`, "", ""},
		{"white space", " \n", "truncated", `truncated receipt envelope at byte 2: empty body`, "", ""},
		{"byte order mark alone", "\ufeff", "truncated", `truncated receipt envelope at byte 3: empty body`, "", ""},
		{"half a byte order mark", "\xef\xbb", "truncated", `truncated receipt envelope at byte 2`, "", ""},

		// Grammar.
		{"no name", `{1:2}`, "malformed", `not a receipt envelope at byte 1: character "1", want the name of a member`, "", ""},
		{"comma first", `{,"a":1}`, "malformed", `not a receipt envelope at byte 1: character ",", want the name of a member`, "", ""},
		{"comma last", `{"a":1,}`, "malformed", `not a receipt envelope at byte 7: character "}", want the name of a member`, "", ""},
		{"comma last in data", `{"data":{"a":1,}}`, "malformed", `not a receipt envelope at byte 15: character "}", want the name of a member`, "", ""},
		{"no comma", `{"a":1 "b":2}`, "malformed", `not a receipt envelope at byte 7: character "\"", want "," or "}"`, "", ""},
		{"no comma behind data", `{"data":{}"b":2}`, "malformed", `not a receipt envelope at byte 10: character "\"", want "," or "}"`, "", ""},
		{"no colon", `{"a",1}`, "malformed", `not a receipt envelope at byte 4: character ",", want ":"`, "", ""},
		{"no value", `{"a":}`, "malformed", `not a receipt envelope at byte 5: character "}", want a value`, "", ""},
		{"wrong end", `{"a":1]`, "malformed", `not a receipt envelope at byte 6: character "]", want "," or "}"`, "", ""},
		{"control character", root("\"a\nb\""), "malformed", `not a receipt envelope at byte 7: character "\n" in a string, not escaped`, "", ""},
		{"NUL", root("\"\x00\""), "malformed", `not a receipt envelope at byte 6: character "\x00" in a string, not escaped`, "", ""},
		{"control character in a name", "{\"a\r\":1}", "malformed", `not a receipt envelope at byte 3: character "\r" in a string, not escaped`, "", ""},
		{"unknown escape", root(`"\x"`), "malformed", `not a receipt envelope at byte 7: character "x", want an escape`, "", ""},
		{"bad hexadecimal", root(`"\u12g4"`), "malformed", `not a receipt envelope at byte 10: character "g", want a hexadecimal digit`, "", ""},
		{"value beyond ASCII", root("\xc3\xa9"), "malformed", `not a receipt envelope at byte 5: a character beyond ASCII, want a value`, "", ""},
		{"true misspelt", root(`tru}`), "malformed", `not a receipt envelope at byte 8: character "}", want "true"`, "", ""},
		{"false misspelt", root(`False`), "malformed", `not a receipt envelope at byte 5: character "F", want a value`, "", ""},
		{"false misspelt late", root(`falsy`), "malformed", `not a receipt envelope at byte 9: character "y", want "false"`, "", ""},
		{"null misspelt", root(`nil`), "malformed", `not a receipt envelope at byte 6: character "i", want "null"`, "", ""},
		{"literal too long", root(`nulll`), "malformed", `not a receipt envelope at byte 9: character "l", want "," or "}"`, "", ""},
		{"number with a zero", root(`01`), "malformed", `not a receipt envelope at byte 6: character "1", want "," or "}"`, "", ""},
		{"number with a plus", root(`+1`), "malformed", `not a receipt envelope at byte 5: character "+", want a value`, "", ""},
		{"number without digits", root(`-}`), "malformed", `not a receipt envelope at byte 6: character "}", want a digit`, "", ""},
		{"number without a fraction", root(`1.}`), "malformed", `not a receipt envelope at byte 7: character "}", want a digit`, "", ""},
		{"number without an integer", root(`.5`), "malformed", `not a receipt envelope at byte 5: character ".", want a value`, "", ""},
		{"number without an exponent", root(`1e}`), "malformed", `not a receipt envelope at byte 7: character "}", want a digit`, "", ""},
		{"number without a signed exponent", root(`1e+}`), "malformed", `not a receipt envelope at byte 8: character "}", want a digit`, "", ""},
		{"array with a comma last", root(`[1,]`), "malformed", `not a receipt envelope at byte 8: character "]", want a value`, "", ""},
		{"array with a comma first", root(`[,1]`), "malformed", `not a receipt envelope at byte 6: character ",", want a value`, "", ""},
		{"array that ends as an object", root(`[1}`), "malformed", `not a receipt envelope at byte 7: character "}", want "," or "]"`, "", ""},
		{"object that ends as an array", root(`{"a":[]]`), "malformed", `not a receipt envelope at byte 12: character "]", want "," or "}"`, "", ""},
		{"object with a comma last", root(`{"a":1,}`), "malformed", `not a receipt envelope at byte 12: character "}", want the name of a member`, "", ""},
		{"object with a comma first", root(`{,`), "malformed", `not a receipt envelope at byte 6: character ",", want the name of a member`, "", ""},
		{"object in an object", root(`{"a":1,"b":{"c" 1}}`), "malformed", `not a receipt envelope at byte 21: character "1", want ":"`, "", ""},
		{"bad message", `{"message":["a" "b"]}`, "malformed", `not a receipt envelope at byte 16: character "\"", want "," or "]"`, "", ""},
		{"bad message in the end", `{"message":["a",]}`, "malformed", `not a receipt envelope at byte 16: character "]", want a value`, "", ""},

		// Members.
		{"status is a number", `{"status":200}`, "malformed", `not a receipt envelope at byte 10: status is a number, want a string`, "", ""},
		{"status is negative", `{"status":-1}`, "malformed", `not a receipt envelope at byte 10: status is a number, want a string`, "", ""},
		{"status is a boolean", `{"status":true}`, "malformed", `not a receipt envelope at byte 10: status is a boolean, want a string`, "", ""},
		{"status is nothing", `{"status":}`, "malformed", `not a receipt envelope at byte 10: character "}", want a string`, "", ""},
		{"status with a bad escape", `{"status":"\q"}`, "malformed", `not a receipt envelope at byte 12: character "q", want an escape`, "", ""},
		{"status is almost null", `{"status":nul}`, "malformed", `not a receipt envelope at byte 13: character "}", want "null"`, "", ""},
		{"data is a string", `{"data":"JVBERi0="}`, "malformed", `not a receipt envelope at byte 8: data is a string, want an object`, "", ""},
		{"data is an array", `{"data":[]}`, "malformed", `not a receipt envelope at byte 8: data is an array, want an object`, "", ""},
		{"data is almost null", `{"data":nuLL}`, "malformed", `not a receipt envelope at byte 10: character "L", want "null"`, "", ""},
		{"receipt is an object", `{"data":{"receipt":{}}}`, "malformed", `not a receipt envelope at byte 19: receipt is an object, want a string`, "", ""},
		{"receipt is null twice over", `{"data":{"mimeType":null,"receipt":nullnull}}`, "malformed", `not a receipt envelope at byte 39: character "n", want "," or "}"`, "", ""},
		{"status is an array", `{"status":[]}`, "malformed", `not a receipt envelope at byte 10: status is an array, want a string`, "", ""},
		{"receipt is false", `{"data":{"receipt":false}}`, "malformed", `not a receipt envelope at byte 19: receipt is a boolean, want a string`, "", ""},
		{"MIME type is a number", `{"data":{"mimeType":0}}`, "malformed", `not a receipt envelope at byte 20: mimeType is a number, want a string`, "", ""},
		{"MIME type is too long", `{"data":{"mimeType":"` + strings.Repeat("x", 256) + `"}}`, "malformed", `not a receipt envelope at byte 20: mimeType has more than 255 bytes`, "", ""},
		{"MIME type with a control character", "{\"data\":{\"mimeType\":\"\x1f\"}}", "malformed", `not a receipt envelope at byte 21: character "\x1f" in a string, not escaped`, "", ""},
		{"status twice", `{"status":"SUCCESS", "status":"SUCCESS"}`, "malformed", `not a receipt envelope at byte 21: "status" for the second time`, "", ""},
		{"data twice", `{"data":null,"data":null}`, "malformed", `not a receipt envelope at byte 13: "data" for the second time`, "", ""},
		{"receipt twice", `{"data":{"receipt":"` + sampleText + `","receipt":"` + sampleText + `"}}`, "malformed", `not a receipt envelope at byte 74: "receipt" for the second time`, samplePDF, ""},
		{"receipt null and not", `{"data":{"receipt":null,"receipt":"` + sampleText + `"}}`, "malformed", `not a receipt envelope at byte 24: "receipt" for the second time`, "", ""},
		{"MIME type twice", `{"data":{"mimeType":null,"\u006dimeType":null}}`, "malformed", `not a receipt envelope at byte 25: "mimeType" for the second time`, "", ""},

		// Status.
		{"failed", `{"status":"ERROR"}`, "failed", `the gateway does not report success at byte 10: status "ERROR"`, "", ""},
		{"empty status", `{"status":""}`, "failed", `the gateway does not report success at byte 10: status ""`, "", ""},
		{"null status", `{"status":null,"data":null}`, "failed", `the gateway does not report success at byte 10: status is null`, "", ""},
		{"no status", `{"data":null}`, "failed", `the gateway does not report success at byte 12: no status`, "", ""},
		{"empty object", `{}`, "failed", `the gateway does not report success at byte 1: no status`, "", ""},
		{"no status but a message", `{"message":"Not Found","statusCode":404} x`, "failed", `the gateway does not report success at byte 39: no status, message "Not Found"`, "", ""},
		{"almost success", `{"status":"SUCCESS "}`, "failed", `the gateway does not report success at byte 10: status "SUCCESS "`, "", ""},
		{"success with long s", `{"status":"ſuccess"}`, "failed", `the gateway does not report success at byte 10: status "ſuccess"`, "", ""},
		{"success cut to seven bytes", `{"status":"ſucces"}`, "failed", `the gateway does not report success at byte 10: status "ſucces"`, "", ""},
		{"long status", `{"status":"` + long + `"}`, "failed", `the gateway does not report success at byte 10: status "` + long[:64] + `"`, "", ""},
		{"binary status", "{\"status\":\"\\u0000\xff\\n\"}", "failed", `the gateway does not report success at byte 10: status "\x00\n"`, "", ""},
		{"failed with a good receipt", strings.Replace(seal(sampleText), "SUCCESS", "PENDING", 1), "failed", `the gateway does not report success at byte 10: status "PENDING"`, "", ""},
		{"failed with a receipt before", `{"data":{"receipt":"` + sampleText + `"},"status":"FAILED","message":"after all"}`, "failed", `the gateway does not report success at byte 84: status "FAILED", message "after all"`, samplePDF, ""},
		{"no status but a receipt", `{"data":{"receipt":"` + sampleText + `"}}`, "failed", `the gateway does not report success at byte 74: no status`, samplePDF, ""},
		{"failed with null data before", `{"data":null,"status":"FAILED","message":"try later"}`, "failed", `the gateway does not report success at byte 22: status "FAILED", message "try later"`, "", ""},
		{"failed with an empty receipt before", `{"data":{"receipt":""},"status":"FAILED"}`, "failed", `the gateway does not report success at byte 32: status "FAILED"`, "", ""},
		{"message before", `{"message":"a \"b\"","status":"FAILED"}`, "failed", `the gateway does not report success at byte 30: status "FAILED", message "a \"b\""`, "", ""},
		{"messages", `{"status":"FAILED","message":["a",1,{"b":["c"]},"d",null,"","e"]}`, "failed", `the gateway does not report success at byte 10: status "FAILED", message "a; d; ; e"`, "", ""},
		{"no messages", `{"status":"FAILED","message":[ ]}`, "failed", `the gateway does not report success at byte 10: status "FAILED"`, "", ""},
		{"last message wins", `{"message":"a","status":"FAILED","message":"b","x":1,"message":"c"}`, "failed", `the gateway does not report success at byte 24: status "FAILED", message "c"`, "", ""},
		{"last message is no string", `{"message":"a","status":"FAILED","message":{"b":"c"}}`, "failed", `the gateway does not report success at byte 24: status "FAILED"`, "", ""},
		{"long message", `{"status":"FAILED","message":"` + long + `"}`, "failed", `the gateway does not report success at byte 10: status "FAILED", message "` + long[:200] + `"`, "", ""},
		{"long message cut in a character", `{"status":"FAILED","message":"` + long[:199] + `é"}`, "failed", `the gateway does not report success at byte 10: status "FAILED", message "` + long[:199] + `"`, "", ""},
		{"long messages", `{"status":"FAILED","message":["` + long[:197] + `","abc"]}`, "failed", `the gateway does not report success at byte 10: status "FAILED", message "` + long[:197] + `; a"`, "", ""},
		{"longest messages", `{"status":"FAILED","message":["` + long[:199] + `","abc","def"]}`, "failed", `the gateway does not report success at byte 10: status "FAILED", message "` + long[:199] + `;"`, "", ""},
		{"failed, then syntax", `{"status":"FAILED","data":{"receipt":!`, "failed", `the gateway does not report success at byte 10: status "FAILED"`, "", ""},
		{"failed, then syntax behind the message", `{"status":"FAILED","message":"why" "x"`, "failed", `the gateway does not report success at byte 10: status "FAILED", message "why"`, "", ""},
		{"failed, then the end", `{"status":"FAILED","message":["why","tru`, "failed", `the gateway does not report success at byte 10: status "FAILED", message "why; tru"`, "", ""},
		{"failed twice", `{"status":"FAILED","status":"SUCCESS","data":1,"data":2,"message":"m"}`, "failed", `the gateway does not report success at byte 10: status "FAILED", message "m"`, "", ""},
		{"failed, then trailing data", `{"status":"FAILED"}}`, "failed", `the gateway does not report success at byte 10: status "FAILED"`, "", ""},

		// No receipt.
		{"null data", `{"status":"SUCCESS","data":null}`, "missing", `no receipt in the envelope at byte 27: data is null`, "", ""},
		{"no data", `{"status":"SUCCESS"}`, "missing", `no receipt in the envelope at byte 19: no data`, "", ""},
		{"null receipt", `{"status":"SUCCESS","data":{"receipt":null}}`, "missing", `no receipt in the envelope at byte 38: receipt is null`, "", ""},
		{"no receipt", `{"status":"SUCCESS","data":{"mimeType":"application/pdf"}}`, "missing", `no receipt in the envelope at byte 56: no receipt in data`, "", pdfType},
		{"empty data", `{"status":"SUCCESS","data":{}}`, "missing", `no receipt in the envelope at byte 28: no receipt in data`, "", ""},
		{"empty receipt", seal(""), "empty", `empty receipt at byte 39`, "", pdfType},
		{"receipt of line breaks", seal("\r\n\\n\n"), "empty", `empty receipt at byte 39`, "", pdfType},
		{"empty data URL", seal("data:application/pdf;base64,"), "empty", `empty receipt at byte 39`, "", pdfType},
		{"data URL of line breaks", seal("data:application/pdf;base64,\\n\n"), "empty", `empty receipt at byte 39`, "", pdfType},

		// Base64.
		{"corrupt at once", seal("!VBERi0x"), "base64", `corrupt base64 at byte 39: character "!"`, "", ""},
		{"corrupt before the magic", seal("JVBE Ri0x"), "base64", `corrupt base64 at byte 43: character " "`, "", ""},
		{"corrupt later", seal("JVBERi0xLjQ*"), "base64", `corrupt base64 at byte 50: character "*"`, "%PDF-1", ""},
		{"corrupt in the third quantum", seal("JVBERi0xLjEKJSVFT0YK?"), "base64", `corrupt base64 at byte 59: character "?"`, "%PDF-1.1\n%%EOF\n", ""},
		{"tab", seal("JVBERi0xLjEK\tJSVF"), "base64", `corrupt base64 at byte 51: character "\t"`, "%PDF-1.1\n", ""},
		{"escaped tab", seal(`JVBERi0xLjEK\tJSVF`), "base64", `corrupt base64 at byte 51: character "\t"`, "%PDF-1.1\n", ""},
		{"NUL in base64", seal("JVBERi0x\x00"), "base64", `corrupt base64 at byte 47: character "\x00"`, "%PDF-1", ""},
		{"beyond ASCII", seal("JVBERi0x€"), "base64", `corrupt base64 at byte 47: a character beyond ASCII`, "%PDF-1", ""},
		{"escaped beyond ASCII", seal(`JVBERi0x\u20ac`), "base64", `corrupt base64 at byte 47: a character beyond ASCII`, "%PDF-1", ""},
		{"escaped just beyond ASCII", seal(`JVBERi0x\u00c3`), "base64", `corrupt base64 at byte 47: a character beyond ASCII`, "%PDF-1", ""},
		{"escaped quote", seal(`JVBERi0x\"`), "base64", `corrupt base64 at byte 47: character "\""`, "%PDF-1", ""},
		{"bad escape in base64", seal(`JVBERi0x\a`), "malformed", `not a receipt envelope at byte 48: character "a", want an escape`, "%PDF-1", ""},
		{"escaped line break, raw", seal("JVBERi0x\\\n"), "malformed", `not a receipt envelope at byte 48: character "\n", want an escape`, "%PDF-1", ""},
		{"one character left over", seal("JVBERi0xL"), "base64", `corrupt base64 at byte 48: one character too many or three too few`, "%PDF-1", ""},
		{"one character", seal("J"), "base64", `corrupt base64 at byte 40: one character too many or three too few`, "", ""},
		{"padding for one character", seal("JVBERi0xL==="), "base64", `corrupt base64 at byte 48: padding where none belongs`, "%PDF-1", ""},
		{"padding for none", seal("JVBERi0x===="), "base64", `corrupt base64 at byte 47: padding where none belongs`, "%PDF-1", ""},
		{"padding only", seal("===="), "base64", `corrupt base64 at byte 39: padding where none belongs`, "", ""},
		{"incomplete padding", seal("JVBERi0xLg="), "base64", `corrupt base64 at byte 50: incomplete padding`, "%PDF-1", ""},
		{"padding cut by a character", seal("JVBERi0xLg=A"), "base64", `corrupt base64 at byte 50: incomplete padding`, "%PDF-1", ""},
		{"too much padding", seal("JVBERi0xLjE=="), "base64", `corrupt base64 at byte 51: character "=" after the padding`, "%PDF-1", ""},
		{"data after padding", seal("JVBERi0xLg==LjEK"), "base64", `corrupt base64 at byte 51: character "L" after the padding`, "%PDF-1", ""},
		{"two texts", seal(sampleText + sampleText), "base64", `corrupt base64 at byte 91: character "J" after the padding`, samplePDF[:36], ""},
		{"data URL without a comma", seal("data:application/pdf;base64"), "base64", `corrupt base64 at byte 66: a data: prefix without a comma`, "", ""},
		{"data URL without base64", seal("data:application/pdf," + sampleText), "base64", `corrupt base64 at byte 59: a data: prefix without ";base64"`, "", ""},
		{"data URL with long s", seal("data:;baſe64," + sampleText), "base64", `corrupt base64 at byte 47: a character beyond ASCII in a data: prefix`, "", ""},
		{"data URL with a control character", seal("data:\x00;base64," + sampleText), "base64", `corrupt base64 at byte 44: character "\x00" in a data: prefix`, "", ""},
		{"data URL with an escaped control character", seal(`data:\t;base64,` + sampleText), "base64", `corrupt base64 at byte 44: character "\t" in a data: prefix`, "", ""},
		{"data URL that is too short", seal("data:base64," + sampleText), "base64", `corrupt base64 at byte 50: a data: prefix without ";base64"`, "", ""},
		{"data URL that is too long", seal("data:" + strings.Repeat("x", 257-12) + ";base64," + sampleText), "base64", `corrupt base64 at byte 295: a data: prefix of more than 256 characters`, "", ""},
		{"data URL with a bad escape", seal(`data:\z;base64,` + sampleText), "malformed", `not a receipt envelope at byte 45: character "z", want an escape`, "", ""},
		{"data URL twice", seal("data:;base64,data:;base64," + sampleText), "base64", `corrupt base64 at byte 56: character ":"`, "", ""},

		// Not a PDF.
		{"some text", seal("aGVsbG8sIHdvcmxk"), "not a PDF", `not a PDF at byte 39: it starts with "hello,"`, "", ""},
		{"an image", seal("iVBORw0KGgo="), "not a PDF", `not a PDF at byte 39: it starts with "\x89PNG\r\n"`, "", ""},
		{"one byte", seal("JQ=="), "not a PDF", `not a PDF at byte 39: it starts with "%"`, "", ""},
		{"four bytes", seal("JVBERg=="), "not a PDF", `not a PDF at byte 39: it starts with "%PDF"`, "", ""},
		{"three bytes", seal("JVBE"), "not a PDF", `not a PDF at byte 39: it starts with "%PD"`, "", ""},
		{"white space before the PDF", seal("CiVQREYtMS40"), "not a PDF", `not a PDF at byte 39: it starts with "\n%PDF-"`, "", ""},
		{"another start that looks like a data URL", seal("dataabcd"), "not a PDF", `not a PDF at byte 39: it starts with "u\xabZ"`, "", ""},
		{"nothing but data", seal("data"), "not a PDF", `not a PDF at byte 39: it starts with "u\xabZ"`, "", ""},
		{"PostScript", "%!PS-Adobe-3.0", "not a PDF", `not a PDF at byte 0: it starts with "%!PS-"`, "", ""},

		// The end.
		{"trailing character", seal(sampleText) + " \nx", "trailing", `unexpected data behind the receipt envelope at byte 125: character "x"`, samplePDF, pdfType},
		{"trailing brace", seal(sampleText) + "}", "trailing", `unexpected data behind the receipt envelope at byte 123: character "}"`, samplePDF, pdfType},
		{"trailing NUL", seal(sampleText) + "\x00", "trailing", `unexpected data behind the receipt envelope at byte 123: character "\x00"`, samplePDF, pdfType},
		{"trailing byte", seal(sampleText) + "\xff", "trailing", `unexpected data behind the receipt envelope at byte 123: a character beyond ASCII`, samplePDF, pdfType},
		{"another envelope", seal(sampleText) + "\n" + seal(sampleText), "trailing", `unexpected data behind the receipt envelope at byte 124: character "{"`, samplePDF, pdfType},
		{"cut in the text", seal(sampleText)[:60], "truncated", `truncated receipt envelope at byte 60`, samplePDF[:15], ""},
		{"cut in the end", seal(sampleText)[:122], "truncated", `truncated receipt envelope at byte 122`, samplePDF, pdfType},
		{"bare PDF cut in the magic", "%PDF", "truncated", `truncated receipt envelope at byte 4`, "", ""},
		{"bare PDF without end", "%PDF-1.4\n%%EO", "truncated", `truncated receipt envelope at byte 13: no %%EOF at the end of the PDF`, "%PDF-1.4\n%%EO", pdfType},
		{"bare PDF cut behind the end of an earlier version", "%PDF-1.4\n%%EOF\n2 0 obj", "truncated", `truncated receipt envelope at byte 22: no %%EOF at the end of the PDF`, "%PDF-1.4\n%%EOF\n2 0 obj", pdfType},
		{"bare PDF with its end too far away", "%PDF-1.4\n%%EOF" + strings.Repeat("\n", 1020), "truncated", `truncated receipt envelope at byte 1034: no %%EOF at the end of the PDF`, "%PDF-1.4\n%%EOF" + strings.Repeat("\n", 1020), pdfType},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := decode(strings.NewReader(tt.input))
			want := result{PDF: tt.pdf, MIME: tt.mime, Kind: tt.kind, Error: tt.error, Offset: got.Offset}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error("(-want +got)\n", diff)
			}
		})
	}
}

func TestError(t *testing.T) {
	t.Parallel()

	_, err := io.ReadAll(envelope.NewDecoder(strings.NewReader(seal("J*")), envelope.Options{MaxBytes: 1}))
	var e *envelope.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %T, want *envelope.Error", err)
	}
	if e.Kind != envelope.ErrBase64 || e.Offset != 40 || e.Detail != `character "*"` {
		t.Errorf("got %+v", *e)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("it is io.ErrUnexpectedEOF")
	}
}

// What errors quote may be a credential.
func TestRedact(t *testing.T) {
	t.Parallel()

	for _, input := range []string{
		`<html>`, `hunter2 is wrong`, `{"status":"no hunter2"}`, `{"status":"no","message":"not hunter2"}`,
		`{"message":["a","hunter2"]}`,
	} {
		_, err := io.ReadAll(envelope.NewDecoder(strings.NewReader(input), envelope.Options{
			MaxBytes: 100,
			Redact:   func(s string) string { return strings.ReplaceAll(s, "hunter2", "[redacted]") },
		}))
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "[redacted]") != strings.Contains(input, "hunter2") {
			t.Errorf("%s: %v", input, err)
		}
	}
}

func TestTruncatedIsUnexpectedEOF(t *testing.T) {
	t.Parallel()

	for _, input := range []string{"", "\xef", "%PDF", "%PDF-", "{", `{"status"`, seal(sampleText)[:50]} {
		_, err := io.ReadAll(envelope.NewDecoder(strings.NewReader(input), envelope.Options{MaxBytes: 100}))
		if !errors.Is(err, envelope.ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			t.Errorf("%q: %v", input, err)
		}
	}
}

func TestKnownLength(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct{ name, input, kind string }{
		{"bare PDF without end", "%PDF-1.4\n", "EOF"},
		{"magic only", "%PDF-", "EOF"},
		{"not even that", "%PDF", "truncated"},
		{"envelope", seal(sampleText), "EOF"},
		{"half an envelope", seal(sampleText)[:50], "truncated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := envelope.NewDecoder(strings.NewReader(tt.input), envelope.Options{MaxBytes: mib, KnownLength: true})
			if got := drain(d, 100); got.Kind != tt.kind {
				t.Errorf("got %+v, want %s", got, tt.kind)
			}
		})
	}
}

func TestMIMETypeBefore(t *testing.T) {
	t.Parallel()

	var p [1]byte
	d := envelope.NewDecoder(strings.NewReader(seal(sampleText)), envelope.Options{MaxBytes: mib})
	if d.MIMEType() != "" {
		t.Errorf("%q before the first Read", d.MIMEType())
	}
	if _, err := d.Read(p[:]); err != nil || d.MIMEType() != "" {
		t.Errorf("%q, %v after the first Read", d.MIMEType(), err)
	}
	d = envelope.NewDecoder(strings.NewReader(samplePDF), envelope.Options{MaxBytes: mib})
	if _, err := d.Read(p[:]); err != nil || d.MIMEType() != "application/pdf" {
		t.Errorf("bare PDF: %q, %v after the first Read", d.MIMEType(), err)
	}
}

func TestNewDecoderPanics(t *testing.T) {
	t.Parallel()

	for _, size := range []int64{0, -1, math.MinInt64} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic for MaxBytes = %d", size)
				}
			}()
			envelope.NewDecoder(strings.NewReader(""), envelope.Options{MaxBytes: size})
		}()
	}
}
