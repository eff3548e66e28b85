package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// lockTimeout is how long a transaction waits for a case that another one holds,
// and shortLockTimeout how long it does when it is known that somebody holds one.
const (
	lockTimeout      = 2 * time.Second
	shortLockTimeout = 50 * time.Millisecond
)

// Commit implements [ledger.Store].
func (s *store) Commit(ctx context.Context, ops []*ledger.Op) error {
	var again bool
	return ledger.Isolate(ops, isDataError, func(ops []*ledger.Op) error {
		err := s.try(ctx, ops, lockTimeout, &again)
		if isLockError(err) {
			return s.commitUnlocked(ctx, ops, &again, err)
		}
		return err
	})
}

// try commits, and tries once more if the connection was lost: it was stale, or the
// outcome of the commit is not known. again remembers that; the events' ids tell.
func (s *store) try(ctx context.Context, ops []*ledger.Op, wait time.Duration, again *bool) error {
	err := s.commit(ctx, ops, wait, *again)
	if err == nil || isDataError(err) || isLockError(err) {
		return err
	}
	*again = true
	err = s.commit(ctx, ops, wait, true)
	if err == nil || isDataError(err) || isLockError(err) {
		return err
	}
	return fmt.Errorf("%w: the database fails: %w", ledger.ErrBusy, err)
}

// commitUnlocked leaves out the cases that others hold.
func (s *store) commitUnlocked(ctx context.Context, ops []*ledger.Op, again *bool, cause error) error {
	locked, err := s.locked(ctx, ids(ops))
	if err != nil {
		return fmt.Errorf("%w: %w", ledger.ErrBusy, errors.Join(cause, err))
	}
	var free []*ledger.Op
	for _, op := range ops {
		if slices.Contains(locked, op.TransactionID) {
			op.Err = fmt.Errorf("%w: somebody else holds the case of transaction %s: %w", ledger.ErrBusy, op.TransactionID, cause)
			continue
		}
		free = append(free, op)
	}
	if len(free) == 0 {
		return nil
	}
	if err := s.try(ctx, free, shortLockTimeout, again); !isLockError(err) {
		return err
	}
	// A case that somebody has made and not committed cannot be seen.
	for _, op := range free {
		if err := s.try(ctx, []*ledger.Op{op}, shortLockTimeout, again); err != nil {
			op.Err = err
			if isLockError(err) {
				op.Err = fmt.Errorf("%w: %w", ledger.ErrBusy, err)
			}
		}
	}
	return nil
}

// locked returns those of the cases that somebody holds.
func (s *store) locked(ctx context.Context, ids []string) ([]string, error) {
	rows, _ := s.pool.Query(ctx, `
SELECT transaction_id::text FROM `+s.sql.schema+`.cases WHERE transaction_id = ANY ($1::text[]::uuid[])
EXCEPT
SELECT transaction_id::text FROM (
	SELECT transaction_id FROM `+s.sql.schema+`.cases WHERE transaction_id = ANY ($1::text[]::uuid[]) FOR NO KEY UPDATE SKIP LOCKED) f`, ids)
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// isLockError reports whether somebody else holds what is needed.
func isLockError(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "55P03" || e.Code == "40P01" || e.Code == "40001")
}

// isDataError reports whether the database refuses what it was given, and works.
func isDataError(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || len(e.Code) < 2 {
		return false
	}
	class := e.Code[:2]
	return class == "22" || class == "23" || class == "54"
}

