package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

var listDay = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// readList returns all cases of a list, and all that is wrong with it.
func readList(text string) (cases []*listed, errs []string) {
	l, err := newList(strings.NewReader(text), listDay)
	for err == nil {
		var c *listed
		c, err = l.next()
		switch {
		case errors.Is(err, io.EOF):
			return cases, errs
		case err == nil:
			cases = append(cases, c)
		case errors.Is(err, pixmed.ErrNotInfraction), errors.As(err, new(*lineError)):
			errs = append(errs, err.Error())
			err = nil
		}
	}
	return cases, append(errs, err.Error())
}

const (
	listID    = "5a94d48d-c9f3-46be-8448-83510ca42bde"
	otherID   = "b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5"
	listStart = "transactionId,externalId,value,medStatus\n"
)

func TestList(t *testing.T) {
	t.Parallel()
	one := pixmed.Infraction{
		TransactionID: listID, TransactionStatus: pixmed.TransactionMED, TransactionType: pixmed.CashIn,
		Value: 123456, ExternalID: "T&ste378", MEDStatus: pixmed.Acknowledged,
	}
	bare := one
	bare.ExternalID = ""
	full := one
	full.EndToEndID = "E082535392025011818245238600338f"
	odd := one
	odd.TransactionType, odd.ExternalID, odd.MEDStatus = "CASH_OUT", "a;\"b\"\nc", ""
	want := func(line int, i pixmed.Infraction, more ...func(*listed)) []*listed {
		c := &listed{line: line, infraction: i, external: true}
		for _, m := range more {
			m(c)
		}
		return []*listed{c}
	}
	unsaid := func(c *listed) { c.external = false }
	opened := func(c *listed) { c.openedAt = time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC) }
	raw := func(s string) func(*listed) { return func(c *listed) { c.raw = []byte(s) } }
	sample := strings.Join(strings.Fields(pixmedtest.Sample), "")
	parsed, err := pixmed.ParseInfraction([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	short := `{"transactionId":"` + listID + `","value":"1234.56","medStatus":"ACKNOWLEDGED","openedAt":"2026-11-25T00:00:00-03:00"}`
	for name, test := range map[string]struct {
		list string
		want []*listed
	}{
		"commas":          {listStart + listID + ",T&ste378,1234.56,ACKNOWLEDGED\n", want(2, one)},
		"no last break":   {listStart + listID + ",T&ste378,1234.56,ACKNOWLEDGED", want(2, one)},
		"semicolons":      {"medstatus;VALUE;TransactionID;externalid;Pagador\r\nACKNOWLEDGED;R$ 1.234,56;" + listID + ";T&ste378;João\r\n", want(2, one)},
		"a mark, blanks":  {"\uFEFF\n\n transactionId , externalId,value,medStatus\n\n " + listID + " ,T&ste378 ,\"1.234,56\",ACKNOWLEDGED\n,,,\n", want(5, one)},
		"all columns":     {"transactionId,externalId,value,medStatus,e2e_id,transactionType,transactionStatus,openedAt\n" + listID + ",T&ste378,1234.56,ACKNOWLEDGED,E082535392025011818245238600338f,CASH_IN,MED,2026-11-25T00:00:00-03:00\n", want(2, full, opened)},
		"quoted":          {"transactionId;externalId;value;medStatus;transactionType\n" + listID + ";\"a;\"\"b\"\"\nc\";1234,56;;CASH_OUT\n", want(2, odd)},
		"no external id":  {"transactionId,value,medStatus\n" + listID + ",1234.56,ACKNOWLEDGED\n", want(2, bare, unsaid)},
		"JSON":            {"\n" + sample + "\n\n", want(2, *parsed, raw(sample))},
		"JSON, short":     {short, want(1, bare, unsaid, opened, raw(`{"transactionStatus":"MED","transactionType":"CASH_IN",`+short[1:]))},
		"nothing in it":   {listStart, nil},
		"JSON and spaces": {"  \n\t {\"transactionId\":\"" + listID + "\",\"externalId\":null,\"value\":1234.56,\"medStatus\":\"ACKNOWLEDGED\",\"transactionType\":\"CASH_IN\",\"transactionStatus\":\"MED\",\"openedAt\":null}", want(2, bare, raw(`{"transactionId":"`+listID+`","externalId":null,"value":1234.56,"medStatus":"ACKNOWLEDGED","transactionType":"CASH_IN","transactionStatus":"MED","openedAt":null}`))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, errs := readList(test.list)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(listed{})); diff != "" || errs != nil {
				t.Error(diff, errs)
			}
		})
	}
}

