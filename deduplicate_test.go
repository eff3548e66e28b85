package pixmed_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

func TestDeduplicateSequences(t *testing.T) {
	t.Parallel()
	type step struct {
		deliver  pixmed.MEDStatus
		value    pixmed.Amount
		raw      string
		fails    bool // the callback, if it is called
		called   bool
		previous pixmed.MEDStatus
		before   pixmed.Amount // PreviousValue
		seen     int           // the step, from 1, that SeenAt names; 0 for never
		reopened bool
	}
	const reopening = "REOPENING" // a status that the package does not know
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"a redelivery", []step{
			{deliver: statusA, called: true},
			{deliver: statusA},
			{deliver: statusA},
		}},
		{"a case that is cancelled", []step{
			{deliver: statusA, called: true},
			{deliver: statusC, called: true, previous: statusA},
			{deliver: statusC},
		}},
		{"a case that is reopened, or a late redelivery", []step{
			{deliver: statusA, called: true},
			{deliver: statusC, called: true, previous: statusA},
			{deliver: statusA, called: true, previous: statusC, seen: 1, reopened: true},
			{deliver: statusA},
			{deliver: statusC, called: true, previous: statusA, seen: 2},
			{deliver: statusA, called: true, previous: statusC, seen: 3, reopened: true},
		}},
		{"a first ACKNOWLEDGED that arrives late", []step{
			{deliver: statusC, called: true},
			{deliver: statusA, called: true, previous: statusC},
			{deliver: statusC, called: true, previous: statusA, seen: 1},
			{deliver: statusA, called: true, previous: statusC, seen: 2, reopened: true},
		}},
		{"DEBITED counts as an end", []step{
			{deliver: statusA, called: true},
			{deliver: statusD, called: true, previous: statusA},
			{deliver: statusA, called: true, previous: statusD, seen: 1, reopened: true},
		}},
		{"one end after another is not an opening", []step{
			{deliver: statusC, called: true},
			{deliver: statusD, called: true, previous: statusC},
			{deliver: statusC, called: true, previous: statusD, seen: 1},
		}},
		{"unknown statuses count like any other", []step{
			{deliver: statusA, called: true},
			{deliver: reopening, called: true, previous: statusA},
			{deliver: reopening},
			{deliver: statusC, called: true, previous: reopening},
			{deliver: reopening, called: true, previous: statusC, seen: 2, reopened: true},
		}},
		{"a failed callback leaves no trace", []step{
			{deliver: statusA, called: true, fails: true},
			{deliver: statusA, called: true, fails: true},
			{deliver: statusA, called: true},
			{deliver: statusA},
		}},
		{"a failed change leaves the last status as it was", []step{
			{deliver: statusA, called: true},
			{deliver: statusC, called: true, fails: true, previous: statusA},
			{deliver: statusA},
			{deliver: statusC, called: true, previous: statusA},
			{deliver: statusA, called: true, fails: true, previous: statusC, seen: 1, reopened: true},
			{deliver: statusC},
			{deliver: statusA, called: true, previous: statusC, seen: 1, reopened: true},
		}},
		{"a refund in parts", []step{
			{deliver: statusA, value: 18, called: true},
			{deliver: statusD, value: 18, called: true, previous: statusA, before: 18},
			{deliver: statusD, value: 5, called: true, previous: statusD, before: 18, seen: 2},
			{deliver: statusD, value: 5},
			{deliver: statusD, value: 18, called: true, previous: statusD, before: 5, seen: 3},
		}},
		{"no status, told apart by the body", []step{
			{deliver: "", raw: "one", called: true},
			{deliver: "", raw: "one"},
			{deliver: "", raw: "two", called: true, seen: 1},
			{deliver: "", raw: "one", called: true, seen: 3},
			{deliver: statusC, raw: "one", called: true},
			{deliver: statusC, raw: "two"},
			{deliver: "", raw: "one", called: true, previous: statusC, seen: 4, reopened: true},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := newDedupClock()
			var store pixmed.MemoryStore
			store.SetNow(clock.Now)
			var got *pixmed.Notification
			var result error
			r := pixmed.Deduplicate(&store, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
				got = n
				return result
			}))
			var at []time.Time
			var lastAt time.Time // of the last step that was recorded
			for i, step := range tt.steps {
				clock.Advance(time.Minute)
				at = append(at, clock.Now())
				got, result = nil, nil
				if step.fails {
					result = errCallback
				}
				n := notification(step.deliver)
				n.Value, n.Raw = step.value, []byte(step.raw)
				err := r.Receive(t.Context(), n)

				if !step.called {
					if got != nil || err != pixmed.ErrDuplicate {
						t.Fatalf("step %d: called %v, %v; want ErrDuplicate", i+1, got != nil, err)
					}
					continue
				}
				if got != n || err != result {
					t.Fatalf("step %d: called with %v, %v; want the notification and %v", i+1, got, err, result)
				}
				var seenAt time.Time
				if step.seen > 0 {
					seenAt = at[step.seen-1]
				}
				if n.Previous != step.previous || n.PreviousValue != step.before || !n.PreviousAt.Equal(lastAt) ||
					!n.SeenAt.Equal(seenAt) || n.MaybeReopened() != step.reopened {
					t.Errorf("step %d: Previous %q, %v, at %v, SeenAt %v, MaybeReopened %v; want %+v, %v",
						i+1, n.Previous, n.PreviousValue, n.PreviousAt, n.SeenAt, n.MaybeReopened(), step, lastAt)
				}
				if !step.fails {
					lastAt = clock.Now()
				}
			}
		})
	}
}

