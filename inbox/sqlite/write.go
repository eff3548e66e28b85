package sqlite

import (
	"context"
	"maps"
	"slices"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	sqlLastCase     = `SELECT coalesce((SELECT max(id) FROM cases), 0)`
	sqlInsertCases  = "INSERT OR ROLLBACK INTO cases (id, transaction_id, next_seq, pending, head, updated_at, open, status_seq, value, opened_at, ended_at, event_at, remind_at, run_at) VALUES "
	sqlCaseRow      = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	sqlInsertEvents = "INSERT OR ROLLBACK INTO events (id, case_id, transaction_id, external_id, external_digest, status, value, raw, digest, seq, state, received_at, metadata, standing) VALUES "
	sqlEventRow     = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

	// Unless the case is new, most ids are there already.
	sqlInsertIDs = "INSERT OR IGNORE INTO ids (case_id, external_key, e2e_key) VALUES "
	sqlIDRow     = "(?, ?, ?)"

	// The time of the first reminder after a given time. When the case opened, and the
	// given time, go between these three.
	plannedOf    = `(SELECT min(p.at) FROM (SELECT `
	plannedAfter = ` + s.defence - b.value AS at FROM settings s, json_each(s.reminders) b WHERE s.one = 1) p WHERE p.at > coalesce(`
	plannedEnd   = `, -1))`

	// ?3 says what event_at becomes: 0 leaves it, 1 makes it NULL, 2 makes it ?4. ?6 is
	// set when the case is released.
	sqlUpdateCase = `
UPDATE cases SET next_seq = ?2, pending = ?8, head = ?9, updated_at = ?5, dead = dead + ?7, held = CASE WHEN ?6 THEN 0 ELSE held END, running = CASE WHEN ?6 THEN 0 ELSE running END,
	event_at = CASE ?3 WHEN 0 THEN event_at WHEN 1 THEN NULL ELSE ?4 END,
	run_at = CASE WHEN held AND NOT ?6 THEN run_at ELSE ` + lesserOf + `CASE ?3 WHEN 0 THEN event_at WHEN 1 THEN NULL ELSE ?4 END` + lesserAnd + `remind_at` + lesserEnd + ` END
WHERE id = ?1`
	// The earlier of two times, which may be NULL and go between these three.
	lesserOf  = `(SELECT min(at) FROM (SELECT `
	lesserAnd = ` AS at UNION ALL SELECT `
	lesserEnd = `))`

	// It leaves run_at to sqlUpdateCase, which follows.
	sqlUpdateSummary = `
UPDATE cases SET open = ?2, status_seq = ?3, value = ?4, opened_at = ?5, answered_at = ?6, answered_by = ?7, ended_at = ?8, ended_by = ?9,
	reminded_at = ?10, tried_at = ?11, remind_failures = ?12, given_up = ?13,
	remind_at = CASE ?14 WHEN 0 THEN remind_at WHEN 2 THEN ` + plannedOf + `?5` + plannedAfter + `?10` + plannedEnd + `
		WHEN 3 THEN min(?15, coalesce(` + plannedOf + `?5` + plannedAfter + `?11` + plannedEnd + `, ?15)) END
WHERE id = ?1`
	sqlNote        = `INSERT INTO notes (transaction_id, event_id, at, action, by, note) VALUES (nullif(?1, ''), nullif(?2, ''), ?3, ?4, ?5, ?6)`
	sqlUpdateEvent = `
UPDATE events SET case_id = ?2, transaction_id = ?3, external_id = ?4, external_digest = ?5, status = ?6, value = ?7, seq = ?8, state = ?9, attempts = ?10,
	failures = ?11, discarded = ?12, last_error = ?13, done_at = CASE WHEN ?9 = 'done' THEN coalesce(done_at, ?14) END, standing = ?15
WHERE id = ?1`
	sqlQuarantine = `
INSERT INTO events (id, external_id, external_digest, status, value, raw, digest, state, last_error, received_at, last_at, metadata)
VALUES (?1, '', 0, '', 0, ?2, ?3, 'quarantined', ?4, ?5, ?5, ?6)
ON CONFLICT (digest) WHERE transaction_id IS NULL DO UPDATE SET
	deliveries = deliveries + 1, last_at = max(last_at, excluded.last_at), last_error = excluded.last_error`
	sqlTrim = `
DELETE FROM events WHERE case_id = ?1 AND seq >= ?2 AND seq < ?3 AND state = 'done' AND EXISTS (
	SELECT 1 FROM events l WHERE l.case_id = events.case_id AND l.external_digest = events.external_digest AND l.external_id = events.external_id AND l.seq > events.seq)`
)

