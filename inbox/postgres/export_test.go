package postgres

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// OpenEngine returns the engine alone.
func OpenEngine(ctx context.Context, pool *pgxpool.Pool) (ledger.Engine, error) {
	c := config.Default()
	c.Schema, c.PollInterval, c.Overdue = DefaultSchema, time.Second, time.Minute
	return newEngine(ctx, pool, c)
}

// ReadWithin runs a statement as a reader does whose queries take so long at most.
func ReadWithin(ctx context.Context, pool *pgxpool.Pool, timeout time.Duration, sql string) (all []string, err error) {
	s, err := openReader(ctx, pool, nil)
	if err != nil {
		return nil, err
	}
	s.readTimeout = timeout
	err = s.query(ctx, func(rows pgx.Rows) (err error) {
		all, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}, sql)
	return all, err
}

// Queries are the statements of the default schema that run often.
func Queries() map[string]string {
	s := &engine{schema: DefaultSchema}
	s.sql = newQueries(s.in)
	q := s.sql
	all := map[string]string{
		"lock": q.lockCases, "settle": q.settle, "events": q.events, "claim": q.claim, "heads": q.heads, "next": q.next, "lowest": q.lowest, "release": q.release,
		"stats": q.stats, "old cases": q.oldCases, "trim": q.trim, "replanned cases": q.openCases, "replan": q.replan,
		"standing": q.standing, "summary": q.summary, "write": q.write, "currents": q.currents, "notes": q.notes, "event notes": q.eventNotes,
		"failures": q.failures, "event": q.event, "history": q.history,
	}
	for name, f := range map[string]ledger.CaseFilter{
		"open cases": {}, "unanswered": {Unanswered: true}, "due before": {DueBefore: time.Now()}, "ended cases": {Ended: true},
		"more open cases": {After: ledger.Cursor{At: time.Now(), ID: "x"}}, "more ended cases": {Ended: true, After: ledger.Cursor{At: time.Now(), ID: "x"}},
		"open with dead": {State: ledger.Dead}, "ended with dead": {Ended: true, State: ledger.Dead},
		"open that wait": {State: ledger.Pending}, "ended that wait": {Ended: true, State: ledger.Pending},
	} {
		f.Limit = 50
		all[name], _ = s.casesQuery(f)
	}
	all["events of a case"], _ = s.listQuery(ledger.Filter{TransactionID: "x", Bare: true, Limit: math.MaxInt32})
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
	s := &engine{schema: DefaultSchema}
	s.sql = newQueries(s.in)
	all := make(map[string]Query)
	for name, f := range map[string]ledger.CaseFilter{
		"search": {}, "search ended": {Ended: true, After: ledger.Cursor{At: time.Now(), ID: "ffffffff-ffff-ffff-ffff-ffffffffffff"}}, "search dead": {State: ledger.Dead},
	} {
		f.Search, f.Limit = ledger.NewSearch(text), 50
		sql, args := s.casesQuery(f)
		all[name] = Query{sql, args}
	}
	sql, args := s.listQuery(ledger.Filter{Search: ledger.NewSearch(text), State: ledger.Done, Limit: 50})
	all["search events"] = Query{sql, args}
	return all
}
