package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/inboxtest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// window is until when cases of a filledInbox have to be answered.
const window = 72 * time.Hour

// filled is an inbox with something of each kind in it.
type filled struct {
	env                            map[string]string
	open, ended, dead              pixmed.Infraction // cases: the last one's notification is dead
	deadEvent, doneEvent, notValid string            // notifications
}

// strange is an external id that a terminal must not obey.
const strange = "\x1b[2J\u202e"

// fillInbox opens an inbox as a service of somebody's own would, with a window, has it
// work, and closes it. more is done before.
func fillInbox(t *testing.T, database string, more ...func(context.Context, *inbox.Inbox)) *filled {
	t.Helper()
	ctx := t.Context()
	f := &filled{env: map[string]string{"PIXMED_DB": database}}
	f.open, f.ended = pixmedtest.NewInfraction(), pixmedtest.NewInfraction()
	f.dead = pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.ExternalID, i.Value = strange, 123456 })
	in, closeIt := openService(t, database, func(_ context.Context, n *pixmed.Notification) error {
		if n.ExternalID == strange {
			return errors.New("the application answered 418 \x1b]0;x\a")
		}
		return nil
	})
	if err := in.Start(ctx); err != nil {
		t.Fatal(err)
	}
	ended := f.ended
	ended.MEDStatus = pixmed.Cancelled
	for _, i := range []pixmed.Infraction{f.open, f.dead, f.ended, ended} {
		if err := in.Receive(ctx, &pixmed.Notification{Infraction: i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Quarantine(ctx, []byte("{\"transactionId\": \"\x1b]0;x\a\""), errors.New("malformed JSON")); err != nil {
		t.Fatal(err)
	}
	if _, err := inboxtest.Idle(ctx, in); err != nil {
		t.Fatal(err)
	}
	for _, do := range more {
		do(ctx, in)
	}
	for state, id := range map[inbox.State]*string{inbox.Dead: &f.deadEvent, inbox.Done: &f.doneEvent, inbox.Quarantined: &f.notValid} {
		events, err := in.List(ctx, inbox.Filter{State: state, Limit: 1})
		if err != nil || len(events) != 1 {
			t.Fatal(events, err)
		}
		*id = events[0].ID
	}
	closeIt()
	return f
}

// openService opens an inbox that gives up at the first failure. It has to be closed.
func openService(t *testing.T, at string, receiver pixmed.ReceiverFunc) (in *inbox.Inbox, closeIt func()) {
	t.Helper()
	v := newTestValues(t, map[string]string{"PIXMED_DB": at}, nil, databaseSettings...)
	return openDatabase(t, readDatabase(v), receiver)
}

func openDatabase(t *testing.T, db *database, receiver pixmed.ReceiverFunc) (in *inbox.Inbox, closeIt func()) {
	t.Helper()
	in, closePool, err := db.open(t.Context(), receiver, 2, inbox.WithMaxAttempts(1), inbox.WithDefence(window, nil), inbox.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return in, func() {
		t.Helper()
		if err := in.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		closePool()
	}
}

// inbox runs pixmed inbox, and fails the test if the exit code is another one or if a
// terminal would obey what it prints.
func (f *filled) inbox(t *testing.T, code int, args ...string) outcome {
	t.Helper()
	got := try(t, f.env, append([]string{"inbox"}, args...)...)
	if got.code != code || strings.ContainsAny(got.out+got.err, "\x1b\a\u202e") {
		t.Errorf("pixmed inbox %s: %+v, want code %d", strings.Join(args, " "), got, code)
	}
	return got
}

// onBoth runs a test with a filled inbox on each engine.
func onBoth(t *testing.T, test func(t *testing.T, f *filled)) {
	t.Helper()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fillInbox(t, database(t)))
		})
	}
}

