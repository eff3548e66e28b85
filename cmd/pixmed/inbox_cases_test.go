package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

func TestInboxCases(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		f.inbox(t, exitOK, "answered", f.open.TransactionID)
		table := f.inbox(t, exitOK, "cases").out
		for _, row := range []string{
			`(?m)^TRANSACTION +CASE +STATUS +VALUE +OPENED +DUE +PENDING +DEAD +EXTERNAL ID$`,
			`(?m)^` + f.open.TransactionID + ` +answered +ACKNOWLEDGED +18\.00 +20\S+Z +20\S+Z +0 +0 +T&ste378$`,
			`(?m)^` + f.dead.TransactionID + ` +open +ACKNOWLEDGED +1234\.56 +20\S+Z +20\S+Z +0 +1 +"\\x1b\[2J\\u202e"$`,
			`(?m)^` + f.ended.TransactionID + ` +ended +CANCELLED +18\.00 +20\S+Z +- +0 +0 +T&ste378$`,
		} {
			if !regexp.MustCompile(row).MatchString(table) {
				t.Errorf("no %s in\n%s", row, table)
			}
		}
		if strings.Index(table, f.ended.TransactionID) < strings.Index(table, f.dead.TransactionID) {
			t.Errorf("what has ended comes first:\n%s", table)
		}
		for args, want := range map[string][]pixmed.Infraction{
			"":                        {f.open, f.dead, f.ended},
			"--open":                  {f.open, f.dead},
			"--ended":                 {f.ended},
			"--unanswered":            {f.dead},
			"--due-before 4d":         {f.open, f.dead},
			"--due-before 2d":         nil,
			"--due-before 2026-01-31": nil,
			"--state dead":            {f.dead},
			"--state pending":         nil,
			"--state done":            {f.open, f.ended},
			"--limit 1":               {f.open},
			"--search " + strings.ToUpper(f.ended.TransactionID): {f.ended},
			"--search " + string(f.dead.EndToEndID):              {f.dead},
		} {
			var got []string
			for line := range strings.Lines(f.inbox(t, exitOK, append([]string{"cases", "--json"}, strings.Fields(args)...)...).out) {
				var c inbox.Case
				if err := json.Unmarshal([]byte(line), &c); err != nil {
					t.Fatal(line, err)
				}
				got = append(got, c.TransactionID)
			}
			var ids []string
			for _, i := range want {
				ids = append(ids, i.TransactionID)
			}
			if fmt.Sprint(got) != fmt.Sprint(ids) {
				t.Errorf("cases %s: %v, want %v", args, got, ids)
			}
		}
	})
}

// More cases than the inbox has on a page.
func TestInboxManyCases(t *testing.T) {
	t.Parallel()
	const n = 450
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"), func(ctx context.Context, in *inbox.Inbox) {
		for i := range n {
			one := pixmed.Infraction{TransactionID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), TransactionStatus: "MED", TransactionType: "CASH_IN", MEDStatus: pixmed.Acknowledged}
			if err := in.Receive(ctx, &pixmed.Notification{Infraction: one}); err != nil {
				t.Fatal(err)
			}
		}
	})
	for limit, want := range map[string]int{"100": 100, "400": 400, "401": 401, "1000": n + 3} {
		if got := strings.Count(f.inbox(t, exitOK, "cases", "--json", "--limit", limit).out, "\n"); got != want {
			t.Errorf("--limit %s: %d cases, want %d", limit, got, want)
		}
	}
}

func TestStanding(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for want, c := range map[string]*inbox.Case{
		"ended":    {AnsweredAt: now},
		"answered": {Open: true, AnsweredAt: now, DueAt: now},
		"OVERDUE":  {Open: true, DueAt: now},
		"open":     {Open: true, DueAt: now.Add(1)},
	} {
		if got := standing(c, now); got != want {
			t.Errorf("%+v: %s, want %s", c, got, want)
		}
	}
}

