package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

func TestStatusesOfACase(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(nil)
		in := s.Start(t, r)
		id := enginetest.NewTransaction()
		type call struct {
			Status, Previous pixmed.MEDStatus
			Seen, Reopened   bool
			Attempt          int
		}
		var got []call
		for _, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, pixmed.Acknowledged, "NEW\x00ONE", pixmed.Debited} {
			mustReceive(t, in, enginetest.Notification(id, status))
			n := r.Next(t)
			got = append(got, call{n.MEDStatus, n.Previous, !n.SeenAt.IsZero(), n.MaybeReopened(), n.Attempt})
			enginetest.Await(t, in)
			if err := in.Receive(t.Context(), enginetest.Notification(id, status)); !errors.Is(err, pixmed.ErrDuplicate) {
				t.Errorf("a redelivery of %q: %v, want ErrDuplicate", status, err)
			}
		}
		want := []call{
			{pixmed.Acknowledged, "", false, false, 1},
			{pixmed.Cancelled, pixmed.Acknowledged, false, false, 1},
			{pixmed.Acknowledged, pixmed.Cancelled, true, true, 1},
			{"NEW\x00ONE", pixmed.Acknowledged, false, false, 1},
			{pixmed.Debited, "NEW\x00ONE", false, false, 1},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		r.None(t)
	})
}

// What the receiver gets is what the handler got.
func TestNotificationIsWhole(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(nil)
		in := s.Start(t, r)
		want := pixmedtest.NewNotification(func(n *pixmed.Notification) {
			n.TransactionID = strings.ToUpper(enginetest.NewTransaction())
			n.ExternalID = "pedido \x00 é " + strings.Repeat("x", 20_000)
			n.Value = 123456
			n.ReceivedAt = time.Date(2026, 2, 3, 4, 5, 6, 789000, time.UTC)
			n.Raw = append([]byte("  "), pixmedtest.Payload(n.Infraction)...)
			n.Attempt = 1
		})
		mustReceive(t, in, want)
		if diff := cmp.Diff(want, r.Next(t)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// The case is what counts, however its ids are written.
func TestDuplicatesBySpelling(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(nil)
		in := s.Start(t, r)
		handler := newHandler(t, in)
		id := enginetest.NewTransaction()
		body := func(id, external string) string {
			return `{"transactionId":"` + id + `","transactionStatus":"MED","transactionType":"CASH_IN","value":18,"externalId":` + external + `,"medStatus":"ACKNOWLEDGED"}`
		}
		for _, test := range []struct {
			name, body string
			calls      int
		}{
			{"first", body(id, `"123"`), 1},
			{"upper-case UUID", body(strings.ToUpper(id), `"123"`), 0},
			{"numeric externalId", body(id, `123`), 0},
			{"another externalId", body(id, `"124"`), 1},
			{"no externalId", body(id, `""`), 1},
			{"another transaction", body(enginetest.NewTransaction(), `"123"`), 1},
		} {
			if code := post1(t, handler, test.body); code != http.StatusOK {
				t.Errorf("%s: %d", test.name, code)
			}
			for range test.calls {
				r.Next(t)
			}
			enginetest.Await(t, in)
			if len(r.Got) != 0 {
				t.Errorf("%s: one call too many: %v", test.name, <-r.Got)
			}
		}
	})
}

func TestDuplicatesAcrossRestarts(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(nil)
		n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		for i := range 3 {
			in := s.Start(t, r)
			err := in.Receive(t.Context(), n)
			if i == 0 {
				if err != nil {
					t.Fatal(err)
				}
				r.Next(t)
			} else if !errors.Is(err, pixmed.ErrDuplicate) {
				t.Errorf("after restart %d: %v, want ErrDuplicate", i, err)
			}
			mustStop(t, in)
		}
		r.None(t)
	})
}

// What was accepted and not worked on is worked on by the next process.
func TestGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(nil)
		in := s.Open(t, r) // never started
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled))
		mustStop(t, in)
		r.None(t)
		s.Start(t, r)
		for _, want := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled} {
			if n := r.Next(t); n.MEDStatus != want {
				t.Errorf("got %s, want %s", n.MEDStatus, want)
			}
		}
	})
}

