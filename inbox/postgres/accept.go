package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// maxFirst is up to how many accepts are tried in one round trip. With more the
// round trip that is saved is shared by all of them anyway.
const maxFirst = 16

// areFirst reports whether operations may be the first of new cases, and are few.
func areFirst(ops []*ledger.Op) bool {
	if len(ops) == 0 || len(ops) > maxFirst || len(ids(ops, all)) < len(ops) {
		return false
	}
	return !slices.ContainsFunc(ops, func(op *ledger.Op) bool { return op.New == nil || op.Tried })
}

// commitFirst stores the first events of new cases, in a transaction of one round
// trip, and returns the operations whose cases exist.
func (s *engine) commitFirst(ctx context.Context, ops []*ledger.Op, claim *ledger.Claim) (rest []*ledger.Op, err error) {
	c := s.newClaimer(claim)
	defer func() { c.end(err) }()
	var added newRows
	var entered idRows
	var opens []bool
	for _, op := range ops {
		// As Apply will do it, on an event that others may still look at.
		e := *op.New
		k := ledger.NewCase(op.TransactionID, ledger.Row{NextSeq: 1})
		k.Accept(&e)
		added.add(&e)
		entered.add(&e)
		opens = append(opens, k.Changes().Summary.Open)
	}
	accepted := make(map[string]bool, len(ops))
	r := s.newRound()
	r.begin()
	r.exec(s.sql.shareDefence)
	r.query(func(rows pgx.Rows) error {
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range ids {
			accepted[id] = true
		}
		return err
	}, s.sql.first, append(added.arguments(), opens, entered.externals, entered.e2es)...)
	c.queue(r)
	r.commit()
	if err := r.send(ctx, s.conn.Conn()); err != nil {
		return nil, err
	}
	for _, op := range ops {
		op.Err, op.Known = nil, false
		if !accepted[op.New.ID] {
			rest = append(rest, op)
			continue
		}
		op.Apply(ledger.NewCase(op.TransactionID, ledger.Row{NextSeq: 1}))
		op.Tried = true // if the rest fails, this must not be done again
	}
	return rest, nil
}
