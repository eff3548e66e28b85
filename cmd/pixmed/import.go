package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/internal/text"
)

// A listed case is a line of a gateway's list.
type listed struct {
	line       int
	infraction pixmed.Infraction
	raw        []byte    // the line, if it is JSON
	external   bool      // whether the list says anything of an external id
	openedAt   time.Time // zero if the list does not say when
}

// maxListed is how long a line of a list may be, in bytes. A webhook's body is no
// longer.
const maxListed = 64 << 10

// A list is a gateway's list of cases, in CSV or as JSON lines.
type list struct {
	next func() (*listed, error)
}

// lineError is what is wrong with one line. Those after it can be read.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

// newList begins to read a list. No case of it was opened after now.
func newList(r io.Reader, now time.Time) (*list, error) {
	in := bufio.NewReaderSize(r, maxListed)
	start, err := in.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if bytes.HasPrefix(start, []byte("\xff\xfe")) || bytes.HasPrefix(start, []byte("\xfe\xff")) {
		return nil, errors.New("it is in UTF-16: " + asUTF8)
	}
	if bytes.HasPrefix(start, []byte("\uFEFF")) {
		_, _ = in.Discard(3)
	}
	line := 1
	for {
		start, err := in.Peek(1)
		switch {
		case errors.Is(err, io.EOF):
			return nil, errors.New("it is empty")
		case err != nil:
			return nil, err
		case start[0] == '{':
			l := &jsonLines{in: in, line: line - 1, now: now}
			return &list{l.next}, nil
		case start[0] == '[':
			return nil, errors.New("it is a JSON array: write one object per line, as jq -c '.[]' does")
		case !strings.ContainsRune(" \t\r\n", rune(start[0])):
			l := &csvLines{line: line - 1, now: now}
			return &list{l.next}, l.begin(in)
		case start[0] == '\n':
			line++
		}
		_, _ = in.Discard(1)
	}
}

const asUTF8 = `save it as UTF-8, which spreadsheets call "CSV UTF-8"`

// jsonLines reads objects in the form of the webhook, one a line.
type jsonLines struct {
	in   *bufio.Reader
	line int
	now  time.Time
}

