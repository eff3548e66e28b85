package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// reminders collects what a reminder is called with.
type reminders struct {
	got    chan *inbox.Case
	answer func(*inbox.Case) error // nil for none
}

func newReminders(answer func(*inbox.Case) error) *reminders {
	return &reminders{make(chan *inbox.Case, 1000), answer}
}

func (r *reminders) remind(_ context.Context, c *inbox.Case) error {
	r.got <- c
	if r.answer == nil {
		return nil
	}
	return r.answer(c)
}

func (r *reminders) next(t *testing.T) *inbox.Case {
	t.Helper()
	select {
	case c := <-r.got:
		return c
	case <-time.After(enginetest.Patience):
		t.Fatal("nobody was reminded")
		return nil
	}
}

func (r *reminders) none(t *testing.T) {
	t.Helper()
	select {
	case c := <-r.got:
		t.Errorf("a reminder too many, of %s", c.TransactionID)
	default:
	}
}

// dueIn returns a notification of a new case that is due in a time, with a window of
// seven days.
func dueIn(d time.Duration) *pixmed.Notification {
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	n.ReceivedAt = time.Now().Add(d - 7*day)
	return n
}

// awaitCase waits until a case is as the test wants it.
func awaitCase(t *testing.T, in *inbox.Inbox, id string, ok func(*inbox.Case) bool) *inbox.Case {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(enginetest.Patience); ; <-tick.C {
		c, err := in.Case(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if ok(c) {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("the case does not get there: %+v", c)
		}
	}
}

func reminded(n int) func(*inbox.Case) bool {
	return func(c *inbox.Case) bool {
		got := 0
		for _, note := range c.Notes {
			if note.Action == inbox.ReminderCalled {
				got++
			}
		}
		return got == n
	}
}

// pass makes the cases older, as if time had passed.
func pass(t *testing.T, s *enginetest.Database, d time.Duration) {
	t.Helper()
	columns, back := []string{"opened_at", "remind_at", "reminded_at", "tried_at", "run_at"}, fmt.Sprintf("%d", d.Microseconds())
	if s.Engine == "postgres" {
		back = fmt.Sprintf("interval '%d microseconds'", d.Microseconds())
	}
	var set []string
	for _, c := range columns {
		set = append(set, c+" = "+c+" - "+back)
	}
	if _, err := s.DB(t).ExecContext(t.Context(), "UPDATE cases SET "+strings.Join(set, ", ")); err != nil {
		t.Fatal(err)
	}
}

const day = 24 * time.Hour

// Each time before a case is due is a call of its own, with the case.
func TestReminders(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := newReminders(nil)
		in := s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, r.remind, day, 3*day, time.Hour))
		n := dueIn(5 * day)
		mustReceive(t, in, n)
		enginetest.Await(t, in)
		for i, d := range []time.Duration{2*day + time.Minute, 2 * day} {
			r.none(t)
			pass(t, s, d)
			if c := r.next(t); c.TransactionID != n.TransactionID || !c.Open || c.Status != pixmed.Acknowledged || c.Value != n.Value || len(c.Events) != 1 || len(c.Events[0].Raw) == 0 ||
				!c.DueAt.Equal(c.OpenedAt.Add(7*day)) || len(c.Notes) != i {
				t.Errorf("call %d: %+v", i, c)
			}
			want := []time.Duration{day, time.Hour}[i]
			if c := awaitCase(t, in, n.TransactionID, reminded(i+1)); !c.NextReminder.Equal(c.DueAt.Add(-want)) {
				t.Errorf("the next one is at %v, and it is due at %v", c.NextReminder, c.DueAt)
			}
		}
		r.none(t)
	})
}

// A case that opens with less time left gets all that was missed in one call.
func TestRemindersMissed(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := newReminders(nil)
		in := s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, r.remind, 3*day, 2*day, day, time.Hour))
		late, overdue := dueIn(2*time.Hour), dueIn(-day)
		mustReceive(t, in, late)
		r.next(t)
		mustReceive(t, in, overdue)
		r.next(t)
		if c := awaitCase(t, in, late.TransactionID, reminded(1)); !c.NextReminder.Equal(c.DueAt.Add(-time.Hour)) {
			t.Errorf("the next one is at %v, and it is due at %v", c.NextReminder, c.DueAt)
		}
		if c := awaitCase(t, in, overdue.TransactionID, reminded(1)); !c.NextReminder.IsZero() {
			t.Errorf("the next one is at %v", c.NextReminder)
		}
		r.none(t)
	})
}

