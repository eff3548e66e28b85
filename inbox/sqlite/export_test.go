package sqlite

import (
	"context"
	"math"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// OpenEngine returns the engine alone.
func OpenEngine(ctx context.Context, path string) (ledger.Engine, error) {
	c := config.Default()
	c.PollInterval, c.Overdue = time.Second, time.Minute
	return open(ctx, path, c)
}

// DSN returns the name of a database for the driver.
func DSN(path string) string { return dsn(path) }

// Queries are the statements that run often.
func Queries() map[string]string {
	all := map[string]string{
		"cases": sqlCases, "pending": sqlPending, "last": sqlLast, "due": sqlDue, "claim": sqlClaim, "heads": sqlHeads, "next": sqlNext, "held": sqlHeld,
		"stats": sqlStats, "old cases": sqlOldCases, "trim": sqlTrim, "purge events": sqlPurgeEvents, "purge cases": sqlPurgeCases,
		"standing": sqlStanding, "summary": sqlUpdateSummary, "update case": sqlUpdateCase, "currents": sqlCurrents, "notes": sqlNotes, "event notes": sqlEventNotes,
		"failures": sqlFailures, "event": sqlEvent, "history": sqlHistory, "purge notes": sqlPurgeNotes,
	}
	for name, f := range map[string]ledger.CaseFilter{
		"open cases": {}, "unanswered": {Unanswered: true}, "due before": {DueBefore: time.Now()}, "ended cases": {Ended: true},
		"more open cases": {After: ledger.Cursor{At: time.Now(), ID: "x"}}, "more ended cases": {Ended: true, After: ledger.Cursor{At: time.Now(), ID: "x"}},
		"open with dead": {State: ledger.Dead}, "ended with dead": {Ended: true, State: ledger.Dead},
		"open that wait": {State: ledger.Pending}, "ended that wait": {Ended: true, State: ledger.Pending},
	} {
		f.Limit = 50
		all[name], _ = casesQuery(f)
	}
	all["pending events"], _ = listQuery(ledger.Filter{State: ledger.Pending, Limit: 50})
	all["dead events"], _ = listQuery(ledger.Filter{State: ledger.Dead, Limit: 50})
	all["events of a case"], _ = listQuery(ledger.Filter{TransactionID: "x", Bare: true, Limit: math.MaxInt32})
	for name, q := range Searches("5") {
		all[name] = q.SQL
	}
	return all
}

// Query is a statement with its arguments.
type Query struct {
	SQL  string
	Args []any
}

// Searches are the statements that search for a text.
func Searches(text string) map[string]Query {
	all := make(map[string]Query)
	for name, f := range map[string]ledger.CaseFilter{
		"search": {}, "search ended": {Ended: true, After: ledger.Cursor{At: time.Now(), ID: "ffffffff-ffff-ffff-ffff-ffffffffffff"}}, "search dead": {State: ledger.Dead},
	} {
		f.Search, f.Limit = ledger.NewSearch(text), 50
		sql, args := casesQuery(f)
		all[name] = Query{sql, args}
	}
	sql, args := listQuery(ledger.Filter{Search: ledger.NewSearch(text), State: ledger.Done, Limit: 50})
	all["search events"] = Query{sql, args}
	return all
}
