package sqlite

import (
	"maps"
	"slices"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	sqlLastCase     = `SELECT coalesce((SELECT max(id) FROM cases), 0)`
	sqlInsertCases  = "INSERT OR ROLLBACK INTO cases (id, transaction_id, next_seq, run_at, updated_at) VALUES "
	sqlCaseRow      = "(?, ?, ?, ?, ?)"
	sqlInsertEvents = "INSERT OR ROLLBACK INTO events (id, case_id, transaction_id, external_id, external_digest, status, value, raw, digest, seq, state, received_at, metadata) VALUES "
	sqlEventRow     = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

	// ?3 is what becomes of run_at: 0 nothing, 1 there is none, 2 it is ?4.
	sqlUpdateCase = `
UPDATE cases SET next_seq = ?2, updated_at = ?5, held = CASE ?3 WHEN 0 THEN held ELSE 0 END, running = CASE ?3 WHEN 0 THEN running ELSE 0 END,
	run_at = CASE ?3 WHEN 0 THEN run_at WHEN 1 THEN NULL ELSE ?4 END
WHERE id = ?1`
	sqlUpdateEvent = `
UPDATE events SET case_id = ?2, transaction_id = ?3, external_id = ?4, external_digest = ?5, status = ?6, value = ?7, seq = ?8, state = ?9, attempts = ?10,
	failures = ?11, discarded = ?12, last_error = ?13, done_at = CASE WHEN ?9 = 'done' THEN ?14 END
WHERE id = ?1`
	sqlQuarantine = `
INSERT INTO events (id, external_id, external_digest, status, value, raw, digest, state, last_error, received_at, last_at, metadata)
VALUES (?1, '', 0, '', 0, ?2, ?3, 'quarantined', ?4, ?5, ?5, ?6)
ON CONFLICT (digest) WHERE state = 'quarantined' DO UPDATE SET
	deliveries = deliveries + 1, last_at = max(last_at, excluded.last_at), last_error = excluded.last_error`
	sqlTrim = `
DELETE FROM events WHERE case_id = ?1 AND seq >= ?2 AND seq < ?3 AND state = 'done' AND EXISTS (
	SELECT 1 FROM events l WHERE l.case_id = events.case_id AND l.external_digest = events.external_digest AND l.external_id = events.external_id AND l.seq > events.seq)`
)

// flush writes what changed.
func (l *load) flush(quarantined []*ledger.Event) error {
	stmts := &l.store.stmts
	var lastCase int64
	if err := l.row(stmts.lastCase).Scan(&lastCase); err != nil {
		return err
	}
	var events, cases []any
	for _, id := range slices.Sorted(maps.Keys(l.cases)) {
		ch := l.cases[id].Changes()
		at := l.now + ch.Delay.Microseconds()
		switch number := l.ids[id]; {
		case !ch.RowChanged:
		case number == 0:
			lastCase++
			l.ids[id] = lastCase
			cases = append(cases, lastCase, id, ch.NextSeq, at, l.now)
		default:
			if err := l.exec(stmts.updateCase, number, ch.NextSeq, int(ch.Due), at, l.now); err != nil {
				return err
			}
		}
		for _, e := range ch.Added {
			events = append(events, e.ID, l.ids[id], id, e.ExternalID, ledger.ExternalDigest(e.ExternalID), e.Status, e.Value,
				nonNil(e.Raw), e.Digest, e.Seq, string(e.State), e.ReceivedAt.UnixMicro(), e.Metadata)
		}
		for _, e := range ch.Changed {
			if err := l.exec(stmts.updateEvent, e.ID, l.ids[id], id, e.ExternalID, ledger.ExternalDigest(e.ExternalID), e.Status, e.Value, e.Seq,
				string(e.State), e.Attempts, e.Failures, e.Discarded, e.LastError, l.now); err != nil {
				return err
			}
		}
	}
	if err := l.insert(&stmts.insertCases, cases); err != nil {
		return err
	}
	if err := l.insert(&stmts.insertEvents, events); err != nil {
		return err
	}
	for _, e := range quarantined {
		if err := l.exec(stmts.quarantine, e.ID, nonNil(e.Raw), e.Digest, e.LastError, e.ReceivedAt.UnixMicro(), e.Metadata); err != nil {
			return err
		}
	}
	for id, c := range l.cases {
		if ch := c.Changes(); ch.TrimTo > 0 {
			if err := l.exec(stmts.trim, l.ids[id], ch.TrimFrom, ch.TrimTo); err != nil {
				return err
			}
		}
	}
	return nil
}

// insert inserts rows.
func (t *txn) insert(b *bulk, columns []any) error {
	for i, rows := range bulkRows {
		for n := rows * b.columns; len(columns) >= n; columns = columns[n:] {
			if err := t.exec(b.stmts[i], columns[:n]...); err != nil {
				return err
			}
		}
	}
	return nil
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
