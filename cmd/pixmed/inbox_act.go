package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

var (
	actBy    = &setting{flag: "by", arg: "NAME", usage: "the person who does it, recorded with the case; the user who runs the command, unless set"}
	actNote  = &setting{flag: "note", arg: "TEXT", usage: "a note to record with the case"}
	actState = &setting{flag: "state", arg: "STATE", usage: "instead of ids: all that are dead, or all that are quarantined"}
	actError = &setting{flag: "error", arg: "TEXT", usage: "with --state: only those whose last error holds this text"}
	actForce = &setting{flag: "force", usage: "replay although a newer notification of the transaction is done"}
	actYes   = &setting{flag: "yes", usage: "with --state: do it; otherwise the command only lists what it would do it to"}
)

// An action is what a person does about cases or notifications.
type action struct {
	name  string
	arg   string // what the ids are of
	short string
	long  string
	done  string // the participle
	note  bool   // whether there is something to say about it
	force bool   // whether it can be forced
	all   func(ctx context.Context, in *inbox.Inbox, f inbox.Filter, note string, options []inbox.ActionOption) (inbox.Report, error)
	do    func(ctx context.Context, in *inbox.Inbox, id, note string, options []inbox.ActionOption) error
	both  func(ctx context.Context, inboxes []*inbox.Inbox, id, note string, options []inbox.ActionOption) error // instead of do
}

const (
	ofCases         = "TRANSACTION"
	ofNotifications = "EVENT"
)

var actions = []action{
	{
		name: "answered", arg: ofCases, done: "answered", note: true,
		short: "Record that cases were answered",
		long: `Records that the defence of a case was sent, when and by whom. The case is no longer
overdue and nobody is reminded of it. A case that was answered already is left alone.`,
		do: func(ctx context.Context, in *inbox.Inbox, id, note string, options []inbox.ActionOption) error {
			return in.MarkAnswered(ctx, id, note, options...)
		},
	},
	{
		name: "end", arg: ofCases, done: "ended", note: true,
		short: "End cases that are over although the gateway has not said so",
		long: `Ends a case that is over although the gateway has not said so: it is no longer open,
its value is not counted as blocked, and nobody is reminded of it. It ends among the
receipts too. Only a later notification that is neither final nor a duplicate opens it
again.`,
		both: endCase,
	},
	{
		name: "replay", arg: ofNotifications, done: "replayed", force: true,
		short: "Run again what is dead, quarantined or resolved",
		long: `Makes notifications pending again, with all their attempts: those with the ids given, or
with --state all that are dead or quarantined, the oldest first. A quarantined one is
accepted if this version finds it valid. If a newer notification of the transaction is
done, the old one could undo it and is left alone: look at the case with show, then use
--force.`,
		do: func(ctx context.Context, in *inbox.Inbox, id, _ string, options []inbox.ActionOption) error {
			return in.Replay(ctx, id, options...)
		},
		all: func(ctx context.Context, in *inbox.Inbox, f inbox.Filter, _ string, options []inbox.ActionOption) (inbox.Report, error) {
			return in.ReplayAll(ctx, f, options...)
		},
	},
	{
		name: "resolve", arg: ofNotifications, done: "resolved", note: true,
		short: "Close what is dead or quarantined and was settled by hand",
		long: `Ends notifications that are dead or quarantined and that a person has settled: those with
the ids given, or with --state all. They are kept with the note, and no longer counted.
replay still runs them again.`,
		do: func(ctx context.Context, in *inbox.Inbox, id, note string, options []inbox.ActionOption) error {
			return in.Resolve(ctx, id, note, options...)
		},
		all: func(ctx context.Context, in *inbox.Inbox, f inbox.Filter, note string, options []inbox.ActionOption) (inbox.Report, error) {
			return in.ResolveAll(ctx, f, note, options...)
		},
	},
	{
		name: "retry", arg: ofNotifications, done: "due now",
		short: "Run now what waits for its next attempt",
		long: `Runs a pending notification now instead of at its next attempt. It counts as an attempt
like any other.`,
		do: func(ctx context.Context, in *inbox.Inbox, id, _ string, options []inbox.ActionOption) error {
			return in.RetryNow(ctx, id, options...)
		},
	},
	{
		name: "discard", arg: ofNotifications, done: "discarded",
		short: "Give up a pending notification, so that the next of its case runs",
		long: `Makes a pending notification dead without another attempt, so that those of its
transaction that wait for it run. replay revives it.`,
		do: func(ctx context.Context, in *inbox.Inbox, id, _ string, options []inbox.ActionOption) error {
			return in.Discard(ctx, id, options...)
		},
	},
}

