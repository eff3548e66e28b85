package enginetest

import (
	"strconv"
	"strings"
	"testing"
)

// Fill adds n cases of one event each, numbered from 0, to a database that an inbox has
// opened before. One in oneOpenOf is open. The external id of a case is Order- and its
// number, its end-to-end id E90400888 and its number in 23 digits, and its
// transaction id ends with its number.
func (s *Database) Fill(tb testing.TB, n, oneOpenOf int) {
	tb.Helper()
	dialect := strings.NewReplacer(
		"{id}", "printf('%08x-0000-4000-8000-%012d', n * 2654435761 % 4294967296, n)",
		"{event}", "printf('01900000-0000-7000-8000-%012d', n)",
		"{e2e}", "CAST(printf('E90400888%023d', n) AS blob)", "{bytes}", "CAST('ORDER-' || n AS blob)", "{external}", "'Order-' || n", "{no bytes}", "x''", "{open}", "CASE WHEN n % {open of} = 0 THEN 'ACKNOWLEDGED'", "{ended}", "'CANCELLED'",
		"{now}", "CAST(unixepoch('subsec') * 1000000 AS integer)", "{second}", "1000000", "{false}", "0",
		"{case}", "c.id, ", "{case column}", "case_id, ", "{case id}", "c.id", "{ids column}", "case_id",
		"{numbers}", "(WITH RECURSIVE g (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM g WHERE n + 1 < {n}) SELECT n FROM g)",
	)
	if s.Engine == "postgres" {
		dialect = strings.NewReplacer(
			"{id}", "(lpad(to_hex(n * 2654435761 % 4294967296), 8, '0') || '-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid",
			"{event}", "('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid",
			"{e2e}", "('E90400888' || lpad(n::text, 23, '0'))::bytea", "{bytes}", "('ORDER-' || n)::bytea", "{external}", "('Order-' || n)::bytea", "{no bytes}", "''", "{open}", "CASE WHEN n % {open of} = 0 THEN 'ACKNOWLEDGED'::bytea", "{ended}", "'CANCELLED'::bytea",
			"{now}", "now()", "{second}", "interval '1 second'", "{false}", "false",
			"{case}", "", "{case column}", "", "{case id}", "c.transaction_id", "{ids column}", "transaction_id",
			"{numbers}", "(SELECT generate_series(0, {n} - 1)::bigint AS n)",
		)
	}
	for _, statement := range []string{
		`INSERT INTO cases (transaction_id, next_seq, updated_at, open, status_seq, value, opened_at, ended_at)
SELECT {id}, 2, {now} - n * {second}, n % {open of} = 0, 1, 1800, {now} - n * {second}, CASE WHEN n % {open of} > 0 THEN {now} - n * {second} END FROM {numbers} g`,
		`INSERT INTO events (id, {case column}transaction_id, external_id, external_digest, status, value, raw, seq, state, standing, received_at)
SELECT {event}, {case}c.transaction_id, {external}, n, {open} ELSE {ended} END, 1800, {no bytes}, 1, 'done', CASE WHEN n % {open of} = 0 THEN 2 ELSE 1 END, {now} - n * {second}
FROM {numbers} g JOIN cases c ON c.transaction_id = {id}`,
		`INSERT INTO ids ({ids column}, external_key, e2e_key) SELECT {case id}, {bytes}, {e2e} FROM {numbers} g JOIN cases c ON c.transaction_id = {id}`,
		`ANALYZE`,
	} {
		statement = strings.NewReplacer("{n}", strconv.Itoa(n), "{open of}", strconv.Itoa(oneOpenOf)).Replace(dialect.Replace(statement))
		if _, err := s.DB(tb).ExecContext(tb.Context(), statement); err != nil {
			tb.Fatalf("%s: %v", statement, err)
		}
	}
}
