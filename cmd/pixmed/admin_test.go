package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A case that is ended on the page ends among the receipts too: one that stayed open
// there would never be purged, and count as open and blocked in pixmed inbox stats.
func TestOpsEndsBoth(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			f := &filled{env: settings(gateway, database(t), t.TempDir())}
			s := start(t, f.env)
			i := pixmedtest.NewInfraction()
			gateway.AddReceipt(i)
			if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
				t.Fatal(err)
			}
			awaitDone(t, s.admin, 1)
			if status := onPage(t, s, "/case/"+i.TransactionID+"/end", "note=by+phone", ""); status != http.StatusSeeOther {
				t.Errorf("the page answers %d", status)
			}
			s.end(t)
			for _, queue := range []string{queueNotifications, queueReceipts} {
				contains(t, f.inbox(t, exitOK, "show", i.TransactionID, "--queue", queue).out, "case           ended", "ended by ops\n  by phone\n")
				contains(t, f.inbox(t, exitOK, "stats", "--queue", queue).out, "open cases  0\nblocked     R$ 0,00\n")
				contains(t, f.inbox(t, exitOK, "purge", "--older-than", "0", "--queue", queue).out, "notifications deleted: 1\n")
			}
		})
	}
}

// onPage posts a form to the operations page, and returns the status of the answer.
func onPage(t *testing.T, s *server, path, form, user string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.admin+"/ops"+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("ops", opsPass)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if user != "" {
		r.Header.Set("X-Forwarded-User", user)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// What is done on the operations page is recorded under the name that a proxy gives,
// or under the one user's.
func TestOpsUser(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	env["PIXMED_OPS_USER_HEADER"] = "X-Forwarded-User"
	s := start(t, env)
	var got []bool
	for _, name := range []string{"maria", ""} {
		i := pixmedtest.NewInfraction()
		if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
			t.Fatal(err)
		}
		onPage(t, s, "/case/"+i.TransactionID+"/answer", "note=sent", name)
		shown := try(t, env, "inbox", "show", i.TransactionID).out
		got = append(got, strings.Contains(shown, "by maria"), strings.Contains(shown, "by ops"))
	}
	if diff := cmp.Diff([]bool{true, false, false, true}, got); diff != "" {
		t.Errorf("maria, ops, in each case (-want +got):\n%s", diff)
	}
	get(t, http.DefaultClient, http.MethodGet, s.admin+"/ops/", "wrong password")
	await(t, s.admin+"/metrics", "pixmed_ops_failed_logins_total 1")
	s.end(t)
}
