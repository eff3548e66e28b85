package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed/examples/internal/testpg"
)

// TestMain makes the test's program a replica when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(replicaVariable) == "" {
		os.Exit(m.Run())
	}
	if err := replica(); err != nil {
		fmt.Fprintf(os.Stderr, "replica %s: %v\n", os.Getenv(replicaVariable), err)
		os.Exit(1)
	}
}

func TestProof(t *testing.T) {
	t.Parallel()
	url := testpg.URL(t)
	query(t, url, "CREATE SCHEMA pixmed_scaleout_mine", "CREATE TABLE pixmed_scaleout_mine.effects (id int)", "CREATE TABLE effects (id int)")
	before := tables(t, url)

	var out bytes.Buffer
	if err := run(t.Context(), []string{"-db", url, "-n", "30"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	got := regexp.MustCompile(`(?m)^ *\d+\.\d s`).ReplaceAllString(out.String(), "T")
	got = regexp.MustCompile(`(?m)Done by .*\.$`).ReplaceAllString(got, "Done by …")
	got = regexp.MustCompile(`\d+ (of them|wait)`).ReplaceAllString(got, "N $1")
	want := `T  3 replicas share the inbox. The gateway posts 90 notifications of 30 transactions to them in turn.
T  30 are answered 200. Replica 2 is killed in the middle of its work.
T  60 are answered 200. Replica 2 is started again.
T  All are answered 200, N of them not at the first attempt. N wait for their callback.
T  No callback is left. Done by …
    notifications answered 200  90
               effects of them  90
                          lost   0
                         twice   0
                  out of order   0
      effects of anything else   0
Nothing lost, nothing twice, nothing out of order.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, tables(t, url)); diff != "" {
		t.Errorf("tables after it (-before +after):\n%s", diff)
	}
}

// Ctrl-C in the middle leaves nothing behind.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	url := testpg.URL(t)
	before := tables(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := writerFunc(func(line string) {
		if strings.Contains(line, "is killed") {
			cancel()
		}
	})
	if err := run(ctx, []string{"-db", url, "-n", "1000"}, out); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if diff := cmp.Diff(before, tables(t, url)); diff != "" {
		t.Errorf("tables after it (-before +after):\n%s", diff)
	}
}

type writerFunc func(string)

func (f writerFunc) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

func TestArguments(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: error %v, want flag.ErrHelp", err)
	}
	for _, name := range []string{"-db URL", "-n TRANSACTIONS", "-replicas"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("-h does not explain %s:\n%s", name, out.String())
		}
	}
	for _, tt := range []struct {
		args []string
		want string // in the error
	}{
		{[]string{"surprise"}, `"surprise"`},
		{[]string{"-n", "0"}, "-n: "},
		{[]string{"-replicas", "1"}, "-replicas: "},
		{[]string{"-db", "inbox.db"}, "-db: "},
		{[]string{"-db", "postgres://me:hunter2@127.0.0.1:none/pix"}, "-db: cannot parse"},
		{[]string{"-db", "postgres://me:hunter2@127.0.0.1:1/pix"}, "-db: make a schema: failed to connect"},
	} {
		err := run(t.Context(), tt.args, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: error %v, want one with %q and no password", tt.args, err, tt.want)
		}
	}
}

// tables returns the names of all tables, with their schemas.
func tables(t *testing.T, url string) []string {
	t.Helper()
	return query(t, url, `SELECT n.nspname || '.' || coalesce(c.relname, '') FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid
		WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' ORDER BY 1`)
}

// query runs statements and returns what the last one selects.
func query(t *testing.T, url string, statements ...string) (result []string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range statements {
		rows, err := conn.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		if result, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			t.Fatal(err)
		}
	}
	return result
}
