package main

import (
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// types are the kinds of what was forwarded, in order.
func (a *application) types() (types []string) {
	for _, r := range a.requests() {
		types = append(types, strings.TrimPrefix(regexp.MustCompile(`infraction\.\w+`).FindString(string(r.body)), "infraction."))
	}
	return types
}

// Notifications are forwarded in order, and again and again until the application
// takes them; neither the receipt waits for the application, nor the application for
// the receipt.
func TestForwardInOrder(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway, dir := newGateway(t), t.TempDir()
			i := pixmedtest.NewInfraction()
			gateway.AddReceipt(i)
			gateway.Fail(pixmedtest.Fault{Status: http.StatusServiceUnavailable}, pixmedtest.Fault{Status: http.StatusServiceUnavailable}) // one attempt
			app := newApplication(t, answerWith(http.StatusInternalServerError), answerWith(http.StatusOK))
			env := settings(gateway, database(t), dir)
			env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = app.url, forwardSecret
			s := start(t, env)
			for _, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled} {
				i.MEDStatus = status
				if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
					t.Fatal(err)
				}
			}
			await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 2`)
			if got := app.types(); !slices.Equal(got, []string{"acknowledged", "acknowledged", "cancelled"}) {
				t.Errorf("forwarded: %v", got)
			}
			if got := app.requests(); got[0].header.Get("Webhook-Id") != got[1].header.Get("Webhook-Id") {
				t.Error("the second attempt has another id")
			}
			if !isPDF(filepath.Join(dir, i.TransactionID+".pdf")) {
				t.Error("there is no receipt")
			}
			for _, line := range []string{`pixmed_forwards_total{result="done"} 2`, `pixmed_forwards_total{result="failed"} 1`, `pixmed_receipt_downloads_total{result="saved"} 1`} {
				await(t, s.admin+"/metrics", line)
			}
			s.end(t)
		})
	}
}

// While only the receipt is missing, the application is not told again.
func TestForwardedOnce(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	i := pixmedtest.NewInfraction()
	app := newApplication(t)
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = app.url, forwardSecret
	s := start(t, env)
	if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil { // 404 for the receipt
		t.Fatal(err)
	}
	await(t, s.admin+"/metrics", `pixmed_receipt_downloads_total{result="failed"} 2`)
	gateway.AddReceipt(i)
	await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 1`)
	if got := app.types(); len(got) != 1 {
		t.Errorf("forwarded: %v", got)
	}
	s.end(t)
}
