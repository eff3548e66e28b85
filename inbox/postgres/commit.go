package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Commit implements [ledger.Engine]. If the connection breaks, it tries once more on
// another one. The first transaction may have been committed: the events' ids and the
// leases tell.
func (s *engine) Commit(ctx context.Context, ops []*ledger.Op, claim *ledger.Claim) error {
	if claim != nil && claim.Made {
		claim = nil
	}
	first, cancel := context.WithTimeout(ctx, s.config.CommitTimeout*2/5) // if the server is silent
	err := s.commit(first, ops, claim)
	cancel()
	if err != nil && !isLockError(err) && !isDataError(err) && isConnError(err) {
		s.reset()
		if claim != nil && claim.Made {
			claim = nil
		}
		err = s.commit(ctx, ops, claim)
	}
	s.works.Store(err == nil || isLockError(err) || isDataError(err))
	return classify(err)
}

// commit does the operations on the committer's connection.
func (s *engine) commit(ctx context.Context, ops []*ledger.Op, claim *ledger.Claim) (err error) {
	if err := s.connect(ctx); err != nil {
		s.drop()
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		if !isConnError(err) {
			if _, rollback := s.conn.Exec(ctx, "ROLLBACK"); rollback == nil {
				return
			}
		}
		s.drop()
		for _, op := range ops {
			op.Tried = true
		}
	}()
	waiting, err := s.transact(ctx, ops, claim)
	if err == nil && waiting && (claim == nil || len(claim.Attempts) >= claim.Max) {
		s.tell()
	}
	return err
}

// transact does operations and makes a claim in one transaction. It takes one round
// trip, or two if cases must be read. It reports whether something waits in one of the
// cases.
func (s *engine) transact(ctx context.Context, all []*ledger.Op, claim *ledger.Claim) (waiting bool, err error) {
	c := s.newClaimer(claim)
	defer func() { c.end(err) }()
	g, ops := guess(all)
	l := s.newLoad()
	l.begin()
	g.queue(&l.round)
	w := &l.round
	if len(ops) > 0 {
		l.cases(ops)
		if err := l.send(ctx, s.conn.Conn()); err != nil {
			return false, err
		}
		if err := l.findLocked(ctx, s.conn.Conn(), ops); err != nil {
			return false, err
		}
		w = s.newRound()
	}
	var quarantined []*ledger.Event
	for _, op := range ops {
		op.Err, op.Known = nil, false
		switch {
		case op.Probe:
			w.probe()
		case op.Quarantine != nil:
			if !l.known[op.Quarantine.ID] {
				quarantined = append(quarantined, op.Quarantine)
			}
		case op.New != nil && l.known[op.New.ID]:
			op.Known = true
		case l.locked[op.TransactionID]:
			op.Err = ledger.ErrLocked
		case l.found[op.TransactionID] != nil:
			op.Apply(l.found[op.TransactionID])
		default: // the case was purged: there is nothing in it to settle
			op.Apply(ledger.NewCase(op.TransactionID, ledger.Row{}))
		}
	}
	w.write(l.found, quarantined)
	c.queue(w)
	w.commit()
	if err := w.send(ctx, s.conn.Conn()); err != nil {
		return false, err
	}
	waiting = g.end()
	for _, k := range l.found {
		waiting = waiting || k.Waits()
	}
	return waiting, nil
}

// round is a round trip: statements, and functions that read their results.
type round struct {
	s     *engine
	batch pgx.Batch
	reads []func(pgx.BatchResults) error
}

func (s *engine) newRound() *round { return &round{s: s} }

// exec adds a statement without results.
func (r *round) exec(sql string, args ...any) {
	r.batch.Queue(sql, args...)
	r.reads = append(r.reads, func(results pgx.BatchResults) error {
		_, err := results.Exec()
		return err
	})
}

// query adds a statement with results.
func (r *round) query(read func(pgx.Rows) error, sql string, args ...any) {
	r.batch.Queue(sql, args...)
	r.reads = append(r.reads, func(results pgx.BatchResults) error {
		rows, err := results.Query()
		if err != nil {
			return err
		}
		return read(rows)
	})
}

// begin begins a transaction of the committer.
func (r *round) begin() {
	r.exec(begin)
	if r.s.config.PollOnly {
		r.exec(r.s.sql.settings, millis(commitLockTimeout), millis(r.s.config.CommitTimeout))
	}
}

// commit ends a transaction.
func (r *round) commit() {
	r.batch.Queue("COMMIT")
	r.reads = append(r.reads, func(results pgx.BatchResults) error {
		tag, err := results.Exec()
		if err == nil && tag.String() != "COMMIT" {
			err = fmt.Errorf("the transaction was aborted: the answer to COMMIT is %s", tag)
		}
		return err
	})
}

// sender is a connection or a transaction.
type sender interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

// send sends the statements and reads the results.
func (r *round) send(ctx context.Context, to sender) (err error) {
	results := to.SendBatch(ctx, &r.batch)
	defer func() {
		if closed := results.Close(); err == nil {
			err = closed
		}
	}()
	for _, read := range r.reads {
		if err := read(results); err != nil {
			return err
		}
	}
	return nil
}

// ids returns the transactions of operations, sorted, each once.
func ids(ops []*ledger.Op, which func(*ledger.Op) bool) []string {
	ids := make([]string, 0, len(ops))
	for _, op := range ops {
		if op.TransactionID != "" && which(op) {
			ids = append(ids, op.TransactionID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func all(*ledger.Op) bool { return true }
