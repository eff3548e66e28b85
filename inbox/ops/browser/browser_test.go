//go:build browser

// Package browser_test uses the operations page as an operator does: in Chromium,
// with JavaScript switched off, on a desk and on a phone. See run.sh.
package browser_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
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
	user, password = "ana", "correct horse battery"
	prefix         = "/admin/ops"
	window         = 72 * time.Hour
	many           = 100_000

	// What the script looks for.
	todayTransaction      = "5a94d48d-c9f3-46be-8448-83510ca42bde" // is due today
	deadTransaction       = "e3d0a9f7-51c6-4f7b-a8f4-6cf2d1f0b7a5" // of a group that failed
	longTransaction       = "c2b8a5d1-93f4-4e07-8d26-5b1a7c9e0f38" // has a long error
	supersededTransaction = "0b6f3c1e-7d52-4c0e-9d0a-2f4be1a6c713" // failed, and went on since

	ledgerError = "release the amount: the ledger is read-only"
)

func TestBrowser(t *testing.T) {
	t.Parallel()
	chromium := os.Getenv(chromiumVariable)
	if chromium == "" {
		t.Fatalf("%s is not set: run.sh sets it, and installs what the test needs", chromiumVariable)
	}
	page, err := json.Marshal(map[string]string{
		"page": newServer(t, fill), "crowd": newServer(t, crowd), "user": user, "password": password,
		"today": todayTransaction, "dead": deadTransaction, "superseded": supersededTransaction,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	script := exec.CommandContext(ctx, "node", "operator.mjs")
	script.Env = append(os.Environ(), "CHROMIUM="+chromium, "SCREENSHOTS="+os.Getenv(screenshotsVariable), "SITE="+string(page))
	output, err := script.CombinedOutput()
	t.Logf("%s", output)
	if err != nil {
		t.Fatalf("the operator did not get through: %v", err)
	}
}

// newServer returns the address of the page of an inbox that is filled first.
func newServer(t *testing.T, fill func(*testing.T, *enginetest.Database, *inbox.Inbox)) string {
	t.Helper()
	db := enginetest.SQLite(t)
	in := db.Start(t, newAccounting(), inbox.WithBackoff(time.Hour, time.Hour),
		inbox.WithDefence(window, func(context.Context, *inbox.Case) error { return nil }, 24*time.Hour))
	fill(t, db, in)
	h, m, s := time.Now().UTC().Clock()
	noon := time.FixedZone("", (12-h)*3600-m*60-s) // where today is neither over nor new
	page, err := ops.NewHandler(in, ops.WithBasicAuth(user, password), ops.WithLogger(enginetest.Logger(t)), ops.WithLocation(noon),
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
	return server.URL + prefix + "/"
}

// newAccounting returns a receiver that fails the first time where the external id
// says so, and works from then on.
func newAccounting() pixmed.Receiver {
	var failed sync.Map
	return pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		if _, again := failed.LoadOrStore(n.TransactionID+string(n.MEDStatus), true); again {
			return nil
		}
		switch {
		case strings.HasPrefix(n.ExternalID, "sale-") && n.MEDStatus == pixmed.Cancelled, n.TransactionID == supersededTransaction && n.MEDStatus == pixmed.Acknowledged:
			return inbox.Discard(errors.New(ledgerError))
		case n.TransactionID == longTransaction:
			return inbox.Discard(errors.New("block the amount: the ledger answers 422: the account is closed, and has been since 2026-10-30; " + strings.Repeat("see its statement; ", 60)))
		case n.TransactionID == todayTransaction:
			return errors.New("save the receipt: gateway: 503 Service Unavailable after 4 attempts")
		}
		return nil
	})
}

// fill makes the days before now in the inbox, at times and with ids that are the
// same, relative to now, whenever the test runs.
func fill(t *testing.T, db *enginetest.Database, in *inbox.Inbox) {
	t.Helper()
	var all int64
	receive := func(ago time.Duration, transaction string, status pixmed.MEDStatus, value pixmed.Amount, externalID string) {
		t.Helper()
		err := in.Receive(t.Context(), pixmedtest.NewNotification(func(n *pixmed.Notification) {
			n.TransactionID, n.MEDStatus, n.Value, n.ExternalID = transaction, status, value, externalID
			n.EndToEndID = n.EndToEndID[:21] + pixmed.EndToEndID(transaction[len(transaction)-11:])
			n.ReceivedAt = time.Now().Add(-ago)
		}))
		if err != nil {
			t.Fatal(err)
		}
		all++
	}
	id := func(n int) string { return fmt.Sprintf("7c1d%04d-41aa-4b6e-8f0e-%012d", n*37%10000, n*7919) }
	const day = 24 * time.Hour
	for i, perDay := range []int{3, 5, 4, 2, 1, 6, 7, 5, 4, 5, 1, 2, 6} { // from yesterday backwards
		for j := range perDay {
			n := 100*i + j
			ago := time.Duration(i+1)*day + time.Duration(j)*time.Minute
			receive(ago, id(n), pixmed.Acknowledged, pixmed.Amount(1790+n*3137), fmt.Sprintf("order-%d", 2199-i*8-j))
			if i > 1 {
				receive(ago-7*time.Hour, id(n), pixmed.Cancelled, pixmed.Amount(1790+n*3137), fmt.Sprintf("order-%d", 2199-i*8-j))
			}
		}
	}
	receive(window+3*time.Hour, "a1f09c52-6d0b-4c55-9a37-0f6f3f0c1e44", pixmed.Acknowledged, 18990, "order-2170")
	receive(window-2*time.Hour-10*time.Minute, todayTransaction, pixmed.Acknowledged, 123456, "order-2207")
	receive(window-5*time.Hour, "91f2b7d4-0c3e-4a55-b1c8-7e6d5f4a3b2c", pixmed.Acknowledged, 45000, "order-2203")
	receive(window-9*time.Hour, longTransaction, pixmed.Acknowledged, 8000, "order-2204")
	for i := range 4 {
		transaction := id(5000 + i)
		if i == 0 {
			transaction = deadTransaction
		}
		receive(26*time.Hour, transaction, pixmed.Acknowledged, pixmed.Amount(12000+1500*i), fmt.Sprintf("sale-%d", 2180+i))
		receive(time.Duration(40+i)*time.Minute, transaction, pixmed.Cancelled, pixmed.Amount(12000+1500*i), fmt.Sprintf("sale-%d", 2180+i))
	}
	receive(50*time.Hour, supersededTransaction, pixmed.Acknowledged, 8990, "order-2184")
	receive(5*time.Hour, supersededTransaction, pixmed.Cancelled, 8990, "order-2184")
	receive(9*time.Hour, id(6000), pixmed.Debited, 45000, "order-2192")
	receive(12*time.Minute, id(6001), pixmed.Acknowledged, 25990, "order-2211")
	body := `{"transactionId": "5a94d48d", "transactionStatus": "MED", "value": "18,00"}`
	if err := in.Quarantine(t.Context(), []byte(body), errors.New("transactionId is not a UUID; value \"18,00\" is not an amount; medStatus is missing")); err != nil {
		t.Fatal(err)
	}
	const dead, late = 6, 1
	enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool {
		pending, err := in.List(t.Context(), inbox.Filter{State: inbox.Pending})
		return err == nil && s.Dead == dead && s.Done == all-dead-late && len(pending) == late && pending[0].Attempts == 1
	})
	if err := in.MarkAnswered(t.Context(), "91f2b7d4-0c3e-4a55-b1c8-7e6d5f4a3b2c", "Sent through the gateway's panel, with receipt and delivery note.", inbox.By("joão")); err != nil {
		t.Fatal(err)
	}
	// The database's clock says that all of it was done just now.
	run(t, db.DB(t),
		"UPDATE events SET done_at = received_at + 1400000 WHERE done_at IS NOT NULL",
		"UPDATE notes SET at = (SELECT received_at FROM events WHERE events.transaction_id = notes.transaction_id) + 48 * 3600000000 WHERE action = 'reminded'",
		"UPDATE cases SET updated_at = (SELECT max(received_at) FROM events WHERE case_id = cases.id)")
}

