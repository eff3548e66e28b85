package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// These have no variables: what a person asks for is not set once and for all.
var (
	asJSON       = &setting{flag: "json", usage: "print JSON"}
	listState    = &setting{flag: "state", arg: "STATE", usage: "only those that are pending, done, dead or quarantined"}
	listSince    = &setting{flag: "since", arg: "TIME", usage: "only those received since then: 2026-01-31, 2026-01-31T12:00:00Z, or 2d for two days ago"}
	listUntil    = &setting{flag: "until", arg: "TIME", usage: "only those received before then"}
	listSearch   = &setting{flag: "search", arg: "TEXT", usage: "only those of transactions of which an id begins with this text: the transaction id, an external or end-to-end id; with --state quarantined those with this text in their body"}
	listLimit    = &setting{flag: "limit", arg: "N", value: "100", usage: "how many, the last first"}
	replayDead   = &setting{flag: "dead", usage: "replay all that are dead, the oldest first"}
	replayError  = &setting{flag: "error", arg: "TEXT", usage: "with --dead: only those whose last error holds this text"}
	replayForce  = &setting{flag: "force", usage: "replay although a newer notification of the transaction is done"}
	replayDryRun = &setting{flag: "dry-run", usage: "say what would be replayed, and replay nothing"}
	purgeAge     = &setting{flag: "older-than", arg: "TIME", usage: "delete cases to which nothing has happened for so long, such as 400d"}
	purgeDeadToo = &setting{flag: "include-dead", usage: "delete what is dead and quarantined too"}
)

// inboxShutdown is short: nothing runs.
const inboxShutdown = 10 * time.Second

func newInbox(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inbox",
		Short: "Look into the inbox, replay what failed, delete what is old",
		Long: `Looks into the inbox that --db names, and changes it.

pixmed serve may run meanwhile, except that replay and purge change a SQLite file only
while none runs. What is replayed is worked by pixmed serve.`,
		Example: `  pixmed inbox stats
  pixmed inbox list --state dead
  pixmed inbox show 5a94d48d-c9f3-46be-8448-83510ca42bde
  pixmed inbox replay --dead --error 'connection refused' --since 2d
  pixmed inbox purge --older-than 400d`,
	}
	asGroup(cmd)
	cmd.AddCommand(newInboxStats(p), newInboxList(p), newInboxShow(p), newInboxReplay(p), newInboxPurge(p))
	return cmd
}

func newInboxStats(p *process) *cobra.Command {
	cmd := &cobra.Command{Use: "stats", Short: "Count notifications by state", Args: noArgs}
	addSettings(cmd, asJSON)
	return onInbox(p, cmd, func(v *values, _ []string) operation {
		encode := v.on(asJSON)
		return reading(func(ctx context.Context, in reader) error {
			s, err := in.Stats(ctx)
			if err != nil {
				return err
			}
			lastDay, err := in.CountReceived(ctx, time.Now().Add(-day), day, 1)
			if err != nil {
				return err
			}
			if encode {
				return json.NewEncoder(p.out).Encode(map[string]any{
					"pending": s.Pending, "doneOfLastDay": lastDay[0].Done, "dead": s.Dead, "quarantined": s.Quarantined,
					"oldestPendingSeconds": int64(s.OldestPending.Seconds()),
				})
			}
			fmt.Fprintf(p.out, "pending\t%d\ndead\t%d\nquarantined\t%d\ndone\t%d, of those received in the last 24 hours\n", s.Pending, s.Dead, s.Quarantined, lastDay[0].Done)
			if s.Pending > 0 {
				fmt.Fprintf(p.out, "The oldest that is pending was received %v ago.\n", s.OldestPending.Round(time.Second))
			}
			return nil
		})
	})
}

