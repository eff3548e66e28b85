package postgres_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// What runs often reads by an index that bounds it, whatever the number of cases
// and of events in one case; with 10,000 retries that wait, too.
func TestPlans(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"lock":      {"cases_pkey"},
		"events":    {"events_pending", "events_key"},
		"claim":     {"cases_run"},
		"settle":    {"cases_pkey", "events_case"},
		"heads":     {"cases_run", "events_case", "events_key"},
		"next":      {"cases_run"},
		"lowest":    {"cases_run"},
		"release":   {"cases_run"},
		"stats":     {"events_pending", "events_failed", "cases_open"},
		"old cases": {"cases_ended"}, "replanned cases": {"cases_open"}, "replan": {"cases_pkey"},
		"standing": {"events_open", "events_value"}, "currents": {"events_dead"}, "summary": {"cases_pkey"},
		"open cases": {"cases_open"}, "unanswered": {"cases_open"}, "due before": {"cases_open"}, "more open cases": {"cases_open"},
		"ended cases": {"cases_ended"}, "more ended cases": {"cases_ended"},
		"open with dead": {"cases_dead"}, "open that wait": {"cases_waiting"}, "ended with dead": {"cases_dead"}, "ended that wait": {"cases_waiting"},
		"notes": {"notes_case"}, "event notes": {"notes_event"}, "failures": {"events_failed"},
		"trim":             {"events_case"},
		"events of a case": {"events_case"},
		"search":           {"ids_external", "ids_e2e", "cases_pkey"}, "search ended": {"ids_external", "ids_e2e", "cases_pkey"}, "search events": {"ids_external", "ids_e2e", "events_case"},
	}
	s := enginetest.Postgres(t)
	s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	pool := s.Pool(t)
	mustExec(t, pool, `INSERT INTO pixmed_inbox.cases (transaction_id, next_seq, run_at)
SELECT gen_random_uuid(), 2, clock_timestamp() + interval '1 hour' + n * interval '1 second' FROM generate_series(1, 10000) n`)
	mustExec(t, pool, "ANALYZE pixmed_inbox.cases")
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, setting := range []string{"plan_cache_mode = force_generic_plan", "enable_seqscan = off"} {
		if _, err := conn.Exec(t.Context(), "SET "+setting); err != nil {
			t.Fatal(err)
		}
	}
	parameter := regexp.MustCompile(`\$\d+`)
	for name, query := range postgres.Queries() {
		seen := make(map[string]bool)
		for _, p := range parameter.FindAllString(query, -1) {
			seen[p] = true
		}
		if _, err := conn.Exec(t.Context(), `PREPARE "`+name+`" AS `+query, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		execute := fmt.Sprintf(`EXPLAIN EXECUTE %q`, name)
		if len(seen) > 0 {
			execute += "(" + strings.TrimSuffix(strings.Repeat("NULL, ", len(seen)), ", ") + ")"
		}
		rows, _ := conn.Query(t.Context(), execute, pgx.QueryExecModeSimpleProtocol)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text := strings.Join(plan, "\n")
		for _, index := range want[name] {
			if !strings.Contains(text, index) {
				t.Errorf("%s: no %s in\n%s", name, index, text)
			}
		}
		if strings.Contains(text, "Seq Scan") {
			t.Errorf("%s reads a whole table:\n%s", name, text)
		}
	}
	// The look for the next one reads one entry of the index and not all of them.
	rows, _ := conn.Query(t.Context(), `EXPLAIN (ANALYZE, BUFFERS OFF, TIMING OFF, SUMMARY OFF) EXECUTE next`, pgx.QueryExecModeSimpleProtocol)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(plan, "\n"); !regexp.MustCompile(`cases_run.*actual rows=1(\.00)? `).MatchString(text) {
		t.Errorf("next:\n%s", text)
	}
}
