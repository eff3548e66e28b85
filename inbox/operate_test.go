package inbox_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestList(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Debited {
				return inbox.Discard(errors.New("no"))
			}
			return nil
		}))
		day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		name := map[string]string{} // of ids
		id := enginetest.NewTransaction()
		for i, n := range []struct {
			name, transaction string
			status            pixmed.MEDStatus
		}{
			{"a", id, pixmed.Acknowledged},
			{"b", enginetest.NewTransaction(), pixmed.Debited},
			{"c", id, pixmed.Cancelled},
			{"d", enginetest.NewTransaction(), pixmed.Acknowledged},
		} {
			notification := enginetest.Notification(n.transaction, n.status)
			notification.ReceivedAt = day.AddDate(0, 0, i).Add(500 * time.Microsecond)
			mustReceive(t, in, notification)
			events, err := in.List(t.Context(), inbox.Filter{Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			name[events[0].ID] = n.name
		}
		if err := in.Quarantine(t.Context(), []byte("{"), errors.New("it ends too early")); err != nil {
			t.Fatal(err)
		}
		enginetest.Await(t, in)
		list := func(f inbox.Filter) (names string, last string) {
			t.Helper()
			events, err := in.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.State == inbox.Quarantined {
					names += "q"
				}
				names += name[e.ID]
				last = e.ID
			}
			return names, last
		}
		for what, test := range map[string]struct {
			filter inbox.Filter
			want   string
		}{
			"all":              {inbox.Filter{}, "qdcba"},
			"done":             {inbox.Filter{State: inbox.Done}, "dca"},
			"dead":             {inbox.Filter{State: inbox.Dead}, "b"},
			"quarantined":      {inbox.Filter{State: inbox.Quarantined}, "q"},
			"pending":          {inbox.Filter{State: inbox.Pending}, ""},
			"transaction":      {inbox.Filter{TransactionID: strings.ToUpper(id)}, "ca"},
			"done transaction": {inbox.Filter{TransactionID: id, State: inbox.Done}, "ca"},
			"since":            {inbox.Filter{Since: day.AddDate(0, 0, 2)}, "qdc"},
			"until":            {inbox.Filter{Until: day.AddDate(0, 0, 2)}, "ba"},
			"between":          {inbox.Filter{Since: day.AddDate(0, 0, 1), Until: day.AddDate(0, 0, 3)}, "cb"},
		} {
			if got, _ := list(test.filter); got != test.want {
				t.Errorf("%s: %q, want %q", what, got, test.want)
			}
		}
		var pages []string
		for f := (inbox.Filter{Limit: 2}); ; {
			names, last := list(f)
			if names == "" {
				break
			}
			pages = append(pages, names)
			f.After = last
		}
		if diff := cmp.Diff([]string{"qd", "cb", "a"}, pages); diff != "" {
			t.Errorf("pages (-want +got):\n%s", diff)
		}

		got, err := in.Stats(t.Context())
		if want := (inbox.Stats{Dead: 1, Quarantined: 1, Open: 1, Blocked: 18 * pixmed.Real}); err != nil || got != want {
			t.Errorf("Stats: %+v, %v, want %+v", got, err, want)
		}
		if got, want := enginetest.Count(t, in), (enginetest.Counts{Done: 3, Dead: 1, Quarantined: 1}); got != want {
			t.Errorf("CountReceived: %+v, want %+v", got, want)
		}
		h := historyOf(t, in, strings.ToUpper(id))
		if len(h) != 2 || h[0].Seq != 1 || h[1].Seq != 2 || h[0].Status != pixmed.Acknowledged || h[1].DoneAt.Before(h[0].DoneAt) {
			t.Errorf("History: %v", h)
		}
		e, err := in.Get(t.Context(), strings.ToUpper(h[1].ID))
		if diff := cmp.Diff(h[1], e); err != nil || diff != "" {
			t.Errorf("Get: %v (-want +got):\n%s", err, diff)
		}
		if i, err := e.Infraction(); err != nil || i.MEDStatus != pixmed.Cancelled {
			t.Errorf("Infraction: %v, %v", i, err)
		}
	})
}