func newInboxList(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List notifications, the last first", Args: noArgs,
		Long: `Lists notifications, the last first, with their event ids, which replay takes. With
--json there is one object a line; raw is the body in base64.`,
	}
	addSettings(cmd, listState, listSince, listUntil, listSearch, listLimit, asJSON)
	return onInbox(p, cmd, func(v *values, _ []string) operation {
		encode := v.on(asJSON)
		f := inbox.Filter{
			Since: v.since(listSince), Until: v.since(listUntil), Search: v.text(listSearch), Limit: v.number(listLimit, 1_000_000),
		}
		if state := v.text(listState); state != "" {
			f.State = inbox.State(v.oneOf(listState, states...))
		}
		return reading(func(ctx context.Context, in reader) error {
			w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
			if !encode {
				fmt.Fprintln(w, "EVENT\tSTATE\tRECEIVED\tSTATUS\tTRANSACTION\tATTEMPTS\tLAST ERROR")
			}
			err := each(ctx, in, f, func(e *inbox.Event) error {
				if encode {
					return json.NewEncoder(p.out).Encode(e)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", e.ID, stateOf(e), when(e.ReceivedAt),
					dash(printable(string(e.Status), 64)), dash(e.Key.TransactionID), e.Attempts, printable(e.LastError, 100))
				return nil
			})
			return errors.Join(err, w.Flush())
		})
	})
}

var states = []string{string(inbox.Pending), string(inbox.Done), string(inbox.Dead), string(inbox.Quarantined)}

// each calls do with up to f.Limit events.
func each(ctx context.Context, in reader, f inbox.Filter, do func(*inbox.Event) error) error {
	const most = 1000 // of a page
	for left := f.Limit; left > 0; {
		f.Limit = min(left, most)
		page, err := in.List(ctx, f)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := do(e); err != nil {
				return err
			}
		}
		if len(page) < f.Limit {
			return nil
		}
		left -= len(page)
		f.After = page[len(page)-1].ID
	}
	return nil
}

func newInboxShow(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a transaction or a notification, with bodies and errors",
		Long: `Shows all notifications of a transaction in the order in which they were accepted, or
the one with an event id, with bodies and errors.`,
		Args: ids(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
	}
	addSettings(cmd, asJSON)
	return onInbox(p, cmd, func(v *values, args []string) operation {
		encode := v.on(asJSON)
		return reading(func(ctx context.Context, in reader) error {
			events, err := in.History(ctx, args[0])
			if err == nil && len(events) == 0 {
				var e *inbox.Event
				if e, err = in.Get(ctx, args[0]); err == nil {
					events = []*inbox.Event{e}
				}
			}
			switch {
			case errors.Is(err, inbox.ErrNotFound):
				return errors.New("there is no transaction and no notification with this id")
			case err != nil:
				return err
			case encode:
				return json.NewEncoder(p.out).Encode(events)
			}
			for i, e := range events {
				if i > 0 {
					fmt.Fprintln(p.out)
				}
				show(p.out, e)
			}
			return nil
		})
	})
}

// show writes all that is known of an event.
func show(w io.Writer, e *inbox.Event) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-12s %s\n", name, value)
		}
	}
	line("event", e.ID)
	line("transaction", e.Key.TransactionID)
	line("external id", printable(e.Key.ExternalID, 200))
	line("status", printable(string(e.Status), 64))
	line("state", stateOf(e))
	line("received", when(e.ReceivedAt))
	if !e.DoneAt.IsZero() {
		line("done", when(e.DoneAt))
	}
	line("attempts", fmt.Sprint(e.Attempts))
	line("last error", printable(e.LastError, 2000))
	fmt.Fprintf(w, "body, %d bytes:\n%s\n", len(e.Raw), escape(strings.TrimRight(string(e.Raw), "\n")))
}