// commit does the operations in one transaction on the committer's connection.
// again says that the transaction may have been committed before.
func (s *store) commit(ctx context.Context, ops []*ledger.Op, wait time.Duration, again bool) (err error) {
	if s.conn == nil {
		if s.conn, err = s.pool.Acquire(ctx); err != nil {
			return err
		}
	}
	conn := s.conn.Conn()
	defer func() {
		if err == nil {
			return
		}
		if isDataError(err) || isLockError(err) {
			if _, rollback := conn.Exec(ctx, "ROLLBACK"); rollback == nil {
				return
			}
		}
		// Whatever else it is, another connection may lead to a server that works.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // so that the pool forgets it
		s.conn.Release()
		s.conn = nil
	}()

	l := s.newLoad()
	l.batch.BeginTx(txOptions)
	l.reads = append(l.reads, nil)
	l.settings(wait)
	l.cases(ops)
	if again {
		l.known(ops)
	}
	for _, op := range ops {
		l.needs(op)
	}
	results := conn.SendBatch(ctx, &l.batch)
	if err := l.read(results); err != nil {
		return err
	}
	var quarantined []*ledger.Event
	for _, op := range ops {
		op.Err = nil
		switch {
		case op.Quarantine != nil:
			if !l.isKnown[op.Quarantine.ID] {
				quarantined = append(quarantined, op.Quarantine)
			}
		case op.New != nil && l.isKnown[op.New.ID]:
		default:
			op.Apply(l.found[op.TransactionID])
		}
	}
	woken, err := s.flush(ctx, results.Tx(), l.found, quarantined)
	if err == nil && woken {
		s.Wake()
	}
	return err
}

