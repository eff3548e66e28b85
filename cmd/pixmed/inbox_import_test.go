package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/inboxtest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// writeList writes a list that is newer than all that the test has received.
func writeList(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "cases.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	return path
}

// table writes a list of cases with semicolons, as a spreadsheet in Brazil does.
func table(t *testing.T, openedAt string, cases ...pixmed.Infraction) string {
	t.Helper()
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Comma = ';'
	rows := [][]string{{"TransactionID", "ExternalID", "Value", "MedStatus", "openedAt", "Cliente"}}
	for _, i := range cases {
		rows = append(rows, []string{strings.ToUpper(i.TransactionID), i.ExternalID, i.Value.BRL(), string(i.MEDStatus), openedAt, "João"})
	}
	if err := w.WriteAll(rows); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func with(i pixmed.Infraction, modify func(*pixmed.Infraction)) pixmed.Infraction {
	modify(&i)
	return i
}

func cancelled(i *pixmed.Infraction) { i.MEDStatus = pixmed.Cancelled }

// findings returns what import prints as JSON.
func findings(t *testing.T, text string) (all []finding, counts compared) {
	t.Helper()
	for line := range strings.Lines(text) {
		var f finding
		err := json.Unmarshal([]byte(line), &f)
		if f.Kind == "counts" {
			err = json.Unmarshal([]byte(line), &counts)
		} else {
			all = append(all, f)
		}
		if err != nil {
			t.Fatal(line, err)
		}
	}
	return all, counts
}

func TestImport(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		opened := time.Now().Add(-2 * day).UTC().Truncate(time.Second)
		missing := pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.Value = 4200 })
		list := writeList(t, table(t, when(opened), with(f.ended, cancelled), with(f.dead, cancelled), missing))

		out := f.inbox(t, exitDiffers, "import", list).out
		for _, want := range []string{
			"equal 1", "missing in the inbox 1", "differ 1", "only in the inbox, and open 1",
			"missing 4 " + missing.TransactionID + " ACKNOWLEDGED 42.00 - T&ste378",
			"differs 3 " + f.dead.TransactionID + ` CANCELLED 1234.56 ACKNOWLEDGED 1234.56 "\x1b[2J\u202e"`,
			"only - " + f.open.TransactionID + " - ACKNOWLEDGED 18.00 T&ste378",
		} {
			contains(t, strings.Join(strings.Fields(out), " "), want)
		}
		if strings.Contains(out, f.ended.TransactionID) || strings.Contains(out, "received") {
			t.Errorf("what is equal is shown, or something was received:\n%s", out)
		}
		got, counts := findings(t, f.inbox(t, exitDiffers, "import", "--json", list).out)
		want := []finding{
			{Kind: differs, Line: 3, TransactionID: f.dead.TransactionID, ExternalID: strange, List: &said{pixmed.Cancelled, 123456}, Inbox: &said{pixmed.Acknowledged, 123456}},
			{Kind: isMissing, Line: 4, TransactionID: missing.TransactionID, ExternalID: "T&ste378", List: &said{pixmed.Acknowledged, 4200}},
			{Kind: isOnly, TransactionID: f.open.TransactionID, ExternalID: "T&ste378", Inbox: &said{pixmed.Acknowledged, 1800}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(compared{Listed: 3, Equal: 1, Missing: 1, Differ: 1, Only: 1}, counts); diff != "" {
			t.Error(diff)
		}

		// What is only here is still so after it.
		out = f.inbox(t, exitDiffers, "import", "--apply", list).out
		contains(t, strings.Join(strings.Fields(out), " "), "missing in the inbox 1", "differ 1", "only in the inbox, and open 1 received 2", "T&ste378 received", `\u202e" received`)
		_, counts = findings(t, f.inbox(t, exitDiffers, "import", "--apply", "--json", list).out)
		if diff := cmp.Diff(compared{Listed: 3, Equal: 3, Only: 1}, counts); diff != "" {
			t.Error("again: ", diff)
		}
		contains(t, f.inbox(t, exitOK, "show", f.dead.TransactionID).out, "case           ended", "status         CANCELLED")

		// The window is the inbox's own, and counts from when the gateway opened it.
		var c inbox.Case
		if err := json.Unmarshal([]byte(f.inbox(t, exitOK, "show", "--json", missing.TransactionID).out), &c); err != nil {
			t.Fatal(err)
		}
		if !c.OpenedAt.Equal(opened) || !c.DueAt.Equal(opened.Add(window)) || c.Pending != 1 || c.Value != 4200 || c.Status != pixmed.Acknowledged {
			t.Errorf("opened at %v, want %v: %+v", c.OpenedAt, opened, c)
		}
		body, err := pixmed.ParseInfraction(c.Events[0].Raw)
		if err != nil || body.TransactionID != strings.ToUpper(missing.TransactionID) || body.Value != 4200 {
			t.Errorf("the body is %s: %v", c.Events[0].Raw, err)
		}

		agreed := writeList(t, table(t, "", f.open))
		for _, args := range [][]string{{agreed}, {"--apply", agreed}} {
			f.inbox(t, exitDiffers, append([]string{"import"}, args...)...) // the missing one's case is open
		}
		f.inbox(t, exitOK, "end", missing.TransactionID, "--by", "Ana")
		// What a person has ended here, and the gateway says is open, is not equal.
		alive := writeList(t, table(t, "", f.open, missing))
		for apply, counted := range map[string]string{"--apply=false": "differ 1", "--apply": "left alone: ended here by Ana"} {
			contains(t, strings.Join(strings.Fields(f.inbox(t, exitDiffers, "import", apply, alive).out), " "), "equal 1", counted, "ended here by Ana")
		}
		f.inbox(t, exitOK, "import", agreed)
		f.inbox(t, exitOK, "import", "--apply", agreed)
	})
}

