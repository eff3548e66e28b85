package ops_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/ops"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A case shows what is known of it, and what can be done about it.
func TestCase(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, db *enginetest.Database) { testCase(t, newSiteIn(t, db, defence, noon())) })
}

func testCase(t *testing.T, s *site) {
	t.Helper()
	first := s.open(t, 5*time.Hour, func(n *pixmed.Notification) { n.ExternalID, n.EndToEndID, n.Value = markup, endToEnd, 123456 })
	path := "/case/" + first.Key.TransactionID
	a := s.get(t, path)
	a.mustHold(t, http.StatusOK, "&lt;script&gt;", endToEnd, "R$ 1.234,56", "in 4 h 59 min", "Nobody has marked it as answered.", "Opened", "Done",
		"&#34;transactionId&#34;: &#34;"+first.Key.TransactionID, `/answer">Mark as answered`, `/end">End the case`)
	a.mustNotHold(t, "/replay", "/retry", "Receipt")
	if err := s.in.MarkAnswered(t.Context(), first.Key.TransactionID, "sent <b>by mail</b>\nwith a PDF", inbox.By("ana")); err != nil {
		t.Fatal(err)
	}
	s.dead(t, errLedger, func(n *pixmed.Notification) {
		n.TransactionID, n.ExternalID, n.EndToEndID, n.MEDStatus, n.Value = first.Key.TransactionID, markup, endToEnd, pixmed.Cancelled, 123456
	})
	a = s.get(t, path)
	a.mustHold(t, http.StatusOK, "by ana", "sent &lt;b&gt;by mail&lt;/b&gt;\nwith a PDF", "CANCELLED", `<span class="state dead">failed for good</span>`,
		"the ledger is away", "Discarded: a redelivery does not revive it.", `/replay">Replay`, `/resolve">Resolve`, "Ended")
	a.mustNotHold(t, "/answer", "/end\"")
	if i, j, k := strings.Index(a.body, ">ACKNOWLEDGED"), strings.Index(a.body, "Marked as answered"), strings.LastIndex(a.body, ">CANCELLED"); i > j || j > k {
		t.Errorf("the timeline is not in order: %d, %d, %d", i, j, k)
	}
}

// A notification that failed says when it is tried next; the error of one that is on
// its way again is not shown.
func TestNextAttempt(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}), make(chan struct{})
	s := &site{log: new(safeBuffer)}
	calls := 0
	s.in = enginetest.SQLite(t).Start(t, pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
		if calls++; calls == 1 {
			return errors.New("the gateway answers 503")
		}
		began <- struct{}{}
		<-release
		return ctx.Err()
	}), inbox.WithBackoff(time.Hour, time.Hour))
	s.serve(t, noon())
	n := pixmedtest.NewNotification()
	again := pixmedtest.NewNotification(func(next *pixmed.Notification) {
		next.TransactionID, next.ExternalID, next.MEDStatus = n.TransactionID, n.ExternalID, pixmed.Cancelled
	})
	for _, n := range []*pixmed.Notification{n, again} {
		if err := s.in.Receive(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	path := "/case/" + n.TransactionID
	a := s.until(t, path, "the gateway answers 503")
	a.mustHold(t, http.StatusOK, "Next attempt", "(in ", " min)", "after the earlier ones of this case", `/retry">Retry now`, `/discard">Discard`, "2 pending")
	events, err := s.in.History(t.Context(), n.TransactionID)
	if err != nil {
		t.Fatal(err)
	}
	s.get(t, "/event/"+events[0].ID+"/retry").mustHold(t, http.StatusOK, "Retry now?", "runs at once")
	a = s.follow(t, "/event/"+events[0].ID+"/retry", nil)
	a.mustHold(t, http.StatusOK, `role="status">The notification is tried again now.`, "Retried at once")
	a.mustNotHold(t, "the gateway answers 503", "/retry")
	<-began
	a = s.get(t, path)
	a.mustHold(t, http.StatusOK, `<span class="state running">running</span>`)
	a.mustNotHold(t, "the gateway answers 503")
	release <- struct{}{}
	<-began
	release <- struct{}{}
	enginetest.Await(t, s.in)
	s.get(t, path).mustNotHold(t, "the gateway answers 503", "pending")
}

// A body that is long is shown in part, those of many notifications up to a bound,
// and a timeline has pages.
func TestCaseBounds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	deep := strings.Repeat("[", 9990) + strings.Repeat("]", 9990)
	transaction := enginetest.NewTransaction()
	var last *inbox.Event
	for i := range 60 {
		last = s.receive(t, func(n *pixmed.Notification) {
			n.TransactionID, n.Value = transaction, pixmed.Amount(i+1)
			payload := strings.TrimSpace(string(pixmedtest.Payload(n.Infraction)))
			n.Raw = []byte(strings.TrimSuffix(payload, "}") + `, "unknown": ` + deep + "}")
		})
	}
	path := "/case/" + transaction
	a := s.get(t, path)
	a.mustHold(t, http.StatusOK, "this is the beginning, 8,192 of 20,", "Body, on a page of its own", `href="?skip=50"`, "R$ 0,60", "R$ 0,11")
	a.mustNotHold(t, "R$ 0,10<")
	if len(a.body) > 512<<10 || strings.Count(a.body, "<pre>") != 8 {
		t.Errorf("%d bytes, %d bodies", len(a.body), strings.Count(a.body, "<pre>"))
	}
	a = s.get(t, path+"?skip=50")
	a.mustHold(t, http.StatusOK, "R$ 0,01", "R$ 0,10", `href="?skip=0"`)
	a.mustNotHold(t, "R$ 0,11<")
	a = s.get(t, "/event/"+last.ID)
	a.mustHold(t, http.StatusOK, deep, `href="../case/`+transaction)
	a.mustNotHold(t, "this is the beginning")
	for _, skip := range []string{"-1", "x", "1000000", "99999999999999999999"} {
		s.get(t, path+"?skip="+skip).mustHold(t, http.StatusOK)
	}
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, db *enginetest.Database) { testQuarantine(t, newSiteIn(t, db, nil)) })
}