// ids returns the transactions of operations, sorted, each once.
func ids(ops []*ledger.Op) []string {
	ids := make([]string, 0, len(ops))
	for _, op := range ops {
		if op.TransactionID != "" {
			ids = append(ids, op.TransactionID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// load reads what operations need, in one round trip.
type load struct {
	s       *store
	batch   pgx.Batch
	reads   []func(pgx.Rows) error
	found   map[string]*ledger.Case
	isKnown map[string]bool
}

func (s *store) newLoad() *load {
	return &load{s: s, found: make(map[string]*ledger.Case), isKnown: make(map[string]bool)}
}

func (l *load) queue(sql string, read func(pgx.Rows) error, args ...any) {
	l.batch.Queue(sql, args...)
	l.reads = append(l.reads, read)
}

func (l *load) settings(wait time.Duration) {
	l.queue(l.s.sql.settings, nil, strconv.FormatInt(wait.Milliseconds(), 10))
}

// cases locks the cases first; what they hold is read by a statement behind it,
// which sees what was committed while the lock was waited for.
func (l *load) cases(ops []*ledger.Op) {
	ids := ids(ops)
	if len(ids) == 0 {
		return
	}
	lastOf, externalIDs := []string{}, [][]byte{}
	for _, op := range ops {
		if op.ExternalID != nil {
			lastOf, externalIDs = append(lastOf, op.TransactionID), append(externalIDs, []byte(*op.ExternalID))
		}
	}
	l.queue(l.s.sql.lockCases, func(rows pgx.Rows) error {
		var id, liveEvent string
		var nextSeq, liveJob int64
		_, err := pgx.ForEachRow(rows, []any{&id, &nextSeq, &liveJob, &liveEvent}, func() error {
			l.found[id] = ledger.NewCase(id, nextSeq, liveJob, liveEvent)
			return nil
		})
		return err
	}, ids)
	l.queue(l.s.sql.events, l.addEvents, ids, lastOf, externalIDs)
}

// addEvents adds events to their cases.
func (l *load) addEvents(rows pgx.Rows) error {
	events, err := scanEvents(rows)
	for _, e := range events {
		if c := l.found[e.TransactionID]; c != nil {
			c.Add(e)
		}
	}
	return err
}

func (l *load) known(ops []*ledger.Op) {
	var ids []string
	for _, op := range ops {
		for _, e := range []*ledger.Event{op.New, op.Quarantine} {
			if e != nil {
				ids = append(ids, e.ID)
			}
		}
	}
	l.queue(l.s.sql.known, func(rows pgx.Rows) error {
		known, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range known {
			l.isKnown[id] = true
		}
		return err
	}, ids)
}

// needs reads what an operation needs beside that.
func (l *load) needs(op *ledger.Op) {
	if op.All {
		l.queue(l.s.sql.all, l.addEvents, op.TransactionID)
	}
	if op.Event != "" {
		l.queue(l.s.sql.byID, func(rows pgx.Rows) error {
			events, err := scanEvents(rows)
			for _, e := range events {
				l.found[op.TransactionID].Add(e)
			}
			return err
		}, op.Event)
	}
	if op.Job {
		l.queue(l.s.sql.job, func(rows pgx.Rows) error {
			job, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
			l.found[op.TransactionID].SetJob(ledger.Job(job))
			return err
		}, op.Overdue.Microseconds(), op.TransactionID)
	}
}

// read reads the results of what was queued.
func (l *load) read(results pgx.BatchResults) (err error) {
	defer func() { err = errors.Join(err, results.Close()) }()
	for _, read := range l.reads {
		if read == nil {
			_, err = results.Exec()
		} else {
			var rows pgx.Rows
			if rows, err = results.Query(); err == nil {
				err = read(rows)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// flush writes what changed, and commits.
func (s *store) flush(ctx context.Context, tx pgx.Tx, cases map[string]*ledger.Case, added []*ledger.Event) (woken bool, err error) {
	var issues []*ledger.Issue
	var changed []*ledger.Event
	for _, c := range cases {
		ch := c.Changes()
		added = append(added, ch.Added...)
		changed = append(changed, ch.Changed...)
		if ch.Issue != nil {
			issues = append(issues, ch.Issue)
		}
	}
	jobs := map[string]int64{}
	if len(issues) > 0 {
		if jobs, err = s.Insert(ctx, tx, issues); err != nil {
			return false, err
		}
	}
	rows := newRows(added)
	for id, c := range cases {
		ch := c.Changes()
		if !ch.RowChanged {
			continue
		}
		if ch.Issue != nil {
			ch.LiveJob = jobs[ch.Issue.Event]
		}
		rows.ids, rows.nextSeqs = append(rows.ids, id), append(rows.nextSeqs, ch.NextSeq)
		rows.liveJobs, rows.liveEvents = append(rows.liveJobs, ch.LiveJob), append(rows.liveEvents, ch.LiveEvent)
	}

	var batch pgx.Batch
	for _, e := range changed {
		batch.Queue(s.sql.updateEvent, e.ID, e.TransactionID, []byte(e.ExternalID), []byte(e.Status), e.Seq, string(e.State),
			e.Attempts, e.Failures, e.Discarded, e.LastError)
	}
	if len(rows.ids) > 0 || len(added) > 0 {
		batch.Queue(s.sql.write, rows.arguments()...)
	}
	batch.Queue("COMMIT")
	results := tx.SendBatch(ctx, &batch)
	defer func() { err = errors.Join(err, results.Close()) }()
	for range batch.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			return false, err
		}
	}
	tag, err := results.Exec()
	if err != nil {
		return false, err
	}
	if tag.String() != "COMMIT" {
		return false, fmt.Errorf("the transaction was aborted: the answer to COMMIT is %s", tag)
	}
	return len(issues) > 0, nil
}

// rows are the columns of the cases to update and of the events to insert.
type rows struct {
	ids                []string
	nextSeqs, liveJobs []int64
	liveEvents         []string

	events, transactions, states, lastErrors []string
	externals, statuses, raws, metadata      [][]byte
	seqs                                     []int64
	receivedAt                               []time.Time
}

func newRows(events []*ledger.Event) *rows {
	n := len(events)
	r := &rows{
		ids: []string{}, nextSeqs: []int64{}, liveJobs: []int64{}, liveEvents: []string{}, // not NULL
		events: make([]string, n), transactions: make([]string, n), states: make([]string, n), lastErrors: make([]string, n),
		externals: make([][]byte, n), statuses: make([][]byte, n), raws: make([][]byte, n), metadata: make([][]byte, n),
		seqs: make([]int64, n), receivedAt: make([]time.Time, n),
	}
	for i, e := range events {
		r.events[i], r.transactions[i], r.states[i], r.lastErrors[i] = e.ID, e.TransactionID, string(e.State), e.LastError
		r.externals[i], r.statuses[i], r.raws[i], r.metadata[i] = []byte(e.ExternalID), []byte(e.Status), e.Raw, e.Metadata
		r.seqs[i], r.receivedAt[i] = e.Seq, e.ReceivedAt
		if r.raws[i] == nil {
			r.raws[i] = []byte{}
		}
	}
	return r
}

func (r *rows) arguments() []any {
	return []any{
		r.ids, r.nextSeqs, r.liveJobs, r.liveEvents,
		r.events, r.transactions, r.externals, r.statuses, r.raws, r.seqs, r.states, r.lastErrors, r.receivedAt, r.metadata,
	}
}

func scanEvents(rows pgx.Rows) ([]*ledger.Event, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*ledger.Event, error) {
		e := new(ledger.Event)
		return e, scanEvent(row, e)
	})
}

func scanEvent(row pgx.Row, e *ledger.Event, more ...any) error {
	var externalID, status []byte
	var doneAt *time.Time
	err := row.Scan(append([]any{
		&e.ID, &e.TransactionID, &externalID, &status, &e.Seq, (*string)(&e.State), &e.Attempts, &e.Failures,
		&e.Discarded, &e.LastError, &e.ReceivedAt, &doneAt, &e.Metadata, &e.Raw,
	}, more...)...)
	e.ExternalID, e.Status, e.ReceivedAt = string(externalID), string(status), e.ReceivedAt.UTC()
	if doneAt != nil {
		e.DoneAt = doneAt.UTC()
	}
	return err
}

// Attempt implements [ledger.Store].
func (s *store) Attempt(ctx context.Context, job int64, event string) (*ledger.Attempt, error) {
	a := new(ledger.Attempt)
	var previous []byte
	var seenAt *time.Time
	err := scanEvent(s.pool.QueryRow(ctx, s.sql.attempt, event, job), &a.Event, &previous, &seenAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ledger.ErrNone
	}
	a.Previous = string(previous)
	if seenAt != nil {
		a.SeenAt = seenAt.UTC()
	}
	return a, err
}

// Broken implements [ledger.Store].
func (s *store) Broken(ctx context.Context, overdue time.Duration) ([]string, error) {
	rows, _ := s.pool.Query(ctx, s.sql.broken, overdue.Microseconds())
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Event implements [ledger.Store].
func (s *store) Event(ctx context.Context, id string) (*ledger.Event, error) {
	e := new(ledger.Event)
	err := scanEvent(s.pool.QueryRow(ctx, s.sql.event, id), e)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ledger.ErrNone
	}
	return e, err
}

// List implements [ledger.Store].
func (s *store) List(ctx context.Context, f ledger.Filter) ([]*ledger.Event, error) {
	query, args := s.sql.list, []any{}
	where := func(condition, value string) {
		if value != "" {
			args = append(args, value)
			query += fmt.Sprintf(" AND "+condition, len(args))
		}
	}
	where("e.transaction_id = $%d::text::uuid", f.TransactionID)
	where("e.id >= $%d::text::uuid", f.From)
	where("e.id < $%d::text::uuid", f.To)
	where("e.id < $%d::text::uuid", f.Before)
	if f.State == ledger.Dead || f.State == ledger.Quarantined {
		query += " AND e.state IN ('dead', 'quarantined')" // which is what the smaller index is of
	}
	where("e.state = $%d", string(f.State))
	if f.Search != "" {
		args = append(args, []byte(f.Search))
		query += fmt.Sprintf(" AND (e.external_id = $%[1]d OR position($%[1]d IN e.raw) > 0)", len(args))
	}
	args = append(args, f.Limit)
	rows, _ := s.pool.Query(ctx, fmt.Sprintf("%s ORDER BY e.id DESC LIMIT $%d", query, len(args)), args...)
	return scanEvents(rows)
}

// Cases implements [ledger.Store].
func (s *store) Cases(ctx context.Context, f ledger.CaseFilter) ([]*ledger.CaseRow, error) {
	query, args := s.sql.listCases, []any{}
	where := func(condition string, values ...any) {
		args = append(args, values...)
		query += " AND " + strings.NewReplacer("$1", fmt.Sprintf("$%d", len(args)-len(values)+1), "$2", fmt.Sprintf("$%d", len(args))).Replace(condition)
	}
	switch f.State {
	case ledger.Pending:
		where(s.sql.casePending)
	case ledger.Dead:
		where(s.sql.caseDead)
	case ledger.Done:
		where("NOT " + s.sql.casePending)
		where("NOT " + s.sql.caseDead)
	default:
	}
	if f.Search != "" {
		where(s.sql.caseSearch, f.TransactionID, []byte(f.Search))
	}
	if f.BeforeID != "" {
		where("(c.updated_at, c.transaction_id) < ($1, $2::text::uuid)", f.Before, f.BeforeID)
	}
	args = append(args, f.Limit)
	rows, _ := s.pool.Query(ctx, fmt.Sprintf("%s ORDER BY c.updated_at DESC, c.transaction_id DESC LIMIT $%d", query, len(args)), args...)
	cases, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*ledger.CaseRow, error) {
		c := new(ledger.CaseRow)
		err := row.Scan(&c.TransactionID, &c.UpdatedAt)
		c.UpdatedAt = c.UpdatedAt.UTC()
		return c, err
	})
	if err != nil || len(cases) == 0 {
		return nil, err
	}
	byID := make(map[string]*ledger.CaseRow, len(cases))
	ids := make([]string, len(cases))
	for i, c := range cases {
		ids[i], byID[c.TransactionID] = c.TransactionID, c
	}
	rows, _ = s.pool.Query(ctx, s.sql.histories, ids)
	events, err := scanEvents(rows)
	for _, e := range events {
		c := byID[e.TransactionID]
		c.Events = append(c.Events, e)
	}
	return cases, err
}

// Received implements [ledger.Store].
func (s *store) Received(ctx context.Context, span ledger.Span) ([]ledger.Count, error) {
	rows, _ := s.pool.Query(ctx, s.sql.received, span.FromID, span.ToID, span.From, span.Length.Microseconds())
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c ledger.Count, err error) {
		return c, row.Scan(&c.Span, &c.State, &c.Events)
	})
}

