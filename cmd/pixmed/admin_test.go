package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

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
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.admin+"/ops/case/"+i.TransactionID+"/answer", strings.NewReader("note=sent"))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("ops", opsPass)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if name != "" {
			r.Header.Set("X-Forwarded-User", name)
		}
		client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
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
