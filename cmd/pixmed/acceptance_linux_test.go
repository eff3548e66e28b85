package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// The whole of it, as its user sees it: pixmed send delivers the sample to pixmed
// serve, which saves the receipt, and forwards to a Node program that verifies the
// signature. SIGTERM and SIGKILL lose nothing, and the case is on the page and in
// pixmed inbox.
func TestAcceptance(t *testing.T) {
	t.Parallel()
	need(t, "node")
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			sample, err := pixmed.ParseInfraction([]byte(pixmedtest.Sample))
			if err != nil {
				t.Fatal(err)
			}
			want := gateway.AddReceipt(*sample)
			port := freePort(t)
			env := settings(gateway, database(t), filepath.Join(t.TempDir(), "receipts"))
			env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = "http://127.0.0.1:"+port+"/infractions", forwardSecret
			env["PIXMED_FORWARD_TIMEOUT"] = "1s" // in PostgreSQL others take over what is 3 s old
			run := func(args ...string) string {
				t.Helper()
				out, err := program(t, env, args...).CombinedOutput()
				if err != nil {
					t.Errorf("pixmed %s: %v: %s", strings.Join(args, " "), err, out)
				}
				return string(out)
			}

			// The application is down.
			s := startProcess(t, env)
			contains(t, run("send", s.webhook+webhookPath), "200 OK", "1 sent, 1 as expected")
			await(t, s.admin+"/metrics", `pixmed_receipt_downloads_total{result="saved"} 1`)
			awaitSome(t, s.admin, `pixmed_forwards_total{result="failed"}`)
			s.end(t) // SIGTERM
			s = startProcess(t, env)
			await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="pending"} 1`)
			s.kill()

			log := startProgram(t, "127.0.0.1:"+port, []string{"PORT=" + port, "PIXMED_FORWARD_SECRETS=" + forwardSecret},
				filepath.Join("..", "..", "deploy", "receivers"), []string{"node", "receiver.mjs"})
			s = startProcess(t, env)
			awaitDone(t, s.admin, 1)
			line := "infraction.acknowledged " + sample.TransactionID + " 18.00 ACKNOWLEDGED\n"
			if strings.Count(log.String(), line) != 1 {
				t.Errorf("the application got %q, want one %q", log.String(), line)
			}
			if got, err := os.ReadFile(filepath.Join(env["PIXMED_RECEIPTS"], sample.TransactionID+".pdf")); err != nil || string(got) != string(want) {
				t.Errorf("a receipt of %d bytes, want %d: %v", len(got), len(want), err)
			}
			_, page := get(t, http.DefaultClient, http.MethodGet, s.admin+"/ops/case/"+sample.TransactionID, opsPass)
			contains(t, page, sample.TransactionID, "ACKNOWLEDGED")
			contains(t, run("inbox", "stats", "--json"), `"doneOfLastDay":1`)
			contains(t, run("inbox", "list"), sample.TransactionID, "ACKNOWLEDGED", "done")
			contains(t, run("inbox", "show", sample.TransactionID), "case           open", "ACKNOWLEDGED 18.00")
			contains(t, run("inbox", "cases"), sample.TransactionID)
			contains(t, run("send", s.webhook+webhookPath), "200 OK") // a duplicate
			await(t, s.admin+"/metrics", `pixmed_webhook_requests_total{result="duplicate"} 1`)
			s.end(t)
		})
	}
}