// Ready implements [ledger.Store].
func (s *store) Ready(ctx context.Context) error {
	var readOnly bool
	err := s.pool.QueryRow(ctx, "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean").Scan(&readOnly)
	if err == nil && readOnly {
		err = errors.New("the database is read-only: it is a standby, or was set so")
	}
	return err
}

// History implements [ledger.Store].
func (s *store) History(ctx context.Context, transactionID string) ([]*ledger.Event, error) {
	rows, _ := s.pool.Query(ctx, s.sql.history, transactionID)
	return scanEvents(rows)
}

// Stats implements [ledger.Store].
func (s *store) Stats(ctx context.Context) (st ledger.Stats, err error) {
	var all int64
	var oldest float64
	err = s.pool.QueryRow(ctx, s.sql.stats).Scan(&all, &st.Pending, &st.Dead, &st.Quarantined, &oldest)
	st.Done = all - st.Pending - st.Dead - st.Quarantined
	st.OldestPending = max(time.Duration(oldest*float64(time.Second)), 0)
	return st, err
}

// purgeBatch is how many cases are deleted in one transaction.
const purgeBatch = 500

// Purge implements [ledger.Store].
func (s *store) Purge(ctx context.Context, after string, age time.Duration, unfinished bool) (deleted int64, next string, err error) {
	if after == "" {
		after = "00000000-0000-0000-0000-000000000000"
	}
	keep := []string{"pending", "dead"}
	if unfinished {
		keep = keep[:1]
	}
	err = pgx.BeginTxFunc(ctx, s.pool, txOptions, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, s.sql.purgeCases, after, age.Microseconds(), keep, purgeBatch)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		remove := func(query string, arg any) error {
			tag, err := tx.Exec(ctx, query, arg)
			deleted += tag.RowsAffected()
			return err
		}
		if len(ids) > 0 {
			if err := remove("DELETE FROM "+s.sql.schema+".events WHERE transaction_id = ANY ($1::text[]::uuid[])", ids); err != nil {
				return err
			}
		}
		if len(ids) == purgeBatch {
			next = slices.Max(ids)
			return nil
		}
		if unfinished {
			return remove(s.sql.purgeQuarantined, age.Microseconds())
		}
		return nil
	})
	if err != nil {
		return 0, "", fmt.Errorf("purge: %w", err)
	}
	return deleted, next, nil
}
