package sqlite_test

import (
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

func TestNewerSchema(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	if err := s.Open(t, ignore).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DB(t).ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	_, err := s.TryOpen(t, ignore)
	if err == nil || !strings.Contains(err.Error(), "version 99") || !strings.Contains(err.Error(), "update the program") {
		t.Errorf("Open: %v", err)
	}
}

// The file says that it is an inbox, which version its tables have, and that it has a
// write-ahead log.
func TestHeader(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	s.Open(t, ignore)
	db := s.DB(t)
	for name, want := range map[string]string{"application_id": "1886940516", "user_version": "1", "journal_mode": "wal"} {
		var got string
		if err := db.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}
