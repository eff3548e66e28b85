package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/inboxtest"
)

const nothing = "00000000-0000-4000-8000-000000000000"

func TestInboxAnsweredAndEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		got := f.inbox(t, exitFailed, "answered", f.open.TransactionID, f.ended.TransactionID, nothing, "--note", "protocol 4711")
		contains(t, got.out, f.open.TransactionID+"\tanswered\n", f.ended.TransactionID+"\tleft alone: the case has ended, at 2", nothing+"\tleft alone: there is no such case\n")
		contains(t, got.err, "1 answered, 2 left alone")
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		contains(t, f.inbox(t, exitOK, "show", f.open.TransactionID).out, "case           answered", "answered by "+me.Username+"\n  protocol 4711\n")
		again := f.inbox(t, exitFailed, "answered", f.open.TransactionID, "--by", "Bia", "--note", "again") // changes nothing
		contains(t, again.out, "left alone: the case is already answered, by "+me.Username+" at 2")
		contains(t, again.err, "0 answered, 1 left alone")
		if out := f.inbox(t, exitOK, "show", f.open.TransactionID).out; strings.Contains(out, "Bia") {
			t.Error(out)
		}

		contains(t, f.inbox(t, exitOK, "end", f.open.TransactionID, "--by", "Ana", "--note", "the gateway says so by phone").err, "1 ended, 0 left alone")
		contains(t, f.inbox(t, exitOK, "show", f.open.TransactionID).out, "case           ended", "Z by Ana\n", "ended by Ana\n  the gateway says so by phone\n")
		contains(t, f.inbox(t, exitFailed, "end", f.open.TransactionID, "--note", "again").out, "left alone: the case has ended, by Ana at 2")
		contains(t, f.inbox(t, exitFailed, "end", nothing).out, "there is no such case")
	})
}

// If a case cannot be ended among the receipts it stays open in both, and to end it again
// ends both.
func TestEndCaseFails(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"))
	db := readDatabase(newTestValues(t, f.env, nil, databaseSettings...))
	ignore := func(context.Context, *pixmed.Notification) error { return nil }
	in, closeIt := openDatabase(t, db, ignore)
	receipts, closeReceipts := openDatabase(t, db.receipts(), ignore)
	if err := receipts.Receive(t.Context(), &pixmed.Notification{Infraction: f.open}); err != nil {
		t.Fatal(err)
	}
	closeReceipts()
	if err := endCase(t.Context(), []*inbox.Inbox{in, receipts}, f.open.TransactionID, "", nil); err == nil {
		t.Error("it was ended in an inbox that is closed")
	}
	closeIt()
	for _, want := range []string{"open", "ended"} {
		for _, queue := range []string{queueNotifications, queueReceipts} {
			contains(t, f.inbox(t, exitOK, "show", f.open.TransactionID, "--queue", queue).out, "case           "+want)
		}
		if want == "open" {
			f.inbox(t, exitOK, "end", f.open.TransactionID)
		}
	}
}

func TestInboxReplayAndResolve(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		contains(t, f.inbox(t, exitFailed, "replay", f.notValid).out, f.notValid+"\tleft alone: it is not valid: ")
		contains(t, f.inbox(t, exitFailed, "replay", nothing).out, "there is no such notification; pixmed inbox show TRANSACTION prints the ids of a case's")
		contains(t, f.inbox(t, exitFailed, "replay", f.doneEvent).out, "left alone: it is neither dead nor quarantined nor resolved")
		contains(t, f.inbox(t, exitFailed, "resolve", f.doneEvent).out, "left alone: it is neither dead nor quarantined")

		// By what they have in common: first said, then done.
		contains(t, f.inbox(t, exitOK, "replay", "--state", "dead", "--error", "another").err, "0 notifications would be replayed, and nothing was done: add --yes to do it")
		dry := f.inbox(t, exitOK, "replay", "--state", "dead", "--error", "418", "--since", "1d")
		contains(t, dry.out, f.deadEvent)
		contains(t, dry.err, "1 notification would be replayed, and nothing was done: add --yes to do it")
		contains(t, f.inbox(t, exitOK, "show", f.deadEvent).out, "state          dead")
		contains(t, f.inbox(t, exitOK, "replay", "--state", "dead", "--error", "another", "--yes").err, "0 replayed, 0 left alone")
		contains(t, f.inbox(t, exitOK, "replay", "--state", "dead", "--error", "418", "--yes", "--by", "Ana").err, "1 replayed, 0 left alone")
		contains(t, f.inbox(t, exitOK, "show", f.dead.TransactionID).out, "pending, 1 attempt, next attempt 20", "replayed by Ana  "+f.deadEvent)
		got := f.inbox(t, exitFailed, "replay", "--state", "quarantined", "--yes")
		contains(t, got.out, f.notValid+"\tleft alone: pixmed inbox replay "+f.notValid+" says why")
		contains(t, got.err, "0 replayed, 1 left alone")

		contains(t, f.inbox(t, exitOK, "resolve", "--state", "quarantined").err, "1 notification would be resolved")
		contains(t, f.inbox(t, exitOK, "resolve", "--state", "quarantined", "--yes", "--note", "junk").err, "1 resolved, 0 left alone")
		contains(t, f.inbox(t, exitOK, "show", f.notValid).out, "state          resolved", ": junk")
	})
}

