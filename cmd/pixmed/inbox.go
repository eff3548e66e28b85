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
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

// What a person asks for has no variable: it is not set once and for all.
var asJSON = &setting{flag: "json", usage: "print JSON"}

// inboxShutdown is short: nothing runs.
const inboxShutdown = 10 * time.Second

func newInbox(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inbox",
		Short: "Look into the inbox, act on cases and on what failed, compare it with the gateway's list",
		Long: `Looks into the inbox that --db names, and changes it.

A case is a transaction under a MED request; a notification is one of the webhooks that
came for it. Most commands take the id of one or the other, which cases and show print.

With PostgreSQL every command works while pixmed serve runs. To read, a role that may only
SELECT is enough, and so is a standby; to change something, use the version of pixmed that
serves, since a newer one updates the tables. A SQLite file can be read while pixmed serve
runs, by the user who owns the file, but changed only while no other process has it open:
stop pixmed serve first, or use its operations page. What is replayed, retried or imported
is processed by pixmed serve.`,
		Example: `  pixmed inbox cases --unanswered --due-before 2d
  pixmed inbox show 5a94d48d-c9f3-46be-8448-83510ca42bde
  pixmed inbox answered 5a94d48d-c9f3-46be-8448-83510ca42bde --note 'defence sent, protocol 4711'
  pixmed inbox replay --state dead --error 'connection refused'
  pixmed inbox import cases.csv`,
	}
	asGroup(cmd)
	cmd.AddCommand(newInboxStats(p), newInboxCases(p), newInboxList(p), newInboxShow(p), newInboxImport(p),
		newInboxPurge(p), newInboxDelete(p))
	for i := range actions {
		cmd.AddCommand(newInboxAction(p, &actions[i]))
	}
	return cmd
}

func newInboxStats(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "stats", Short: "Count open cases, and notifications by state", Args: noArgs,
		Long: `Counts open cases and their value, and notifications by state. A case can be due if the
service sets a deadline, as pixmed serve --defence does.`,
		Example: `  pixmed inbox stats
  pixmed inbox stats --json --queue receipts`,
	}
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
				return json.NewEncoder(p.out).Encode(newCounts(s, lastDay[0].Done))
			}
			return writeStats(p.out, s, lastDay[0].Done)
		})
	})
}

// counts is what stats prints as JSON.
type counts struct {
	Open             int64         `json:"open"`
	Blocked          pixmed.Amount `json:"blocked"`
	Overdue          int64         `json:"overdue"`
	NearestDue       time.Time     `json:"nearestDue,omitzero"`
	RemindersGivenUp int64         `json:"remindersGivenUp"`
	Pending          int64         `json:"pending"`
	OldestPending    int64         `json:"oldestPendingSeconds"`
	Dead             int64         `json:"dead"`
	Quarantined      int64         `json:"quarantined"`
	DoneOfLastDay    int64         `json:"doneOfLastDay"`
}

func newCounts(s inbox.Stats, done int64) counts {
	return counts{
		s.Open, s.Blocked, s.Overdue, s.NearestDue.UTC(), s.RemindersGivenUp,
		s.Pending, int64(s.OldestPending.Seconds()), s.Dead, s.Quarantined, done,
	}
}

func writeStats(out io.Writer, s inbox.Stats, done int64) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "open cases\t%d\nblocked\t%s\noverdue\t%d\n", s.Open, s.Blocked.BRL(), s.Overdue)
	if !s.NearestDue.IsZero() {
		fmt.Fprintf(w, "next due\t%s\n", when(s.NearestDue))
	}
	if s.RemindersGivenUp > 0 {
		fmt.Fprintf(w, "reminder failed\t%d\n", s.RemindersGivenUp)
	}
	fmt.Fprintf(w, "\npending\t%d\ndead\t%d\nquarantined\t%d\ndone\t%d, of those received in the last 24 hours\n", s.Pending, s.Dead, s.Quarantined, done)
	if s.Pending > 0 {
		fmt.Fprintf(w, "\nThe oldest that is pending was received %v ago.\n", s.OldestPending.Round(time.Second))
	}
	return w.Flush()
}