// The same delivery, from many connections and to several replicas at once.
func TestDuplicatesAtTheSameMoment(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(nil)
		replicas := []*inbox.Inbox{s.Start(t, r)}
		if s.Engine == "postgres" {
			replicas = append(replicas, s.Start(t, r), s.Start(t, r))
		}
		for range 10 {
			n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
			var wg sync.WaitGroup
			var mu sync.Mutex
			accepted := 0
			for i := range 24 {
				wg.Go(func() {
					copied := *n
					switch err := replicas[i%len(replicas)].Receive(t.Context(), &copied); {
					case err == nil:
						mu.Lock()
						accepted++
						mu.Unlock()
					case !errors.Is(err, pixmed.ErrDuplicate):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if accepted != 1 {
				t.Errorf("accepted %d times", accepted)
			}
			r.Next(t)
		}
		enginetest.Await(t, replicas[0])
		r.None(t)
	})
}

// A dead notification is revived by its redelivery, unless it was discarded.
func TestRedeliveryOfTheDead(t *testing.T) {
	t.Parallel()
	for name, discard := range map[string]bool{"exhausted": false, "discarded": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
				failing := true
				r := enginetest.NewRecorder(func(context.Context, *pixmed.Notification) error {
					switch {
					case !failing:
						return nil
					case discard:
						return inbox.Discard(errors.New("never"))
					}
					return errors.New("not today")
				})
				in := s.Start(t, r, inbox.WithMaxAttempts(2))
				n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
				mustReceive(t, in, n)
				enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Dead == 1 })
				events, err := in.History(t.Context(), n.TransactionID)
				if err != nil {
					t.Fatal(err)
				}
				wantAttempts := 2
				if discard {
					wantAttempts = 1
				}
				if e := events[0]; e.State != inbox.Dead || e.Discarded != discard || e.Attempts != wantAttempts || e.LastError == "" {
					t.Errorf("the dead event is %v", e)
				}
				failing = false
				err = in.Receive(t.Context(), n)
				if discard {
					if !errors.Is(err, pixmed.ErrDuplicate) {
						t.Errorf("%v, want ErrDuplicate", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Done == 1 && s.Dead == 0 })
				for want := 1; want <= 3; want++ {
					if got := r.Next(t).Attempt; got != want {
						t.Errorf("attempt %d, want %d", got, want)
					}
				}
			})
		})
	}
}

func TestTooManyPending(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		id := enginetest.NewTransaction()
		status := []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled}
		for i := range 64 {
			mustReceive(t, in, enginetest.Notification(id, status[i%2]))
		}
		if err := in.Receive(t.Context(), enginetest.Notification(id, status[0])); !errors.Is(err, pixmed.ErrBusy) {
			t.Errorf("the 65th: %v, want ErrBusy", err)
		}
		mustReceive(t, in, enginetest.Notification(enginetest.NewTransaction(), status[0]))
	})
}

func TestReceiveRefusesWhatIsNotValid(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	err := in.Receive(t.Context(), enginetest.Notification("no UUID", pixmed.Acknowledged))
	if _, ok := errors.AsType[*pixmed.ValidationError](err); !ok {
		t.Errorf("%v, want a ValidationError", err)
	}
}

// A notification that was made by hand has no body; the inbox makes one.
func TestReceiveWithoutABody(t *testing.T) {
	t.Parallel()
	r := enginetest.NewRecorder(nil)
	in := enginetest.SQLite(t).Start(t, r)
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Debited)
	n.Raw = nil
	mustReceive(t, in, n)
	if diff := cmp.Diff(n.Infraction, r.Next(t).Infraction); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type contextKey struct{}

func TestContextIsCarried(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		got := make(chan any, 1)
		in := s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, _ *pixmed.Notification) error {
			got <- ctx.Value(contextKey{})
			return nil
		}), inbox.WithContext(
			func(ctx context.Context) map[string]string {
				return map[string]string{"trace": ctx.Value(contextKey{}).(string)}
			},
			func(ctx context.Context, carried map[string]string) context.Context {
				return context.WithValue(ctx, contextKey{}, "resumed "+carried["trace"])
			}))
		ctx := context.WithValue(t.Context(), contextKey{}, "a\x00b")
		if err := in.Receive(ctx, enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
			t.Fatal(err)
		}
		if v := <-got; v != "resumed a\x00b" {
			t.Errorf("the callback's context holds %q", v)
		}
	})
}