func TestInboxRetryAndDiscard(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		f.inbox(t, exitOK, "replay", f.deadEvent)
		contains(t, f.inbox(t, exitOK, "retry", f.deadEvent, "--by", "Ana").out, f.deadEvent+"\tdue now\n")
		contains(t, f.inbox(t, exitOK, "discard", f.deadEvent, "--by", "Bia").err, "1 discarded, 0 left alone")
		contains(t, f.inbox(t, exitOK, "show", f.dead.TransactionID).out, "dead, discarded, 1 attempt", "retried by Ana", "discarded by Bia")
		contains(t, f.inbox(t, exitFailed, "discard", f.deadEvent, f.notValid).out, f.deadEvent+"\tleft alone: it is not pending", f.notValid+"\tleft alone: it is not pending")
		contains(t, f.inbox(t, exitFailed, "retry", nothing).err, "0 due now, 1 left alone")
	})
}

// An earlier one of a case is done first, and a newer one that is done keeps an older
// one from being replayed unless somebody insists.
func TestInboxOrder(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"))
	in, closeIt := openService(t, f.env["PIXMED_DB"], func(context.Context, *pixmed.Notification) error { return nil })
	for _, status := range []pixmed.MEDStatus{pixmed.Cancelled, pixmed.Debited} {
		f.dead.MEDStatus = status
		if err := in.Receive(t.Context(), &pixmed.Notification{Infraction: f.dead}); err != nil {
			t.Fatal(err)
		}
	}
	events, err := in.History(t.Context(), f.dead.TransactionID)
	if err != nil || len(events) != 3 {
		t.Fatal(events, err)
	}
	closeIt()
	contains(t, f.inbox(t, exitFailed, "retry", events[2].ID).out, "left alone: it waits for an earlier one of its transaction")
	contains(t, f.inbox(t, exitOK, "show", f.dead.TransactionID).out, "pending, waits for an earlier one of the case")

	in, closeIt = openService(t, f.env["PIXMED_DB"], func(context.Context, *pixmed.Notification) error { return nil })
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := inboxtest.Idle(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	closeIt()
	const newer = "left alone: a newer notification of the transaction is done; look at it, then use --force"
	contains(t, f.inbox(t, exitFailed, "replay", f.deadEvent).out, newer)
	contains(t, f.inbox(t, exitFailed, "replay", "--state", "dead", "--yes").err, "0 replayed, 1 left alone")
	contains(t, f.inbox(t, exitOK, "replay", "--state", "dead", "--yes", "--force").err, "1 replayed, 0 left alone")
}

func TestUserName(t *testing.T) {
	t.Parallel()
	known := func() (*user.User, error) { return &user.User{Username: "ana"}, nil }
	unknown := func() (*user.User, error) { return nil, user.UnknownUserIdError(65532) }
	for want, got := range map[string]string{
		"ana": userName(known, map[string]string{"USER": "bia"}), "bia": userName(unknown, map[string]string{"USER": "bia"}), fmt.Sprint("user ", os.Getuid()): userName(unknown, nil),
		`"\x1b[2J\u202e"`: userName(unknown, map[string]string{"USER": strange}),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Only the first ones are shown of very many.
func TestInboxReplayManyIsCut(t *testing.T) {
	t.Parallel()
	f := fillInbox(t, filepath.Join(t.TempDir(), "inbox.db"), func(ctx context.Context, in *inbox.Inbox) {
		for i := range 30 {
			if err := in.Quarantine(ctx, fmt.Append(nil, i), context.Canceled); err != nil {
				t.Fatal(err)
			}
		}
	})
	got := f.inbox(t, exitOK, "resolve", "--state", "quarantined")
	if n := strings.Count(got.out, "quarantined"); n != 20 {
		t.Errorf("%d are shown:\n%s", n, got.out)
	}
	contains(t, got.out, "... and 11 more")
	contains(t, got.err, "31 notifications would be resolved")
}