func TestListMistakes(t *testing.T) {
	t.Parallel()
	line := listID + ",T&ste378,18.00,ACKNOWLEDGED\n"
	for name, test := range map[string]struct {
		list  string
		cases int
		want  []string
	}{
		"empty":              {"", 0, []string{"it is empty"}},
		"blank":              {" \r\n\n", 0, []string{"it is empty"}},
		"UTF-16":             {"\xff\xfet\x00", 0, []string{`it is in UTF-16: save it as UTF-8, which spreadsheets call "CSV UTF-8"`}},
		"Latin-1":            {listStart + listID + ",Jo\xe3o,18.00,ACKNOWLEDGED\n" + line, 1, []string{"line 2: it is not in UTF-8: save it as UTF-8"}},
		"an array":           {"[{}]", 0, []string{"it is a JSON array: write one object per line, as jq -c '.[]' does"}},
		"no columns":         {"id;valor\n", 0, []string{"line 1 must name the columns as the webhook names its fields, separated by commas or semicolons; missing: transactionId, value, medStatus"}},
		"a column twice":     {"\ntransactionId,value,medStatus,VALUE\n", 0, []string{"line 2 names the column value twice"}},
		"other columns":      {listStart + listID + ",18.00\n" + line, 1, []string{"line 2: it has 2 columns, and the first line has 4"}},
		"quotation marks":    {listStart + listID + ",a\"b,18.00,ACKNOWLEDGED\n" + line, 1, []string{"line 2: a quotation mark is out of place"}},
		"never closed":       {listStart + "\"" + strings.Repeat(line, 2000), 0, []string{"a line is longer than 65536 bytes; is a quotation mark missing?"}},
		"values":             {listStart + "x,,1.234,\n" + listID + ",,1.234,ACKNOWLEDGED\n" + listID + ",,-1,ACKNOWLEDGED\n" + listID + ",," + strings.Repeat("9", 30) + ",ACKNOWLEDGED\n", 0, []string{"line 2: transactionId must be a UUID of 36 characters, found \"x\"", "line 3: value is \"1.234\": write 1.234,56 or 1234,56 or 1234.56 or 1234", "line 4: value is", `line 5: value is "999999999999999999999999999999", which is too large`}},
		"letters":            {listStart + listID + ",,18,cancelled\n", 0, []string{"line 2: medStatus is \"cancelled\", and the webhook writes CANCELLED"}},
		"a long status":      {listStart + listID + ",,18," + strings.Repeat("x", 65) + "\n", 0, []string{"line 2: medStatus must have at most 64 bytes"}},
		"opened":             {"transactionId,value,medStatus,openedAt\n" + listID + ",18,ACKNOWLEDGED,31/01/2026\n" + listID + ",18,ACKNOWLEDGED,2026-12-01\n", 0, []string{"line 2: openedAt is not a time such as 2026-01-31", "line 3: openedAt is in the future"}},
		"another event":      {"transactionId,value,medStatus,transactionStatus\n" + listID + ",18,,PAID\n" + listID + ",18,ACKNOWLEDGED,MED\n", 1, []string{"not an infraction"}},
		"JSON cut":           {"{\"transactionId\":\n" + pixmedtestLine(), 1, []string{"line 1: malformed JSON at byte 17"}},
		"JSON fields":        {"{}\n{\"value\":true,\"medStatus\":\"\"}\n", 0, []string{"line 1: transactionId is required; transactionStatus is required", "line 2: transactionId is required; value is neither a number nor a string"}},
		"JSON, twice":        {"{\"value\":1,\"value\":2}\n", 0, []string{"line 1: malformed JSON at byte"}},
		"JSON, no status":    {"{\"transactionId\":\"" + listID + "\",\"value\":18}\n", 0, []string{"line 1: there is no medStatus; leave it empty if the gateway has none"}},
		"opened long ago":    {"transactionId,value,medStatus,openedAt\n" + listID + ",18,ACKNOWLEDGED,0226-01-31\n" + listID + ",18,ACKNOWLEDGED,0001-01-01\n" + listID + ",18,ACKNOWLEDGED,2019-12-31\n", 0, []string{"line 2: openedAt is before 2020", "line 3: openedAt is not a time", "line 4: openedAt is before 2020"}},
		"too much":           {"transactionId,value,medStatus\n" + listID + ",92233720368547758.08,ACKNOWLEDGED\n", 0, []string{`line 2: value is "92233720368547758.08", which is too large`}},
		"JSON, opened":       {"{\"transactionId\":\"" + listID + "\",\"value\":18,\"medStatus\":\"\",\"openedAt\":1}\n", 0, []string{"line 1: openedAt is not a time"}},
		"JSON, another":      {"{\"transactionStatus\":\"PAID\"}\n" + pixmedtestLine(), 1, []string{"not an infraction"}},
		"JSON, in one line":  {"{" + strings.Repeat(" ", 70000) + "}", 0, []string{"line 1 is longer than 65536 bytes: write one object per line, as jq -c does"}},
		"JSON, then a table": {pixmedtestLine() + line, 1, []string{"line 2: malformed JSON at byte 0"}},
		"what is not shown":  {listStart + strange + ",,18,ACKNOWLEDGED\n", 0, []string{`line 2: transactionId must be a UUID of 36 characters, found "\x1b[2J\u202e"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cases, errs := readList(test.list)
			if len(cases) != test.cases || len(errs) != len(test.want) {
				t.Fatalf("%d cases, want %d; errors:\n%s", len(cases), test.cases, strings.Join(errs, "\n"))
			}
			for i, want := range test.want {
				if !strings.Contains(errs[i], want) || strings.ContainsAny(errs[i], "\x1b\u202e") {
					t.Errorf("%s, want %s", errs[i], want)
				}
			}
		})
	}
}

func pixmedtestLine() string { return strings.Join(strings.Fields(pixmedtest.Sample), "") + "\n" }

func TestParseReais(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]pixmed.Amount{
		"1234": 123400, "1234.5": 123450, "1234.56": 123456, "1234,5": 123450, "1234,56": 123456, "1.234,56": 123456, "1.234.567,89": 123456789,
		"R$ 1.234,56": 123456, "R$\u00a018": 1800, "R$18,00": 1800, "0": 0, "0,00": 0, "007.50": 750, "0,07": 7, "92233720368547758,07": 9223372036854775807,
	} {
		if got, err := parseReais(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "R$", "1.234", "1.000", "1,234", "1,234.56", "1.234.567", "12.34,56", "1.23,4", "1,", ",50", ".50", "1.", "-1", "+1", "1e2", "1 234,56", "1.234,567", "US$ 1", "١٨",
		"92233720368547758,08", "NaN", "18,00 R$", "R$ R$ 1",
	} {
		if got, err := parseReais(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

// Whatever is in a list, its cases are valid, and written as a table in either form and
// read again they are the same.
func FuzzList(f *testing.F) {
	for _, seed := range []string{
		"", "\uFEFF", "\xff\xfe", "[", "{}", "{", pixmedtest.Sample, pixmedtestLine(), listStart, listStart + listID + ",T&ste378,18.00,ACKNOWLEDGED\n",
		"transactionid;value;medstatus;externalid;openedat\n" + listID + ";R$ 1.234,56;CANCELLED;\"a;\"\"b\"\"\";2026-01-31\n" + otherID + ";1,5;;;\n",
		listStart + listID + ",Jo\xe3o,1.234,ACKNOWLEDGED\n", "transactionId;\"value", "{\"transactionId\":\"" + listID + "\",\"value\":18,\"medStatus\":null}\n",
		"a,b\n\"\n", "transactionId,value,medStatus,transactionStatus\n" + listID + ",18,,PAID\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cases, errs := readList(text)
		for _, err := range errs {
			if strings.HasPrefix(err, "line ") && hidden(err) {
				t.Errorf("%q", err)
			}
		}
		if len(cases) == 0 {
			return
		}
		var commas, semicolons, lines bytes.Buffer
		english, brazilian := csv.NewWriter(&commas), csv.NewWriter(&semicolons)
		brazilian.Comma = ';'
		header := []string{"transactionId", "externalId", "value", "medStatus", "e2e_id", "transactionType", "transactionStatus"}
		_, _ = english.Write(header), brazilian.Write(header)
		var want []pixmed.Infraction
		for _, c := range cases {
			i := c.infraction
			if err := i.Validate(); err != nil {
				t.Fatalf("line %d: %v", c.line, err)
			}
			row := []string{i.TransactionID, i.ExternalID, i.Value.String(), string(i.MEDStatus), string(i.EndToEndID), string(i.TransactionType), string(i.TransactionStatus)}
			if strings.ContainsAny(strings.Join(row, ""), "\r") || strings.TrimSpace(strings.Join(row, "\x00,\x00")) != strings.Join(row, "\x00,\x00") || trims(row) {
				return // a table keeps no blanks around a field, and no carriage return
			}
			want = append(want, i)
			_ = english.Write(row)
			row[2] = i.Value.BRL()
			_ = brazilian.Write(row)
			body, err := json.Marshal(i)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&lines, "%s\n", body)
		}
		english.Flush()
		brazilian.Flush()
		for _, again := range []string{commas.String(), semicolons.String(), lines.String()} {
			cases, errs := readList(again)
			var got []pixmed.Infraction
			for _, c := range cases {
				got = append(got, c.infraction)
			}
			if diff := cmp.Diff(want, got); diff != "" || errs != nil {
				t.Errorf("%s%v\n%s", diff, errs, again)
			}
		}
	})
}

// trims reports whether a field has blanks around it.
func trims(row []string) bool {
	for _, field := range row {
		if strings.TrimSpace(field) != field {
			return true
		}
	}
	return false
}