// Nobody is reminded of a case that was answered or has ended, unless it opens again.
func TestRemindersEnd(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := newReminders(nil)
		in := s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, r.remind, day))
		answered, ended, cancelled, open := dueIn(time.Hour), dueIn(time.Hour), dueIn(time.Hour), dueIn(time.Hour)
		for _, n := range []*pixmed.Notification{answered, ended, cancelled, open} {
			mustReceive(t, in, n)
		}
		if err := errors.Join(
			in.MarkAnswered(t.Context(), answered.TransactionID, "sent by mail", inbox.By("ana")),
			in.End(t.Context(), ended.TransactionID, "a test", inbox.By("rui")),
			in.Receive(t.Context(), enginetest.Notification(cancelled.TransactionID, pixmed.Cancelled)),
		); err != nil {
			t.Fatal(err)
		}
		// Whoever comes second is told that nothing was changed, and who was first.
		if err := in.MarkAnswered(t.Context(), strings.ToUpper(answered.TransactionID), "again", inbox.By("rui")); !errors.Is(err, inbox.ErrAnswered) || !strings.Contains(err.Error(), "by ana at 2") {
			t.Errorf("MarkAnswered again: %v, want ErrAnswered", err)
		}
		if err := in.End(t.Context(), ended.TransactionID, "again"); !errors.Is(err, inbox.ErrEnded) || !strings.Contains(err.Error(), "by rui at 2") {
			t.Errorf("End again: %v, want ErrEnded", err)
		}
		if err := in.End(t.Context(), cancelled.TransactionID, "again"); !errors.Is(err, inbox.ErrEnded) || strings.Contains(err.Error(), "by ") {
			t.Errorf("End of what the gateway ended: %v, want ErrEnded", err)
		}
		if err := in.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c := r.next(t); c.TransactionID != open.TransactionID {
			t.Errorf("%+v was called", c)
		}
		enginetest.Await(t, in)
		if err := in.MarkAnswered(t.Context(), ended.TransactionID, ""); !errors.Is(err, inbox.ErrEnded) {
			t.Errorf("MarkAnswered of what has ended: %v, want ErrEnded", err)
		}

		c := awaitCase(t, in, answered.TransactionID, reminded(0))
		wantNotes := []inbox.Note{{Action: inbox.Answered, By: "ana", Text: "sent by mail"}}
		ignoreTime := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".At" }, cmp.Ignore())
		if diff := cmp.Diff(wantNotes, c.Notes, ignoreTime); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
		if c.AnsweredBy != "ana" || c.AnsweredAt.IsZero() || !c.NextReminder.IsZero() || !c.Open {
			t.Errorf("answered: %+v", c)
		}
		if c := awaitCase(t, in, ended.TransactionID, reminded(0)); c.Open || c.EndedBy != "rui" || c.EndedAt.IsZero() || !c.DueAt.IsZero() {
			t.Errorf("ended: %+v", c)
		}

		// It opens again: it is not answered, and is due again.
		mustReceive(t, in, enginetest.Notification(answered.TransactionID, pixmed.Cancelled))
		again := enginetest.Notification(answered.TransactionID, pixmed.Acknowledged)
		again.ReceivedAt = time.Now().Add(time.Hour - 7*day)
		mustReceive(t, in, again)
		if c := r.next(t); c.TransactionID != again.TransactionID || !c.AnsweredAt.IsZero() || !c.OpenedAt.Equal(again.ReceivedAt.Truncate(time.Microsecond)) || len(c.Notes) != 1 {
			t.Errorf("opened again: %+v", c)
		}
		r.none(t)
	})
}

