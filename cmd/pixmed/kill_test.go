//go:build unix

package main

import (
	"net/http"
	"testing"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A process that is killed in the middle of its work loses nothing: the next one
// forwards what it was at, under the same id, and what waited behind it.
func TestKilled(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			asked, release := make(chan struct{}), make(chan struct{})
			app := newApplication(t, func(_ http.ResponseWriter, r *http.Request) {
				close(asked)
				<-release
			})
			t.Cleanup(func() { close(release) })
			env := settings(gateway, database(t), t.TempDir())
			env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = app.url, forwardSecret
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
			if name == "postgres" {
				// Others take over what is overdue after three minutes, for which no test
				// waits: both are there.
				await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="pending"} 2`)
				s.end(t)
				return
			}
			await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 2`)
			got := app.requests()
			if len(got) != 3 || got[0].header.Get("Webhook-Id") != got[1].header.Get("Webhook-Id") {
				t.Errorf("forwarded: %v", app.types())
			}
			s.end(t)
		})
	}
}
