package envelope_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

func TestMembers(t *testing.T) {
	t.Parallel()

	testAccepted(t, []accepted{
		{"as specified", seal(sampleText), samplePDF, "application/pdf"},
		{"indented", "{\n    \"status\": \"SUCCESS\",\r\n\t\"data\" : {\n \"receipt\" :\t\"" + sampleText + "\" ,\n \"mimeType\": \"application/pdf\"\n }\n}\n", samplePDF, "application/pdf"},
		{"white space around", " \t\r\n" + seal(sampleText) + "\n\r\t ", samplePDF, "application/pdf"},
		{"byte order mark", "\ufeff" + seal(sampleText), samplePDF, "application/pdf"},
		{"byte order mark and white space", "\ufeff\n" + seal(sampleText), samplePDF, "application/pdf"},
		{"status after data", `{"data":{"mimeType":"application/pdf","receipt":"` + sampleText + `"},"status":"SUCCESS"}`, samplePDF, "application/pdf"},
		{"status in lower case", strings.Replace(seal(sampleText), "SUCCESS", "success", 1), samplePDF, "application/pdf"},
		{"status in mixed case", strings.Replace(seal(sampleText), "SUCCESS", "Success", 1), samplePDF, "application/pdf"},
		{"status escaped", strings.Replace(seal(sampleText), "SUCCESS", escapeAll("SUCCESS"), 1), samplePDF, "application/pdf"},
		{"names escaped", `{"` + escapeAll("status") + `":"SUCCESS","d\u0061ta":{"` + escapeAll("receipt") + `":"` + sampleText + `","\u006dimeType":"application\/pdf"}}`, samplePDF, "application/pdf"},
		{"a message with success", around(`"message":"all is well","message":["more","of","it"],"message":null`), samplePDF, ""},

		{"no MIME type", `{"status":"SUCCESS","data":{"receipt":"` + sampleText + `"}}`, samplePDF, ""},
		{"null MIME type", strings.Replace(seal(sampleText), `"application/pdf"`, "null", 1), samplePDF, ""},
		{"empty MIME type", strings.Replace(seal(sampleText), `application/pdf`, "", 1), samplePDF, ""},
		{"another MIME type", strings.Replace(seal(sampleText), `application/pdf`, `text/x; a=\"b\"`, 1), samplePDF, `text/x; a="b"`},
		{"longest MIME type", strings.Replace(seal(sampleText), `application/pdf`, strings.Repeat("x", 255), 1), samplePDF, strings.Repeat("x", 255)},
		{"every escape", strings.Replace(seal(sampleText), `application/pdf`, `\"\\\/\b\f\n\r\t\u00e9\u20AC`, 1), samplePDF, "\"\\/\b\f\n\r\té€"},
		{"surrogate pair", strings.Replace(seal(sampleText), `application/pdf`, `-\ud83d\ude00-`, 1), samplePDF, "-😀-"},
		{"halves of surrogate pairs", strings.Replace(seal(sampleText), `application/pdf`, `\ud83d-\ude00\ud83d\ud83d\ude00\ud83dA\ud83d\n\ud83d`, 1), samplePDF, "\ufffd-\ufffd\ufffd😀\ufffdA\ufffd\n\ufffd"},
		{"invalid UTF-8", strings.Replace(seal(sampleText), `application/pdf`, "a\xff\xc3", 1), samplePDF, "a\xff\xc3"},
	})
}

func TestStartRefused(t *testing.T) {
	t.Parallel()

	testRefused(t, []refused{
		{"HTML", "\r\n<!DOCTYPE html><html>", `not a receipt envelope at byte 2: an HTML page, not JSON: is there a proxy in between?`, "", ""},
		{"text", "upstream connect error or disconnect/reset before headers. reset reason: connection failure", `not a receipt envelope at byte 0: it starts with "upstream connect error or disconnect/reset before headers. reset", want a JSON object`, "", ""},
		{"text cut in a character", " " + strings.Repeat("é", 20) + strings.Repeat("€", 20), `not a receipt envelope at byte 1: it starts with "` + strings.Repeat("é", 20) + strings.Repeat("€", 8) + `", want a JSON object`, "", ""},
		{"binary", "\x1f\x8b\x08\x00\xff", `not a receipt envelope at byte 0: it starts with "\x1f\b\x00", want a JSON object`, "", ""},
		{"array", "[]", `not a receipt envelope at byte 0: it starts with "[]", want a JSON object`, "", ""},
		{"null", "null", `not a receipt envelope at byte 0: it starts with "null", want a JSON object`, "", ""},
		{"string", ` "SUCCESS"`, `not a receipt envelope at byte 1: it starts with "\"SUCCESS\"", want a JSON object`, "", ""},
		{"other byte order mark", "\xef\xbb\xbe{}", `not a receipt envelope at byte 2: unexpected non-ASCII character, want a byte order mark`, "", ""},
		{"byte order mark twice", "\ufeff\ufeff{}", `not a receipt envelope at byte 3: it starts with "\ufeff{}", want a JSON object`, "", ""},
		{"byte order mark after white space", " \ufeff{}", `not a receipt envelope at byte 1: it starts with "\ufeff{}", want a JSON object`, "", ""},
		{"nothing", "", `truncated receipt envelope at byte 0: empty body`, "", ""},
		{"white space", " \n", `truncated receipt envelope at byte 2: empty body`, "", ""},
		{"byte order mark alone", "\ufeff", `truncated receipt envelope at byte 3: empty body`, "", ""},
		{"half a byte order mark", "\xef\xbb", `truncated receipt envelope at byte 2`, "", ""},
	})
}