// Refunds come in parts: each part is a notification that says what came before
// it.
func TestDebitsOfTwoValues(t *testing.T) {
	t.Parallel()
	clock := newDedupClock()
	store := new(pixmed.MemoryStore)
	store.SetNow(clock.Now)
	var got []*pixmed.Notification
	h := newHook(t, pixmed.Deduplicate(store, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		got = append(got, n)
		return nil
	})), pixmed.WithoutVerification())
	debit := func(value string) string {
		return strings.Replace(payloadWith(t, `"value": `+value), string(statusA), string(statusD), 1)
	}
	type delivery struct {
		body   string
		result pixmed.Result
	}
	deliveries := []delivery{
		{debit("18"), pixmed.ResultAccepted},
		{debit(`"18.00"`), pixmed.ResultDuplicate}, // the same amount in another form
		{debit("5"), pixmed.ResultAccepted},
		{debit("5.00"), pixmed.ResultDuplicate},
		{debit("18"), pixmed.ResultAccepted},
	}
	start := clock.Now()
	for i, d := range deliveries {
		clock.Advance(time.Minute)
		if w := h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(d.body))); w.Code != 200 {
			t.Errorf("delivery %d: status %d", i+1, w.Code)
		}
	}
	for i, o := range h.outcomes() {
		if o.Result != deliveries[i].result {
			t.Errorf("delivery %d: %+v, want %s", i+1, o, deliveries[i].result)
		}
	}
	type seen struct {
		Value         pixmed.Amount
		Previous      pixmed.MEDStatus
		PreviousValue pixmed.Amount
		PreviousAt    time.Time
		SeenAt        time.Time
	}
	var calls []seen
	for _, n := range got {
		calls = append(calls, seen{n.Value, n.Previous, n.PreviousValue, n.PreviousAt, n.SeenAt})
	}
	first, second := start.Add(time.Minute), start.Add(3*time.Minute)
	want := []seen{
		{Value: 18 * pixmed.Real},
		{5 * pixmed.Real, statusD, 18 * pixmed.Real, first, first},
		{18 * pixmed.Real, statusD, 5 * pixmed.Real, second, second},
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// Without a status, deliveries are the same if their bodies are, decompressed.
func TestDeliveriesWithoutAStatus(t *testing.T) {
	t.Parallel()
	calls := 0
	h := newHook(t, pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		if calls++; (calls > 1) == n.PreviousAt.IsZero() || n.Previous != "" {
			t.Errorf("call %d: after %q at %v", calls, n.Previous, n.PreviousAt)
		}
		return nil
	})), pixmed.WithoutVerification())
	body := payloadWith(t, `"medStatus"`)
	for i, tt := range []struct {
		body  string
		calls int // after it
	}{
		{body, 1},
		{body, 1},
		{gzipOf(body), 1}, // the same text
		{body + "\n", 2},
		{payloadWith(t, `"medStatus": null`), 3},
		{body, 4},
		{body, 4},
	} {
		w := h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(tt.body)))
		if w.Code != 200 || calls != tt.calls {
			t.Errorf("delivery %d: status %d after %d calls, want %d", i+1, w.Code, calls, tt.calls)
		}
	}
}

