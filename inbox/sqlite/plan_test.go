package sqlite_test

import (
	"database/sql"
	"regexp"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// What runs often reads by an index that bounds it, whatever the number of cases
// and of events in one case.
func TestPlans(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"cases":     {"(transaction_id=?)"},
		"pending":   {"events_pending (case_id=?)"},
		"last":      {"events_key (case_id=? AND external_digest=?)"},
		"due":       {"cases_run (run_at<?)"},
		"claim":     {"cases USING INTEGER PRIMARY KEY"},
		"heads":     {"events_case (case_id=? AND seq=?)", "events_key (case_id=? AND external_digest=?)"},
		"next":      {"cases_run (run_at>?)"},
		"held":      {"cases_held", "events_case (case_id=? AND seq=?)"},
		"stats":     {"events_failed (state=?)", "events_pending", "cases_open"},
		"old cases": {"cases_ended"},
		"standing":  {"events_open", "events_value"}, "currents": {"events_dead"},
		"open cases": {"cases_open"}, "unanswered": {"cases_open"}, "due before": {"cases_open (opened_at<?)"}, "more open cases": {"cases_open ((opened_at,transaction_id)>(?,?))"},
		"ended cases": {"cases_ended"}, "more ended cases": {"cases_ended ((updated_at,transaction_id)<(?,?))"},
		"open with dead": {"cases_dead"}, "open that wait": {"cases_waiting"}, "ended with dead": {"cases_dead"}, "ended that wait": {"cases_waiting"},
		"notes": {"notes_case"}, "event notes": {"notes_event"}, "failures": {"events_failed"}, "pending events": {"events_pending"}, "dead events": {"events_failed (state=?)"},
		"events of a case": {"SEARCH e USING INDEX events_key (case_id=?)"},
		"trim":             {"(case_id=? AND seq>? AND seq<?)", "events_key"},
		"search": {
			"ids_external (external_key>? AND external_key<?)", "ids_e2e (e2e_key>? AND e2e_key<?)", "(transaction_id>? AND transaction_id<?)",
			"c USING INTEGER PRIMARY KEY (rowid=?)",
		},
		"search ended": {"ids_external (", "ids_e2e (", "c USING INTEGER PRIMARY KEY (rowid=?)"}, "search events": {"ids_external (", "ids_e2e (", "SEARCH e USING INDEX"},
	}
	s := enginetest.SQLite(t)
	s.Open(t, ignore)
	db := s.DB(t)
	parameter := regexp.MustCompile(`\?\d*`)
	for name, query := range sqlite.Queries() {
		seen := make(map[string]bool) // those that have a number
		n := 0
		for _, p := range parameter.FindAllString(query, -1) {
			if p == "?" || !seen[p] {
				n++
			}
			seen[p] = true
		}
		args := make([]any, n)
		for i := range args {
			args[i] = "{}"
		}
		plan := explain(t, db, name, query, args)
		text := strings.Join(plan, "\n")
		for _, part := range want[name] {
			if !strings.Contains(text, part) {
				t.Errorf("%s: no %q in\n%s", name, part, text)
			}
		}
		checkScans(t, name, plan)
	}
}

// explain returns the plan of a query.
func explain(t *testing.T, db *sql.DB, name, query string, args []any) (plan []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan
}

// checkScans fails if a plan reads a whole table.
func checkScans(t *testing.T, name string, plan []string) {
	t.Helper()
	for _, line := range plan {
		if regexp.MustCompile(`^SCAN [a-z]`).MatchString(line) && !strings.Contains(line, "INDEX") && !strings.Contains(line, "VIRTUAL TABLE") && !regexp.MustCompile(`^SCAN (m|mine)\b`).MatchString(line) {
			t.Errorf("%s reads a whole table: %s", name, line)
		}
	}
}