// What --apply receives is worked in the list's order by whoever works the inbox, and
// JSON is kept as it is.
func TestImportOrder(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"))
	var text strings.Builder
	var want []string
	for i := range 40 {
		one := pixmedtest.NewInfraction(func(j *pixmed.Infraction) { j.TransactionID, j.ExternalID = listID, fmt.Sprint("X", i) })
		want = append(want, one.ExternalID)
		fmt.Fprintf(&text, "%s\n", strings.Join(strings.Fields(string(pixmedtest.Payload(one))), ""))
	}
	got := f.inbox(t, exitDiffers, "import", "--apply", writeList(t, text.String())) // one is only here
	contains(t, got.err, "40 cases count as opened now, because the list has no openedAt")
	var order []string
	in, closeIt := openService(t, f.env["PIXMED_DB"], func(_ context.Context, n *pixmed.Notification) error {
		order = append(order, n.ExternalID)
		if line := text.String(); !strings.Contains(line, string(n.Raw)+"\n") {
			t.Errorf("the body is %s", n.Raw)
		}
		return nil
	})
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := inboxtest.Idle(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	closeIt()
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
}

// When a case was opened counts for what opens it, and if it is news.
func TestImportOpenedAt(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"))
	start := time.Now().Truncate(time.Second)
	before, after := start.Add(-2*day), start.Add(time.Hour)
	opens, ends, unsaid := pixmedtest.NewInfraction(), with(pixmedtest.NewInfraction(), cancelled), pixmedtest.NewInfraction()
	_, ended, _ := strings.Cut(table(t, when(before), ends), "\n")
	_, again, _ := strings.Cut(table(t, when(after), f.ended), "\n")
	_, sometime, _ := strings.Cut(table(t, "", unsaid), "\n")
	got := f.inbox(t, exitOK, "import", "--apply", writeList(t, table(t, when(before), opens, f.open, f.dead)+ended+again+sometime))
	contains(t, got.err, "1 case counts as opened now, because the list has no openedAt")
	contains(t, strings.Join(strings.Fields(got.out), " "), "equal 2", "received 4")
	received := func(i pixmed.Infraction) (at, opened time.Time) {
		var c inbox.Case
		if err := json.Unmarshal([]byte(f.inbox(t, exitOK, "show", "--json", i.TransactionID).out), &c); err != nil {
			t.Fatal(err)
		}
		return c.Events[len(c.Events)-1].ReceivedAt, c.OpenedAt
	}
	if _, at := received(opens); !at.Equal(before) {
		t.Errorf("opened at %v, want %v", at, before)
	}
	if _, at := received(f.ended); !at.Equal(after) {
		t.Errorf("opened again at %v, want %v", at, after)
	}
	for _, i := range []pixmed.Infraction{ends, unsaid} {
		if at, _ := received(i); at.Before(start) {
			t.Errorf("%s was received at %v, want now", i.MEDStatus, at)
		}
	}
}

// What cannot be received safely is left alone, and said.
func TestImportLeavesAlone(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"), func(ctx context.Context, in *inbox.Inbox) {
		for _, external := range []string{"A", "B"} {
			i := pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.TransactionID, i.ExternalID = listID, external })
			if err := in.Receive(ctx, &pixmed.Notification{Infraction: i}); err != nil {
				t.Fatal(err)
			}
		}
	})
	withoutIDs := "transactionId,value,medStatus\n"
	all := func(lines string) string {
		return lines + fmt.Sprintf("%s,18,ACKNOWLEDGED\n%s,1234.56,ACKNOWLEDGED\n%s,18,ACKNOWLEDGED\n", f.open.TransactionID, f.dead.TransactionID, listID)
	}
	old := time.Now().Add(-time.Hour).Format(time.RFC3339)
	for name, test := range map[string]struct {
		list, asOf string
		code       int
		want       compared
		problem    string
	}{
		"another external id": {table(t, "", with(f.open, func(i *pixmed.Infraction) { i.ExternalID = "378" })), "", exitDiffers, compared{Listed: 1, Missing: 1, Only: 2}, "the external id in the inbox is T&ste378"},
		"no external id":      {withoutIDs + otherID + ",18,ACKNOWLEDGED\n", "", exitDiffers, compared{Listed: 1, Missing: 1, Only: 3}, "the list has no externalId, and later webhooks of the case would not match it"},
		"which external id":   {withoutIDs + listID + ",18,CANCELLED\n", "", exitDiffers, compared{Listed: 1, Differ: 1, Only: 2}, "the inbox has several external ids for it, and the list has none"},
		"newer than the list": {table(t, "", with(f.open, cancelled)), old, exitOK, compared{Listed: 1, Newer: 3}, ""},
		"all without ids":     {all(withoutIDs), "", exitOK, compared{Listed: 3, Equal: 3}, ""},
		"twice":               {all(withoutIDs) + listID + ",18.0,ACKNOWLEDGED\n", "", exitOK, compared{Listed: 3, Equal: 3, Repeated: 1}, ""},
		"other events":        {"transactionId,value,medStatus,transactionStatus\n" + strings.ReplaceAll(all(""), "ACKNOWLEDGED", "ACKNOWLEDGED,MED") + otherID + ",5,,PAID\n", "", exitOK, compared{Listed: 3, Equal: 3, Others: 1}, ""},
	} {
		list := writeList(t, test.list)
		for _, apply := range []string{"--apply=false", "--apply"} {
			out := f.inbox(t, test.code, "import", "--json", apply, "--as-of", test.asOf, list).out
			found, counts := findings(t, out)
			if diff := cmp.Diff(test.want, counts); diff != "" {
				t.Errorf("%s, %s: %s", name, apply, diff)
			}
			if test.problem != "" && (len(found) == 0 || found[0].Problem != test.problem || found[0].Received) {
				t.Errorf("%s, %s: %s", name, apply, out)
			}
			text := strings.Join(strings.Fields(f.inbox(t, test.code, "import", apply, "--as-of", test.asOf, list).out), " ")
			want := test.problem
			if test.problem != "" && apply == "--apply" {
				want = "left alone: " + want
			}
			contains(t, text, want)
			for words, n := range map[string]int{"and left alone": test.want.Newer, "in the list twice": test.want.Repeated, "in the list, and no infraction": test.want.Others} {
				if has := strings.Contains(text, fmt.Sprint(words, " ", n)); has != (n > 0) {
					t.Errorf("%s: %s", name, text)
				}
			}
		}
	}

	// A list without external ids is enough where the inbox has the one.
	list := writeList(t, withoutIDs+f.open.TransactionID+",18,CANCELLED\n")
	contains(t, f.inbox(t, exitDiffers, "import", "--apply", list).out, "received")
	contains(t, f.inbox(t, exitOK, "show", f.open.TransactionID).out, "case           ended", "external id    T&ste378", "notifications  2,")
	list = writeList(t, fmt.Sprintf("{\"transactionId\":%q,\"value\":1234.56,\"medStatus\":\"CANCELLED\"}\n", f.dead.TransactionID))
	contains(t, f.inbox(t, exitDiffers, "import", "--apply", list).out, "received")
	var c inbox.Case
	if err := json.Unmarshal([]byte(f.inbox(t, exitOK, "show", "--json", f.dead.TransactionID).out), &c); err != nil || c.Open || len(c.Events) != 2 {
		t.Fatalf("%+v: %v", c, err)
	}
	if body, err := pixmed.ParseInfraction(c.Events[1].Raw); err != nil || body.ExternalID != strange {
		t.Errorf("the body does not say which external id it is of: %s, %v", c.Events[1].Raw, err)
	}
}

