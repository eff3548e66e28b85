package main

import (
	"context"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

func TestInboxDelete(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		f.inbox(t, exitOK, "replay", f.deadEvent) // so that something of the case is pending
		got := f.inbox(t, exitFailed, "delete", f.ended.TransactionID, f.dead.TransactionID, f.notValid, nothing, f.doneEvent, "--by", "Ana")
		contains(t, got.out, "deleted by Ana: 1 case, 1 body from quarantine\n")
		contains(t, got.err, "argument 2: left alone: something of the case is pending; --force deletes it all the same\n",
			"argument 4: there is no case with this id, and nothing in quarantine\n", "argument 5: there is no case")
		forced := f.inbox(t, exitOK, "delete", f.dead.TransactionID, "--force")
		contains(t, forced.out, ": 1 case, 0 bodies from quarantine\n")
		for _, id := range []string{f.ended.TransactionID, f.dead.TransactionID, f.notValid, nothing} {
			if strings.Contains(got.out+got.err+forced.out+forced.err, id) {
				t.Errorf("%s is printed: %+v %+v", id, got, forced)
			}
			contains(t, f.inbox(t, exitFailed, "show", id).err, "there is no case")
		}
		contains(t, f.inbox(t, exitOK, "show", f.open.TransactionID).out, "case           open")
	})
}

// The downloads of receipts are an inbox of their own, and have the case too.
func TestInboxDeleteReceipts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		receipts := readDatabase(newTestValues(t, f.env, nil, databaseSettings...)).receipts()
		kept := func(want bool) {
			t.Helper()
			if got, err := receipts.kept(t.Context()); err != nil || got != want {
				t.Fatalf("there is an inbox of receipts: %v, %v", got, err)
			}
		}
		kept(false)
		f.inbox(t, exitOK, "delete", f.ended.TransactionID)
		kept(false) // to look has not made it
		in, closeIt := openDatabase(t, receipts, func(context.Context, *pixmed.Notification) error { return nil })
		if err := in.Receive(t.Context(), &pixmed.Notification{Infraction: f.open}); err != nil {
			t.Fatal(err)
		}
		closeIt()
		kept(true)

		contains(t, f.inbox(t, exitFailed, "delete", f.open.TransactionID).err, "argument 1: left alone: something of the case is pending")
		for _, queue := range []string{queueNotifications, queueReceipts} {
			contains(t, f.inbox(t, exitOK, "show", f.open.TransactionID, "--queue", queue).out, "notifications  1,")
		}
		contains(t, f.inbox(t, exitOK, "delete", f.open.TransactionID, "--force").out, ": 1 case,")
		for _, queue := range []string{queueNotifications, queueReceipts} {
			contains(t, f.inbox(t, exitFailed, "show", f.open.TransactionID, "--queue", queue).err, "there is no case")
		}
	})
}

// A case ends in both inboxes, even if it has ended in the first.
func TestInboxEndReceipts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		receipts := readDatabase(newTestValues(t, f.env, nil, databaseSettings...)).receipts()
		receive := func() {
			t.Helper()
			in, closeIt := openDatabase(t, receipts, func(context.Context, *pixmed.Notification) error { return nil })
			defer closeIt()
			if err := in.Receive(t.Context(), &pixmed.Notification{Infraction: f.open}); err != nil {
				t.Fatal(err)
			}
		}
		receive()
		for range 2 {
			contains(t, f.inbox(t, exitOK, "end", f.open.TransactionID, "--by", "Ana").err, "1 ended, 0 left alone")
			contains(t, f.inbox(t, exitFailed, "end", f.open.TransactionID, "--by", "Rui").out, "left alone: the case has ended, by Ana")
			for _, queue := range []string{queueNotifications, queueReceipts} {
				contains(t, f.inbox(t, exitOK, "show", f.open.TransactionID, "--queue", queue).out, "case           ended", "by Ana")
			}
			f.open.Value++
			receive() // which opens it in the second alone
		}
	})
}

func TestInboxPurge(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		contains(t, f.inbox(t, exitOK, "purge", "--older-than", "1d").out, "notifications deleted: 0")
		contains(t, f.inbox(t, exitOK, "purge", "--older-than", "0").out, "notifications deleted: 2") // the others' cases are open
		contains(t, f.inbox(t, exitOK, "purge", "--older-than", "0", "--include-dead").out, "notifications deleted: 1")
		contains(t, f.inbox(t, exitOK, "cases").out, f.open.TransactionID, f.dead.TransactionID)
	})
}
