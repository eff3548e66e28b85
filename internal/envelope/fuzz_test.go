package envelope_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

const bufferOfTests = 2 << 10

func FuzzDecode(f *testing.F) {
	for _, s := range samples {
		f.Add([]byte(s.input), uint16(1000), false)
	}
	for _, input := range []string{
		"", "{}", "null", "%PDF-", "\ufeff%PDF-1.4\n%%EOF",
		seal("JVBERi0="), seal("JVBERi0"), seal("JVBERi0xLg=="), seal("JVBERi0xLg="), seal("JVBERi0xLh"), seal("JVBERi0xLg==A"),
		seal("JVBE\r\nRi0x\\nLg=\n=\\r"), seal("JVBE\\\nRi0x"), seal("JVBE\\\nnRi0x"), seal("JVBE Ri0x"), seal(`JVBE\u0052i0x\/-_+\u000A`), seal("JVBERi0xQ"),
		seal("data:application/pdf;base64,JVBERi0x"), seal("DA\nTA:;BASE64,JVBERi0x"), seal("data:é;base64,JVBERi0x"), seal("data:,JVBERi0x"), seal("dataJVBERi0x"),
		seal(" JVBERi0x"), seal("JVBERi0x "), seal("JVBERi0xLg == "), seal("JVBERi0xLg==\\u0020\t \n"), seal("JVBERi0xLg "), seal("JVBE Ri0x"), seal("\tJVBE\\tRi0x\t"), seal(" data:;base64, \n JVBERi0x \\r "),
		"\ufeff \n%PDF-1.4\n%%EOF", " %PDE-", strings.Repeat("\n", 1019) + "%PDF-%%EOF", strings.Repeat("\n", 1020) + "%PDF-%%EOF",
		`{"error":{"message":["not","generated","\u001b[2J"]}}`, `{"status":404,"data":[{"detail":"\ud83d"}]}`, `{"x":[[[[[[{"a":[]}]]]]]],"status":null}`,
		seal("data:" + strings.Repeat("x", 244) + ";base64,JVBERi0x"), seal("data:" + strings.Repeat("x", 245) + ";base64,JVBERi0x"),
		`{"data":{"mimeType":"` + strings.Repeat(`\ud83d\ude00`, 63) + `é\u00e9","receipt":"JVBERi0x"},"status":"ſuccess"}`,
		"{\"data\":{\"mimeType\":\"a\xff\\ud800\",\"receipt\":\"JVBERi0x\"},\"status\":\"SucceSS\"}",
		`{"status":"SUCCESS","data":{"receipt":"JVBERi0x","mimeType":null,"mimetype":1},"data2":{"receipt":null}}`,
		`{"status":"SUCCESS","data":{"receipt":"JVBERi0x","receipt":"JVBERi0x"}}`,
		`{"status":"SUCCESS","st\u0061tus":"SUCCESS","data":{"receipt":"JVBERi0x"}}`,
		`{"status":"SUCCESS","data":{"receipt":"JVBERi0x"},"x":{"status":1,"data":[2],"a":-0.1e-5},"message":["a",[],{"b":"c"}],"message":"` + "\xe2" + `"}`,
		"{\"x\n\":1,\"status\":\"SUCCESS\",\"data\":{\"receipt\":\"JVBERi0x\"}}",
		"{\"status\":\"SUCCESS\",\"data\":{\"receipt\":\"JV\nBERi0x\"},\"receipt\":\"a\n\"}",
	} {
		f.Add([]byte(input), uint16(300), false)
		f.Add([]byte(input), uint16(6), true)
	}

	for _, before := range []int{1018, 1019, 1020} {
		text := base64.StdEncoding.EncodeToString(append(bytes.Repeat([]byte("\n"), before), samplePDF...))
		f.Add([]byte(seal(text)), uint16(2000), false)
		f.Add([]byte(seal(" "+wrap(text, " ")+" ")), uint16(2000), false)
		f.Add([]byte(seal(" "+wrap(text, "\t\\n")+" ")), uint16(2000), false)
	}

	// Texts that are long enough for vectors, and what stops those.
	for _, size := range []int{100, 1001, 3 * bufferOfTests} {
		text := base64.StdEncoding.EncodeToString(makePDF(size))
		for _, input := range []string{text, text[:90] + "\n" + text[90:], text[:91] + "-" + text[92:], text[:92] + `\/` + text[93:], text[:93] + "=" + text[94:], text[:94] + " " + text[95:]} {
			f.Add([]byte(seal(input)), uint16(4*bufferOfTests), true)
			f.Add([]byte(seal(input)), uint16(size), false)
		}
	}

	f.Fuzz(func(t *testing.T, input []byte, maxBytes uint16, known bool) {
		if maxBytes == 0 {
			return // not a limit
		}
		options := envelope.Options{MaxBytes: int64(maxBytes), KnownLength: known}
		got := drain(envelope.NewDecoder(bytes.NewReader(input), options), 512)

		want, err := oracle(input, options)
		switch {
		case err == nil && got.Kind != "EOF":
			t.Fatalf("refused a good envelope: %+v", got)
		case err == nil && want != got:
			t.Fatal("(-oracle +got)\n", cmp.Diff(want, got))
		case err != nil && got.Kind == "EOF":
			t.Fatalf("accepted %q, but: %v", got.PDF, err)
		case got.PDF != "" && !strings.Contains(got.PDF[:min(len(got.PDF), 1024)], "%PDF-"):
			t.Fatalf("delivered %q, which is no PDF", got.PDF)
		case len(got.PDF) > int(maxBytes):
			t.Fatalf("delivered %d bytes", len(got.PDF))
		case len(got.Error) > 1200:
			t.Fatalf("an error of %d bytes", len(got.Error))
		}

		// The result does not depend on how the input is split and the output is read.
		buf := make([]byte, bufferOfTests)
		check := func(how string, r io.Reader, size int) {
			t.Helper()
			if again := drain(envelope.NewDecoderBuffer(r, options, buf), size); again != got {
				t.Fatalf("%s: (-whole +got)\n%s", how, cmp.Diff(got, again))
			}
		}
		check("one byte", iotest.OneByteReader(bytes.NewReader(input)), 1)
		check("half", iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(input))), 24<<10)
		check("seven", bytes.NewReader(input), 7)
		step := 1
		if len(input) > 300 {
			step = len(input)/5 + int(maxBytes)%97 // a few
		}
		for i := 0; i <= len(input); i += step {
			c := chunks{string(input[:i]), string(input[i:])}
			check("split", &c, 10)
		}

		// A good envelope is truncated wherever it is cut.
		if err == nil && bytes.HasSuffix(input, []byte("}")) && string(input) != got.PDF {
			for i := 0; i < len(input); i += step {
				cut := drain(envelope.NewDecoderBuffer(bytes.NewReader(input[:i]), options, buf), 100)
				if cut.Kind != "truncated" || cut.Offset != int64(i) || !strings.HasPrefix(got.PDF, cut.PDF) {
					t.Fatalf("cut at %d: %+v", i, cut)
				}
			}
		}
	})
}

