package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

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

// A role without the right to make tables opens an inbox that is up to date, and
// works in it.
func TestOpenWithFewRights(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	stop(t, s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore)))
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
	stop(t, in)
}

// A program that is older than the tables leaves them alone.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	stop(t, s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore)))
	if _, err := s.DB(t).ExecContext(t.Context(), "INSERT INTO inbox_migrations (version) VALUES (99)"); err != nil {
		t.Fatal(err)
	}
	_, err := s.TryOpen(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if err == nil || !strings.Contains(err.Error(), "has version 99") || !strings.Contains(err.Error(), "update the program") {
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
	_, err = (&enginetest.Database{Engine: "postgres", URL: u.String()}).TryOpen(t, pixmed.ReceiverFunc(pixmed.Ignore))
	if err == nil || !strings.Contains(err.Error(), "LATIN1") {
		t.Errorf("Open: %v", err)
	}
}

// TestNewerReplica has another process migrate the tables while this one runs.
func TestNewerReplica(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	look := s.Pool(t)
	var log syncBuilder
	in := start(t, s.Pool(t), enginetest.NewRecorder(nil), log.option())
	if err := in.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustExec(t, look, "INSERT INTO pixmed_inbox.inbox_migrations (version) VALUES (99)")
	if err := in.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "update the program") {
		t.Errorf("Ready: %v", err)
	}
	for begin := time.Now(); !strings.Contains(log.String(), "has version 99"); {
		if time.Since(begin) > enginetest.Patience {
			t.Fatal("the log does not say it")
		}
	}
	receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged) // it goes on
}