// If a line is wrong nothing is received, and each is named.
func TestImportMistakes(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"))
	long := listStart
	for range 30 {
		long += "x,,18,ACKNOWLEDGED\n"
	}
	good := otherID + ",X,18,ACKNOWLEDGED\n"
	for name, test := range map[string]struct {
		list string
		want []string
	}{
		"two lines":      {listStart + good + "x,,18,ACKNOWLEDGED\n" + listID + ",,1.234,ACKNOWLEDGED\n", []string{"cases.csv, line 3: transactionId must be", "cases.csv, line 4: value is"}},
		"very many":      {long, []string{"line 21: ", "cases.csv: and 10 more lines are wrong"}},
		"contradictions": {listStart + good + listID + ",Y,18,CANCELLED\n" + strings.ToUpper(good[:36]) + ",X,18,CANCELLED\n", []string{"cases.csv, line 4: line 2 has the same transaction and external id with another status or value: keep the right one"}},
		"no cases":       {listStart, []string{"cases.csv: there is no case in it"}},
		"no list":        {"\n", []string{"cases.csv: it is empty"}},
	} {
		got := f.inbox(t, exitUsage, "import", "--apply", writeList(t, test.list))
		contains(t, got.err, test.want...)
		if got.out != "" || strings.Contains(got.err, "line 22: ") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	contains(t, f.inbox(t, exitUsage, "import", t.TempDir()).err, "it is not a regular file")
	contains(t, f.inbox(t, exitFailed, "show", otherID).err, "there is no case")
}

// Very many are counted, and the first ones shown; as JSON all are.
func TestImportMany(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"))
	var cases []pixmed.Infraction
	for range 150 {
		cases = append(cases, pixmedtest.NewInfraction())
	}
	list := writeList(t, table(t, "", append(cases, f.open, f.dead)...))
	out := f.inbox(t, exitDiffers, "import", list).out
	if n := strings.Count(out, "\nmissing  "); n != 100 {
		t.Errorf("%d are shown:\n%s", n, out)
	}
	contains(t, strings.Join(strings.Fields(out), " "), "equal 2 missing in the inbox 150", "... and 50 more, which --json prints")
	found, _ := findings(t, f.inbox(t, exitOK, "import", "--apply", "--json", list).out)
	if len(found) != 150 || !found[149].Received {
		t.Errorf("%d were found", len(found))
	}
	got := f.inbox(t, exitOK, "import", list)
	contains(t, strings.Join(strings.Fields(got.out), " "), "equal 152 missing in the inbox 0")
}

// An end in the middle says how far it came.
func TestImportCutShort(t *testing.T) {
	t.Parallel()
	c := &comparison{name: "cases.csv", receive: func(context.Context, *pixmed.Notification) error { return pixmed.ErrBusy }, counts: compared{Received: 2}}
	l := &listed{line: 4, infraction: pixmedtest.NewInfraction(), external: true}
	err := c.settle(t.Context(), l, &finding{Kind: isMissing}, time.Time{})
	if want := "cases.csv, line 4, after 2 were received: the inbox cannot take it: busy; run this again when that is fixed"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	c.receive = func(context.Context, *pixmed.Notification) error { return pixmed.ErrDuplicate } // somebody else was faster
	if err := c.settle(t.Context(), l, &finding{Kind: isMissing}, time.Time{}); err != nil || c.counts.Received != 3 {
		t.Error(c.counts, err)
	}
}