func newInboxAction(p *process, a *action) *cobra.Command {
	least := 1
	cmd := &cobra.Command{
		Use: a.name + " " + a.arg + "...", Short: a.short, ValidArgsFunction: cobra.NoFileCompletions,
		Long:    a.long + "\n\nThe exit code is 1 if some were left alone.",
		Example: fmt.Sprintf("  pixmed inbox %s 5a94d48d-c9f3-46be-8448-83510ca42bde", a.name),
	}
	options := []*setting{actBy}
	if a.note {
		options = append(options, actNote)
		cmd.Example += " --note 'see ticket 4711'"
	}
	if a.force {
		options = append(options, actForce)
	}
	if a.all != nil {
		least = 0
		cmd.Use = a.name + " [" + a.arg + "...]"
		cmd.Example += fmt.Sprintf("\n  pixmed inbox %[1]s --state dead --error 'connection refused' --since 2d\n  pixmed inbox %[1]s --state dead --error 'connection refused' --since 2d --yes", a.name)
		options = append(options, actState, actError, listSince, listUntil, actYes)
	}
	cmd.Args = ids(least, 1000)
	addSettings(cmd, options...)
	on := onInbox
	if a.arg == ofCases {
		on = onCases
	}
	return on(p, cmd, func(v *values, args []string) operation {
		r := &acting{process: p, action: a, options: []inbox.ActionOption{inbox.By(v.person(actBy, p))}}
		if a.note {
			r.note = v.note(actNote)
		}
		if a.force && v.on(actForce) {
			r.options = append(r.options, inbox.Force())
		}
		if a.all == nil || len(args) > 0 && !v.isSet(actState) {
			if a.all != nil && (v.isSet(actError) || v.isSet(listSince) || v.isSet(listUntil) || v.on(actYes)) {
				v.errs = append(v.errs, errors.New("--error, --since, --until and --yes go with --state, and not with ids"))
			}
			if a.both != nil {
				return changingBoth(func(ctx context.Context, inboxes ...*inbox.Inbox) error {
					return r.these(args, func(id string) error { return a.both(ctx, inboxes, id, r.note, r.options) })
				})
			}
			return changing(func(ctx context.Context, in *inbox.Inbox) error {
				return r.these(args, func(id string) error { return a.do(ctx, in, id, r.note, r.options) })
			})
		}
		f := inbox.Filter{Error: v.text(actError), Since: v.since(listSince), Until: v.since(listUntil)}
		switch {
		case len(args) > 0:
			v.problem(actState, "give ids or this, not both")
		case !v.isSet(actState):
			v.errs = append(v.errs, errors.New("no ids: give some, or --state"))
		default:
			f.State = inbox.State(v.oneOf(actState, string(inbox.Dead), string(inbox.Quarantined)))
		}
		if !v.on(actYes) {
			return reading(func(ctx context.Context, in reader) error { return r.wouldDo(ctx, in, f) })
		}
		return changing(func(ctx context.Context, in *inbox.Inbox) error { return r.allOf(ctx, in, f) })
	})
}

// acting does an action.
type acting struct {
	*process
	*action

	note    string
	options []inbox.ActionOption
}

// endCase ends a case among the receipts too, if it is there: one that stays open is
// never purged. That comes first, so that whoever tries again after a failure ends both.
func endCase(ctx context.Context, inboxes []*inbox.Inbox, id, note string, options []inbox.ActionOption) error {
	also := false
	for _, receipts := range inboxes[1:] {
		err := receipts.End(ctx, id, note, options...)
		if err != nil && !errors.Is(err, inbox.ErrNotFound) && !errors.Is(err, inbox.ErrEnded) {
			return err
		}
		also = err == nil
	}
	err := inboxes[0].End(ctx, id, note, options...)
	if also && errors.Is(err, inbox.ErrEnded) { // before its notification was handed on
		return nil
	}
	return err
}

// these acts on what ids name, and says what became of each.
func (r *acting) these(ids []string, do func(id string) error) error {
	done := 0
	for _, id := range ids {
		text := r.done
		if err := do(id); err != nil {
			why := leftAlone(err, r.arg)
			if why == "" {
				return r.after(done, err)
			}
			text = "left alone: " + why
		} else {
			done++
		}
		fmt.Fprintf(r.out, "%s\t%s\n", id, text)
	}
	return r.sum(done, len(ids)-done)
}

