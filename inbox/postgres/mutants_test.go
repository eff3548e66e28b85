package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/modeltest"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// TestMutants takes a guard from one statement at a time: the comparison with the
// model, or what is tried with a case that somebody holds, must notice each.
func TestMutants(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]struct {
		in, old, with string
		check         func(context.Context, *pgxpool.Pool, ledger.Engine) error
	}{
		"a claim takes what is not due":                 {"WITH due AS", "run_at <= statement_timestamp() AND", "run_at IS NOT NULL AND", compared},
		"a claim forgets what ran":                      {"WITH due AS", "WHEN c.held THEN c.running", "", compared},
		"a claim runs reminders that are not due":       {"WITH due AS", "c.remind_at <= statement_timestamp() AND", "c.remind_at IS NOT NULL AND", compared},
		"a claim takes reminders before events":         {"WITH due AS", "AND coalesce(c.event_at > statement_timestamp(), true)", "", compared},
		"a claim holds nothing":                         {"WITH due AS", "held = true", "held = c.held", compared},
		"a claim draws no lease":                        {"WITH due AS", "SET lease = $1", "SET lease = $1::bigint - 1", compared},
		"the last event runs first":                     {"WITH due AS", "ELSE c.head END", "ELSE c.next_seq - 1 END", compared},
		"a lost attempt is run":                         {"WITH due AS", "due.held, c.opened_at", "false, c.opened_at", compared},
		"an attempt is said to be alone":                {"c.pending = 1, p.status", "c.pending = 1", "true", compared},
		"what is pending counts as done before":         {"c.pending = 1, p.status", "AND p.state = 'done' AND p.id <> e.id AND", "AND", compared},
		"any status was seen":                           {"c.pending = 1, p.status", "AND s.status = e.status", "", compared},
		"an attempt that was overtaken is settled":      {"(transaction_id, lease, seq", "AND c.lease = u.lease", "", compared},
		"an attempt is settled twice":                   {"(transaction_id, lease, seq", "c.held AND", "", compared},
		"a settlement forgets what came meanwhile":      {"(transaction_id, lease, seq", "AND c.pending = 1", "", compared},
		"a settlement holds the case":                   {"(transaction_id, lease, seq", "held = false,", "", compared},
		"a settlement forgets the reminder":             {"(transaction_id, lease, seq", "least(m.at, c.remind_at)", "m.at", compared},
		"a settlement does not count the dead":          {"(transaction_id, lease, seq", "c.dead + m.dead", "c.dead", compared},
		"a settlement waits for who holds the case":     {"(transaction_id, lease, seq", "SKIP LOCKED", "", held},
		"what is settled stays held":                    {"WITH added AS", "c.held AND NOT u.released, running", "c.held, running", compared},
		"what is settled stays named":                   {"WITH added AS", "CASE WHEN u.released THEN 0 ELSE c.running END", "c.running", compared},
		"what is held becomes due":                      {"WITH added AS", "CASE WHEN c.held AND NOT u.released THEN c.run_at ELSE", "CASE WHEN false THEN c.run_at ELSE", compared},
		"a retry is due at once":                        {"WITH added AS", "+ delay * interval '1 microsecond'", "", compared},
		"a retry is forgotten":                          {"WITH added AS", "event_at = CASE u.due WHEN 0 THEN c.event_at WHEN 2", "event_at = CASE u.due WHEN 2", compared},
		"reminders are forgotten":                       {"WITH added AS", ", c.remind_at) AS at", ", NULL) AS at", compared},
		"the dead are not counted":                      {"WITH added AS", "c.dead + u.dead", "c.dead", compared},
		"what is pending is not read":                   {"UNION ALL SELECT l.*", "e.state = 'pending'", "e.state = 'dead'", compared},
		"a summary forgets the reminder":                {"SET open = u.open", "WHEN 0 THEN c.remind_at", "WHEN 0 THEN NULL", compared},
		"a case that somebody holds is changed":         {"WHERE transaction_id = ANY", "FOR NO KEY UPDATE SKIP LOCKED", "", held},
		"all wait for a case that somebody holds":       {"WHERE transaction_id = ANY", "SKIP LOCKED", "", held},
		"a claim waits for a case that somebody holds":  {"WITH due AS", "SKIP LOCKED", "", held},
		"a claim takes a case that somebody claims too": {"WITH due AS", "FOR NO KEY UPDATE SKIP LOCKED", "", held},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mutant := &mutator{in: m.in, old: m.old, with: m.with}
			s := enginetest.Postgres(t)
			engine, err := postgres.OpenEngine(t.Context(), newPool(t, s, func(c *pgxpool.Config) { c.ConnConfig.Tracer = mutant }))
			if err != nil {
				t.Fatal(err)
			}
			err = m.check(t.Context(), s.Pool(t), engine)
			if closed := engine.Close(); closed != nil {
				t.Error(closed)
			}
			switch {
			case !mutant.found.Load():
				t.Errorf("no statement has %q", m.old)
			case err == nil:
				t.Error("nobody has noticed")
			default:
				t.Logf("noticed: %.300v", err)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		pool := enginetest.Postgres(t).Pool(t)
		engine, err := postgres.OpenEngine(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		if err := held(t.Context(), pool, engine); err != nil {
			t.Error(err)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
}

// mutator is a tracer that changes a part of statements that are sent in batches.
type mutator struct {
	in, old, with string
	found         atomic.Bool
}

func (m *mutator) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (m *mutator) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (m *mutator) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		text := strings.Join(strings.Fields(q.SQL), " ")
		if strings.Contains(text, m.in) && strings.Contains(text, m.old) {
			q.SQL = strings.ReplaceAll(text, m.old, m.with)
			m.found.Store(true)
		}
	}
	return ctx
}

func (m *mutator) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (m *mutator) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// compared compares an engine with the model, until they differ.
func compared(ctx context.Context, pool *pgxpool.Pool, engine ledger.Engine) error {
	for seed := range uint64(20) {
		if _, err := pool.Exec(ctx, "TRUNCATE pixmed_inbox.cases, pixmed_inbox.events, pixmed_inbox.notes, pixmed_inbox.ids"); err != nil {
			return err
		}
		if err := modeltest.Run(ctx, subject(engine, pool), seed, 60); err != nil {
			return err
		}
	}
	return nil
}

// held locks a case that is due: neither a claim nor an accept may touch it, or wait
// for it. Nor may a settlement of a case that is locked.
func held(ctx context.Context, pool *pgxpool.Pool, engine ledger.Engine) error {
	accept := func(transaction string) *ledger.Op {
		external := "x"
		e := &ledger.Event{ID: uuid.NewString(), ExternalID: external, Status: uuid.NewString(), Raw: []byte("{}"), ReceivedAt: time.Now()}
		return &ledger.Op{TransactionID: transaction, ExternalID: &external, New: e, Apply: func(c *ledger.Case) { c.Accept(e) }}
	}
	ctx, cancel := context.WithTimeout(ctx, enginetest.Patience)
	defer cancel()
	theirs, ours := uuid.NewString(), uuid.NewString()
	running := &ledger.Claim{Max: 1, Lease: time.Minute}
	if err := engine.Commit(ctx, []*ledger.Op{accept(uuid.NewString())}, running); err != nil || len(running.Attempts) != 1 {
		return fmt.Errorf("%d attempts: %w", len(running.Attempts), err)
	}
	if err := engine.Commit(ctx, []*ledger.Op{accept(theirs)}, nil); err != nil {
		return err
	}
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, "SELECT FROM pixmed_inbox.cases FOR NO KEY UPDATE"); err != nil {
		return err
	}
	claim := &ledger.Claim{Max: 10, Lease: time.Minute}
	if err := engine.Commit(ctx, nil, claim); err != nil {
		return fmt.Errorf("a claim: %w", err)
	}
	if len(claim.Attempts) > 0 {
		return errors.New("what somebody holds was claimed")
	}
	ops := []*ledger.Op{accept(theirs), accept(ours)}
	if err := engine.Commit(ctx, ops, nil); err != nil {
		return fmt.Errorf("accepts: %w", err)
	}
	if !errors.Is(ops[0].Err, ledger.ErrLocked) || ops[1].Err != nil {
		return fmt.Errorf("an accept of what somebody holds: %w, and of another case: %w", ops[0].Err, ops[1].Err)
	}
	a := running.Attempts[0]
	settle := &ledger.Op{
		TransactionID: a.TransactionID, Guess: a.Claimed,
		Apply: func(c *ledger.Case) { c.Settle(a.Lease, a.ID, ledger.Outcome{Done: true}) },
	}
	if err := engine.Commit(ctx, []*ledger.Op{settle}, nil); err != nil || !settle.Wrong {
		return fmt.Errorf("a settlement of what somebody holds: %w, guessed wrong: %t", err, settle.Wrong)
	}
	return nil
}
