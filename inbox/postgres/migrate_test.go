package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// Replicas that start together migrate one after the other.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	const replicas = 8
	type result struct {
		in  *inbox.Inbox
		err error
	}
	results := make(chan result)
	for range replicas {
		pool := s.Pool(t)
		go func() {
			in, err := postgres.Open(t.Context(), pool, pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithLogger(enginetest.Logger(t)))
			results <- result{in, err}
		}()
	}
	for range replicas {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
			continue
		}
		if err := r.in.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Two inboxes in two schemas of one database know nothing of each other.
func TestSchemas(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	a, b := enginetest.NewRecorder(nil), enginetest.NewRecorder(nil)
	first, second := s.Start(t, a, postgres.WithSchema("one")), s.Start(t, b, postgres.WithSchema("two"), postgres.WithPollOnly())
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	for _, in := range []*inbox.Inbox{first, second} {
		if err := in.Receive(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	a.Next(t)
	b.Next(t)
	enginetest.Await(t, first)
	enginetest.Await(t, second)
	a.None(t)
	b.None(t)
}

// A role without the right to make tables opens an inbox that is up to date, and
// works in it.
func TestOpenWithFewRights(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	mustStop(t, s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore)))
	pool := newRole(t, s,
		"GRANT USAGE ON SCHEMA pixmed_inbox TO {role}",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pixmed_inbox TO {role}",
		"GRANT USAGE ON ALL SEQUENCES IN SCHEMA pixmed_inbox TO {role}")
	r := enginetest.NewRecorder(nil)
	in, err := postgres.Open(t.Context(), pool, r, inbox.WithLogger(enginetest.Logger(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := in.Receive(t.Context(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)); err != nil {
		t.Fatal(err)
	}
	r.Next(t)
	enginetest.Await(t, in)
	mustStop(t, in)
}

// A program that is older than the tables leaves them alone.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	mustStop(t, s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore)))
	if _, err := s.DB(t).ExecContext(t.Context(), "INSERT INTO inbox_migrations (version) VALUES (99)"); err != nil {
		t.Fatal(err)
	}
	_, err := s.TryOpen(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if err == nil || !contains(err.Error(), "has version 99") || !contains(err.Error(), "update the program") {
		t.Errorf("Open: %v", err)
	}
}

func TestEncoding(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	db := s.DB(t)
	name := "latin_" + strings.TrimPrefix(s.URL[strings.LastIndex(s.URL, "/pixmed_"):strings.Index(s.URL, "?")], "/pixmed_")
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name+" ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.WithoutCancel(t.Context()), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	_, err = (&enginetest.Store{Engine: "postgres", URL: u.String()}).TryOpen(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if err == nil || !contains(err.Error(), "LATIN1") {
		t.Errorf("Open: %v", err)
	}
}

func mustStop(t *testing.T, in *inbox.Inbox) {
	t.Helper()
	if err := in.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}