func TestMembersRefused(t *testing.T) {
	t.Parallel()

	testRefused(t, []refused{
		{"status is a number", `{"status":200}`, `the gateway does not report success at byte 10: status is not a string`, "", ""},
		{"status is negative", `{"status":-1}`, `the gateway does not report success at byte 10: status is not a string`, "", ""},
		{"status is a boolean", `{"status":true}`, `the gateway does not report success at byte 10: status is not a string`, "", ""},
		{"status without a value", `{"status":}`, `the gateway does not report success at byte 10: status is not a string`, "", ""},
		{"status with a bad escape", `{"status":"\q"}`, `not a receipt envelope at byte 12: unexpected character "q", want an escape`, "", ""},
		{"status is almost null", `{"status":nul}`, `the gateway does not report success at byte 10: status is null`, "", ""},
		{"data is a string", `{"status":"SUCCESS","data":"JVBERi0="}`, `not a receipt envelope at byte 27: data is not an object`, "", ""},
		{"data is an array", `{"data":[],"status":"SUCCESS"}`, `not a receipt envelope at byte 8: data is not an object`, "", ""},
		{"data is almost null", `{"data":nuLL}`, `not a receipt envelope at byte 10: unexpected character "L", want "null"`, "", ""},
		{"receipt is an object", `{"data":{"receipt":{}},"status":"SUCCESS"}`, `not a receipt envelope at byte 19: receipt is not a string`, "", ""},
		{"receipt is null twice over", `{"data":{"mimeType":null,"receipt":nullnull}}`, `not a receipt envelope at byte 39: unexpected character "n", want "," or "}"`, "", ""},
		{"status is an array", `{"status":[]}`, `the gateway does not report success at byte 10: status is not a string`, "", ""},
		{"receipt is false", `{"data":{"receipt":false},"status":"SUCCESS"}`, `not a receipt envelope at byte 19: receipt is not a string`, "", ""},
		{"MIME type is a number", `{"data":{"mimeType":0}}`, `not a receipt envelope at byte 20: mimeType is not a string`, "", ""},
		{"MIME type is too long", `{"data":{"mimeType":"` + strings.Repeat("x", 256) + `"}}`, `not a receipt envelope at byte 20: mimeType has more than 255 bytes`, "", ""},
		{"MIME type with a control character", "{\"data\":{\"mimeType\":\"\x1f\"}}", `not a receipt envelope at byte 21: unescaped character "\x1f" in a string`, "", ""},
		{"status twice", `{"status":"SUCCESS", "status":"SUCCESS"}`, `not a receipt envelope at byte 21: duplicate member "status"`, "", ""},
		{"data twice", `{"data":null,"data":null}`, `not a receipt envelope at byte 13: duplicate member "data"`, "", ""},
		{"receipt twice", `{"data":{"receipt":"` + sampleText + `","receipt":"` + sampleText + `"}}`, `not a receipt envelope at byte 74: duplicate member "receipt"`, samplePDF, ""},
		{"receipt null and not", `{"data":{"receipt":null,"receipt":"` + sampleText + `"}}`, `not a receipt envelope at byte 24: duplicate member "receipt"`, "", ""},
		{"MIME type twice", `{"data":{"mimeType":null,"\u006dimeType":null}}`, `not a receipt envelope at byte 25: duplicate member "mimeType"`, "", ""},
	})
}