func testQuarantine(t *testing.T, s *site) {
	t.Helper()
	body := []byte(`{"medStatus":"` + markup + `"`)
	for range 2 {
		if err := s.in.Quarantine(t.Context(), body, errors.New("it ends too early")); err != nil {
			t.Fatal(err)
		}
	}
	events, err := s.in.List(t.Context(), inbox.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	path := "/event/" + events[0].ID
	s.get(t, "/cases?q=medstatus").mustHold(t, http.StatusOK, "In quarantine", `href=".`+path+`">it ends too early`)
	s.get(t, "/cases?q=medstatus").mustNotHold(t, "Nothing found")
	s.get(t, "/cases?q=another").mustHold(t, http.StatusOK, "Nothing found.")
	s.get(t, "/cases?q=another").mustNotHold(t, "In quarantine")
	s.get(t, path).mustHold(t, http.StatusOK, "it ends too early", "{&#34;medStatus&#34;:&#34;&lt;script&gt;", "It came 2 times, the last time", `/replay">Replay`)
	s.post(t, path+"/replay", nil).mustHold(t, http.StatusUnprocessableEntity, "still not valid", `role="alert"`)
	a := s.follow(t, path+"/resolve", map[string][]string{"note": {"the gateway\r\nknows"}})
	a.mustHold(t, http.StatusOK, "The notification is resolved.", "the gateway\nknows", `<span class="state resolved">resolved</span>`, "Error that was settled")
}

// There is a link to a receipt if there is one, and the receipt is an attachment.
func TestReceipt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSite(t, ops.WithReceipt(func(_ context.Context, i *pixmed.Infraction) (io.ReadCloser, error) {
		f, err := os.Open(filepath.Join(dir, i.TransactionID))
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil //nolint:nilnil // there is none
		}
		return f, err
	}))
	e := s.receive(t, anything)
	path := "/case/" + e.Key.TransactionID
	s.get(t, path).mustNotHold(t, "/receipt")
	s.get(t, path+"/receipt").mustHold(t, http.StatusNotFound, "There is no receipt for this transaction.")
	pdf := pixmedtest.PDF(pixmedtest.NewInfraction())
	if err := os.WriteFile(filepath.Join(dir, e.Key.TransactionID), pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	s.get(t, path).mustHold(t, http.StatusOK, `href="..`+path+`/receipt">Receipt (PDF)`)
	a := s.get(t, path+"/receipt")
	want := http.Header{"Content-Type": {"application/pdf"}, "Content-Disposition": {`attachment; filename="` + e.Key.TransactionID + `.pdf"`}, "X-Content-Type-Options": {"nosniff"}}
	got := make(http.Header)
	for name := range want {
		got[name] = a.header[name]
	}
	if diff := cmp.Diff(want, got); a.status != http.StatusOK || a.body != string(pdf) || diff != "" {
		t.Errorf("%d, %d bytes (-want +got):\n%s", a.status, len(a.body), diff)
	}
}

// Where nobody knows whether there is a receipt, the case is shown all the same.
func TestReceiptUnknown(t *testing.T) {
	t.Parallel()
	s := newSite(t, ops.WithReceipt(func(context.Context, *pixmed.Infraction) (io.ReadCloser, error) { return nil, errAway }))
	e := s.receive(t, anything)
	s.get(t, "/case/"+e.Key.TransactionID).mustHold(t, http.StatusOK, e.Key.TransactionID)
	a := s.get(t, "/case/"+e.Key.TransactionID+"/receipt")
	a.mustHold(t, http.StatusInternalServerError, "does not answer")
	a.mustNotHold(t, "10.0.0.7")
	if log := s.log.String(); strings.Count(log, "10.0.0.7") != 2 {
		t.Errorf("the log is %s", log)
	}
}

// A receipt that ends too early is not taken for whole.
func TestReceiptBreaksOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, ops.WithReceipt(func(context.Context, *pixmed.Infraction) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("%PDF-"), brokenReader{})), nil
	}))
	e := s.receive(t, anything)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+prefix+"/case/"+e.Key.TransactionID+"/receipt", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		defer func() { _ = response.Body.Close() }()
		_, err = io.ReadAll(response.Body)
	}
	if err == nil || !strings.Contains(s.log.String(), "only partly sent") {
		t.Errorf("got %v; the log is %s", err, s.log)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, fmt.Errorf("read: %w", errAway) }
