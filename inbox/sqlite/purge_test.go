package sqlite_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// A purge deletes in many small transactions, between which others write. It keeps a
// case to which something has happened since it was found.
func TestPurgeBesideOthers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change string // to the case that is deleted last
		want   int64
	}{
		"nothing has happened":         {"value = 5", 200},
		"something has":                {"updated_at = unixepoch() * 1000000 + 3600000000", 199},
		"it is open again":             {"open = 1", 199},
		"it is due again":              {"run_at = 1, event_at = 1, pending = 1, head = 1", 199},
		"it was answered, and is over": {"answered_by = 'ana'", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.SQLite(t)
			engine := openEngine(t, s)
			s.Fill(t, 200, 1000) // the first is open, and that changes
			db := s.DB(t)
			for _, statement := range []string{
				"UPDATE cases SET open = 0",
				`CREATE TRIGGER beside AFTER DELETE ON cases WHEN (SELECT count(*) FROM cases) = 100 BEGIN
					UPDATE cases SET ` + test.change + ` WHERE id = (SELECT id FROM cases ORDER BY updated_at DESC LIMIT 1); END`,
			} {
				if _, err := db.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			deleted, next, err := engine.Purge(t.Context(), ledger.Cursor{}, -time.Minute, false)
			if err != nil || next != (ledger.Cursor{}) || deleted != test.want {
				t.Errorf("Purge: %d, %v, %v, want %d", deleted, next, err, test.want)
			}
			left := make(map[string]int64)
			for _, table := range []string{"cases", "events", "ids"} {
				var n int64
				if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
					t.Fatal(err)
				}
				left[table] = n
			}
			kept := 200 - test.want
			if diff := cmp.Diff(map[string]int64{"cases": kept, "events": kept, "ids": kept}, left); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		})
	}
}
