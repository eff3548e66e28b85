package inbox_test

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"github.com/pixmed-go/pixmed"
)

// eachPeer runs a test for each member that stores.
func eachPeer(t *testing.T, test func(t *testing.T, i implementation, p *peer)) {
	t.Helper()
	for _, engine := range engines() {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			database := databaseServer(t, engine.name)
			for _, i := range engine.implementations {
				if !i.stores {
					continue
				}
				t.Run(i.name, func(t *testing.T) {
					t.Parallel()
					p, err := launch(t.Context(), i, t.TempDir(), database, 0, nil)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := p.stop(); err != nil {
							t.Error(err)
						}
					})
					test(t, i, p)
				})
			}
		})
	}
}

// All answer a redelivery with 200, and those that claim to recognise it store it
// once.
func TestPeersDeduplicate(t *testing.T) {
	t.Parallel()
	eachPeer(t, func(t *testing.T, i implementation, p *peer) {
		t.Helper()
		c, err := dial(t.Context(), p.address())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		first := newIDs(2)
		for n, number := range []uint64{first, first, first + 1} {
			if status, err := c.post(number); status != http.StatusOK || err != nil {
				t.Fatalf("request %d: %d, %v", n, status, err)
			}
		}
		want := 3
		if i.dedupes {
			want = 2
		}
		if got, err := p.stored(t.Context()); got != want || err != nil {
			t.Errorf("%d are stored (%v), want %d", got, err, want)
		}
	})
}

// An invalid body is neither stored nor answered 200.
func TestPeersRefuse(t *testing.T) {
	t.Parallel()
	eachPeer(t, func(t *testing.T, _ implementation, p *peer) {
		t.Helper()
		c, err := dial(t.Context(), p.address())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		copy(c.request[len(c.request)-2:], "??") // the end of the object
		if status, err := c.post(newIDs(1)); status != http.StatusBadRequest || err != nil {
			t.Errorf("%d, %v", status, err)
		}
		if got, err := p.stored(t.Context()); got != 0 || err != nil {
			t.Errorf("%d are stored (%v), want none", got, err)
		}
	})
}

// All sync what they commit. The inbox on SQLite shows its settings to nobody; its
// own tests check them.
func TestPeersSync(t *testing.T) {
	t.Parallel()
	eachPeer(t, func(t *testing.T, _ implementation, p *peer) {
		t.Helper()
		if p.synced == nil {
			return
		}
		if err := p.synced(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// All that have workers call the callback once for each notification, whether it
// waits for a backlog or not.
func TestWork(t *testing.T) {
	t.Parallel()
	for _, engine := range engines() {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			database := databaseServer(t, engine.name)
			for _, i := range engine.working() {
				t.Run(i.name, func(t *testing.T) {
					t.Parallel()
					r, err := runBurst(t.Context(), i, t.TempDir(), database, 200)
					if err != nil {
						t.Fatal(err)
					}
					if r.lost != 0 || r.twice != 0 {
						t.Errorf("%d are lost, %d came twice", r.lost, r.twice)
					}
					w, err := runBacklog(t.Context(), i, t.TempDir(), database, 200, 5)
					if err != nil {
						t.Fatal(err)
					}
					if w.took <= 0 || engine.name == "postgres" && w.connections == 0 {
						t.Errorf("got %+v", w)
					}
					l, err := runLatency(t.Context(), i, t.TempDir(), database, 5)
					if err != nil {
						t.Fatal(err)
					}
					if len(l.called) != 5 || len(l.after) != 5 || slices.Min(l.called) <= 0 {
						t.Errorf("got %+v", l)
					}
				})
			}
		})
	}
}

// What was accepted and not called counts as lost, and what was called again as
// twice.
func TestTally(t *testing.T) {
	t.Parallel()
	tally := newTally(3)
	for _, i := range []int{0, 1} {
		tally.answered[i].Store(true)
	}
	for _, number := range []uint64{1, 1, 2} {
		n := &pixmed.Notification{Infraction: pixmed.Infraction{
			TransactionID: string(appendTransaction(nil, tally.first+number)),
		}}
		if err := tally.Receive(context.Background(), n); err != nil {
			t.Fatal(err)
		}
	}
	if lost, twice := tally.count(); lost != 1 || twice != 1 {
		t.Errorf("%d are lost, %d came twice, want 1 and 1", lost, twice)
	}
	select {
	case <-tally.allCalled:
		t.Error("one has not come, and all are said to have")
	default:
	}
}
