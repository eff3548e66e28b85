package ops_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/ops"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// slow is an inbox in which counts and searches hang.
type slow struct {
	*inbox.Inbox

	counting, searching, reading busy
	release                      chan struct{}
}

func newSlow(in *inbox.Inbox) *slow {
	return &slow{Inbox: in, release: make(chan struct{}), counting: newBusy(), searching: newBusy(), reading: newBusy()}
}

// busy knows how many are at it.
type busy struct {
	now, most *atomic.Int64
	begun     chan struct{} // closed by the first
}

func newBusy() busy { return busy{new(atomic.Int64), new(atomic.Int64), make(chan struct{})} }

func (s *slow) hang(ctx context.Context, b busy) error {
	n := b.now.Add(1)
	defer b.now.Add(-1)
	if b.most.CompareAndSwap(0, 1) {
		close(b.begun)
	}
	for old := b.most.Load(); n > old; old = b.most.Load() {
		b.most.CompareAndSwap(old, n)
	}
	select {
	case <-s.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slow) Stats(ctx context.Context) (inbox.Stats, error) {
	if err := s.hang(ctx, s.counting); err != nil {
		return inbox.Stats{}, err
	}
	return s.Inbox.Stats(ctx)
}

func (s *slow) Cases(ctx context.Context, f inbox.CaseFilter) ([]*inbox.Case, error) {
	if f.Search != "" {
		if err := s.hang(ctx, s.searching); err != nil {
			return nil, err
		}
	}
	return s.Inbox.Cases(ctx, f)
}

func (s *slow) Case(ctx context.Context, id string) (*inbox.Case, error) {
	if err := s.hang(ctx, s.reading); err != nil {
		return nil, err
	}
	return s.Inbox.Case(ctx, id)
}

// However many ask for counts and searches, and however long these take, one of each
// runs, and notifications are accepted and processed, and the inbox is ready.
func TestCostsAreBounded(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, testCostsAreBounded)
}

func testCostsAreBounded(t *testing.T, db *enginetest.Database) {
	t.Helper()
	done := make(chan struct{}, 1)
	s := newSlow(db.Start(t, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
		done <- struct{}{}
		return nil
	})))
	page, err := ops.NewHandlerOf(s, ops.WithAuthenticated(), ops.WithLogger(enginetest.Logger(t)))
	if err != nil {
		t.Fatal(err)
	}
	stored := pixmedtest.NewNotification()
	if err := s.Receive(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	<-done
	var asking sync.WaitGroup
	codes := make(chan int, 100)
	for i := range cap(codes) {
		path := []string{"/", "/cases?q=anything", "/case/" + stored.TransactionID}[i%3]
		asking.Go(func() {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, path, nil)
			page.ServeHTTP(w, r)
			codes <- w.Code
		})
	}
	<-s.counting.begun
	<-s.searching.begun
	<-s.reading.begun
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if err := s.Receive(ctx, pixmedtest.NewNotification()); err != nil {
		t.Errorf("not accepted: %v", err)
	}
	select {
	case <-done:
	case <-ctx.Done():
		t.Error("nothing is processed")
	}
	close(s.release)
	asking.Wait()
	close(codes)
	got := make(map[int]int)
	for code := range codes {
		got[code]++
	}
	if n := got[http.StatusOK] + got[http.StatusServiceUnavailable]; n != cap(codes) || got[http.StatusOK] == 0 {
		t.Errorf("answers by status: %v", got)
	}
	if counted, searched, read := s.counting.most.Load(), s.searching.most.Load(), s.reading.most.Load(); counted != 1 || searched != 1 || read > 2 {
		t.Errorf("%d counted, %d searched and %d read a case at once", counted, searched, read)
	}
}

// tally counts how often it is asked to count.
type tally struct {
	crowd
	stats, received *int
}

func (c tally) Stats(ctx context.Context) (inbox.Stats, error) {
	*c.stats++
	return c.crowd.Stats(ctx)
}

func (c tally) CountReceived(_ context.Context, _ time.Time, _ time.Duration, n int) ([]inbox.Received, error) {
	*c.received++
	return make([]inbox.Received, n), nil
}

// Counts are kept for three seconds, and the chart for a minute.
func TestCountsAreKept(t *testing.T) {
	t.Parallel()
	now := time.Now()
	box := tally{crowd{n: 1}, new(int), new(int)}
	page, err := ops.NewHandlerOf(box, ops.WithAuthenticated(), ops.WithLogger(enginetest.Logger(t)), ops.WithNow(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		after           time.Duration
		stats, received int
	}{
		{0, 1, 1}, {3*time.Second - 1, 1, 1}, {1, 2, 1}, {57*time.Second - 1, 3, 1}, {1, 3, 2},
	} {
		now = now.Add(test.after)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != http.StatusOK || *box.stats != test.stats || *box.received != test.received {
			t.Errorf("%v later: %d, counted %d times, the chart %d times, want %d and %d", test.after, w.Code, *box.stats, *box.received, test.stats, test.received)
		}
	}
}

// A search ends after three seconds, and so does one that waits for it.
func TestSearchDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		page, err := ops.NewHandlerOf(newSlow(nil), ops.WithAuthenticated(), ops.WithLogger(enginetest.Logger(t)))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				w := httptest.NewRecorder()
				page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/cases?q=anything", nil))
				answer{w.Code, w.Header(), w.Body.String()}.mustHold(t, http.StatusServiceUnavailable, "The search takes too long, or another one runs.")
			})
		}
		asking.Wait()
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// heavy is an inbox that counts the bytes of bodies that the page has it return.
type heavy struct {
	*inbox.Inbox

	bytes int
}

func (s *heavy) Case(ctx context.Context, id string) (*inbox.Case, error) {
	c, err := s.Inbox.Case(ctx, id)
	if err == nil {
		for _, e := range c.Events {
			s.bytes += len(e.Raw)
		}
	}
	return c, err
}

func (s *heavy) Get(ctx context.Context, id string) (*inbox.Event, error) {
	e, err := s.Inbox.Get(ctx, id)
	if err == nil {
		s.bytes += len(e.Raw)
	}
	return e, err
}

// However many bodies a case has, its page reads few of them, and its receipt one.
func TestCaseReadsFewBodies(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, db *enginetest.Database) {
		in := db.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		const size = 60 << 10
		transaction := enginetest.NewTransaction()
		for i := range 40 {
			n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
				n.TransactionID, n.Value = transaction, pixmed.Amount(i+1)
				n.Raw = append(pixmedtest.Payload(n.Infraction), make([]byte, size)...)
				for j := range size {
					n.Raw[len(n.Raw)-1-j] = ' '
				}
			})
			if err := in.Receive(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		s := &heavy{Inbox: in}
		page, err := ops.NewHandlerOf(s, ops.WithAuthenticated(), ops.WithReceipt(func(context.Context, *pixmed.Infraction) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("%PDF-")), nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			path string
			most int
		}{{"", 9}, {"/receipt", 1}, {"/answer", 0}} { // 8 KiB of each are shown until there are 64 KiB
			s.bytes = 0
			w := httptest.NewRecorder()
			page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/case/"+transaction+test.path, nil))
			if n := s.bytes / size; w.Code != http.StatusOK || n > test.most {
				t.Errorf("%s: %d, %d bodies were read, want at most %d", test.path, w.Code, n, test.most)
			}
		}
	})
}