// T21: what is accepted beside a reminder that is far away runs at once.
// T22: a reminder is called beside a notification that waits for its retry, and
// beside a dead one; and its own failures delay none.
func TestRemindersBesideNotifications(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := newReminders(func(c *inbox.Case) error {
			if c.Value == pixmed.Real {
				return errors.New("the mail server is away")
			}
			return nil
		})
		recorder := enginetest.NewRecorder(func(_ context.Context, n *pixmed.Notification) error {
			switch n.ExternalID {
			case "waits":
				return errors.New("not yet")
			case "dead":
				return inbox.Discard(errors.New("never"))
			}
			return nil
		})
		in := s.Start(t, recorder, inbox.WithDefence(7*day, r.remind, day), inbox.WithBackoff(time.Hour, time.Hour))
		receive := func(n *pixmed.Notification, externalID string, value pixmed.Amount) {
			t.Helper()
			n.ExternalID, n.Value, n.Raw = externalID, value, nil
			mustReceive(t, in, n)
			if got := recorder.Next(t); got.TransactionID != n.TransactionID || got.ExternalID != externalID {
				t.Errorf("%v was called, want %v", got, n)
			}
		}
		far := dueIn(3 * day)
		receive(far, "1", 2)
		receive(far, "2", 2)
		for _, externalID := range []string{"waits", "dead"} {
			n := dueIn(time.Hour)
			receive(n, externalID, 2)
			if c := r.next(t); c.TransactionID != n.TransactionID {
				t.Errorf("%s: %+v", externalID, c)
			}
			c := awaitCase(t, in, n.TransactionID, reminded(1))
			if next := c.Current.NextAttempt; externalID == "waits" && time.Until(next) < 20*time.Minute {
				t.Errorf("the notification's next attempt is at %v", next)
			}
		}
		failing := dueIn(time.Hour)
		receive(failing, "1", pixmed.Real)
		r.next(t)
		awaitCase(t, in, failing.TransactionID, func(c *inbox.Case) bool { return time.Until(c.NextReminder) > 20*time.Minute })
		receive(failing, "2", pixmed.Real)
		r.none(t)
	})
}

// A reminder has the attempts of a notification. After the last one it is given up
// and counted, and the next one stays planned.
func TestRemindersFail(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		calls := 0
		r := newReminders(func(*inbox.Case) error {
			if calls++; calls == 2 {
				panic("no")
			}
			return errors.New("the mail server is away")
		})
		ended := make(chan inbox.Attempt, 10)
		in := s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, r.remind, day, time.Hour), inbox.WithMaxAttempts(3),
			inbox.WithObserver(func(_ context.Context, a inbox.Attempt) {
				if a.Reminder {
					ended <- a
				}
			}))
		n := dueIn(2 * time.Hour)
		mustReceive(t, in, n)
		for i := range 3 {
			r.next(t)
			a := <-ended
			if want := []inbox.AttemptResult{inbox.AttemptFailed, inbox.AttemptFailed, inbox.AttemptDead}[i]; a.Result != want || a.Number != i+1 || a.Err == nil || a.Key.TransactionID != n.TransactionID {
				t.Errorf("attempt %d: %+v", i, a)
			}
		}
		c := awaitCase(t, in, n.TransactionID, func(c *inbox.Case) bool { return c.RemindersGivenUp == 1 })
		if !c.NextReminder.Equal(c.DueAt.Add(-time.Hour)) {
			t.Errorf("the next one is at %v, and it is due at %v", c.NextReminder, c.DueAt)
		}
		if len(c.Notes) != 1 || c.Notes[0].Action != inbox.ReminderGivenUp || c.Notes[0].Text != "the mail server is away" {
			t.Errorf("notes: %+v", c.Notes)
		}
		stats, err := in.Stats(t.Context())
		if err != nil || stats.RemindersGivenUp != 1 {
			t.Errorf("Stats: %+v, %v", stats, err)
		}
		r.none(t)
	})
}

// T23: a restart neither repeats a reminder nor forgets one.
func TestRemindersAfterARestart(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := newReminders(nil)
		in := s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, r.remind, day))
		done, missed := dueIn(time.Hour), dueIn(3*day)
		mustReceive(t, in, done)
		r.next(t)
		awaitCase(t, in, done.TransactionID, reminded(1))
		if err := in.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		in = s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, r.remind, day))
		mustReceive(t, in, missed)
		if err := in.Stop(t.Context()); err != nil { // before its time
			t.Fatal(err)
		}
		pass(t, s, 2*day)
		in = s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, r.remind, day))
		if c := r.next(t); c.TransactionID != missed.TransactionID {
			t.Errorf("%s was called, want %s", c.TransactionID, missed.TransactionID)
		}
		awaitCase(t, in, missed.TransactionID, reminded(1))
		r.none(t)
	})
}

