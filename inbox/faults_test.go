package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/internal/localpg"
)

// TestOutOfConnections has others take all the connections that a server allows,
// and ends those of the inbox.
func TestOutOfConnections(t *testing.T) {
	t.Parallel()
	const connections = 30
	server, err := localpg.Start(t.Context(), localpg.WithSetting("max_connections", strconv.Itoa(connections)), localpg.WithSetting("superuser_reserved_connections", "0"))
	localpg.Need(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &enginetest.Database{Engine: "postgres", URL: server.URL()}
	in := s.Start(t, enginetest.NewRecorder(nil), inbox.WithWorkers(4), enginetest.Quick())
	url := newServer(t, in).URL
	g := newGateway(t)
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)

	others := takeConnections(t, server.URL())
	poll(t, "all connections to be taken", func() bool {
		// Others take whatever becomes free.
		const terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name <> 'others' AND backend_type = 'client backend'"
		var n int
		if err := others[0].QueryRow(t.Context(), terminate).Scan(&n); err != nil {
			t.Fatal(err)
		}
		others = append(others, takeConnections(t, server.URL())...)
		return len(others) == connections
	})

	if a := g.Post(t.Context(), url, n.Raw); a.StatusCode != http.StatusInternalServerError && a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %v, want 500 or 503", a)
	}
	if err := in.Ready(t.Context()); err == nil {
		t.Error("the inbox is ready")
	}
	_, err = s.TryOpen(t, enginetest.NewRecorder(nil))
	if err == nil || !strings.Contains(err.Error(), "too many clients") {
		t.Errorf("a second inbox: %v", err)
	}

	for _, c := range others {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := g.Deliver(t.Context(), url, n.Infraction); err != nil {
		t.Error(err)
	}
	if got, want := enginetest.Await(t, in), (enginetest.Counts{Done: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// takeConnections takes connections until there are no more.
func takeConnections(t *testing.T, url string) (all []*pgx.Conn) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = "others"
	for {
		c, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			if !strings.Contains(err.Error(), "too many clients") {
				t.Fatal(err)
			}
			return all
		}
		t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
		all = append(all, c)
	}
}

// TestClockJumps moves everything that is stored by an hour, as if the clock had
// jumped the other way, while one callback runs, another notification waits for
// its next attempt, and a third is done. Nothing is lost and the order is kept.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const later = pixmed.MEDStatus("LATER")
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		running, waiting, done := enginetest.NewTransaction(), enginetest.NewTransaction(), enginetest.NewTransaction()
		var mu sync.Mutex
		effects := make(map[string][]pixmed.MEDStatus)
		begun, release := make(chan int, 10), make(chan struct{})
		in := s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
			if n.TransactionID == running && n.MEDStatus == pixmed.Acknowledged {
				begun <- n.Attempt
				if n.Attempt == 1 {
					select {
					case <-release:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}
			if n.TransactionID == waiting && n.MEDStatus == pixmed.Acknowledged && n.Attempt == 1 {
				return errors.New("not yet")
			}
			mu.Lock()
			defer mu.Unlock()
			effects[n.TransactionID] = append(effects[n.TransactionID], n.MEDStatus)
			return nil
		}), enginetest.Quick(), inbox.WithBackoff(30*time.Minute, 30*time.Minute))
		deliver := func(transaction string, status pixmed.MEDStatus) {
			t.Helper()
			if err := in.Receive(t.Context(), enginetest.Notification(transaction, status)); err != nil && !errors.Is(err, pixmed.ErrDuplicate) {
				t.Fatal(err)
			}
		}
		for _, transaction := range []string{running, waiting, done} {
			deliver(transaction, pixmed.Acknowledged)
		}
		if got := <-begun; got != 1 {
			t.Errorf("attempt %d", got)
		}
		awaitAttempts(t, in, waiting, 1)
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Done == 1 })

		// Back by an hour: what is stored is in the future. What waits, waits longer; the
		// rest goes on.
		shift(t, s, +time.Hour)
		other := enginetest.NewTransaction()
		deliver(other, pixmed.Debited)
		for _, transaction := range []string{running, waiting, done} {
			deliver(transaction, later)
			deliver(transaction, later) // still known as a duplicate
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Done == 3 }) // done twice, and other
		shift(t, s, -time.Hour)

		// Ahead by an hour: what waits is due, and the callback that runs seems to
		// have been left behind, which counts as a failure.
		shift(t, s, -time.Hour)
		awaitAttempts(t, in, running, 1)
		shift(t, s, -time.Hour)
		if got := <-begun; got != 2 {
			t.Errorf("attempt %d", got)
		}
		stats := enginetest.Await(t, in)
		defer close(release) // the first attempt has an effect then, late
		if want := (enginetest.Counts{Done: 7}); stats != want {
			t.Errorf("got %+v, want %+v", stats, want)
		}
		mu.Lock()
		defer mu.Unlock()
		both := []pixmed.MEDStatus{pixmed.Acknowledged, later}
		want := map[string][]pixmed.MEDStatus{running: both, waiting: both, done: both, other: {pixmed.Debited}}
		if diff := cmp.Diff(want, effects); diff != "" {
			t.Errorf("effects (-want +got):\n%s", diff)
		}
	})
}

// awaitAttempts waits until the first notification of a transaction was tried that many
// times.
func awaitAttempts(t *testing.T, in *inbox.Inbox, transaction string, attempts int) {
	t.Helper()
	poll(t, "an attempt", func() bool {
		events, err := in.History(t.Context(), transaction)
		if err != nil {
			t.Fatal(err)
		}
		return events[0].Attempts == attempts
	})
}

// shift moves all that is stored in time.
func shift(t *testing.T, s *enginetest.Database, by time.Duration) {
	t.Helper()
	columns := map[string][]string{
		"events": {"received_at", "done_at"},
		"cases":  {"updated_at", "run_at"},
	}
	for table, names := range columns {
		var set []string
		for _, name := range names {
			seconds := fmt.Sprintf("%+d", int(by.Seconds()))
			if s.Engine == "postgres" {
				set = append(set, fmt.Sprintf("%s = %s + interval '%s seconds'", name, name, seconds))
			} else { // in microseconds
				set = append(set, fmt.Sprintf("%s = %s %s000000", name, name, seconds))
			}
		}
		execute(t, s, "UPDATE {}"+table+" SET "+strings.Join(set, ", "))
	}
}