func TestInboxShow(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		f.inbox(t, exitOK, "answered", f.dead.TransactionID, "--note", "sent\n"+strange, "--by", "Ana")
		out := f.inbox(t, exitOK, "show", strings.ToUpper(f.dead.TransactionID)).out
		contains(t, out, "transaction    "+f.dead.TransactionID, "case           answered", "status         ACKNOWLEDGED", "value          R$ 1.234,56", `external id    "\x1b[2J\u202e"`,
			"due            20", "Z by Ana\n", "notifications  1, of which 0 pending and 1 dead",
			"ACKNOWLEDGED 1234.56  "+f.deadEvent+"\n  dead, 1 attempt\n  last error: \"the application answered 418 \\x1b]0;x\\a\"\n",
			"answered by Ana\n  \"sent\\n\\x1b[2J\\u202e\"\n")
		if strings.Index(out, "ACKNOWLEDGED 1234.56") > strings.Index(out, "answered by Ana") {
			t.Errorf("not in order:\n%s", out)
		}
		contains(t, f.inbox(t, exitOK, "show", f.ended.TransactionID).out, "case           ended", "status         CANCELLED", "ended          20", "done, 1 attempt, 20")
		var c inbox.Case
		text := f.inbox(t, exitOK, "show", "--json", f.dead.TransactionID).out
		if err := json.Unmarshal([]byte(text), &c); err != nil || len(c.Events) != 1 || len(c.Notes) != 1 || c.Events[0].Key.ExternalID != strange {
			t.Errorf("%s: %v", text, err)
		}

		contains(t, f.inbox(t, exitOK, "show", f.deadEvent).out, "notification   "+f.deadEvent, "transaction    "+f.dead.TransactionID, "state          dead, 1 attempt", "last error     \"the application", `"medStatus":"ACKNOWLEDGED"`)
		f.inbox(t, exitOK, "resolve", f.notValid, "--note", "junk", "--by", "Bia")
		contains(t, f.inbox(t, exitOK, "show", f.notValid).out, "state          resolved", "by Bia: junk", `\u001b]0;x\u0007`)
		contains(t, f.inbox(t, exitOK, "show", "--json", f.notValid).out, `"state":"resolved"`)
		contains(t, f.inbox(t, exitFailed, "show", "00000000-0000-4000-8000-000000000000").err, "there is no case and no notification with this id")
	})
}

// What waits says until when, and what else; a long history is cut.
func TestTimeline(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	c := &inbox.Case{Open: true, ExternalID: "X", RemindersGivenUp: 1, NextReminder: at}
	for i := range 150 {
		c.Events = append(c.Events, &inbox.Event{ID: fmt.Sprint("event ", i), State: inbox.Pending, Key: pixmed.Key{ExternalID: "X"}, ReceivedAt: at.Add(time.Duration(i) * time.Second)})
	}
	c.Events[140].NextAttempt, c.Events[140].Attempts = at, 3
	c.Events[141].Running = true
	c.Events[142].Key.ExternalID = "Y"
	c.Notes = []inbox.Note{{At: at.Add(time.Hour), Action: inbox.ReminderGivenUp, Text: "no mail"}}
	var b strings.Builder
	if err := showCase(&b, c, at); err != nil {
		t.Fatal(err)
	}
	contains(t, b.String(), "not reminded   1 reminder failed for good", "next reminder  2026-11-27T12:00:00Z", "... and before these 51 entries, which --json prints",
		"event 140\n  pending, 3 attempts, next attempt 2026-11-27T12:00:00Z", "event 141\n  pending, running now", "event 142\n  external id: Y\n  pending, waits for an earlier one of the case",
		string(inbox.ReminderGivenUp)+"\n  no mail")
	if n := strings.Count(b.String(), "event "); n != 99 {
		t.Errorf("%d notifications are shown", n)
	}
}