func TestOperationsMisused(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	ctx := t.Context()
	list := func(f inbox.Filter) error { _, err := in.List(ctx, f); return err }
	get := func(id string) error { _, err := in.Get(ctx, id); return err }
	for name, test := range map[string]struct {
		err  error
		is   error
		text string
	}{
		"state":       {list(inbox.Filter{State: "lost"}), inbox.ErrInvalidArgument, `no state "lost"`},
		"limit":       {list(inbox.Filter{Limit: 1001}), inbox.ErrInvalidArgument, "1001"},
		"transaction": {list(inbox.Filter{TransactionID: "x"}), inbox.ErrInvalidArgument, `transaction id "x"`},
		"after":       {list(inbox.Filter{After: "x"}), inbox.ErrInvalidArgument, `event id "x"`},
		"get":         {get("{5a94d48d-c9f3-46be-8448-83510ca42bde}"), inbox.ErrInvalidArgument, "not a UUID of 36"},
		"none":        {get(enginetest.NewTransaction()), inbox.ErrNotFound, ""},
		"replay none": {in.Replay(ctx, enginetest.NewTransaction()), inbox.ErrNotFound, ""},
		"history":     {func() error { _, err := in.History(ctx, ""); return err }(), inbox.ErrInvalidArgument, "transaction id"},
		"purge":       {func() error { _, err := in.Purge(ctx, -1); return err }(), inbox.ErrInvalidArgument, "negative"},
	} {
		if test.err == nil || (test.is != nil && !errors.Is(test.err, test.is)) || !strings.Contains(test.err.Error(), test.text) {
			t.Errorf("%s: %v", name, test.err)
		}
	}
}

func TestOldestPending(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
		for _, age := range []time.Duration{time.Hour, 3 * time.Hour, 2 * time.Hour} {
			n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
			n.ReceivedAt = time.Now().Add(-age)
			mustReceive(t, in, n)
		}
		got, err := in.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Pending != 3 || got.OldestPending < 3*time.Hour || got.OldestPending > 3*time.Hour+time.Minute {
			t.Errorf("got %+v", got)
		}
	})
}

func TestReplay(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		var broken atomic.Bool
		r := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			if broken.Load() && n.MEDStatus == pixmed.Acknowledged {
				return errors.New("broken")
			}
			return nil
		})
		in := s.Start(t, r, inbox.WithMaxAttempts(3))
		broken.Store(true)
		id := enginetest.NewTransaction()
		mustReceive(t, in, enginetest.Notification(id, pixmed.Acknowledged))
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Dead == 1 })
		dead := historyOf(t, in, id)[0]

		// All attempts again, and a count that goes on.
		if err := in.Replay(t.Context(), dead.ID); err != nil {
			t.Fatal(err)
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Dead == 1 })
		if e := historyOf(t, in, id)[0]; e.Attempts != 6 || e.LastError != "broken" {
			t.Errorf("%v, %q, want 6 attempts", e, e.LastError)
		}
		// Not behind a newer one that is done, unless it is forced.
		mustReceive(t, in, enginetest.Notification(id, pixmed.Cancelled))
		enginetest.Await(t, in)
		if err := in.Replay(t.Context(), dead.ID); !errors.Is(err, inbox.ErrSuperseded) {
			t.Errorf("%v, want ErrSuperseded", err)
		}
		broken.Store(false)
		for len(r.Got) > 0 {
			<-r.Got
		}
		if err := in.Replay(t.Context(), dead.ID, inbox.Force()); err != nil {
			t.Fatal(err)
		}
		// The receiver learns what came in between.
		if n := r.Next(t); n.MEDStatus != pixmed.Acknowledged || n.Previous != pixmed.Cancelled || n.Attempt != 7 {
			t.Errorf("got %v", n)
		}
		enginetest.Await(t, in)
		if err := in.Replay(t.Context(), dead.ID); !errors.Is(err, inbox.ErrNotReplayable) {
			t.Errorf("%v, want ErrNotReplayable", err)
		}
	})
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		r := enginetest.NewRecorder(nil)
		in := s.Start(t, r)
		handler := newHandler(t, in)
		id := enginetest.NewTransaction()
		for _, body := range []string{"{", `{"transactionStatus":"MED"}`, "\x00\xff"} {
			if code := post1(t, handler, body); code != http.StatusOK {
				t.Fatalf("%q: %d", body, code)
			}
		}
		events, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined})
		if err != nil {
			t.Fatal(err)
		}
		bodies := map[string]bool{}
		for _, e := range events {
			bodies[string(e.Raw)] = true
			if e.LastError == "" || e.Seq != 0 {
				t.Errorf("%v, %q", e, e.LastError)
			}
			// The SDK still does not know it.
			err := in.Replay(t.Context(), e.ID)
			var syntax *pixmed.SyntaxError
			var invalid *pixmed.ValidationError
			if !errors.As(err, &syntax) && !errors.As(err, &invalid) {
				t.Errorf("Replay: %v", err)
			}
		}
		if diff := cmp.Diff(map[string]bool{"{": true, `{"transactionStatus":"MED"}`: true, "\x00\xff": true}, bodies); diff != "" {
			t.Errorf("bodies (-want +got):\n%s", diff)
		}

		// After an update of the SDK the body may be valid.
		n := enginetest.Notification(id, pixmed.Acknowledged)
		invalid := func() string {
			t.Helper()
			if err := in.Quarantine(t.Context(), n.Raw, errors.New("an older SDK did not know it")); err != nil {
				t.Fatal(err)
			}
			events, err := in.List(t.Context(), inbox.Filter{State: inbox.Quarantined, Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			return events[0].ID
		}
		first := invalid()
		if again := invalid(); again != first {
			t.Errorf("the same body is stored as %s and as %s", first, again)
		}
		if e, err := in.Get(t.Context(), first); err != nil || e.Deliveries != 2 || e.LastAt.Before(e.ReceivedAt) {
			t.Errorf("%v, %v: %d deliveries, the last at %v", e, err, e.Deliveries, e.LastAt)
		}
		if err := in.Replay(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if got := r.Next(t); string(got.Raw) != string(n.Raw) {
			t.Errorf("got %s", got.Raw)
		}
		enginetest.Await(t, in)
		if e := historyOf(t, in, id)[0]; e.ID != first || e.State != inbox.Done || e.Key.ExternalID != n.ExternalID {
			t.Errorf("the history begins with %v", e)
		}
		if err := in.Receive(t.Context(), n); !errors.Is(err, pixmed.ErrDuplicate) {
			t.Errorf("a delivery of the replayed one: %v, want ErrDuplicate", err)
		}
		second := invalid()
		if err := in.Replay(t.Context(), second); !errors.Is(err, pixmed.ErrDuplicate) {
			t.Errorf("a replay of its copy: %v, want ErrDuplicate", err)
		}
		if err := in.Replay(t.Context(), second, inbox.Force()); err != nil {
			t.Error(err)
		}
		r.Next(t)

		// One from before what was done since.
		n.MEDStatus, n.Raw = pixmed.Cancelled, nil
		n.Raw = pixmedtest.Payload(n.Infraction)
		third := invalid()
		newer := enginetest.Notification(id, pixmed.Debited)
		newer.ReceivedAt = time.Now().Add(time.Second)
		mustReceive(t, in, newer)
		enginetest.Await(t, in)
		if err := in.Replay(t.Context(), third); !errors.Is(err, inbox.ErrSuperseded) {
			t.Errorf("%v, want ErrSuperseded", err)
		}
	})
}