// The window is the database's. Changing it moves all open cases; a process without
// WithDefence plans like the others, and calls nobody.
func TestDefenceOfAllProcesses(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := newReminders(nil)
		with := func(window time.Duration) *inbox.Inbox {
			return s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(window, r.remind, day))
		}
		stop := func(in *inbox.Inbox) {
			t.Helper()
			if err := in.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		in := with(7 * day)
		first := dueIn(2 * day)
		mustReceive(t, in, first)
		enginetest.Await(t, in)
		stop(in)

		in = s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore))
		second := dueIn(2 * day)
		mustReceive(t, in, second)
		enginetest.Await(t, in)
		late := dueIn(time.Hour)
		mustReceive(t, in, late)
		c := awaitCase(t, in, late.TransactionID, func(c *inbox.Case) bool { return c.NextReminder.After(time.Now()) })
		if time.Until(c.NextReminder) > 2*time.Minute || c.RemindersGivenUp != 0 || len(c.Notes) != 0 {
			t.Errorf("it is put off: %+v", c)
		}
		stop(in)
		r.none(t)

		in = with(6 * day)
		got := map[string]bool{r.next(t).TransactionID: true, r.next(t).TransactionID: true}
		if !got[first.TransactionID] || !got[second.TransactionID] {
			t.Errorf("%v were called", got)
		}
		c = awaitCase(t, in, second.TransactionID, reminded(1))
		if want := second.ReceivedAt.Truncate(time.Microsecond).Add(6 * day); !c.DueAt.Equal(want) {
			t.Errorf("due at %v, want %v", c.DueAt, want)
		}
		stop(in)

		// A window that is longer again has its own times.
		in = with(20 * day)
		c = awaitCase(t, in, first.TransactionID, reminded(1))
		if !c.NextReminder.Equal(c.DueAt.Add(-day)) {
			t.Errorf("the next one is at %v, and it is due at %v", c.NextReminder, c.DueAt)
		}
		stop(in)

		// Without any times there are no reminders, and with some there are again, of
		// what was put off too.
		in = s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(20*day, nil))
		for _, n := range []*pixmed.Notification{first, second, late} {
			c = awaitCase(t, in, n.TransactionID, func(*inbox.Case) bool { return true })
			if !c.NextReminder.IsZero() || !c.DueAt.Equal(c.OpenedAt.Add(20*day)) {
				t.Errorf("the next one is at %v, and it is due at %v", c.NextReminder, c.DueAt)
			}
		}
		stop(in)

		// Without a window no case is due, and without the option it stays so.
		for _, opts := range [][]inbox.Option{{inbox.WithDefence(0, nil)}, nil} {
			in = s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore), opts...)
			c = awaitCase(t, in, late.TransactionID, func(*inbox.Case) bool { return true })
			if !c.NextReminder.IsZero() || !c.DueAt.IsZero() {
				t.Errorf("the next one is at %v, and it is due at %v", c.NextReminder, c.DueAt)
			}
			stop(in)
		}
		in = with(20 * day)
		c = awaitCase(t, in, late.TransactionID, func(*inbox.Case) bool { return true })
		if !c.NextReminder.Equal(c.DueAt.Add(-day)) {
			t.Errorf("the next one is at %v, and it is due at %v", c.NextReminder, c.DueAt)
		}
	})
}