func newInboxReplay(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "replay [EVENT...]", Short: "Make pending again what is dead or quarantined",
		Long: `Makes notifications pending again that are dead or quarantined, with all their attempts
before them: those with the event ids given, or with --dead all that are dead. What is
quarantined is taken up if this version finds it valid. One of a transaction of which a
newer notification is done is left alone, since an old one could undo it; look at it
first, then use --force.

The exit code is 1 if some were not replayed.`,
		Args: ids(0, 1000), ValidArgsFunction: cobra.NoFileCompletions,
	}
	addSettings(cmd, replayDead, replayError, listSince, listUntil, replayForce, replayDryRun)
	return onInbox(p, cmd, func(v *values, args []string) operation {
		r := &replay{process: p, cause: v.text(replayError), dryRun: v.on(replayDryRun)}
		f := inbox.Filter{State: inbox.Dead, Since: v.since(listSince), Until: v.since(listUntil), Limit: 1_000_000}
		if v.on(replayForce) {
			r.options = append(r.options, inbox.Force())
		}
		dead := v.on(replayDead)
		switch {
		case dead && len(args) > 0:
			v.problem(replayDead, "give ids or this, not both")
		case !dead && len(args) == 0:
			v.errs = append(v.errs, errors.New("no ids: give some, or --dead"))
		case !dead && (v.isSet(replayError) || v.isSet(listSince) || v.isSet(listUntil)):
			v.errs = append(v.errs, errors.New("--error, --since and --until choose among --dead"))
		}
		return changing(func(ctx context.Context, in *inbox.Inbox) error {
			if !dead {
				return r.run(ctx, in, args)
			}
			var found []string
			err := each(ctx, in, f, func(e *inbox.Event) error {
				if strings.Contains(e.LastError, r.cause) {
					found = append(found, e.ID)
				}
				return nil
			})
			if err != nil {
				return err
			}
			// The first first: a newer one that is done would keep an older one from being
			// replayed.
			slices.Reverse(found)
			return r.run(ctx, in, found)
		})
	})
}

// replay replays events, and counts.
type replay struct {
	*process

	cause   string
	dryRun  bool
	options []inbox.ActionOption
}

func (r *replay) run(ctx context.Context, in *inbox.Inbox, events []string) error {
	replayed, left := 0, 0
	for _, id := range events {
		var err error
		if r.dryRun {
			_, err = in.Get(ctx, id)
		} else {
			err = in.Replay(ctx, id, r.options...)
		}
		text := "replayed"
		switch {
		case err == nil && r.dryRun:
			text = "would be replayed"
		case err == nil:
		case errors.Is(err, inbox.ErrSuperseded):
			text = "left alone: a newer notification of the transaction is done; look at it, then use --force"
		case errors.Is(err, inbox.ErrNotReplayable):
			text = "left alone: it is neither dead nor quarantined"
		case errors.Is(err, inbox.ErrNotFound):
			text = "there is no such notification"
		case errors.Is(err, pixmed.ErrDuplicate):
			text = "left alone: its status is the last one of its transaction; use --force if you mean it"
		case isInvalid(err):
			text = "left alone: it is not valid: " + printable(err.Error(), 300)
		default:
			return fmt.Errorf("after %d were replayed: %w", replayed, err)
		}
		if err == nil {
			replayed++
		} else {
			left++
		}
		fmt.Fprintf(r.out, "%s\t%s\n", id, text)
	}
	if r.dryRun {
		fmt.Fprintf(r.err, "%d would be replayed unless a newer one is done, %d left alone\n", replayed, left)
	} else {
		fmt.Fprintf(r.err, "%d replayed, %d left alone\n", replayed, left)
	}
	if left > 0 {
		return &exit{code: exitFailed}
	}
	return nil
}

// isInvalid reports whether a quarantined body is still not valid.
func isInvalid(err error) bool {
	_, malformed := errors.AsType[*pixmed.SyntaxError](err)
	_, invalid := errors.AsType[*pixmed.ValidationError](err)
	return malformed || invalid || errors.Is(err, pixmed.ErrNotInfraction)
}