// flush writes what changed.
func (l *load) flush(quarantined []*ledger.Event) error {
	stmts := &l.engine.stmts
	var lastCase int64
	if err := l.row(stmts.lastCase).Scan(&lastCase); err != nil {
		return err
	}
	var events, cases, entered []any
	written := make(map[string]bool) // new cases that need nothing more
	for _, id := range slices.Sorted(maps.Keys(l.cases)) {
		ch := l.cases[id].Changes()
		if ch.Deleted {
			if err := l.delete(id, l.ids[id]); err != nil {
				return err
			}
			continue
		}
		if l.ids[id] == 0 && ch.RowChanged {
			lastCase++
			l.ids[id] = lastCase
			at, remindAt := l.now+ch.Delay.Microseconds(), l.engine.firstReminder(&ch.Summary)
			runAt := at
			if remindAt != nil {
				runAt = min(runAt, *remindAt)
			}
			cases = append(cases, lastCase, id, ch.NextSeq, ch.Pending, ch.Head, l.now, ch.Summary.Open, ch.Summary.StatusSeq, ch.Summary.Value,
				toNull(ch.Summary.OpenedAt), toNull(ch.Summary.EndedAt), at, remindAt, runAt)
			if ch.OnlyAccepted() {
				written[id] = true
			}
		}
		for _, e := range ch.Added {
			events = append(events, e.ID, l.ids[id], id, e.ExternalID, ledger.ExternalDigest(e.ExternalID), e.Status, e.Value,
				nonNil(e.Raw), e.Digest, e.Seq, string(e.State), e.ReceivedAt.UnixMicro(), e.Metadata, int(e.Standing))
		}
		for _, e := range ch.Entered {
			entered = append(entered, l.ids[id], ledger.Key(e.ExternalID), ledger.Key(e.EndToEndID))
		}
		for _, e := range ch.Changed {
			if err := l.exec(stmts.updateEvent, e.ID, l.ids[id], id, e.ExternalID, ledger.ExternalDigest(e.ExternalID), e.Status, e.Value, e.Seq,
				string(e.State), e.Attempts, e.Failures, e.Discarded, e.LastError, l.now, int(e.Standing)); err != nil {
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
	if err := l.insert(&stmts.insertIDs, entered); err != nil {
		return err
	}
	for id, c := range l.cases {
		if written[id] {
			continue
		}
		if err := l.flushCase(l.ids[id], c.Changes()); err != nil {
			return err
		}
	}
	for _, e := range quarantined {
		if err := l.exec(stmts.quarantine, e.ID, nonNil(e.Raw), e.Digest, e.LastError, e.ReceivedAt.UnixMicro(), e.Metadata); err != nil {
			return err
		}
	}
	for id, c := range l.cases {
		if ch := c.Changes(); ch.TrimTo > 0 && !ch.Deleted {
			if err := l.exec(stmts.trim, l.ids[id], ch.TrimFrom, ch.TrimTo); err != nil {
				return err
			}
		}
	}
	return nil
}

// firstReminder returns when the first reminder of a new case is called, nil for
// never.
func (s *engine) firstReminder(c *ledger.Summary) *int64 {
	if !c.Open || len(s.defence.Before) == 0 {
		return nil
	}
	at := c.OpenedAt.Add(s.defence.Window - s.defence.Before[0]).UnixMicro()
	return &at
}

// flushCase writes what changed of a case's row, and notes.
func (l *load) flushCase(number int64, ch *ledger.Changes) error {
	if !ch.RowChanged || ch.Deleted {
		return nil
	}
	stmts := &l.engine.stmts
	if s := &ch.Summary; ch.SummaryChanged {
		if err := l.exec(stmts.updateSummary, number, s.Open, s.StatusSeq, s.Value, toNull(s.OpenedAt), toNull(s.AnsweredAt), s.AnsweredBy,
			toNull(s.EndedAt), s.EndedBy, toNull(s.RemindedAt), toNull(s.TriedAt), s.Failures, s.GivenUp, int(ch.Remind), l.now+ch.RemindDelay.Microseconds()); err != nil {
			return err
		}
	}
	if err := l.exec(stmts.updateCase, number, ch.NextSeq, int(ch.Due), l.now+ch.Delay.Microseconds(), l.now, ch.Released, ch.Dead, ch.Pending, ch.Head); err != nil {
		return err
	}
	for _, n := range ch.Notes {
		if err := l.note(n); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) note(n ledger.Note) error {
	return t.exec(t.engine.stmts.note, n.TransactionID, n.EventID, t.now, n.Action, n.By, n.Text)
}

// delete deletes a case.
func (t *txn) delete(id string, number int64) error {
	for _, d := range []struct {
		query string
		arg   any
	}{
		{"DELETE FROM events WHERE case_id = ?", number},
		{"DELETE FROM notes WHERE transaction_id = ?", id},
		{"DELETE FROM ids WHERE case_id = ?", number},
		{"DELETE FROM cases WHERE id = ?", number},
	} {
		if _, err := t.tx.ExecContext(context.Background(), d.query, d.arg); err != nil {
			return err
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
