package main

import (
	"strings"
	"testing"
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
