//go:build unix

package main

import (
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A SQLite file is read beside a server that is another process, and nothing is
// changed. On PostgreSQL everything goes.
func TestInboxBesideAServer(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			f := &filled{env: settings(gateway, database(t), t.TempDir())}
			withoutGateway(f.env)
			s := startProcess(t, f.env)
			f.open = pixmedtest.NewInfraction()
			if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, f.open); err != nil {
				t.Fatal(err)
			}
			await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 1`)
			list := writeList(t, "transactionId,externalId,value,medStatus\n"+f.open.TransactionID+","+f.open.ExternalID+",18.00,CANCELLED\n")
			for args, want := range map[string]string{
				"stats": "done", "cases": f.open.TransactionID, "list": f.open.TransactionID, "show " + f.open.TransactionID: "ACKNOWLEDGED 18.00",
				"replay --state dead": "EVENT", "resolve --state quarantined": "EVENT",
			} {
				contains(t, f.inbox(t, exitOK, strings.Fields(args)...).out, want)
			}
			contains(t, f.inbox(t, exitDiffers, "import", list).out, "differs")
			if name == "sqlite" {
				event := "00000000-0000-4000-8000-000000000000"
				for _, args := range []string{
					"answered " + f.open.TransactionID, "end " + f.open.TransactionID, "delete " + f.open.TransactionID, "replay " + event, "resolve " + event,
					"retry " + event, "discard " + event, "purge --older-than 1d", "replay --state dead --yes", "import --apply " + list,
				} {
					got := f.inbox(t, exitFailed, strings.Fields(args)...)
					contains(t, got.err, "is open in another process, and only one may have it open: is pixmed serve running?")
				}
				contains(t, f.inbox(t, exitOK, "show", f.open.TransactionID).out, "case           open", "notifications  1,")
			} else {
				contains(t, f.inbox(t, exitOK, "answered", f.open.TransactionID).out, "answered")
				contains(t, f.inbox(t, exitOK, "import", "--apply", list).out, "received")
				await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 2`) // the server works it at once
				contains(t, f.inbox(t, exitOK, "show", f.open.TransactionID).out, "case           ended", "notifications  2,")
			}
			s.end(t)
		})
	}
}