func (l *jsonLines) next() (*listed, error) {
	for {
		text, err := l.in.ReadSlice('\n')
		l.line++
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("line %d is longer than %d bytes: write one object per line, as jq -c does", l.line, maxListed)
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			return l.read(text)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (l *jsonLines) read(text []byte) (*listed, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err == nil {
		// What is the same in all webhooks may be left out.
		for _, same := range [][2]string{{"transactionType", string(pixmed.CashIn)}, {"transactionStatus", string(pixmed.TransactionMED)}} {
			if _, ok := members[same[0]]; !ok && len(members) > 0 {
				text = fmt.Appendf(nil, "{%q:%q,%s", same[0], same[1], bytes.TrimPrefix(text, []byte("{")))
			}
		}
	}
	infraction, err := pixmed.ParseInfraction(text)
	if err != nil {
		return nil, l.problem(err)
	}
	c := &listed{line: l.line, infraction: *infraction, raw: bytes.Clone(text)}
	if _, ok := members["medStatus"]; !ok {
		return nil, &lineError{l.line, noStatus}
	}
	_, c.external = members["externalId"]
	if at, ok := members["openedAt"]; ok && string(at) != "null" {
		var text string
		_ = json.Unmarshal(at, &text) // what is no text is no time either
		if c.openedAt, err = parseTime(text); err != nil || c.openedAt.IsZero() {
			return nil, &lineError{l.line, badOpened}
		}
	}
	return c.checked(l.now)
}

const (
	noStatus  = "there is no medStatus; leave it empty if the gateway has none"
	badOpened = "openedAt is not a time such as 2026-01-31 or 2026-01-31T12:00:00-03:00"
)

// problem says what is wrong with a line.
func (l *jsonLines) problem(err error) error {
	if errors.Is(err, pixmed.ErrNotInfraction) {
		return err
	}
	return newLineError(l.line, err)
}

func newLineError(line int, err error) *lineError {
	text := err.Error()
	if invalid, ok := errors.AsType[*pixmed.ValidationError](err); ok {
		var bad []string
		for _, f := range invalid.Fields {
			bad = append(bad, f.Field+" "+f.Detail)
		}
		text = strings.Join(bad, "; ")
	}
	return &lineError{line, escape(text)} // of bounded length, and strangers' texts in it are quoted
}

var firstPix = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// checked finds what a webhook may have and a list must not.
func (c *listed) checked(now time.Time) (*listed, error) {
	switch {
	case c.openedAt.After(now.Add(day)):
		return nil, &lineError{c.line, "openedAt is in the future"}
	case !c.openedAt.IsZero() && c.openedAt.Before(firstPix):
		return nil, &lineError{c.line, "openedAt is before 2020, when there was no Pix"}
	}
	status := c.infraction.MEDStatus
	if upper := pixmed.MEDStatus(strings.ToUpper(strings.TrimSpace(string(status)))); upper != status && upper.Known() {
		return nil, &lineError{c.line, fmt.Sprintf("medStatus is %q, and the webhook writes %s", status, upper)}
	}
	return c, nil
}

// csvLines reads a table with the names of the webhook's fields in its first line.
type csvLines struct {
	in      *csv.Reader
	left    *bounded
	columns map[string]int // by the lower case of a field's name
	line    int            // how many lines came before the first
	now     time.Time
}

// begin reads the header.
func (l *csvLines) begin(in *bufio.Reader) error {
	header, err := in.Peek(maxListed)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	header, _, _ = bytes.Cut(header, []byte("\n"))
	l.left = &bounded{r: in}
	l.in = csv.NewReader(l.left)
	l.in.ReuseRecord = true
	if bytes.Count(header, []byte(";")) > bytes.Count(header, []byte(",")) {
		l.in.Comma = ';'
	}
	names, err := l.record()
	if err != nil {
		return err
	}
	l.columns = make(map[string]int)
	for i, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := l.columns[name]; twice && slices.Contains(fieldNames, name) {
			return fmt.Errorf("line %d names the column %s twice", l.line+1, name)
		}
		l.columns[name] = i
	}
	var missing []string
	for _, name := range []string{"transactionId", "value", "medStatus"} {
		if _, ok := l.columns[strings.ToLower(name)]; !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("line %d must name the columns as the webhook names its fields, separated by commas or semicolons; missing: %s", l.line+1, strings.Join(missing, ", "))
	}
	return nil
}

var fieldNames = []string{"transactionid", "transactionstatus", "transactiontype", "value", "externalid", "e2e_id", "medstatus", "openedat"}

// record reads a line.
func (l *csvLines) record() ([]string, error) {
	l.left.left = maxListed
	record, err := l.in.Read()
	if bad, ok := errors.AsType[*csv.ParseError](err); ok && !errors.Is(err, errTooLong) {
		text := "a quotation mark is out of place: put the field in quotation marks, and write each one within it twice"
		if errors.Is(err, csv.ErrFieldCount) {
			text = fmt.Sprintf("it has %s, and the first line has %d", plural(len(record), "column", "columns"), l.in.FieldsPerRecord)
		}
		return nil, &lineError{l.line + bad.StartLine, text}
	}
	if err != nil {
		return nil, err
	}
	for _, field := range record {
		if !utf8.ValidString(field) {
			line, _ := l.in.FieldPos(0)
			return nil, &lineError{l.line + line, "it is not in UTF-8: " + asUTF8}
		}
	}
	return record, nil
}

func (l *csvLines) next() (*listed, error) {
	record, err := l.record()
	for err == nil && strings.Join(record, "") == "" { // spreadsheets leave such lines at the end
		record, err = l.record()
	}
	if err != nil {
		return nil, err
	}
	field := func(name, unset string) string {
		if i, ok := l.columns[name]; ok {
			return strings.TrimSpace(record[i])
		}
		return unset
	}
	line, _ := l.in.FieldPos(0)
	c := &listed{line: l.line + line}
	c.infraction = pixmed.Infraction{
		TransactionID:     field("transactionid", ""),
		TransactionStatus: pixmed.TransactionStatus(field("transactionstatus", string(pixmed.TransactionMED))),
		TransactionType:   pixmed.TransactionType(field("transactiontype", string(pixmed.CashIn))),
		ExternalID:        field("externalid", ""),
		EndToEndID:        pixmed.EndToEndID(field("e2e_id", "")),
		MEDStatus:         pixmed.MEDStatus(field("medstatus", "")),
	}
	if err := c.infraction.Validate(); errors.Is(err, pixmed.ErrNotInfraction) {
		return nil, err
	} else if err != nil {
		return nil, newLineError(c.line, err)
	}
	if c.infraction.Value, err = parseReais(field("value", "")); err != nil {
		return nil, newLineError(c.line, err)
	}
	_, c.external = l.columns["externalid"]
	if at := field("openedat", ""); at != "" {
		if c.openedAt, err = parseTime(at); err != nil || c.openedAt.IsZero() {
			return nil, &lineError{c.line, badOpened}
		}
	}
	return c.checked(l.now)
}

var (
	brazilian = regexp.MustCompile(`^(\d{1,3}(?:\.\d{3})+|\d+),(\d{1,2})$`)
	plain     = regexp.MustCompile(`^\d+(\.\d{1,2})?$`)
)

// parseReais reads an amount as a spreadsheet writes it: 1.234,56 and 1234,56, or
// 1234.56 and 1234, with R$ before it or without. What can be read in two ways, such
// as 1.234, is refused.
func parseReais(written string) (pixmed.Amount, error) {
	number := strings.TrimSpace(strings.TrimPrefix(written, "R$"))
	if parts := brazilian.FindStringSubmatch(number); parts != nil {
		number = strings.ReplaceAll(parts[1], ".", "") + "." + parts[2]
	} else if !plain.MatchString(number) {
		return 0, fmt.Errorf("value is %q: write 1.234,56 or 1234,56 or 1234.56 or 1234", text.Cut(written, 32))
	}
	// JSON, which ParseAmount reads, begins no number with a zero.
	if number = strings.TrimLeft(number, "0"); number == "" || number[0] == '.' {
		number = "0" + number
	}
	amount, err := pixmed.ParseAmount(number)
	if err != nil {
		return 0, fmt.Errorf("value is %q, which is too large", text.Cut(written, 32))
	}
	return amount, nil
}

// bounded limits how many bytes are read for a line: a quotation mark that is never
// closed would make one line of the whole file.
type bounded struct {
	r    io.Reader
	left int
}

var errTooLong = fmt.Errorf("a line is longer than %d bytes; is a quotation mark missing?", maxListed)

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