func mustReceive(t *testing.T, in *inbox.Inbox, n *pixmed.Notification) {
	t.Helper()
	if err := in.Receive(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

func mustStop(t *testing.T, in *inbox.Inbox) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	defer cancel()
	if err := in.Stop(ctx); err != nil {
		t.Fatalf("Stop: %v", err)
	}
}

func newHandler(t *testing.T, in *inbox.Inbox) http.Handler {
	t.Helper()
	handler, err := pixmed.NewHandler(in, pixmed.WithoutVerification(), pixmed.WithInvalid(in.Quarantine), pixmed.WithLogger(enginetest.Logger(t)))
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

func post1(t *testing.T, handler http.Handler, body string) int {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
	return w.Code
}

// A delivery is a duplicate if its status and its value are those of the last one of
// its key. The receiver is told what came before.
func TestWhatIsADuplicate(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		type call struct {
			Status, Previous     pixmed.MEDStatus
			Value, PreviousValue pixmed.Amount
			First, Seen          bool // no previous, and seen before
		}
		calls := make(chan call, 20)
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			calls <- call{n.MEDStatus, n.Previous, n.Value, n.PreviousValue, n.PreviousAt.IsZero(), !n.SeenAt.IsZero()}
			return nil
		}))
		id := enginetest.NewTransaction()
		for _, d := range []struct {
			status pixmed.MEDStatus
			value  pixmed.Amount
			raw    string // what is added to the body
			want   error
		}{
			{pixmed.Acknowledged, 1800, "", nil},
			{pixmed.Acknowledged, 1800, " ", pixmed.ErrDuplicate},
			{pixmed.Debited, 1000, "", nil},
			{pixmed.Debited, 800, "", nil}, // the rest of it
			{pixmed.Debited, 800, "", pixmed.ErrDuplicate},
			{pixmed.Acknowledged, 1800, "", nil}, // opened again
			{"", 1800, "", nil},                  // without a status bodies are compared
			{"", 1800, "", pixmed.ErrDuplicate},
			{"", 1800, " ", nil},
			{"", 1800, "", nil},
			{pixmed.Acknowledged, 1800, "", nil},
		} {
			n := enginetest.Notification(id, d.status)
			n.Value, n.EndToEndID = d.value, "E9040088820260301120000000000001"
			n.Raw = append(pixmedtest.Payload(n.Infraction), d.raw...)
			if err := in.Receive(t.Context(), n); !errors.Is(err, d.want) {
				t.Errorf("%s %v %q: %v, want %v", d.status, d.value, d.raw, err, d.want)
			}
		}
		enginetest.Await(t, in)
		close(calls)
		var got []call
		for c := range calls {
			got = append(got, c)
		}
		want := []call{
			{pixmed.Acknowledged, "", 1800, 0, true, false},
			{pixmed.Debited, pixmed.Acknowledged, 1000, 1800, false, false},
			{pixmed.Debited, pixmed.Debited, 800, 1000, false, true},
			{pixmed.Acknowledged, pixmed.Debited, 1800, 800, false, true},
			{"", pixmed.Acknowledged, 1800, 1800, false, false},
			{"", "", 1800, 1800, false, true},
			{"", "", 1800, 1800, false, true},
			{pixmed.Acknowledged, "", 1800, 1800, false, true},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

// Two external ids may have the same digest, by which the engines look them up.
func TestDigestsThatCollide(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := enginetest.NewRecorder(nil)
		in := s.Start(t, r)
		id := enginetest.NewTransaction()
		of := func(externalID string, status pixmed.MEDStatus, value pixmed.Amount) *pixmed.Notification {
			n := enginetest.Notification(id, status)
			n.ExternalID, n.Value, n.Raw = externalID, value, nil
			return n
		}
		mustReceive(t, in, of("one", pixmed.Acknowledged, 1))
		mustReceive(t, in, of("two", pixmed.Debited, 1))
		for i := range 4 { // or the first would be read as what the case's status may become
			mustReceive(t, in, of(fmt.Sprint("later ", i), pixmed.Acknowledged, 2))
		}
		enginetest.Await(t, in)
		for len(r.Got) > 0 {
			<-r.Got
		}
		h := historyOf(t, in, id)
		execute(t, s, `UPDATE {}events SET external_digest = (SELECT external_digest FROM {}events WHERE id = '`+h[0].ID+`') WHERE id = '`+h[1].ID+`'`)
		if err := in.Receive(t.Context(), of("one", pixmed.Acknowledged, 1)); !errors.Is(err, pixmed.ErrDuplicate) {
			t.Errorf("a redelivery of the first: %v, want ErrDuplicate", err)
		}
		mustReceive(t, in, of("one", pixmed.Cancelled, 1))
		enginetest.Await(t, in)
		if n := r.Next(t); n.MEDStatus != pixmed.Cancelled || n.Previous != pixmed.Acknowledged {
			t.Errorf("got %s after %q", n.MEDStatus, n.Previous)
		}
	})
}

// Of a transaction with very many notifications the oldest that are done are
// deleted, and never what is dead or the last of its external id.
func TestManyOfOneTransaction(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		var log syncBuilder
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Debited {
				return inbox.Discard(errors.New("no"))
			}
			return nil
		}), log.option())
		id := enginetest.NewTransaction()
		once := enginetest.Notification(id, pixmed.Acknowledged)
		once.ExternalID = "once"
		mustReceive(t, in, once)
		mustReceive(t, in, enginetest.Notification(id, pixmed.Debited))
		const many = 1150
		for i := range many {
			n := enginetest.Notification(id, pixmed.Acknowledged)
			n.Value = pixmed.Amount(i + 1) // so that none is a duplicate
			for busy := false; ; busy = true {
				err := in.Receive(t.Context(), n)
				if err == nil || busy && errors.Is(err, pixmed.ErrDuplicate) { // stored after all
					break
				}
				if !errors.Is(err, pixmed.ErrBusy) { // 64 are pending
					t.Fatal(err)
				}
			}
		}
		enginetest.Await(t, in)
		h := historyOf(t, in, id)
		if len(h) < 960 || len(h) > 1090 {
			t.Errorf("%d are left of %d", len(h), many)
		}
		if h[0].Key.ExternalID != "once" || h[1].State != inbox.Dead || h[len(h)-1].Seq != many+2 {
			t.Errorf("the first are %v and %v, the last is %v", h[0], h[1], h[len(h)-1])
		}
		if err := in.Receive(t.Context(), once); !errors.Is(err, pixmed.ErrDuplicate) {
			t.Errorf("the last of an external id again: %v, want ErrDuplicate", err)
		}
		mustStop(t, in)
		if got := strings.Count(log.String(), "the oldest that are done are deleted"); got != 1 {
			t.Errorf("the log says it %d times", got)
		}
	})
}