func TestInboxStats(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		out := strings.Join(strings.Fields(f.inbox(t, exitOK, "stats").out), " ")
		contains(t, out, "open cases 2", "blocked R$ 1.252,56", "overdue 0", "next due 20", "pending 0", "dead 1", "quarantined 1", "done 3, of those received in the last 24 hours")
		var got struct {
			Open, Overdue, Pending, Dead, Quarantined, DoneOfLastDay int
			Blocked                                                  pixmed.Amount
			NearestDue                                               time.Time
		}
		text := f.inbox(t, exitOK, "stats", "--json").out
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Open != 2 || got.Blocked != 125256 || got.Dead != 1 || got.Quarantined != 1 || got.DoneOfLastDay != 3 {
			t.Errorf("%s: %v", text, err)
		}
		if left := time.Until(got.NearestDue); left < window-time.Hour || left > window {
			t.Errorf("the nearest is due in %v", left)
		}
	})
}

func withoutGateway(env map[string]string) {
	for _, name := range []string{"PIXMED_GATEWAY", "PIXMED_GATEWAY_KEY", "PIXMED_GATEWAY_SECRET"} {
		delete(env, name)
	}
}

// The commands need only what is in the file: a server works what they leave it.
func TestInboxThenServe(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"))
	f.inbox(t, exitOK, "replay", f.deadEvent)
	contains(t, f.inbox(t, exitOK, "stats").out, "The oldest that is pending was received ")
	env := settings(newGateway(t), f.env["PIXMED_DB"], t.TempDir())
	withoutGateway(env)
	app := newApplication(t, answerWith(http.StatusOK))
	env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = app.url, forwardSecret
	s := start(t, env)
	await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 4`)
	s.end(t)
	contains(t, f.inbox(t, exitOK, "show", f.dead.TransactionID).out, "replayed by ", "done, 2 attempts")
}

func TestInboxMistakes(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none.db")
	id := "00000000-0000-4000-8000-000000000000"
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"nothing":         {nil, nil},
		"no such":         {[]string{"stat"}, []string{"pixmed inbox: there is no command of this name; did you mean stats?"}},
		"no file":         {[]string{"stats", "--db", none}, []string{"there is no file " + none + ", which --db or PIXMED_DB names"}},
		"no id":           {[]string{"show"}, []string{"want an id, and not 0"}},
		"bad id":          {[]string{"show", "\x1b"}, []string{"argument 1: it is not an id"}},
		"a URL for an id": {[]string{"show", "postgres://u:" + webhookSecret + "@h/d"}, []string{"argument 1: it is not an id"}},
		"no ids":          {[]string{"replay"}, []string{"no ids: give some, or --state"}},
		"none":            {[]string{"answered"}, []string{"want from 1 to 1000 ids, and not 0"}},
		"both":            {[]string{"replay", id, "--state", "dead"}, []string{"--state: give ids or this, not both"}},
		"no choice":       {[]string{"replay", id, "--error", "x"}, []string{"--error, --since, --until and --yes go with --state"}},
		"all of what":     {[]string{"resolve", "--state", "done", "--yes"}, []string{"--state: want dead or quarantined, not \"done\""}},
		"nobody":          {[]string{"answered", id, "--by", ""}, []string{"--by: it is empty"}},
		"somebody":        {[]string{"answered", id, "--by", strange, "--note", strings.Repeat("x", 5000)}, []string{"--by: want a name", "--note: want at most 4096 bytes"}},
		"no age":          {[]string{"purge"}, []string{"--older-than: say how old"}},
		"bad settings":    {[]string{"list", "--state", "lost", "--since", "yesterday", "--limit", "0"}, []string{"--state: want pending or done or dead or quarantined or resolved", "--since: want a time", "2d for two days ago", "--limit: want"}},
		"bad case":        {[]string{"cases", "--state", "resolved", "--due-before", "soon"}, []string{"--state: want pending or dead or done", "--due-before: want a time", "2d for two days from now"}},
		"ended and open":  {[]string{"cases", "--ended", "--unanswered"}, []string{"--ended: --unanswered and --due-before are for open cases"}},
		"no list":         {[]string{"import"}, []string{"want a file, and not 0"}},
		"list is none":    {[]string{"import", none + ".csv"}, []string{none + ".csv: no such file or directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := try(t, map[string]string{"PIXMED_DB": none}, append([]string{"inbox"}, test.args...)...)
			if got.code != exitUsage {
				t.Errorf("%+v", got)
			}
			contains(t, got.err, test.want...)
			if strings.Contains(got.err, webhookSecret[:4]) {
				t.Errorf("a secret is in %s", got.err)
			}
		})
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("looking has made a file")
	}
	empty := filepath.Join(t.TempDir(), "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"purge --older-than 1d", "stats"} {
		got := try(t, map[string]string{"PIXMED_DB": empty}, append([]string{"inbox"}, strings.Fields(args)...)...)
		if info, err := os.Stat(empty); got.code != exitUsage || err != nil || info.Size() > 0 {
			t.Errorf("an empty file: %+v, %v, %v", got, info, err)
		}
	}
}

// In a database without an inbox nothing is made.
func TestInboxIsNotMade(t *testing.T) {
	t.Parallel()
	f := &filled{env: map[string]string{"PIXMED_DB": newPostgres(t)}}
	for _, args := range []string{"stats", "purge --older-than 1d", "list --queue receipts", "answered " + nothing} {
		contains(t, f.inbox(t, exitUsage, strings.Fields(args)...).err, "there is no inbox in the database: it has no schema pixmed_")
	}
}

// To look into an inbox in PostgreSQL takes no more than the right to read, and leaves
// the tables as they are, also those of servers whose version is another one.
func TestInboxReadsAlone(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, newPostgres(t))
	owner := f.env["PIXMED_DB"]
	role := "reader_" + databaseName(t, owner)
	onPostgres(t, owner, "CREATE ROLE "+role+" LOGIN PASSWORD '"+webhookSecret+"'; GRANT USAGE ON SCHEMA pixmed_inbox TO "+role+
		"; GRANT SELECT ON ALL TABLES IN SCHEMA pixmed_inbox TO "+role+"; ALTER ROLE "+role+" SET default_transaction_read_only = on")
	t.Cleanup(func() { onPostgres(t, owner, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	reader := mustParse(t, owner)
	reader.User = url.UserPassword(role, webhookSecret)
	f.env["PIXMED_DB"] = reader.String()
	list := writeList(t, "transactionId,externalId,value,medStatus\n"+f.open.TransactionID+","+f.open.ExternalID+",18.00,CANCELLED\n")
	reads := map[string]string{
		"stats": "open cases", "cases": f.open.TransactionID, "list": f.deadEvent, "show " + f.open.TransactionID: "ACKNOWLEDGED 18.00",
		"replay --state dead": f.deadEvent, "resolve --state quarantined": f.notValid, "import " + list: "differs",
	}
	for args, want := range reads {
		code := exitOK
		if strings.HasPrefix(args, "import") {
			code = exitDiffers
		}
		contains(t, f.inbox(t, code, strings.Fields(args)...).out, want)
	}
	f.env["PIXMED_DB"] = owner
	for version, want := range map[string]string{"-1": ": start the new version of the service first", "99": ": update the program"} { // older than any, and newer
		onPostgres(t, owner, "WITH d AS (DELETE FROM pixmed_inbox.inbox_migrations) INSERT INTO pixmed_inbox.inbox_migrations (version) VALUES ("+version+")")
		for args := range reads {
			contains(t, f.inbox(t, exitFailed, strings.Fields(args)...).err, "the schema pixmed_inbox has version "+version+", and this program ", want)
		}
	}
}

func TestMoments(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"": {}, "2026-01-31": time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC), "2026-01-31T12:00:00-03:00": time.Date(2026, 1, 31, 15, 0, 0, 0, time.UTC),
	} {
		v := newTestValues(t, nil, []string{"--since", text}, listSince)
		if got := v.since(listSince); !got.Equal(want) || v.err() != nil {
			t.Errorf("%q: %v, %v", text, got, v.err())
		}
	}
	v := newTestValues(t, nil, []string{"--since", "2d", "--due-before", "2d"}, listSince, casesDueBefore)
	if ago := time.Since(v.since(listSince)); ago < 2*day || ago > 2*day+time.Minute {
		t.Errorf("2d: %v ago", ago)
	}
	if left := time.Until(v.until(casesDueBefore)); left > 2*day || left < 2*day-time.Minute {
		t.Errorf("2d: in %v", left)
	}
}
