//go:build browser

// Package browser_test uses the operations page as an operator does: in Chromium,
// with JavaScript switched off, on a desk and on a phone. See run.sh.
package browser_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/ops"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// What run.sh sets.
const (
	// chromiumVariable names Chromium's binary. It takes the tag browser to build the
	// test, so that `go test ./...` needs none.
	chromiumVariable = "PIXMED_TEST_CHROMIUM"
	// screenshotsVariable names a folder for screenshots; there are none without.
	screenshotsVariable = "PIXMED_SCREENSHOTS"
)

const (
	user, password = "ops", "correct horse battery"
	prefix         = "/admin/ops"

	// What the script looks for: a case that failed, and one that went on since.
	deadTransaction       = "5a94d48d-c9f3-46be-8448-83510ca42bde"
	deadEndToEnd          = "E082535392025011818245238600338f"
	supersededTransaction = "0b6f3c1e-7d52-4c0e-9d0a-2f4be1a6c713"
)

func TestBrowser(t *testing.T) {
	t.Parallel()
	chromium := os.Getenv(chromiumVariable)
	if chromium == "" {
		t.Fatalf("%s is not set: run.sh sets it, and installs what the test needs", chromiumVariable)
	}
	server := newServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	script := exec.CommandContext(ctx, "node", "operator.mjs")
	script.Env = append(os.Environ(),
		"CHROMIUM="+chromium, "SCREENSHOTS="+os.Getenv(screenshotsVariable), "PAGE="+server.URL+prefix+"/",
		"OPS_USER="+user, "OPS_PASSWORD="+password,
		"DEAD="+deadTransaction, "DEAD_E2E="+deadEndToEnd, "SUPERSEDED="+supersededTransaction)
	output, err := script.CombinedOutput()
	t.Logf("%s", output)
	if err != nil {
		t.Fatalf("the operator did not get through: %v", err)
	}
}

// newServer returns a server with the page of an inbox in which something has
// happened.
func newServer(t *testing.T) *httptest.Server {
	t.Helper()
	store := enginetest.SQLite(t)
	in := store.Start(t, newAccounting(), inbox.WithBackoff(time.Hour, time.Hour))
	fill(t, store, in)
	page, err := ops.NewHandler(in, ops.WithBasicAuth(user, password), ops.WithLogger(enginetest.Logger(t)),
		ops.WithReceipt(func(_ context.Context, i *pixmed.Infraction) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(pixmedtest.PDF(*i))), nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(prefix+"/", http.StripPrefix(prefix, page))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// newAccounting returns a receiver that fails the first time where the external id
// says so, and works from then on.
func newAccounting() pixmed.Receiver {
	var failed sync.Map
	return pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		discarded := n.TransactionID == deadTransaction && n.MEDStatus == pixmed.Cancelled ||
			n.TransactionID == supersededTransaction && n.MEDStatus == pixmed.Acknowledged
		late := n.ExternalID == "order-2211"
		if _, again := failed.LoadOrStore(n.TransactionID+string(n.MEDStatus), true); again {
			return nil
		}
		switch {
		case discarded:
			return inbox.Discard(fmt.Errorf("release the amount: the ledger has no entry for %s", n.ExternalID))
		case late:
			return errors.New("save the receipt: gateway: 503 Service Unavailable after 4 attempts")
		}
		return nil
	})
}

// fill makes the days before now in the inbox, at times and with ids that are the
// same, relative to now, whenever the test runs.
func fill(t *testing.T, store *enginetest.Store, in *inbox.Inbox) {
	t.Helper()
	var done int64
	receive := func(ago time.Duration, transaction string, status pixmed.MEDStatus, value pixmed.Amount, externalID string) {
		t.Helper()
		e2e := pixmed.EndToEndID(deadEndToEnd)
		if transaction != deadTransaction {
			e2e = e2e[:21] + pixmed.EndToEndID(transaction[len(transaction)-11:])
		}
		err := in.Receive(t.Context(), pixmedtest.NewNotification(func(n *pixmed.Notification) {
			n.TransactionID, n.MEDStatus, n.Value, n.ExternalID, n.EndToEndID = transaction, status, value, externalID, e2e
			n.ReceivedAt, n.Raw = time.Now().Add(-ago), nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		done++
	}
	const day = 24 * time.Hour
	for i, perDay := range []int{3, 5, 4, 0, 1, 6, 7, 5, 4, 5, 1, 0, 6} { // from yesterday backwards
		for j := range perDay {
			n := 100*i + j
			receive(time.Duration(i+1)*day+time.Duration(j)*time.Minute, fmt.Sprintf("7c1d%04d-41aa-4b6e-8f0e-%012d", n*37%10000, n*7919),
				pixmed.Acknowledged, pixmed.Amount(1790+n*3137), fmt.Sprintf("order-%d", 2199-i*8-j))
		}
	}
	receive(26*time.Hour, deadTransaction, pixmed.Acknowledged, 123456, "order-2207")
	receive(40*time.Minute, deadTransaction, pixmed.Cancelled, 123456, "order-2207")
	receive(50*time.Hour, supersededTransaction, pixmed.Acknowledged, 8990, "order-2184")
	receive(5*time.Hour, supersededTransaction, pixmed.Cancelled, 8990, "order-2184")
	receive(9*time.Hour, "e3d0a9f7-51c6-4f7b-a8f4-6cf2d1f0b7a5", pixmed.Debited, 45000, "order-2190")
	receive(12*time.Minute, "91f2b7d4-0c3e-4a55-b1c8-7e6d5f4a3b2c", pixmed.Acknowledged, 25990, "order-2211")
	body := `{"transactionId": "5a94d48d", "transactionStatus": "MED", "value": "18,00"}`
	if err := in.Quarantine(t.Context(), []byte(body), errors.New("transactionId is not a UUID; value \"18,00\" is not an amount; medStatus is missing")); err != nil {
		t.Fatal(err)
	}
	enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool {
		pending, err := in.List(t.Context(), inbox.Filter{State: inbox.Pending})
		return err == nil && s.Dead == 2 && s.Done == done-3 && len(pending) == 1 && pending[0].Attempts == 1
	})
	// The database's clock says that all of it was done just now.
	db := store.DB(t)
	for _, statement := range []string{
		"UPDATE events SET done_at = received_at + 1400000 WHERE done_at IS NOT NULL",
		"UPDATE cases SET updated_at = (SELECT max(received_at) FROM events WHERE case_id = cases.id)",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}