// If the next Receiver finds a duplicate itself, the status is recorded.
func TestDeduplicateBeforeAReceiverThatKnowsDuplicates(t *testing.T) {
	t.Parallel()
	known := fmt.Errorf("event 5: %w", pixmed.ErrDuplicate)
	for _, tt := range []struct {
		name     string
		result   error
		recorded bool
	}{
		{"duplicate", pixmed.ErrDuplicate, true},
		{"wrapped", known, true},
		{"joined with a failure", errors.Join(pixmed.ErrDuplicate, errCallback), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls, previous := 0, pixmed.MEDStatus("")
			r := pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
				calls++
				previous = n.Previous
				return tt.result
			}))
			if err := r.Receive(t.Context(), notification(statusA)); err != tt.result {
				t.Errorf("first delivery: %v, want %v", err, tt.result)
			}
			if err := r.Receive(t.Context(), notification(statusA)); (err == pixmed.ErrDuplicate) != (tt.recorded || tt.result == pixmed.ErrDuplicate) {
				t.Errorf("second delivery: %v", err)
			}
			if want := map[bool]int{true: 1, false: 2}[tt.recorded]; calls != want {
				t.Errorf("%d calls, want %d", calls, want)
			}
			_ = r.Receive(t.Context(), notification(statusC))
			if want := map[bool]pixmed.MEDStatus{true: statusA, false: ""}[tt.recorded]; previous != want {
				t.Errorf("Previous is %q, want %q", previous, want)
			}
		})
	}
}

func TestDeduplicateKeys(t *testing.T) {
	t.Parallel()
	const id, other = "5a94d48d-c9f3-46be-8448-83510ca42bde", "b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5"
	for _, tt := range []struct {
		name          string
		first, second pixmed.Infraction
		same          bool
	}{
		{"the same", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: id, ExternalID: "x"}, true},
		{"UUID in upper case", pixmed.Infraction{TransactionID: id}, pixmed.Infraction{TransactionID: strings.ToUpper(id)}, true},
		{"other fields differ", pixmed.Infraction{TransactionID: id}, pixmed.Infraction{TransactionID: id, TransactionType: "X", EndToEndID: "E"}, true},
		{"another value", pixmed.Infraction{TransactionID: id, Value: 1}, pixmed.Infraction{TransactionID: id, Value: 2}, false},
		{"another transaction", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: other, ExternalID: "x"}, false},
		{"another external id", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: id, ExternalID: "y"}, false},
		{"no external id", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: id}, false},
		{"external id in upper case", pixmed.Infraction{TransactionID: id, ExternalID: "x"}, pixmed.Infraction{TransactionID: id, ExternalID: "X"}, false},
		{"the same text, split elsewhere", pixmed.Infraction{TransactionID: "ab", ExternalID: "c"}, pixmed.Infraction{TransactionID: "a", ExternalID: "bc"}, false},
		{
			"long external ids that differ at the end",
			pixmed.Infraction{TransactionID: id, ExternalID: strings.Repeat("x", 10_000) + "a"},
			pixmed.Infraction{TransactionID: id, ExternalID: strings.Repeat("x", 10_000) + "b"},
			false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.ReceiverFunc(pixmed.Ignore))
			for i, infraction := range []pixmed.Infraction{tt.first, tt.second} {
				infraction.MEDStatus = statusA
				err := r.Receive(t.Context(), &pixmed.Notification{Infraction: infraction})
				if want := i == 1 && tt.same; errors.Is(err, pixmed.ErrDuplicate) != want {
					t.Errorf("delivery %d: %v, want a duplicate: %v", i+1, err, want)
				}
			}
		})
	}
}

// stubStore is a StatusStore that answers as it is told.
type stubStore struct {
	duplicate bool
	err       error
	run       bool
	key       pixmed.Key
	record    pixmed.Recorded
	problem   error
}

func (s *stubStore) Validate() error { return s.problem }

func (s *stubStore) Do(_ context.Context, key pixmed.Key, r pixmed.Recorded, fn func(pixmed.Recorded, time.Time, time.Time) error) (bool, error) {
	s.key, s.record = key, r
	if s.run {
		return false, fn(pixmed.Recorded{Status: statusC, Value: 5}, time.Unix(2, 0), time.Unix(1, 0))
	}
	return s.duplicate, s.err
}