// reader is what can be read of an inbox.
type reader interface {
	Stats(ctx context.Context) (inbox.Stats, error)
	CountReceived(ctx context.Context, from time.Time, span time.Duration, n int) ([]inbox.Received, error)
	List(ctx context.Context, f inbox.Filter) ([]*inbox.Event, error)
	Get(ctx context.Context, id string) (*inbox.Event, error)
	History(ctx context.Context, transactionID string) ([]*inbox.Event, error)
	Cases(ctx context.Context, f inbox.CaseFilter) ([]*inbox.Case, error)
	Case(ctx context.Context, transactionID string) (*inbox.Case, error)
	Notes(ctx context.Context, id string) ([]inbox.Note, error)
}

// operation is what a command does with a database.
type operation func(ctx context.Context, db *database) error

// reading is an operation that changes nothing, not even tables that are older than this
// program.
func reading(do func(context.Context, reader) error) operation {
	return func(ctx context.Context, db *database) error {
		in, closePool, err := db.openReader(ctx)
		if err != nil {
			return err
		}
		defer closePool()
		err = do(ctx, in)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = errors.New("one read may take 5 s, so that it does not hold up a running server, and this one took longer: ask for less")
		}
		return err
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

// changingBoth is changing with the inbox of receipts too, if there is one.
func changingBoth(do func(context.Context, ...*inbox.Inbox) error) operation {
	return func(ctx context.Context, db *database) error {
		return changing(func(ctx context.Context, in *inbox.Inbox) error {
			switch kept, err := db.receipts().kept(ctx); {
			case err != nil:
				return err
			case !kept:
				return do(ctx, in)
			}
			return changing(func(ctx context.Context, receipts *inbox.Inbox) error { return do(ctx, in, receipts) })(ctx, db.receipts())
		})(ctx, db)
	}
}

// onInbox has a command read its settings and then work on one of the two inboxes.
func onInbox(p *process, cmd *cobra.Command, prepare func(*values, []string) operation) *cobra.Command {
	addSettings(cmd, inboxQueue)
	return onCases(p, cmd, prepare)
}

// onCases is onInbox for what makes sense of notifications alone.
func onCases(p *process, cmd *cobra.Command, prepare func(*values, []string) operation) *cobra.Command {
	addSettings(cmd, databaseSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v := newValues(cmd, p)
		do := prepare(v, args)
		db := readDatabase(v)
		if err := v.err(); err != nil {
			return err
		}
		err := db.exists(cmd.Context())
		if err == nil {
			err = do(cmd.Context(), db)
		}
		if cmd.Context().Err() != nil {
			return &exit{exitInterrupted, err}
		}
		return err
	}
	return cmd
}

// exists returns an error if there is no inbox: to open it would make it.
func (d *database) exists(ctx context.Context) error {
	kept, err := d.kept(ctx)
	switch {
	case err != nil || kept:
		return err
	case d.pool == nil:
		return usageError(fmt.Errorf("there is no file %s, which --%s or %s names, or it is empty", d.path, databaseAt.flag, databaseAt.variable))
	default:
		return usageError(fmt.Errorf("there is no inbox in the database: it has no schema %s", d.schema))
	}
}

// kept reports whether there is an inbox.
func (d *database) kept(ctx context.Context) (kept bool, err error) {
	if d.pool == nil {
		info, err := os.Stat(d.path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil && info.Size() > 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, d.pool.ConnConfig.Copy())
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL", d.schema).Scan(&kept)
	return kept, err
}

// lookTimeout is how long it may take to find out whether there is an inbox.
const lookTimeout = 30 * time.Second

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
				if least > 0 {
					want = fmt.Sprintf("from %d to %d ids", least, most)
				}
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
	at, ago := v.moment(s, "2d for two days ago")
	return at.Add(-ago)
}

// until is since, but for how far from now it is.
func (v *values) until(s *setting) time.Time {
	at, left := v.moment(s, "2d for two days from now")
	return at.Add(left)
}

// moment returns a setting that is a time, or now and a distance from it.
func (v *values) moment(s *setting, example string) (at time.Time, distance time.Duration) {
	text := v.text(s)
	if text == "" {
		return time.Time{}, 0
	}
	if at, err := parseTime(text); err == nil {
		return at, 0
	}
	distance, err := parseDuration(text)
	if err != nil || distance < 0 {
		v.problem(s, "want a time such as 2026-01-31, 2026-01-31T12:00:00Z, or %s, not %s", example, quote(text))
	}
	return time.Now(), distance
}

// parseTime reads a day in UTC, or a time with its zone.
func parseTime(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		at, err = time.Parse(time.DateOnly, text)
	}
	return at, err
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// plural returns a number with what it counts.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
