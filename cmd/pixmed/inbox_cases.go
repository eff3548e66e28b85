package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pixmed-go/pixmed/inbox"
)

var (
	casesOpen       = &setting{flag: "open", usage: "only those that are open"}
	casesEnded      = &setting{flag: "ended", usage: "only those that have ended"}
	casesUnanswered = &setting{flag: "unanswered", usage: "only those that are open and not answered"}
	casesDueBefore  = &setting{flag: "due-before", arg: "TIME", usage: "only those that are open and due before then, overdue ones too: 2026-01-31, 2026-01-31T12:00:00Z, or 2d for two days from now"}
	casesState      = &setting{flag: "state", arg: "STATE", usage: "only those with a notification that is pending or dead, or with neither: done"}
	casesSearch     = &setting{flag: "search", arg: "TEXT", usage: "only those of which an id begins with this text, in any letter case: the transaction id, an external or end-to-end id"}
)

func newInboxCases(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "cases", Short: "List cases, the most urgent first", Args: noArgs,
		Long: `Lists cases: those that are open come first, the most urgent at the top, and then those
that have ended, the latest at the top. The id is the transaction's: show, answered, end
and delete take it. With --json there is one object a line.

A case can be due if the service sets a deadline, as pixmed serve --defence does.`,
		Example: `  pixmed inbox cases --unanswered
  pixmed inbox cases --due-before 2d --json | jq -r .transactionId
  pixmed inbox cases --search 'T&ste378'`,
	}
	addSettings(cmd, casesOpen, casesEnded, casesUnanswered, casesDueBefore, casesState, casesSearch, listLimit, asJSON)
	return onCases(p, cmd, func(v *values, _ []string) operation {
		encode := v.on(asJSON)
		f := inbox.CaseFilter{
			Open: v.on(casesOpen), Ended: v.on(casesEnded), Unanswered: v.on(casesUnanswered),
			DueBefore: v.until(casesDueBefore), Search: v.text(casesSearch), Limit: v.number(listLimit, 1_000_000),
		}
		if v.isSet(casesState) {
			f.State = inbox.State(v.oneOf(casesState, string(inbox.Pending), string(inbox.Dead), string(inbox.Done)))
		}
		if f.Ended && (f.Unanswered || !f.DueBefore.IsZero()) {
			v.problem(casesEnded, "--unanswered and --due-before are for open cases")
		}
		return reading(func(ctx context.Context, in reader) error {
			if encode {
				encoder := json.NewEncoder(p.out)
				return eachCase(ctx, in, f, func(c *inbox.Case) error { return encoder.Encode(c) })
			}
			w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TRANSACTION\tCASE\tSTATUS\tVALUE\tOPENED\tDUE\tPENDING\tDEAD\tEXTERNAL ID")
			err := eachCase(ctx, in, f, func(c *inbox.Case) error {
				_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", c.TransactionID, standing(c, time.Now()),
					dash(printable(string(c.Status), 64)), c.Value, whenever(c.OpenedAt), whenever(c.DueAt), c.Pending, c.Dead, printable(c.ExternalID, 100))
				return err
			})
			return errors.Join(err, w.Flush())
		})
	})
}

// eachCase calls do with up to f.Limit cases.
func eachCase(ctx context.Context, in reader, f inbox.CaseFilter, do func(*inbox.Case) error) error {
	return pages(f.Limit, 200, do, func(limit int, last *inbox.Case) ([]*inbox.Case, error) {
		if f.Limit = limit; last != nil {
			f.After = last.Cursor()
		}
		return in.Cases(ctx, f)
	})
}

// standing says in a word where a case stands.
func standing(c *inbox.Case, now time.Time) string {
	switch {
	case !c.Open:
		return "ended"
	case !c.AnsweredAt.IsZero():
		return "answered"
	case !c.DueAt.IsZero() && !c.DueAt.After(now):
		return "OVERDUE"
	}
	return "open"
}

func whenever(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return when(t)
}

func newInboxShow(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a case and what happened to it, or a notification and its body",
		Long: `Given a transaction's id, shows the case: its state, and the last 100 things that happened
to it, the oldest first. Given a notification's id, shows the notification with its body
and its last error. --json prints everything.`,
		Example: `  pixmed inbox show 5a94d48d-c9f3-46be-8448-83510ca42bde`,
		Args:    ids(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
	}
	addSettings(cmd, asJSON)
	return onInbox(p, cmd, func(v *values, args []string) operation {
		encode := v.on(asJSON)
		return reading(func(ctx context.Context, in reader) error {
			c, err := in.Case(ctx, args[0])
			switch {
			case errors.Is(err, inbox.ErrNotFound):
				return showEvent(ctx, in, p.out, args[0], encode)
			case err != nil:
				return err
			case encode:
				if c.Events, err = in.History(ctx, c.TransactionID); err != nil { // with the bodies
					return err
				}
				return json.NewEncoder(p.out).Encode(c)
			}
			return showCase(p.out, c, time.Now())
		})
	})
}

// fields writes names and values, and leaves out what is empty.
type fields struct{ w io.Writer }