// wouldDo says on what an action would be done.
func (r *acting) wouldDo(ctx context.Context, in reader, f inbox.Filter) error {
	f.Limit = 1_000_000
	const shown = 20
	found := 0
	w := newEventTable(r.out)
	err := each(ctx, in, f, func(e *inbox.Event) error {
		if found++; found > shown {
			return nil
		}
		return w.add(e)
	})
	if err := errors.Join(err, w.Flush()); err != nil {
		return err
	}
	if found > shown {
		fmt.Fprintf(r.out, "... and %d more\n", found-shown)
	}
	fmt.Fprintf(r.err, "%s would be %s, and nothing was done: add --yes to do it\n", plural(found, "notification", "notifications"), r.done)
	return nil
}

// allOf acts on what a filter selects.
func (r *acting) allOf(ctx context.Context, in *inbox.Inbox, f inbox.Filter) error {
	report, err := r.all(ctx, in, f, r.note, r.options)
	for _, id := range report.Skipped {
		fmt.Fprintf(r.out, "%s\tleft alone: pixmed inbox %s %s says why\n", id, r.name, id)
	}
	if err != nil {
		return r.after(report.Done, err)
	}
	return r.sum(report.Done, len(report.Skipped))
}

// after is the error that ended it, after some were done.
func (r *acting) after(done int, err error) error {
	if done == 0 {
		return err
	}
	return fmt.Errorf("after %d were %s: %w", done, r.done, err)
}

// sum says how many were done.
func (r *acting) sum(done, left int) error {
	fmt.Fprintf(r.err, "%d %s, %d left alone\n", done, r.done, left)
	if left > 0 {
		return &exit{code: exitFailed}
	}
	return nil
}

// leftAlone says why nothing was done about something, in the words of the command;
// it is empty if that is not known to be the reason.
func leftAlone(err error, arg string) string {
	switch {
	case errors.Is(err, inbox.ErrNotFound) && arg == ofCases:
		return "there is no such case"
	case errors.Is(err, inbox.ErrNotFound):
		return "there is no such notification; pixmed inbox show TRANSACTION prints the ids of a case's"
	case errors.Is(err, inbox.ErrAnswered), errors.Is(err, inbox.ErrEnded):
		return printable(err.Error(), 500) // which says by whom and when
	case errors.Is(err, inbox.ErrSuperseded):
		return "a newer notification of the transaction is done; look at it, then use --force"
	case errors.Is(err, inbox.ErrNotReplayable):
		return "it is neither dead nor quarantined nor resolved"
	case errors.Is(err, inbox.ErrNotResolvable):
		return "it is neither dead nor quarantined"
	case errors.Is(err, inbox.ErrNotPending):
		return "it is not pending"
	case errors.Is(err, inbox.ErrRunning):
		return "it runs right now"
	case errors.Is(err, inbox.ErrNotInTurn):
		return "it waits for an earlier one of its transaction"
	case errors.Is(err, pixmed.ErrDuplicate):
		return "its status and value are the last ones of its transaction; use --force if you mean it"
	case isInvalid(err):
		return "it is not valid: " + printable(err.Error(), 300)
	}
	return ""
}

// isInvalid reports whether a quarantined body is still not valid.
func isInvalid(err error) bool {
	_, malformed := errors.AsType[*pixmed.SyntaxError](err)
	_, invalid := errors.AsType[*pixmed.ValidationError](err)
	return malformed || invalid || errors.Is(err, pixmed.ErrNotInfraction)
}

// person returns who acts.
func (v *values) person(s *setting, p *process) string {
	name := v.text(s)
	switch {
	case name == "" && v.isSet(s):
		v.problem(s, "it is empty")
	case name == "":
		return userName(user.Current, p.env)
	case len(name) > 200 || !utf8.ValidString(name) || hidden(name) || strings.ContainsAny(name, "\n\t"):
		v.problem(s, "want a name of at most 200 bytes, without control characters")
	}
	return name
}

// userName is what the operating system calls whoever runs the command.
func userName(current func() (*user.User, error), env map[string]string) string {
	if u, err := current(); err == nil && u.Username != "" {
		return printable(u.Username, 100)
	}
	if name := env["USER"]; name != "" { // a container may have no list of users
		return printable(name, 100)
	}
	return fmt.Sprintf("user %d", os.Getuid())
}

// note returns what a person has to say.
func (v *values) note(s *setting) string {
	text := v.text(s)
	if len(text) > 4<<10 || !utf8.ValidString(text) {
		v.problem(s, "want at most 4096 bytes of text in UTF-8")
	}
	return text
}