func newInboxPurge(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "purge", Short: "Delete cases that are old", Args: noArgs,
		Long: `Deletes the cases to which nothing has happened for as long as --older-than says. None
that holds something pending is deleted, and none with something dead unless
--include-dead is given. What is deleted is no longer known as a duplicate. pixmed serve
does it by itself, after its --retention.`,
	}
	addSettings(cmd, purgeAge, purgeDeadToo)
	return onInbox(p, cmd, func(v *values, _ []string) operation {
		var options []inbox.PurgeOption
		if v.on(purgeDeadToo) {
			options = append(options, inbox.IncludeDead())
		}
		age := time.Duration(0)
		if !v.isSet(purgeAge) {
			v.problem(purgeAge, "say how old")
		} else {
			age = v.duration(purgeAge, 0, 10_000*day)
		}
		return changing(func(ctx context.Context, in *inbox.Inbox) error {
			n, err := in.Purge(ctx, age, options...)
			if err == nil {
				fmt.Fprintf(p.out, "notifications deleted: %d\n", n)
			}
			return err
		})
	})
}

// reader is what can be read of an inbox.
type reader interface {
	Stats(ctx context.Context) (inbox.Stats, error)
	CountReceived(ctx context.Context, from time.Time, span time.Duration, n int) ([]inbox.Received, error)
	List(ctx context.Context, f inbox.Filter) ([]*inbox.Event, error)
	Get(ctx context.Context, id string) (*inbox.Event, error)
	History(ctx context.Context, transactionID string) ([]*inbox.Event, error)
}

// operation is what a command does with a database.
type operation func(ctx context.Context, db *database) error

// reading is an operation that a SQLite file can be open elsewhere for.
func reading(do func(context.Context, reader) error) operation {
	return func(ctx context.Context, db *database) (err error) {
		if db.pool != nil {
			return changing(func(ctx context.Context, in *inbox.Inbox) error { return do(ctx, in) })(ctx, db)
		}
		in, err := sqlite.OpenReader(ctx, db.path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.Close()) }()
		return do(ctx, in)
	}
}

// changing is an operation on an inbox that is open, and not started.
func changing(do func(context.Context, *inbox.Inbox) error) operation {
	return func(ctx context.Context, db *database) error {
		in, closePool, err := db.open(ctx, pixmed.ReceiverFunc(notStarted), 1, inbox.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return err
		}
		defer closePool()
		err = do(ctx, in)
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), inboxShutdown)
		defer cancel()
		return errors.Join(err, in.Stop(stopping))
	}
}

// onInbox has a command read its settings and then work on the inbox.
func onInbox(p *process, cmd *cobra.Command, prepare func(*values, []string) operation) *cobra.Command {
	addDatabase(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v := newValues(cmd, p)
		do := prepare(v, args)
		db := readDatabase(v)
		if db.path != "" {
			// To open it would make it.
			if _, err := os.Stat(db.path); errors.Is(err, fs.ErrNotExist) {
				v.problem(databaseAt, "there is no file %s", db.path)
			}
		}
		if err := v.err(); err != nil {
			return err
		}
		err := do(cmd.Context(), db)
		if cmd.Context().Err() != nil {
			return &exit{exitInterrupted, err}
		}
		return err
	}
	return cmd
}

// notStarted is never called: an inbox that is not started works nothing.
func notStarted(context.Context, *pixmed.Notification) error {
	return errors.New("the inbox was opened to look at, not to work")
}

// ids takes a number of UUIDs as arguments.
func ids(least, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			want := "an id"
			if most > 1 {
				want = fmt.Sprintf("at most %d ids", most)
			}
			return usageError(fmt.Errorf("want %s, and not %d", want, len(args)))
		}
		for i, arg := range args {
			if _, err := parseID(arg); err != nil {
				return usageError(fmt.Errorf("argument %d: %w", i+1, err))
			}
		}
		return nil
	}
}

// since returns a setting that is a time: a day in UTC, a time with its zone, or how
// long ago it was.
func (v *values) since(s *setting) time.Time {
	text := v.text(s)
	if text == "" {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at
		}
	}
	ago, err := parseDuration(text)
	if err != nil || ago < 0 {
		v.problem(s, "want a time such as 2026-01-31, 2026-01-31T12:00:00Z, or 2d for two days ago, not %s", quote(text))
	}
	return time.Now().Add(-ago)
}

func stateOf(e *inbox.Event) string {
	if e.Discarded {
		return string(e.State) + ", discarded"
	}
	return string(e.State)
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
