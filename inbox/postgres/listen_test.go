package postgres_test

import (
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// TestWake has one process accept what another one works on. That one learns of it at
// once or, if the notification is lost, at its next look.
func TestWake(t *testing.T) {
	t.Parallel()
	for name, listens := range map[string]bool{"notified": true, "the notification is lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			look := s.Pool(t)
			r := enginetest.NewRecorder(nil)
			poll := time.Hour
			if !listens {
				poll = 300 * time.Millisecond
			}
			configure := enginetest.Configure(func(c *config.Config) { c.PollInterval = poll })
			worker := start(t, s.Pool(t), r, configure)
			accepting := open(t, s.Pool(t), r, configure)
			if listens {
				awaitCount(t, look, "it listens", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
			} else {
				mustExec(t, look, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
			}
			receive(t, accepting, enginetest.NewTransaction(), pixmed.Acknowledged)
			r.Next(t)
			enginetest.Await(t, worker)
		})
	}
}
