package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// guesses are operations that are done without reading their cases first. The
// statements do only those whose guess is right.
type guesses struct {
	ops   []*ledger.Op
	cases []*ledger.Case
	right map[string]bool // by transaction
}

// guess splits operations into those that can be guessed and the others. Operations
// on the same case are not guessed: one would change what the next one finds.
func guess(ops []*ledger.Op) (g *guesses, others []*ledger.Op) {
	g = &guesses{right: make(map[string]bool)}
	many := make(map[string]int)
	for _, op := range ops {
		many[op.TransactionID]++
	}
	for _, op := range ops {
		if op.Guess == nil || op.Tried || many[op.TransactionID] > 1 {
			others = append(others, op)
			continue
		}
		c := op.Guess()
		op.Err, op.Known = nil, false
		op.Apply(c)
		g.ops, g.cases = append(g.ops, op), append(g.cases, c)
	}
	return g, others
}

// queue adds the statements to a round trip.
func (g *guesses) queue(r *round) {
	var added newRows
	var entered idRows
	var opens []bool
	var settled settledRows
	for _, c := range g.cases {
		ch := c.Changes()
		for _, e := range ch.Added {
			added.add(e)
			entered.add(e)
			opens = append(opens, ch.Summary.Open)
		}
		for _, e := range ch.Changed {
			settled.add(e, c.Lease(), ch)
		}
	}
	read := func(rows pgx.Rows) error {
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range ids {
			g.right[id] = true
		}
		return err
	}
	if len(opens) > 0 {
		r.exec(r.s.sql.shareDefence)
		r.query(read, r.s.sql.first, append(added.arguments(), opens, entered.externals, entered.e2es)...)
	}
	if len(settled.transactions) > 0 {
		r.query(read, r.s.sql.settle, settled.arguments()...)
	}
}

// end marks the operations whose guess was wrong. It must be called when the
// transaction has committed. It reports whether something waits in one of the cases.
func (g *guesses) end() (waiting bool) {
	for i, op := range g.ops {
		if !g.right[op.TransactionID] {
			op.Wrong, op.Guess = true, nil
			continue
		}
		waiting = waiting || g.cases[i].Waits()
	}
	return waiting
}

// settledRows are the columns of the attempts to settle.
type settledRows struct {
	transactions, states, errors []string
	leases, seqs, delays, dead   []int64
	attempts, failures           []int32
	discarded                    []bool
}

func (r *settledRows) add(e *ledger.Event, lease int64, ch *ledger.Changes) {
	r.transactions, r.leases, r.seqs = append(r.transactions, e.TransactionID), append(r.leases, lease), append(r.seqs, e.Seq)
	r.states, r.errors, r.discarded = append(r.states, string(e.State)), append(r.errors, e.LastError), append(r.discarded, e.Discarded)
	r.attempts, r.failures = append(r.attempts, int32(e.Attempts)), append(r.failures, int32(e.Failures)) //nolint:gosec // WithMaxAttempts bounds them
	r.delays, r.dead = append(r.delays, ch.Delay.Microseconds()), append(r.dead, ch.Dead)
}

func (r *settledRows) arguments() []any {
	return []any{r.transactions, r.leases, r.seqs, r.states, r.attempts, r.failures, r.discarded, r.errors, r.delays, r.dead}
}