func TestStatusRefused(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("x", 1000)
	testRefused(t, []refused{
		{"failed", `{"status":"ERROR"}`, `the gateway does not report success at byte 10: status "ERROR"`, "", ""},
		{"empty status", `{"status":""}`, `the gateway does not report success at byte 10: status ""`, "", ""},
		{"null status", `{"status":null,"data":null}`, `the gateway does not report success at byte 10: status is null`, "", ""},
		{"no status", `{"data":null}`, `the gateway does not report success at byte 12: no status`, "", ""},
		{"empty object", `{}`, `the gateway does not report success at byte 1: no status`, "", ""},
		{"no status but a message", `{"message":"Not Found","statusCode":404} x`, `the gateway does not report success at byte 39: no status, message "Not Found"`, "", ""},
		{"almost success", `{"status":"SUCCESS "}`, `the gateway does not report success at byte 10: status "SUCCESS "`, "", ""},
		{"success with long s", `{"status":"ſuccess"}`, `the gateway does not report success at byte 10: status "ſuccess"`, "", ""},
		{"success cut to seven bytes", `{"status":"ſucces"}`, `the gateway does not report success at byte 10: status "ſucces"`, "", ""},
		{"long status", `{"status":"` + long + `"}`, `the gateway does not report success at byte 10: status "` + long[:64] + `"`, "", ""},
		{"binary status", "{\"status\":\"\\u0000\xff\\n\"}", `the gateway does not report success at byte 10: status "\x00\n"`, "", ""},
		{"failed with a good receipt", strings.Replace(seal(sampleText), "SUCCESS", "PENDING", 1), `the gateway does not report success at byte 10: status "PENDING"`, "", ""},
		{"failed with a receipt before", `{"data":{"receipt":"` + sampleText + `"},"status":"FAILED","message":"after all"}`, `the gateway does not report success at byte 84: status "FAILED", message "after all"`, samplePDF, ""},
		{"no status but a receipt", `{"data":{"receipt":"` + sampleText + `"}}`, `the gateway does not report success at byte 74: no status`, samplePDF, ""},
		{"failed with null data before", `{"data":null,"status":"FAILED","message":"try later"}`, `the gateway does not report success at byte 22: status "FAILED", message "try later"`, "", ""},
		{"failed with an empty receipt before", `{"data":{"receipt":""},"status":"FAILED"}`, `the gateway does not report success at byte 32: status "FAILED"`, "", ""},
		{"message before", `{"message":"a \"b\"","status":"FAILED"}`, `the gateway does not report success at byte 30: status "FAILED", message "a \"b\""`, "", ""},
		{"messages", `{"status":"FAILED","message":["a",1,{"b":["c"]},"d",null,"","e"]}`, `the gateway does not report success at byte 10: status "FAILED", message "a; d; e"`, "", ""},
		{"no messages", `{"status":"FAILED","message":[ ]}`, `the gateway does not report success at byte 10: status "FAILED"`, "", ""},
		{"several messages", `{"message":"a","status":"FAILED","message":"b","x":1,"message":"c"}`, `the gateway does not report success at byte 24: status "FAILED", message "a; b; c"`, "", ""},
		{"message is an object", `{"message":"a","status":"FAILED","message":{"b":"c"}}`, `the gateway does not report success at byte 24: status "FAILED", message "a"`, "", ""},
		{"error in place of the envelope", `{"error":{"code":"E17","message":"not generated yet"}}`, `the gateway does not report success at byte 53: no status, message "not generated yet"`, "", ""},
		{"error is a string", `{"statusCode":404,"error":"Not Found"}`, `the gateway does not report success at byte 37: no status, message "Not Found"`, "", ""},
		{"error in data", `{"data":{"error":{"Message":["not generated","yet"]}}}`, `the gateway does not report success at byte 53: no status, message "not generated; yet"`, "", ""},
		{"error in data after the status", `{"status":"ERROR","data":{"error":"not generated yet"}}`, `the gateway does not report success at byte 10: status "ERROR", message "not generated yet"`, "", ""},
		{"message before null data", `{"message":"not generated yet","data":null,"status":"ERROR"}`, `the gateway does not report success at byte 52: status "ERROR", message "not generated yet"`, "", ""},
		{"detail in an array of errors", `{"errors":[{"id":"x","DETAIL":"not generated yet"}]}`, `the gateway does not report success at byte 51: no status, message "not generated yet"`, "", ""},
		{"data is an array", `{"data":[],"status":"ERROR","message":"not generated yet"}`, `the gateway does not report success at byte 20: status "ERROR", message "not generated yet"`, "", ""},
		{"status is a number, and a message", `{"status":404,"error":"Not Found","path":"/"}`, `the gateway does not report success at byte 10: status is not a string, message "Not Found"`, "", ""},
		{"control characters in a message", `{"status":"\u001b[2J","message":"\u001b[31mred\u202e\u0085"}`, `the gateway does not report success at byte 10: status "\x1b[2J", message "\x1b[31mred\u202e\u0085"`, "", ""},
		{"long message", `{"status":"FAILED","message":"` + long + `"}`, `the gateway does not report success at byte 10: status "FAILED", message "` + long[:200] + `"`, "", ""},
		{"long message cut in a character", `{"status":"FAILED","message":"` + long[:199] + `é"}`, `the gateway does not report success at byte 10: status "FAILED", message "` + long[:199] + `"`, "", ""},
		{"long messages", `{"status":"FAILED","message":["` + long[:197] + `","abc"]}`, `the gateway does not report success at byte 10: status "FAILED", message "` + long[:197] + `; a"`, "", ""},
		{"longest messages", `{"status":"FAILED","message":["` + long[:199] + `","abc","def"]}`, `the gateway does not report success at byte 10: status "FAILED", message "` + long[:199] + `"`, "", ""},
		{"failed, then syntax", `{"status":"FAILED","data":{"receipt":!`, `the gateway does not report success at byte 10: status "FAILED"`, "", ""},
		{"failed, then syntax after the message", `{"status":"FAILED","message":"why" "x"`, `the gateway does not report success at byte 10: status "FAILED", message "why"`, "", ""},
		{"failed, then the end", `{"status":"FAILED","message":["why","tru`, `the gateway does not report success at byte 10: status "FAILED", message "why; tru"`, "", ""},
		{"failed twice", `{"status":"FAILED","status":"SUCCESS","data":1,"data":2,"message":"m"}`, `the gateway does not report success at byte 10: status "FAILED", message "m"`, "", ""},
		{"failed, then trailing data", `{"status":"FAILED"}}`, `the gateway does not report success at byte 10: status "FAILED"`, "", ""},
	})
}