func (f fields) add(name, value string) {
	if value != "" {
		fmt.Fprintf(f.w, "%-14s %s\n", name, value)
	}
}

func (f fields) time(name string, t time.Time, more string) {
	if !t.IsZero() {
		f.add(name, when(t)+more)
	}
}

// mostShown is how many entries of a case's history are shown.
const mostShown = 100

// showCase writes a case and its history.
func showCase(out io.Writer, c *inbox.Case, now time.Time) error {
	f := fields{out}
	f.add("transaction", c.TransactionID)
	f.add("case", standing(c, now))
	f.add("status", dash(printable(string(c.Status), 64)))
	f.add("value", c.Value.BRL())
	f.add("external id", printable(c.ExternalID, 200))
	f.time("opened", c.OpenedAt, "")
	f.time("due", c.DueAt, "")
	f.time("answered", c.AnsweredAt, by(c.AnsweredBy))
	f.time("ended", c.EndedAt, by(c.EndedBy))
	f.time("next reminder", c.NextReminder, "")
	if c.RemindersGivenUp > 0 {
		f.add("not reminded", plural(c.RemindersGivenUp, "reminder failed", "reminders failed")+" for good")
	}
	f.add("notifications", fmt.Sprintf("%d, of which %d pending and %d dead", c.Accepted, c.Pending, c.Dead))
	entries := timeline(c)
	fmt.Fprintln(out)
	if left := len(entries) - mostShown; left > 0 {
		fmt.Fprintf(out, "... and before these %s, which --json prints\n", plural(left, "entry", "entries"))
		entries = entries[left:]
	}
	var err error
	for _, e := range entries {
		_, err = fmt.Fprintf(out, "%s  %s\n", when(e.at), e.text)
	}
	return err
}

func by(name string) string {
	if name == "" {
		return ""
	}
	return " by " + printable(name, 200)
}

func colon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

type entry struct {
	at   time.Time
	text string
}

// timeline is what happened to a case, in that order.
func timeline(c *inbox.Case) []entry {
	entries := make([]entry, 0, len(c.Events)+len(c.Notes))
	for _, e := range c.Events {
		text := fmt.Sprintf("%s %s  %s", statusOf(e), e.Value, e.ID)
		if e.Key.ExternalID != c.ExternalID {
			text += "\n  external id: " + dash(printable(e.Key.ExternalID, 200))
		}
		text += "\n  " + progressOf(e)
		if e.LastError != "" && e.State != inbox.Done {
			text += "\n  last error: " + oneLine(e.LastError, 300)
		}
		entries = append(entries, entry{e.ReceivedAt, text})
	}
	for _, n := range c.Notes {
		entries = append(entries, entry{n.At, noteText(n)})
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return a.at.Compare(b.at) })
	return entries
}

// progressOf says how far a notification has come.
func progressOf(e *inbox.Event) string {
	text := stateOf(e)
	if e.Attempts > 0 {
		text += ", " + plural(e.Attempts, "attempt", "attempts")
	}
	switch {
	case e.Running:
		text += ", running now"
	case !e.NextAttempt.IsZero():
		text += ", next attempt " + when(e.NextAttempt)
	case e.State == inbox.Pending:
		text += ", waits for an earlier one of the case"
	case !e.DoneAt.IsZero():
		text += ", " + when(e.DoneAt)
	}
	return text
}

func noteText(n inbox.Note) string {
	text := string(n.Action) + by(n.By)
	if n.EventID != "" {
		text += "  " + n.EventID
	}
	if n.Text != "" {
		text += "\n  " + printable(n.Text, 1000)
	}
	return text
}

// showEvent writes all that is known of a notification.
func showEvent(ctx context.Context, in reader, out io.Writer, id string, encode bool) error {
	e, err := in.Get(ctx, id)
	if errors.Is(err, inbox.ErrNotFound) {
		return errors.New("there is no case and no notification with this id")
	}
	if err != nil {
		return err
	}
	if encode {
		return json.NewEncoder(out).Encode(e)
	}
	f := fields{out}
	f.add("notification", e.ID)
	if e.Key.TransactionID != "" {
		f.add("transaction", e.Key.TransactionID)
		f.add("external id", printable(e.Key.ExternalID, 200))
		f.add("status", statusOf(e))
		f.add("value", e.Value.BRL())
	}
	f.add("state", progressOf(e))
	f.time("received", e.ReceivedAt, "")
	if e.Deliveries > 1 {
		f.add("deliveries", fmt.Sprintf("%d, the last %s", e.Deliveries, when(e.LastAt)))
	}
	f.add("last error", oneLine(e.LastError, 4000))
	notes, err := in.Notes(ctx, e.ID)
	if err != nil {
		return err
	}
	for _, n := range notes {
		f.add(string(n.Action), when(n.At)+by(n.By)+colon(printable(n.Text, 1000)))
	}
	_, err = fmt.Fprintf(out, "body           %d bytes\n\n%s\n", len(e.Raw), escape(strings.TrimRight(string(e.Raw), "\n")))
	return err
}
