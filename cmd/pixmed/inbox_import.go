package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

var (
	importApply = &setting{flag: "apply", usage: "receive what is missing or differs, as if the gateway had sent it now"}
	importAsOf  = &setting{flag: "as-of", arg: "TIME", usage: "when the gateway made the list: what the inbox received later is newer and is left alone; when the file was last changed, unless set"}
)

func newInboxImport(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Compare the inbox with the gateway's list of cases, and receive what is missing",
		Long: `Compares the inbox with the gateway's list of cases, and says what is missing in the
inbox, what differs in status or value, which open cases are not in the list, and which
of its open cases somebody has ended here. With --apply it receives what is missing or differs, in the order of the list, and pixmed serve
processes it. Doing it again changes nothing.

FILE is in UTF-8. It is a table (CSV) with commas or semicolons, whose first line names
the columns as the webhook names its fields, in any letter case and order:

  transactionId, value, medStatus     are required
  externalId                          is required to receive what is missing
  e2e_id, transactionType, transactionStatus, openedAt
                                      are optional; other columns are ignored

Or it has one JSON object per line, in the form of the webhook; transactionType and
transactionStatus may be left out. It must be a regular file, not a pipe: it is read
twice.

In a table, amounts are in reais, with or without R$: 1.234,56 or 1234,56 or 1234.56 or
1234. 1.234 is rejected, because it can be read in two ways. In JSON they are written as
in the webhook: 1234.56.

openedAt, such as 2026-01-31 or 2026-01-31T12:00:00-03:00, is when the case was opened at
the gateway. The deadline counts from then; without it, from when the case is received
here, which may be too late.

Each case must be listed once. What the inbox received after the list was made is newer
and is left alone: see --as-of. Cases that the inbox has purged count as missing, and
--apply would process them again: use a list that begins after them. If a line is wrong,
nothing is compared or received.

With --json there is one object per line: each difference, and at the end the counts.

The exit code is 0 if the list and the inbox agree, and 4 if they differ; with --apply, if
they still differ.`,
		Example: `  pixmed inbox import cases.csv
  pixmed inbox import cases.csv --apply
  jq -c '.data[]' answer.json > cases.jsonl && pixmed inbox import cases.jsonl --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError(fmt.Errorf("want a file, and not %d", len(args)))
			}
			return nil
		},
	}
	addSettings(cmd, importApply, importAsOf, asJSON)
	return onCases(p, cmd, func(v *values, args []string) operation {
		c := &comparison{out: p.out, encode: v.on(asJSON), asOf: v.since(importAsOf)}
		apply := v.on(importApply)
		if err := c.open(args[0]); err != nil {
			v.errs = append(v.errs, err)
			c.close()
		}
		compare := func(ctx context.Context, in reader) error {
			defer c.close()
			if err := c.run(ctx, in); err != nil {
				return err
			}
			if err := c.report(p.err); err != nil {
				return err
			}
			if c.differ() {
				return &exit{code: exitDiffers}
			}
			return nil
		}
		if !apply {
			return reading(compare)
		}
		return changing(func(ctx context.Context, in *inbox.Inbox) error {
			c.receive = in.Receive
			return compare(ctx, in)
		})
	})
}

// comparison compares a list with an inbox.
type comparison struct {
	out    io.Writer
	encode bool
	asOf   time.Time

	name    string
	file    *os.File
	index   listIndex
	receive func(context.Context, *pixmed.Notification) error // nil to compare alone

	counts  compared
	found   []*finding // the first ones of each kind
	fromNow int        // how many were received as if they had been opened now
}

// compared counts cases: those of the list are equal, missing, different or newer.
type compared struct {
	Listed   int `json:"listed"`
	Equal    int `json:"equal"`
	Missing  int `json:"missing"`
	Differ   int `json:"differ"`
	Only     int `json:"only"`
	Newer    int `json:"newer"`
	Repeated int `json:"repeated"` // lines that say what an earlier one says
	Others   int `json:"others"`   // lines that are no infractions
	Received int `json:"received"`
}

// A finding is a case in which list and inbox are not the same.
type finding struct {
	Kind          findingKind `json:"kind"`
	Line          int         `json:"line,omitempty"`
	TransactionID string      `json:"transactionId"`
	ExternalID    string      `json:"externalId"`
	List          *said       `json:"list,omitempty"`
	Inbox         *said       `json:"inbox,omitempty"`
	Received      bool        `json:"received,omitempty"`
	Problem       string      `json:"problem,omitempty"` // why it is not received
}

// said is what the list or the inbox says of a case.
type said struct {
	Status pixmed.MEDStatus `json:"medStatus"`
	Value  pixmed.Amount    `json:"value"`
}

type findingKind string

const (
	isMissing findingKind = "missing" // in the inbox
	differs   findingKind = "differs"
	isOnly    findingKind = "only"  // in the inbox, and open
	isNewer   findingKind = "newer" // in the inbox
)

// maxShown is how many findings of a kind are shown, unless as JSON.
const maxShown = 100

// maxProblems is how many bad lines are shown.
const maxProblems = 20

// open reads the list for the first time: it finds all that is wrong with it.
func (c *comparison) open(name string) (err error) {
	c.name = name
	if c.file, err = openRegular(name); err != nil {
		return err
	}
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	if c.asOf.IsZero() {
		c.asOf = info.ModTime()
	}
	c.index.lines = make([]listLine, 0, min(info.Size()/int64(len(uuid.Nil.String()))+1, maxLines)) // no line is shorter
	var problems []error
	bad := 0
	problem := func(err error) {
		if bad++; bad <= maxProblems {
			problems = append(problems, fmt.Errorf("%s, %w", name, err))
		}
	}
	err = c.each(func(l *listed, err error) error {
		switch {
		case err != nil:
			problem(err)
		case len(c.index.lines) == maxLines:
			return fmt.Errorf("it has more than %d cases: split it", maxLines)
		default:
			c.index.add(l)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.index.sort(problem)
	if bad > maxProblems {
		problems = append(problems, fmt.Errorf("%s: and %d more lines are wrong", name, bad-maxProblems))
	}
	if bad == 0 && len(c.index.lines) == 0 {
		problems = append(problems, fmt.Errorf("%s: there is no case in it", name))
	}
	return errors.Join(problems...)
}

func (c *comparison) close() {
	if c.file != nil {
		_ = c.file.Close()
	}
}

// each calls do with all lines of the list, or with what is wrong with a line.
func (c *comparison) each(do func(*listed, error) error) error {
	if _, err := c.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	lines, err := newList(c.file, time.Now())
	if err != nil {
		return err
	}
	c.counts.Others = 0
	for {
		l, err := lines.next()
		switch bad, isBad := errors.AsType[*lineError](err); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, pixmed.ErrNotInfraction):
			c.counts.Others++
			continue
		case isBad:
			err = do(nil, bad)
		case err == nil:
			err = do(l, nil)
		}
		if err != nil {
			return err
		}
	}
}

// run compares, and receives if it has to.
func (c *comparison) run(ctx context.Context, in reader) error {
	err := c.each(func(l *listed, err error) error {
		if err != nil {
			return fmt.Errorf("%s changed while it was read: %w", c.name, err)
		}
		if c.index.repeats(l) {
			c.counts.Repeated++
			return nil
		}
		return c.compare(ctx, in, l)
	})
	if err != nil {
		return err
	}
	f := inbox.CaseFilter{Open: true, Limit: math.MaxInt}
	return eachCase(ctx, in, f, func(k *inbox.Case) error {
		if c.index.has(k.TransactionID) {
			return nil
		}
		found := &finding{Kind: isOnly, TransactionID: k.TransactionID, ExternalID: k.ExternalID, Inbox: &said{k.Status, k.Value}}
		if k.OpenedAt.After(c.asOf) {
			found.Kind = isNewer
		}
		return c.add(found)
	})
}

// compare compares a line with the last notification here of the same external id.
func (c *comparison) compare(ctx context.Context, in reader, l *listed) error {
	c.counts.Listed++
	history, err := in.History(ctx, l.infraction.TransactionID)
	if err != nil {
		return err
	}
	found := &finding{
		Line: l.line, TransactionID: l.infraction.Key().TransactionID, ExternalID: l.infraction.ExternalID,
		List: &said{l.infraction.MEDStatus, l.infraction.Value},
	}
	if len(history) == 0 {
		found.Kind = isMissing
		if !l.external {
			found.Problem = "the list has no externalId, and later webhooks of the case would not match it"
		}
		return c.settle(ctx, l, found, time.Time{})
	}
	last := history[len(history)-1]
	several := slices.ContainsFunc(history, func(e *inbox.Event) bool { return e.Key.ExternalID != last.Key.ExternalID })
	switch at := slices.IndexFunc(history, func(e *inbox.Event) bool { return e.Key.ExternalID == l.infraction.ExternalID }); {
	case l.external && at < 0:
		found.Kind = isMissing
		if e := c.unlisted(history); e != nil { // a spreadsheet has made 42 of 0042
			found.Problem = "the external id in the inbox is " + dash(printable(e.Key.ExternalID, 100))
		}
		return c.settle(ctx, l, found, time.Time{})
	case l.external:
		for _, e := range history[at:] {
			if e.Key.ExternalID == l.infraction.ExternalID {
				last = e
			}
		}
	case several:
		found.Problem = "the inbox has several external ids for it, and the list has none"
	}
	found.Inbox = &said{last.Status, last.Value}
	switch {
	case *found.List == *found.Inbox:
		if !last.Status.Final() { // a person may have ended it here
			k, err := in.Case(ctx, found.TransactionID)
			if err != nil {
				return err
			}
			if k.EndedBy != "" {
				found.Kind, found.Problem = differs, "ended here by "+printable(k.EndedBy, 100)
				return c.add(found)
			}
		}
		c.counts.Equal++
		return nil
	case last.ReceivedAt.After(c.asOf):
		found.Kind = isNewer
		return c.add(found)
	}
	found.Kind = differs
	l.infraction.ExternalID = last.Key.ExternalID // which is the list's, if that has one and it is here
	return c.settle(ctx, l, found, last.ReceivedAt)
}

// unlisted returns a notification whose external id the list does not have.
func (c *comparison) unlisted(history []*inbox.Event) *inbox.Event {
	for _, e := range history {
		if !c.index.hasKey(e.Key) {
			return e
		}
	}
	return nil
}

// settle receives a line, if that is wanted and safe. last is when the inbox received
// the one before it.
func (c *comparison) settle(ctx context.Context, l *listed, found *finding, last time.Time) error {
	if c.receive != nil && found.Problem == "" {
		n := &pixmed.Notification{Infraction: l.infraction, Raw: l.raw}
		if !l.external {
			n.Raw = nil // it would say that there is no external id
		}
		if opens := !n.MEDStatus.Final(); opens && l.openedAt.After(last) {
			n.ReceivedAt = l.openedAt
		} else if opens {
			c.fromNow++
		}
		if err := c.receive(ctx, n); err != nil && !errors.Is(err, pixmed.ErrDuplicate) {
			return fmt.Errorf("%s, line %d, after %d were received: the inbox cannot take it: %w; run this again when that is fixed", c.name, l.line, c.counts.Received, err)
		}
		found.Received = true
		c.counts.Received++
	}
	return c.add(found)
}

// add counts a finding, and keeps or prints it.
func (c *comparison) add(f *finding) error {
	n := map[findingKind]*int{isMissing: &c.counts.Missing, differs: &c.counts.Differ, isOnly: &c.counts.Only, isNewer: &c.counts.Newer}[f.Kind]
	*n++
	if c.encode {
		return json.NewEncoder(c.out).Encode(f)
	}
	if *n <= maxShown {
		c.found = append(c.found, f)
	}
	return nil
}

// differ reports whether list and inbox are not the same, what was received included.
func (c *comparison) differ() bool {
	return c.counts.Missing+c.counts.Differ+c.counts.Only > c.counts.Received
}

// report says how many are what, and which.
func (c *comparison) report(errs io.Writer) error {
	if c.fromNow > 0 {
		fmt.Fprintf(errs, "%s as opened now, because the list has no openedAt: the gateway may expect an answer earlier than the inbox says\n", plural(c.fromNow, "case counts", "cases count"))
	}
	if c.encode {
		return json.NewEncoder(c.out).Encode(struct {
			Kind string `json:"kind"`
			compared
		}{"counts", c.counts})
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "equal\t%d\nmissing in the inbox\t%d\ndiffer\t%d\nonly in the inbox, and open\t%d\n", c.counts.Equal, c.counts.Missing, c.counts.Differ, c.counts.Only)
	for _, rare := range []struct {
		name string
		n    int
	}{
		{"received here after " + when(c.asOf) + ", and left alone", c.counts.Newer},
		{"in the list twice", c.counts.Repeated},
		{"in the list, and no infraction", c.counts.Others},
	} {
		if rare.n > 0 {
			fmt.Fprintf(w, "%s\t%d\n", rare.name, rare.n)
		}
	}
	if c.receive != nil {
		fmt.Fprintf(w, "received\t%d\n", c.counts.Received)
	}
	if err := w.Flush(); err != nil || len(c.found) == 0 {
		return err
	}
	fmt.Fprint(w, "\n\tLINE\tTRANSACTION\tIN THE LIST\tIN THE INBOX\tEXTERNAL ID\n")
	slices.SortStableFunc(c.found, func(a, b *finding) int { return cmp.Compare(rank(a), rank(b)) })
	for _, f := range c.found {
		line, done := "-", f.Problem
		if f.Line > 0 {
			line = strconv.Itoa(f.Line)
		}
		switch {
		case f.Received:
			done = "received"
		case done != "" && c.receive != nil:
			done = "left alone: " + done
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Kind, line, f.TransactionID, f.List, f.Inbox, dash(printable(f.ExternalID, 100)), done)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if left := c.counts.Missing + c.counts.Differ + c.counts.Only + c.counts.Newer - len(c.found); left > 0 {
		fmt.Fprintf(c.out, "... and %d more, which --json prints\n", left)
	}
	return nil
}

func rank(f *finding) int {
	return slices.Index([]findingKind{isMissing, differs, isOnly, isNewer}, f.Kind)
}

// String is empty for nothing.
func (s *said) String() string {
	if s == nil {
		return "-"
	}
	return dash(printable(string(s.Status), 64)) + " " + s.Value.String()
}
