package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// With very many cases, and without settings that favour an index, a search reads no
// more of an index than it finds, whatever it finds.
func TestSearchPlans(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	s.Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	s.Fill(t, 100_000, 10)
	pool := s.Pool(t)
	rowsRead := regexp.MustCompile(`(?:ids_external|ids_e2e|cases_pkey|events_case) .*\(actual rows=([\d.]+) loops=(\d+)\)`)
	for _, text := range []string{"order-77777", "order-", "E90400888", "0"} {
		for name, q := range postgres.Searches(text) {
			rows, _ := pool.Query(t.Context(), "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) "+q.SQL, q.Args...)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			plan := strings.Join(lines, "\n")
			for _, index := range []string{"ids_external", "ids_e2e", "cases_pkey"} {
				if !strings.Contains(plan, index) {
					t.Errorf("%s of %q: no %s in\n%s", name, text, index, plan)
				}
			}
			if strings.Contains(plan, "Seq Scan on ids") || strings.Contains(plan, "Seq Scan on cases") || strings.Contains(plan, "Seq Scan on events") {
				t.Errorf("%s of %q reads a whole table:\n%s", name, text, plan)
			}
			read := 0.0
			for _, m := range rowsRead.FindAllStringSubmatch(plan, -1) {
				n, _ := strconv.ParseFloat(m[1], 64)
				loops, _ := strconv.ParseFloat(m[2], 64)
				read += n * loops
			}
			if read == 0 || read > 12_000 {
				t.Errorf("%s of %q reads %v rows:\n%s", name, text, read, plan)
			}
		}
	}
}

// Queries for pages wait for each other, so that they take no connection that the
// inbox or its workers need.
func TestReadsWaitForEachOther(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		conns   int32
		workers int
		want    int // how many run at a time
	}{{3, 1, 1}, {7, 4, 1}, {8, 4, 2}} {
		t.Run(fmt.Sprintf("%d connections, %d workers", test.conns, test.workers), func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			look := s.Pool(t)
			in := open(t, newPool(t, s, func(c *pgxpool.Config) { c.MaxConns = test.conns }), pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithWorkers(test.workers))
			held := begin(t, look, "LOCK TABLE pixmed_inbox.notes")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 10)
			for range cap(ended) {
				go func() {
					_, err := in.Notes(ctx, enginetest.NewTransaction())
					ended <- err
				}()
			}
			const running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
			awaitCount(t, look, "the queries run", fmt.Sprintf("SELECT (%s) / %d", running, test.want))
			receive(t, in, enginetest.NewTransaction(), pixmed.Acknowledged)
			if err := in.Ready(t.Context()); err != nil {
				t.Errorf("Ready: %v", err)
			}
			if got := count(t, look, running); got != test.want {
				t.Errorf("%d queries run, want %d", got, test.want)
			}
			cancel()
			waited := 0
			for range cap(ended) {
				err := await(t, "the query", ended)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("a query: %v", err)
				}
				if strings.Contains(err.Error(), "wait for other queries") {
					waited++
				}
			}
			if want := cap(ended) - test.want; waited != want {
				t.Errorf("%d queries waited for others, want %d", waited, want)
			}
			if err := held.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