func TestDeduplicateWithAnotherStore(t *testing.T) {
	t.Parallel()
	broken := errors.New("database is down")
	for _, tt := range []struct {
		name  string
		store stubStore
		want  error
		calls int
	}{
		{"runs", stubStore{run: true}, nil, 1},
		{"duplicate", stubStore{duplicate: true}, pixmed.ErrDuplicate, 0},
		{"fails", stubStore{err: broken}, broken, 0},
		{"fails and says duplicate", stubStore{duplicate: true, err: broken}, broken, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			n := notification(statusA)
			n.TransactionID = strings.ToUpper(n.TransactionID)
			err := pixmed.Deduplicate(&tt.store, pixmed.ReceiverFunc(func(_ context.Context, got *pixmed.Notification) error {
				calls++
				if got != n || got.Previous != statusC || got.PreviousValue != 5 || !got.PreviousAt.Equal(time.Unix(2, 0)) || !got.SeenAt.Equal(time.Unix(1, 0)) {
					t.Errorf("the callback got %+v", got)
				}
				return nil
			})).Receive(t.Context(), n)
			if !errors.Is(err, tt.want) || calls != tt.calls {
				t.Errorf("%v after %d calls, want %v after %d", err, calls, tt.want, tt.calls)
			}
			want := pixmed.Key{TransactionID: specInfraction().TransactionID, ExternalID: specInfraction().ExternalID}
			if tt.store.key != want || tt.store.record != (pixmed.Recorded{Status: statusA, Value: 18 * pixmed.Real}) {
				t.Errorf("the store was asked about %v, %+v", tt.store.key, tt.store.record)
			}
		})
	}
}

func TestDeduplicateProblemsAreReportedAtConstruction(t *testing.T) {
	t.Parallel()
	ignore := pixmed.ReceiverFunc(pixmed.Ignore)
	const noStore, noReceiver = "Deduplicate: the StatusStore is nil", "Deduplicate: the Receiver is nil"
	for _, tt := range []struct {
		name string
		r    pixmed.Receiver
		want string
	}{
		{"no store", pixmed.Deduplicate(nil, ignore), noStore},
		{"nil store", pixmed.Deduplicate((*pixmed.MemoryStore)(nil), ignore), noStore},
		{"no receiver", pixmed.Deduplicate(new(pixmed.MemoryStore), nil), noReceiver},
		{"nil function", pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.ReceiverFunc(nil)), noReceiver},
		{"nil callbacks", pixmed.Deduplicate(new(pixmed.MemoryStore), (*pixmed.Callbacks)(nil)), noReceiver},
		{"neither", pixmed.Deduplicate(nil, nil), noStore + "\n" + noReceiver},
		{"negative cases", pixmed.Deduplicate(&pixmed.MemoryStore{MaxCases: -1}, ignore), "MemoryStore: MaxCases -1 or MaxAge 0s is negative"},
		{"negative age", pixmed.Deduplicate(&pixmed.MemoryStore{MaxAge: -1}, ignore), "MemoryStore: MaxCases 0 or MaxAge -1ns is negative"},
		{"callbacks without Other", pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.Callbacks{Cancelled: pixmed.Ignore}), otherIsNil},
		{"nested", pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.Callbacks{})), otherIsNil},
		{
			"all at once", pixmed.Deduplicate(&stubStore{problem: errors.New("the store's own")}, pixmed.Callbacks{}),
			"the store's own\n" + otherIsNil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := pixmed.NewHandler(tt.r, pixmed.WithoutVerification())
			if h != nil || err == nil || err.Error() != tt.want {
				t.Errorf("NewHandler = %v, %v; want %s", h, err, tt.want)
			}
		})
	}
}

