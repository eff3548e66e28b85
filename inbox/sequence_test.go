package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
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

// A delivery is one notification on its way, after those of its transaction that
// come before it.
type delivery struct {
	transaction int
	external    string
	status      pixmed.MEDStatus
	failures    int // how often its callback fails until it succeeds
}

// due are the rules: of each transaction in its order, all but what has the status
// that its external id had last.
func due(deliveries []delivery) map[int][]string {
	effects, last := make(map[int][]string), make(map[string]pixmed.MEDStatus)
	for _, d := range deliveries {
		if key := fmt.Sprint(d.transaction, d.external); last[key] != d.status {
			last[key] = d.status
			effects[d.transaction] = append(effects[d.transaction], d.external+" "+string(d.status))
		}
	}
	return effects
}

// TestSequences delivers what a gateway may deliver over HTTP, in every order and
// with repetitions, to every receiver that a handler can have, and compares
// what the callbacks have done with the rules.
func TestSequences(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		testSequences(t, newSequences(t, func(next pixmed.Receiver) pixmed.Receiver {
			return pixmed.Deduplicate(new(pixmed.MemoryStore), next)
		}))
	})
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		var in *inbox.Inbox
		q := newSequences(t, func(next pixmed.Receiver) pixmed.Receiver {
			in = s.Start(t, next, inbox.WithWorkers(8), inbox.WithMaxAttempts(100), enginetest.Quick())
			return in
		})
		q.inbox = in
		testSequences(t, q)
	})
}

func testSequences(t *testing.T, q *sequences) {
	t.Helper()
	statuses := []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited}

	// Every order of up to four, each in a transaction of its own.
	var all []delivery
	orders := [][]pixmed.MEDStatus{nil}
	for number := 0; len(orders[0]) <= 4; orders = orders[1:] {
		for _, status := range orders[0] {
			all = append(all, delivery{transaction: number, external: "1", status: status})
		}
		number++
		for _, status := range statuses {
			orders = append(orders, append(slices.Clone(orders[0]), status))
		}
	}
	if err := q.run(t, all); err != nil {
		t.Fatal(err)
	}

	// At random: few transactions, so that deliveries often meet, and callbacks that fail.
	seed := rand.Uint64()
	runs := 12
	if testing.Short() {
		runs = 4
	}
	for i := range runs {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		deliveries := make([]delivery, 30)
		for i := range deliveries {
			deliveries[i] = delivery{
				r.IntN(3), []string{"1", "2"}[r.IntN(2)], append(statuses, "REOPENED")[r.IntN(4)], max(0, r.IntN(6)-3),
			}
		}
		err := q.run(t, deliveries)
		if err == nil {
			continue
		}
		deliveries, err = shrink(deliveries, err, func(d []delivery) error { return q.run(t, d) })
		t.Fatalf("seed %d, run %d, which comes down to %v:\n%v", seed, i, deliveries, err)
	}
}

// sequences is where deliveries go.
type sequences struct {
	inbox   *inbox.Inbox // nil if callbacks have run when the answer comes
	gateway *pixmedtest.Gateway
	url     string

	mu       sync.Mutex
	failures map[string]int      // that are left, by transaction id, external id and status
	effects  map[string][]string // by transaction id
}

// newSequences serves the webhook in front of a receiver that is made with the
// callback.
func newSequences(t *testing.T, receiver func(callback pixmed.Receiver) pixmed.Receiver) *sequences {
	t.Helper()
	q := &sequences{failures: make(map[string]int), effects: make(map[string][]string)}
	q.url = newServer(t, receiver(pixmed.ReceiverFunc(q.callback))).URL
	q.gateway = newGateway(t)
	return q
}

func (q *sequences) callback(_ context.Context, n *pixmed.Notification) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	effect := n.ExternalID + " " + string(n.MEDStatus)
	if key := n.TransactionID + " " + effect; q.failures[key] > 0 {
		q.failures[key]--
		return errors.New("not yet")
	}
	q.effects[n.TransactionID] = append(q.effects[n.TransactionID], effect)
	return nil
}

// run delivers to new transactions, each one's in its order and those of different
// ones at the same time, and compares the effects with what is due.
func (q *sequences) run(t *testing.T, deliveries []delivery) error {
	t.Helper()
	ids := make(map[int]string)
	byTransaction := make(map[int][]delivery)
	for _, d := range deliveries {
		if ids[d.transaction] == "" {
			ids[d.transaction] = enginetest.NewTransaction()
		}
		byTransaction[d.transaction] = append(byTransaction[d.transaction], d)
	}
	errs := make(chan error, len(byTransaction))
	for transaction, deliveries := range byTransaction {
		go func() { errs <- q.deliver(t, ids[transaction], deliveries) }()
	}
	var err error
	for range byTransaction {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}
	if q.inbox != nil {
		if stats := enginetest.Await(t, q.inbox); stats.Dead > 0 {
			return fmt.Errorf("dead letters: %+v", stats)
		}
	}
	got := make(map[int][]string)
	q.mu.Lock()
	defer q.mu.Unlock()
	for transaction, id := range ids {
		got[transaction] = q.effects[id]
	}
	if diff := cmp.Diff(due(deliveries), got); diff != "" {
		return fmt.Errorf("the effects by transaction (-due +got):\n%s", diff)
	}
	return nil
}

// deliver sends each until it is answered 200.
func (q *sequences) deliver(t *testing.T, id string, deliveries []delivery) error {
	t.Helper()
	for _, d := range deliveries {
		n := enginetest.Notification(id, d.status).Infraction
		n.ExternalID = d.external
		if d.failures > 0 {
			q.mu.Lock()
			q.failures[strings.Join([]string{id, d.external, string(d.status)}, " ")] = d.failures
			q.mu.Unlock()
		}
		for tries := 0; ; tries++ {
			a := q.gateway.Post(t.Context(), q.url, pixmedtest.Payload(n))
			if a.StatusCode == http.StatusOK {
				break
			}
			if a.StatusCode != http.StatusInternalServerError || tries == 100 {
				return fmt.Errorf("%v: %v", d, a)
			}
		}
	}
	return nil
}

// TestManyCopies delivers one notification in hundreds of copies at once.
func TestManyCopies(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		recorder := enginetest.NewRecorder(nil)
		in := s.Start(t, recorder)
		url := newServer(t, in).URL
		g := newGateway(t)
		n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		const copies = 500
		answers := make(chan error, copies)
		for range copies {
			go func() {
				_, err := g.Deliver(t.Context(), url, n.Infraction) // again and again, until 200
				answers <- err
			}()
		}
		for range copies {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		recorder.Next(t)
		if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		recorder.None(t)
	})
}

// shrinkTime is how long a failure is made shorter.
const shrinkTime = 30 * time.Second

// shrink leaves out steps for as long as the rest still fails.
func shrink[T any](steps []T, failure error, run func([]T) error) ([]T, error) {
	deadline := time.Now().Add(shrinkTime)
	for size := len(steps) / 2; size > 0; {
		smaller := false
		for at := 0; at+size <= len(steps) && time.Now().Before(deadline); {
			fewer := slices.Delete(slices.Clone(steps), at, at+size)
			if err := run(fewer); err != nil {
				steps, failure, smaller = fewer, err, true
			} else {
				at += size
			}
		}
		if size > 1 || !smaller {
			size /= 2
		}
		if time.Now().After(deadline) {
			break
		}
	}
	return steps, failure
}