func TestPurge(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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
		// What is gone is no longer a duplicate, and its case begins anew.
		mustReceive(t, in, enginetest.Notification(done, pixmed.Cancelled))
		if e := historyOf(t, in, done)[0]; e.Seq != 1 {
			t.Errorf("the case begins with %v", e)
		}
	})
}

// More than one batch of them.
func TestPurgeMany(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
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

// No payload, and nobody's data, is in a log line or in the queue.
func TestNothingPersonalLeaks(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		var log syncBuilder
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		const canary = "CANARY"
		in := s.Start(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
			if n.MEDStatus == pixmed.Debited {
				return errors.New("the ledger is closed")
			}
			return nil
		}), inbox.WithLogger(logger), inbox.WithMaxAttempts(2))
		deliver := func(id string, status pixmed.MEDStatus) {
			n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
				n.TransactionID, n.MEDStatus = id, status
				n.ExternalID, n.EndToEndID = canary+"-order", canary+"-e2e"
				n.Raw = pixmedtest.Payload(n.Infraction)
			})
			mustReceive(t, in, n)
		}
		id := enginetest.NewTransaction()
		deliver(id, pixmed.Acknowledged)
		deliver(id, pixmed.Debited)
		if err := in.Quarantine(t.Context(), []byte(canary), errors.New("medStatus: found "+canary)); err != nil {
			t.Fatal(err)
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Dead == 1 })
		events, err := in.List(t.Context(), inbox.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			logger.Info("an event", "event", e, "text", e.String())
			if e.State == inbox.Dead {
				if err := in.Replay(t.Context(), e.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s.Dead == 1 })
		mustStop(t, in)
		text := log.String()
		if strings.Contains(text, canary) {
			t.Errorf("the log holds a payload:\n%s", text)
		}
		for _, want := range []string{"an attempt failed", "the ledger is closed", "a notification is dead", "in quarantine", "replayed", id} {
			if !strings.Contains(text, want) {
				t.Errorf("the log does not say %q:\n%s", want, text)
			}
		}
	})
}

// syncBuilder is a strings.Builder for many goroutines.
type syncBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuilder) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// option has an inbox log to it.
func (s *syncBuilder) option() inbox.Option {
	return enginetest.Configure(func(c *config.Config) { c.Logger = slog.New(slog.NewTextHandler(s, nil)) })
}

func (s *syncBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A started inbox purges by itself.
func TestRetention(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Store) {
		in := s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithRetention(time.Millisecond), enginetest.Configure(func(c *config.Config) { c.PurgeInterval = 20 * time.Millisecond }))
		mustReceive(t, in, enginetest.Notification(enginetest.NewTransaction(), pixmed.Cancelled))
		if err := in.Quarantine(t.Context(), []byte("{"), errors.New("no")); err != nil {
			t.Fatal(err)
		}
		enginetest.AwaitCounts(t, in, func(s enginetest.Counts) bool { return s == enginetest.Counts{Quarantined: 1} })
	})
}
