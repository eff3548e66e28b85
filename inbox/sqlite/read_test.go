package sqlite_test

import (
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// With very many cases, and statistics of them, a search reads no more of an index
// than it finds.
func TestSearchPlans(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	s.Open(t, ignore)
	cases := 100_000
	if testing.Short() { // under the race detector, SQLite in Go takes minutes for those
		cases = 10_000
	}
	s.Fill(t, cases, 10)
	db := s.DB(t)
	for _, text := range []string{"order-7777", "order-", "0"} {
		for name, q := range sqlite.Searches(text) {
			plan := explain(t, db, name, q.SQL, q.Args)
			checkScans(t, name, plan)
			for _, part := range []string{"ids_external (external_key>? AND external_key<?)", "ids_e2e (e2e_key>? AND e2e_key<?)", "(transaction_id>? AND transaction_id<?)"} {
				if !strings.Contains(strings.Join(plan, "\n"), part) {
					t.Errorf("%s of %q: no %q in\n%s", name, text, part, strings.Join(plan, "\n"))
				}
			}
		}
	}
}