// A reminder that waits for its retry moves with its case: to the next time that is
// planned if that is earlier, to its own if that has not come, and to none if there
// are none. The retry itself stays where the settings have not changed.
func TestDefenceMovesRetries(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := newReminders(func(*inbox.Case) error { return errors.New("the mail server is away") })
		reopen := func(in *inbox.Inbox, window time.Duration, before ...time.Duration) *inbox.Inbox {
			t.Helper()
			if err := in.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			remind := r.remind
			if len(before) == 0 {
				remind = nil
			}
			return s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(window, remind, before...))
		}
		in := s.Start(t, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithDefence(7*day, r.remind, day), inbox.WithBackoff(4*time.Hour, 4*time.Hour))
		n := dueIn(12 * time.Hour)
		mustReceive(t, in, n)
		r.next(t)
		get := func(in *inbox.Inbox) *inbox.Case {
			return awaitCase(t, in, n.TransactionID, func(c *inbox.Case) bool { return c.NextReminder.IsZero() || time.Until(c.NextReminder) > time.Minute })
		}
		retry := get(in).NextReminder
		for _, step := range []struct {
			name   string
			window time.Duration
			before []time.Duration
			want   func(due time.Time) time.Time
		}{
			{"nothing has changed", 7 * day, []time.Duration{day}, func(time.Time) time.Time { return retry }},
			{"the next one comes after it", 7 * day, []time.Duration{day, time.Minute}, func(time.Time) time.Time { return retry }},
			{"the next one comes before it", 7*day - 11*time.Hour, []time.Duration{day, 30 * time.Minute}, func(due time.Time) time.Time { return due.Add(-30 * time.Minute) }},
			{"it has not come", 9 * day, []time.Duration{day}, func(due time.Time) time.Time { return due.Add(-day) }},
			{"there are none", 9 * day, nil, func(time.Time) time.Time { return time.Time{} }},
		} {
			in = reopen(in, step.window, step.before...)
			if c := get(in); !c.DueAt.Equal(c.OpenedAt.Add(step.window)) || !c.NextReminder.Equal(step.want(c.DueAt)) {
				t.Errorf("%s: the reminder is at %v, want %v; it is due at %v", step.name, c.NextReminder, step.want(c.DueAt), c.DueAt)
			}
		}
		r.none(t)
	})
}

func TestWithDefenceMisused(t *testing.T) {
	t.Parallel()
	remind := func(context.Context, *inbox.Case) error { return nil }
	for name, test := range map[string]struct {
		option inbox.Option
		want   string
	}{
		"no window":        {inbox.WithDefence(0, remind, time.Hour), "the window, 0s"},
		"no function":      {inbox.WithDefence(day, nil, time.Hour), "or neither"},
		"no times":         {inbox.WithDefence(day, remind), "or neither"},
		"twice":            {inbox.WithDefence(day, remind, time.Hour, time.Minute, time.Hour), "1h0m0s is given twice"},
		"after it is due":  {inbox.WithDefence(day, remind, -time.Hour), "-1h0m0s is not between 0 and the window"},
		"before it opens":  {inbox.WithDefence(day, remind, day), "24h0m0s is not between 0 and the window"},
		"a part of a unit": {inbox.WithDefence(day, remind, time.Hour+1), "microseconds"},
	} {
		if _, err := enginetest.SQLite(t).TryOpen(t, pixmed.ReceiverFunc(pixmed.Ignore), test.option); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// T23: what a killed process has left of a reminder counts as a failed attempt, and it
// is called again.
func TestRemindersAfterAKill(t *testing.T) {
	t.Parallel()
	enginetest.Each(t, func(t *testing.T, s *enginetest.Database) {
		r := newReminders(nil)
		open := func(opts ...inbox.Option) *inbox.Inbox {
			return s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore), append(opts, inbox.WithDefence(7*day, r.remind, day, time.Hour), inbox.WithMaxAttempts(2))...)
		}
		in := open()
		n, last := dueIn(2*time.Hour), dueIn(2*time.Hour)
		mustReceive(t, in, n)
		mustReceive(t, in, last)
		if err := in.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		// As if a process had claimed the reminders, of which one had failed before.
		db := s.DB(t)
		for _, statement := range []string{
			"UPDATE cases SET held = true, running = -1, lease = 7, run_at = remind_at",
			"UPDATE cases SET remind_failures = 1, tried_at = remind_at WHERE transaction_id = '" + last.TransactionID + "'",
		} {
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		in = open()
		if err := in.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c := r.next(t); c.TransactionID != n.TransactionID {
			t.Errorf("%s was called, want %s", c.TransactionID, n.TransactionID)
		}
		awaitCase(t, in, n.TransactionID, reminded(1))
		c := awaitCase(t, in, last.TransactionID, func(c *inbox.Case) bool { return c.RemindersGivenUp == 1 })
		if !c.NextReminder.Equal(c.DueAt.Add(-time.Hour)) || !strings.Contains(c.Notes[0].Text, "did not end in time") {
			t.Errorf("the next one is at %v, and it is due at %v: %v", c.NextReminder, c.DueAt, c.Notes)
		}
		enginetest.Await(t, in)
		r.none(t)
	})
}