func TestNoReceipt(t *testing.T) {
	t.Parallel()

	testRefused(t, []refused{
		{"null data", `{"status":"SUCCESS","data":null}`, `no receipt in the envelope at byte 27: data is null`, "", ""},
		{"null data and a message", `{"status":"SUCCESS","data":null,"message":"not generated yet"}`, `no receipt in the envelope at byte 27: data is null, message "not generated yet"`, "", ""},
		{"error in place of the receipt", `{"status":"SUCCESS","data":{"error":"not generated yet"}}`, `no receipt in the envelope at byte 55: no receipt in data, message "not generated yet"`, "", ""},
		{"message after an empty receipt", `{"status":"SUCCESS","data":{"receipt":"","message":"not generated yet"}}`, `empty receipt at byte 39: message "not generated yet"`, "", ""},
		{"no data", `{"status":"SUCCESS"}`, `no receipt in the envelope at byte 19: no data`, "", ""},
		{"null receipt", `{"status":"SUCCESS","data":{"receipt":null}}`, `no receipt in the envelope at byte 38: receipt is null`, "", ""},
		{"no receipt", `{"status":"SUCCESS","data":{"mimeType":"application/pdf"}}`, `no receipt in the envelope at byte 56: no receipt in data`, "", "application/pdf"},
		{"empty data", `{"status":"SUCCESS","data":{}}`, `no receipt in the envelope at byte 28: no receipt in data`, "", ""},
		{"empty receipt", seal(""), `empty receipt at byte 39`, "", "application/pdf"},
		{"receipt of line breaks", seal("\r\n\\n\n"), `empty receipt at byte 39`, "", "application/pdf"},
		{"empty data URL", seal("data:application/pdf;base64,"), `empty receipt at byte 39`, "", "application/pdf"},
		{"data URL of line breaks", seal("data:application/pdf;base64,\\n\n"), `empty receipt at byte 39`, "", "application/pdf"},
	})
}

func TestTrailing(t *testing.T) {
	t.Parallel()

	testRefused(t, []refused{
		{"trailing character", seal(sampleText) + " \nx", `data after the receipt envelope at byte 125: character "x"`, samplePDF, "application/pdf"},
		{"trailing brace", seal(sampleText) + "}", `data after the receipt envelope at byte 123: character "}"`, samplePDF, "application/pdf"},
		{"trailing NUL", seal(sampleText) + "\x00", `data after the receipt envelope at byte 123: character "\x00"`, samplePDF, "application/pdf"},
		{"trailing byte", seal(sampleText) + "\xff", `data after the receipt envelope at byte 123: non-ASCII character`, samplePDF, "application/pdf"},
		{"another envelope", seal(sampleText) + "\n" + seal(sampleText), `data after the receipt envelope at byte 124: character "{"`, samplePDF, "application/pdf"},
		{"cut in the text", seal(sampleText)[:60], `truncated receipt envelope at byte 60`, samplePDF[:15], ""},
		{"cut in the end", seal(sampleText)[:122], `truncated receipt envelope at byte 122`, samplePDF, "application/pdf"},
	})
}

// A bad status explains more than a connection that breaks after it.
func TestReaderErrorAfterFailure(t *testing.T) {
	t.Parallel()

	got := decode(&lastWords{`{"status":"FAILED","message":"why","data":`, errBoom})
	want := result{Kind: "failed", Offset: 10, Error: `the gateway does not report success at byte 10: status "FAILED", message "why"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got)\n", diff)
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
