//go:build unix

package main

import (
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A process that is killed in the middle of its work loses nothing: the next one
// forwards what it was at, under the same id, and then what waited behind it.
func TestKilled(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			asked, release := make(chan struct{}, 1), make(chan struct{})
			hang := func(http.ResponseWriter, *http.Request) {
				asked <- struct{}{}
				<-release
			}
			app := newApplication(t, hang)
			t.Cleanup(func() { close(release) })
			env := settings(gateway, database(t), t.TempDir())
			env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = app.url, forwardSecret
			env["PIXMED_FORWARD_TIMEOUT"] = "1s" // in PostgreSQL others take over what is 3 s old
			if name == "postgres" {              // where others take over a download after three minutes
				withoutGateway(env)
			}
			s := startProcess(t, env)
			i := pixmedtest.NewInfraction()
			gateway.AddReceipt(i)
			if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
				t.Fatal(err)
			}
			<-asked
			i.MEDStatus = "CANCELLED"
			if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
				t.Fatal(err)
			}
			s.kill()
			s = startProcess(t, env)
			await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 2`)
			got := app.requests()
			if last := len(got) - 1; last < 2 || slices.Contains(app.types()[:last], "cancelled") || app.types()[last] != "cancelled" {
				t.Errorf("forwarded: %v", app.types())
			}
			if got[0].header.Get("Webhook-Id") != got[1].header.Get("Webhook-Id") {
				t.Error("the second attempt has another id")
			}
			if env["PIXMED_GATEWAY"] != "" {
				awaitDone(t, s.admin, 2)
				if !isPDF(filepath.Join(env["PIXMED_RECEIPTS"], i.TransactionID+".pdf")) {
					t.Error("there is no receipt")
				}
			}
			s.end(t)
		})
	}
}
