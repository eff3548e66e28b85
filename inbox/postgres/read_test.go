package postgres_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// With very many cases, and without settings that speak for an index, a search reads
// no more of an index than it finds, whatever it finds.
func TestSearchPlans(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	s.Fill(t, 100_000, 10)
	pool := s.Pool(t)
	rowsRead := regexp.MustCompile(`(?:ids_external|ids_e2e|cases_pkey|events_case) .*\(actual rows=([\d.]+) loops=(\d+)\)`)
	for _, text := range []string{"order-77777", "order-", "E90400888", "0"} {
		for name, q := range postgres.Searches(text) {
			rows, _ := pool.Query(t.Context(), "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) "+q.SQL, q.Args...)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			plan := strings.Join(lines, "\n")
			for _, index := range []string{"ids_external", "ids_e2e", "cases_pkey"} {
				if !strings.Contains(plan, index) {
					t.Errorf("%s of %q: no %s in\n%s", name, text, index, plan)
				}
			}
			if strings.Contains(plan, "Seq Scan on ids") || strings.Contains(plan, "Seq Scan on cases") || strings.Contains(plan, "Seq Scan on events") {
				t.Errorf("%s of %q reads a whole table:\n%s", name, text, plan)
			}
			read := 0.0
			for _, m := range rowsRead.FindAllStringSubmatch(plan, -1) {
				n, _ := strconv.ParseFloat(m[1], 64)
				loops, _ := strconv.ParseFloat(m[2], 64)
				read += n * loops
			}
			if read == 0 || read > 12_000 {
				t.Errorf("%s of %q reads %v rows:\n%s", name, text, read, plan)
			}
		}
	}
}