// oracle decodes an envelope with encoding/json and encoding/base64, all of it
// at once, after it has rewritten what the decoder tolerates into what they accept.
func oracle(input []byte, o envelope.Options) (result, error) {
	none := result{}
	limit := int(o.MaxBytes)
	if len(input) > 2*limit+64<<10 {
		return none, fmt.Errorf("%d bytes of envelope", len(input))
	}
	whole := input
	input = bytes.TrimPrefix(input, []byte("\ufeff"))

	if bare := bytes.TrimLeft(input, " \t\r\n"); bytes.HasPrefix(bare, []byte("%")) {
		if !bytes.HasPrefix(bare, []byte("%PDF-")) {
			return none, fmt.Errorf("%q", bare)
		}
		end := bytes.TrimRight(input, "\x00\t\n\f\r ")
		if !o.KnownLength && (len(input)-len(end) > 1024-len("%%EOF") || !bytes.HasSuffix(end, []byte("%%EOF"))) {
			return none, fmt.Errorf("no %%%%EOF")
		}
		return accept(whole, "application/pdf", limit)
	}

	// With its line breaks and tabs escaped, the receipt is JSON. No other string may
	// have any: with a marker in place of the receipt, the rest must be JSON.
	strs := stringsOf(input)
	for i, s := range strs {
		if !bytes.ContainsAny(s.text(input), "\r\n\t") {
			continue
		}
		marker := "receipt"
		for bytes.Contains(input, []byte(marker)) {
			marker += "x"
		}
		if e, err := parse(s.replace(input, marker)); err != nil || e.receipt != marker {
			return none, fmt.Errorf("line breaks or tabs in string %d: %w", i, err)
		}
		// Pairs come first, so that an escape remains one: a line break after a
		// backslash is as bad as any other unknown escape.
		text := strings.NewReplacer(`\\`, `\\`, "\\\r", `\x`, "\\\n", `\x`, "\\\t", `\x`, "\r", `\r`, "\n", `\n`, "\t", `\t`).Replace(string(s.text(input)))
		input = s.replace(input, text)
		break // if there is another, the input is still no JSON
	}

	e, err := parse(input)
	if err != nil {
		return none, err
	}
	if len(e.status) != len("SUCCESS") || !strings.EqualFold(e.status, "SUCCESS") {
		return none, fmt.Errorf("status %q", e.status)
	}

	text := strings.NewReplacer("\r", "", "\n", "", "\t", "").Replace(e.receipt)
	text = strings.TrimLeft(text, " ")
	if len(text) >= 5 && strings.EqualFold(text[:5], "data:") {
		prefix, rest, ok := strings.Cut(text, ",")
		if !ok || len(prefix) > 256 || strings.ContainsFunc(prefix, func(r rune) bool { return r < ' ' || r > '~' }) ||
			!strings.HasSuffix(strings.ToLower(prefix), ";base64") {
			return none, fmt.Errorf("prefix %q", prefix)
		}
		text = strings.TrimLeft(rest, " ")
	}
	if strings.HasSuffix(text, " ") {
		if text = strings.TrimRight(text, " "); len(text)%4 != 0 {
			return none, fmt.Errorf("%d characters before a space", len(text))
		}
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	encoding := base64.RawStdEncoding
	if strings.Contains(text, "=") {
		encoding = base64.StdEncoding
	}
	pdf, err := encoding.DecodeString(text)
	if err != nil {
		return none, err
	}
	return accept(pdf, e.mime, limit)
}

func accept(pdf []byte, mime string, limit int) (result, error) {
	if !bytes.Contains(pdf[:min(len(pdf), 1024)], []byte("%PDF-")) || len(pdf) > limit {
		return result{}, fmt.Errorf("%d bytes: %q", len(pdf), pdf)
	}
	return result{PDF: string(pdf), MIME: mime, Kind: "EOF", Error: "EOF"}, nil
}

// A span is a string literal in the input, without its quotes.
type span struct{ start, end int }

func (s span) text(input []byte) []byte { return input[s.start:s.end] }

func (s span) replace(input []byte, text string) []byte {
	return []byte(string(input[:s.start]) + text + string(input[s.end:]))
}

// stringsOf returns the string literals of the input, which is JSON apart from
// what is in them.
func stringsOf(input []byte) (strs []span) {
	for i := 0; i < len(input); i++ {
		if input[i] != '"' {
			continue
		}
		start := i + 1
		for i++; i < len(input) && input[i] != '"'; i++ {
			if input[i] == '\\' {
				i++
			}
		}
		if i < len(input) {
			strs = append(strs, span{start, i})
		}
	}
	return strs
}

// depth returns how deep arrays and objects are nested in valid JSON.
func depth(input []byte) (deepest int) {
	now := 0
	inString := false
	for i := 0; i < len(input); i++ {
		switch c := input[i]; {
		case c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			now++
			deepest = max(deepest, now)
		case c == ']' || c == '}':
			now--
		}
	}
	return deepest
}

// fields are the known members of an envelope.
type fields struct{ status, receipt, mime string }

func parse(input []byte) (e fields, err error) {
	if !json.Valid(input) || depth(input) > 1000 {
		return e, fmt.Errorf("not JSON, or too deep")
	}
	root, err := unique(input, "status", "data")
	if err != nil {
		return e, err
	}
	if e.status, err = unquote(root["status"]); err != nil {
		return e, err
	}
	data, err := unique(root["data"], "receipt", "mimeType")
	if err != nil {
		return e, err
	}
	if e.receipt, err = unquote(data["receipt"]); err != nil {
		return e, err
	}
	raw, ok := data["mimeType"]
	if !ok || string(raw) == "null" {
		return e, nil
	}
	// The decoder returns the type as it came, but encoding/json replaces invalid
	// UTF-8: hide everything beyond ASCII from it.
	const hidden = 0x10ff00
	var quoted, mime []byte
	for _, c := range raw {
		if c < utf8.RuneSelf {
			quoted = append(quoted, c)
		} else {
			quoted = utf8.AppendRune(quoted, hidden+rune(c))
		}
	}
	s, err := unquote(quoted)
	if err != nil {
		return e, err
	}
	for _, r := range s {
		if r&^0xff == hidden {
			mime = append(mime, byte(r))
		} else {
			mime = utf8.AppendRune(mime, r)
		}
	}
	if len(mime) > 255 {
		return e, fmt.Errorf("MIME type of %d bytes", len(mime))
	}
	e.mime = string(mime)
	return e, nil
}

// unique returns the members of an object. Those in names must not come twice.
func unique(object []byte, names ...string) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, fmt.Errorf("%q is no object: %w", object, err)
	}
	members := make(map[string]json.RawMessage)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		for _, watched := range names {
			if _, ok := members[watched]; ok && name == watched {
				return nil, fmt.Errorf("%s twice", name)
			}
		}
		members[name.(string)] = value
	}
	return members, nil
}

func unquote(value []byte) (s string, err error) {
	if !bytes.HasPrefix(value, []byte(`"`)) {
		return "", fmt.Errorf("%q is no string", value)
	}
	err = json.Unmarshal(value, &s)
	return s, err
}
