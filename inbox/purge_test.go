package inbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

func TestPurge(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		pending := enginetest.NewTransaction()
		in := s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
			switch {
			case n.MEDStatus == pixmed.Debited:
				return inbox.Discard(errors.New("no"))
			case n.MEDStatus == pixmed.Cancelled && n.TransactionID == pending:
				<-ctx.Done()
			default:
			}
			return ctx.Err()
		}))
		deliver := func(id string, statuses ...pixmed.MEDStatus) string {
			for _, status := range statuses {
				mustReceive(t, in, enginetest.Notification(id, status))
			}
			return id
		}
		done := deliver(enginetest.NewTransaction(), pixmed.Acknowledged, pixmed.Cancelled)
		dead := deliver(enginetest.NewTransaction(), pixmed.Acknowledged, pixmed.Debited)
		open := deliver(enginetest.NewTransaction(), "X", pixmed.Acknowledged)
		deliver(pending, pixmed.Acknowledged, pixmed.Cancelled)
		if err := in.Quarantine(t.Context(), []byte("{"), errors.New("no")); err != nil {
			t.Fatal(err)
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Done == 6 && s.Dead == 1 && s.Pending == 1 })
		purge := func(age time.Duration, want int64, opts ...inbox.PurgeOption) {
			t.Helper()
			if n, err := in.Purge(t.Context(), age, opts...); err != nil || n != want {
				t.Errorf("Purge: %d, %v, want %d", n, err, want)
			}
		}
		purge(time.Hour, 0, inbox.IncludeDead())
		purge(0, 2)
		purge(0, 3, inbox.IncludeDead())
		for id, want := range map[string]int{done: 0, dead: 0, open: 2, pending: 2} {
			if got := len(historyOf(t, in, id)); got != want {
				t.Errorf("%d events are left, want %d", got, want)
			}
		}
		// What is gone is no longer a duplicate, and its case begins again.
		mustReceive(t, in, enginetest.Notification(done, pixmed.Cancelled))
		if e := historyOf(t, in, done)[0]; e.Seq != 1 {
			t.Errorf("the case begins with %v", e)
		}
	})
}

// More than one batch of them.
func TestPurgeMany(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		const many = 1100
		tx, err := s.DB(t).BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		now := "0"
		if s.Engine == "postgres" {
			now = "now()"
		}
		for range many {
			id := enginetest.NewTransaction()
			for _, statement := range []string{
				`INSERT INTO cases (transaction_id, updated_at) VALUES ('` + id + `', ` + now + `)`,
				`INSERT INTO events (id, transaction_id, external_id, external_digest, status, value, raw, seq, state, received_at) VALUES ('` + id + `', '` + id + `', '', 0, 'DEBITED', 1, '', 1, 'done', ` + now + `)`,
			} {
				if s.Engine == "sqlite" {
					statement = strings.NewReplacer("'DEBITED', 1, ''", "'DEBITED', 1, x''", "(id, transaction_id,", "(case_id, id, transaction_id,",
						"VALUES ('"+id+"', '"+id+"', ''", "VALUES ((SELECT id FROM cases WHERE transaction_id = '"+id+"'), '"+id+"', '"+id+"', ''").Replace(statement)
				}
				if _, err := tx.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if n, err := in.Purge(t.Context(), 0); err != nil || n != many {
			t.Errorf("Purge: %d, %v, want %d", n, err, many)
		}
	})
}

// A started inbox purges by itself.
func TestRetention(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		in := s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithRetention(time.Millisecond), enginetest.Configure(func(c *config.Config) { c.PurgeInterval = 20 * time.Millisecond }))
		mustReceive(t, in, enginetest.Notification(enginetest.NewTransaction(), pixmed.Cancelled))
		if err := in.Quarantine(t.Context(), []byte("{"), errors.New("no")); err != nil {
			t.Fatal(err)
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s == enginetest.Counts{Quarantined: 1} })
	})
}