// Through the Handler: identical deliveries in flight get the same answer.
func TestDeduplicateBehindTheHandler(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                string
		end                 func() error
		first, other, later int
		results             []pixmed.Result // of the first, the other and the later one
	}{
		{"success", succeed, 200, 200, 200, []pixmed.Result{pixmed.ResultAccepted, pixmed.ResultDuplicate, pixmed.ResultDuplicate}},
		{"error", fail, 500, 500, 200, []pixmed.Result{pixmed.ResultFailed, pixmed.ResultFailed, pixmed.ResultAccepted}},
		{"duplicate", func() error { return fmt.Errorf("known: %w", pixmed.ErrDuplicate) }, 200, 200, 200, []pixmed.Result{pixmed.ResultDuplicate, pixmed.ResultDuplicate, pixmed.ResultDuplicate}},
		{"too late", func() error { time.Sleep(11 * time.Second); return errCallback }, 503, 503, 200, []pixmed.Result{pixmed.ResultBusy, pixmed.ResultBusy, pixmed.ResultAccepted}},
		{"busy", func() error { return pixmed.ErrBusy }, 503, 503, 200, []pixmed.Result{pixmed.ResultBusy, pixmed.ResultBusy, pixmed.ResultAccepted}},
		{"panic", func() error { panic("boom") }, 500, 500, 200, []pixmed.Result{pixmed.ResultFailed, pixmed.ResultFailed, pixmed.ResultAccepted}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := make(gate)
				h := newHook(t, pixmed.Deduplicate(new(pixmed.MemoryStore), g), pixmed.WithoutVerification())
				post := func() <-chan int {
					status := make(chan int, 1)
					r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(specPayload))
					go func() {
						w := httptest.NewRecorder()
						h.ServeHTTP(w, r)
						status <- w.Code
					}()
					return status
				}
				first := post()
				call := <-g
				time.Sleep(9 * time.Second) // on the bubble's clock: the two have different deadlines
				other := post()
				synctest.Wait()
				time.Sleep(500 * time.Millisecond)
				call.end <- tt.end
				got := []int{<-first, <-other}
				later := post()
				synctest.Wait()
				select {
				case call := <-g:
					call.end <- succeed
				default:
				}
				got = append(got, <-later)
				if diff := cmp.Diff([]int{tt.first, tt.other, tt.later}, got); diff != "" {
					t.Errorf("answers (-want +got):\n%s", diff)
				}
				var results []pixmed.Result
				for _, o := range h.outcomes() {
					results = append(results, o.Result)
				}
				slices.Sort(results[:2]) // the two ended at once
				if diff := cmp.Diff(tt.results, results); diff != "" {
					t.Errorf("results (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Deliveries that differ only in the value, in flight at once, are handled one
// after the other, each value at least once.
func TestDeliveriesOfDifferentValuesAtOnce(t *testing.T) {
	t.Parallel()
	const values, senders = 5, 4 // each value is sent by each sender
	var running atomic.Int32
	var handled []*pixmed.Notification // in the order of the calls, which do not overlap
	h := newHook(t, pixmed.Deduplicate(new(pixmed.MemoryStore), pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		if others := running.Add(1) - 1; others != 0 {
			t.Errorf("%d calls run beside this one", others)
		}
		handled = append(handled, n)
		runtime.Gosched()
		running.Add(-1)
		return nil
	})), pixmed.WithoutVerification())
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range values * senders {
		body := strings.Replace(payloadWith(t, fmt.Sprintf(`"value": %d`, 1+i%values)), string(statusA), string(statusD), 1)
		wg.Go(func() {
			<-start
			if w := h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))); w.Code != 200 {
				t.Errorf("status %d", w.Code)
			}
		})
	}
	close(start)
	wg.Wait()

	accepted, seen := 0, map[pixmed.Amount]bool{}
	for _, o := range h.outcomes() {
		if o.Result == pixmed.ResultAccepted {
			accepted++
		}
	}
	for i, n := range handled {
		seen[n.Value] = true
		if i == 0 && (n.Previous != "" || !n.PreviousAt.IsZero()) {
			t.Errorf("the first call is after %q", n.Previous)
		}
		if i > 0 && (n.Previous != statusD || n.PreviousValue != handled[i-1].Value || n.PreviousValue == n.Value) {
			t.Errorf("call %d has the value %v after %v, and says after %q, %v", i+1, n.Value, handled[i-1].Value, n.Previous, n.PreviousValue)
		}
	}
	if len(seen) != values || accepted != len(handled) || len(h.outcomes()) != values*senders {
		t.Errorf("%d values were handled in %d calls, %d of %d requests were accepted", len(seen), len(handled), accepted, len(h.outcomes()))
	}
}
