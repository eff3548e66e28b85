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
			awaitDone(t, s.admin, 2)
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
			for _, personal := range []string{"ste378", string(i.EndToEndID)} { // of the external id
				if strings.Contains(s.log.String(), personal) {
					t.Errorf("the log holds %s", personal)
				}
			}
		})
	}
}

// A receipt that is not there yet holds up nothing and repeats nothing, not even when
// the server starts again; and pixmed inbox shows what is missing.
func TestReceiptHoldsNothingUp(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			i := pixmedtest.NewInfraction()
			app := newApplication(t)
			env := settings(gateway, database(t), t.TempDir())
			env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = app.url, forwardSecret
			s := start(t, env)
			for _, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Debited} { // 404 for the receipt
				i.MEDStatus = status
				if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
					t.Fatal(err)
				}
			}
			await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 2`)
			awaitSome(t, s.admin, `pixmed_receipt_downloads_total{result="failed"}`)
			await(t, s.admin+"/metrics", `pixmed_receipts{state="pending"} 2`)
			s.end(t)
			for queue, want := range map[string]string{"notifications": "done", "receipts": "the receipt was not saved: the gateway answered 404"} {
				got := try(t, env, "inbox", "list", "--queue", queue)
				if got.code != exitOK || !strings.Contains(got.out, want) {
					t.Errorf("%s: %+v, want %q", queue, got, want)
				}
			}

			gateway.AddReceipt(i)
			s = start(t, env)
			awaitDone(t, s.admin, 2)
			if got := app.types(); !slices.Equal(got, []string{"acknowledged", "debited"}) {
				t.Errorf("forwarded: %v", got)
			}
			if !isPDF(filepath.Join(env["PIXMED_RECEIPTS"], i.TransactionID+".pdf")) {
				t.Error("there is no receipt")
			}
			s.end(t)
		})
	}
}

// The application is reminded before a case is due, again and again until it takes
// the reminder, and not of a case that has ended.
func TestReminders(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			open, ended := pixmedtest.NewInfraction(), pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.MEDStatus = pixmed.Cancelled })
			app := newApplication(t, answerWith(http.StatusOK), answerWith(http.StatusAccepted), answerWith(http.StatusServiceUnavailable))
			env := settings(gateway, database(t), t.TempDir())
			withoutGateway(env)
			env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = app.url, forwardSecret
			env["PIXMED_DEFENCE"] = "1h"
			s := start(t, env)
			for _, i := range []pixmed.Infraction{open, ended} {
				if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
					t.Fatal(err)
				}
			}
			await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 2`)
			await(t, s.admin+"/metrics", `pixmed_cases_nearest_due_timestamp_seconds `)
			s.end(t)

			env["PIXMED_REMIND"] = "1h-" // which is wrong, and said
			if got := try(t, env, "serve"); got.code != exitUsage || !strings.Contains(got.err, "PIXMED_REMIND: want times") {
				t.Errorf("%+v", got)
			}
			env["PIXMED_REMIND"] = "30m,59m59.999s" // the second one is due
			s = start(t, env)
			await(t, s.admin+"/metrics", `pixmed_forwards_total{result="done"} 1`)
			got := app.requests()
			if types := app.types(); !slices.Equal(types, []string{"acknowledged", "cancelled", "reminder", "reminder"}) && !slices.Equal(types, []string{"cancelled", "acknowledged", "reminder", "reminder"}) {
				t.Fatalf("forwarded: %v", types)
			}
			contains(t, string(got[3].body), `"transactionId":"`+open.TransactionID+`"`, `"medStatus":"ACKNOWLEDGED"`, `"value":"18.00"`, `"dueAt":"`)
			if got[2].header.Get("Webhook-Id") != got[3].header.Get("Webhook-Id") {
				t.Error("the second attempt has another id")
			}
			s.end(t)
			contains(t, s.log.String(), `"msg":"pixmed: reminder"`)
		})
	}
}