// crowd puts a hundred thousand cases into the inbox, by SQL since that is quick: half
// of them are open, and one in ten of those is due today.
func crowd(t *testing.T, db *enginetest.Database, in *inbox.Inbox) {
	t.Helper()
	err := in.Receive(t.Context(), pixmedtest.NewNotification(func(n *pixmed.Notification) { n.ExternalID, n.ReceivedAt = "the-first", time.Now() }))
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Await(t, in)
	run(t, db.DB(t), fmt.Sprintf(`
CREATE TEMP TABLE crowd AS
WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < %d), at(now) AS (SELECT unixepoch() * 1000000)
SELECT n, printf('c0000000-0000-4000-8000-%%012d', n) AS tx, n %% 2 AS open,
	CASE WHEN n %% 20 = 1 THEN now - 3600000000 * 70 + n ELSE now - 3600000000 * (n %% 47) END AS at FROM n, at`, many), `
INSERT INTO cases (id, transaction_id, next_seq, updated_at, open, status_seq, value, opened_at, ended_at)
SELECT 1000 + n, tx, 2, at, open, 1, 1000 + n, at, CASE open WHEN 0 THEN at END FROM crowd`, `
INSERT INTO events (id, case_id, transaction_id, external_id, external_digest, status, value, raw, seq, state, standing, attempts, received_at, done_at)
SELECT printf('01%s', substr(tx, 3)), 1000 + n, tx, 'crowd-' || n, n, CASE open WHEN 1 THEN 'ACKNOWLEDGED' ELSE 'CANCELLED' END, 1000 + n,
	CAST(replace((SELECT CAST(raw AS text) FROM events WHERE external_id = 'the-first'), 'the-first', 'crowd-' || n) AS blob), 1, 'done', 1 + open, 1, at, at FROM crowd`, `
INSERT INTO ids (case_id, external_key, e2e_key) SELECT 1000 + n, CAST('CROWD-' || n AS blob), x'' FROM crowd`)
}

// run runs statements on one connection.
func run(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range statements {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%v: %s", err, statement)
		}
	}
}
