package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// What a callback writes through database/sql is there when it returned nil, and
// only then.
func TestSQLTx(t *testing.T) {
	t.Parallel()
	insert := func(ctx context.Context, what string) (*sql.Tx, error) {
		tx, err := postgres.SQLTx(ctx)
		if err != nil {
			return nil, err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO effects (what) VALUES ($1)", what)
		return tx, err
	}
	for name, test := range map[string]struct {
		callback  func(ctx context.Context, n *pixmed.Notification) error // of the first attempt; the others return nil
		want      []string
		attempts  int
		lastError string
	}{
		"done": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				_, err := insert(ctx, "a")
				return err
			},
			[]string{"a"},
			1, "",
		},
		"failed": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				_, err := insert(ctx, "a")
				return errors.Join(err, errors.New("no"))
			},
			nil, 2, "no",
		},
		"twice, and mixed with Tx": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				one, err := insert(ctx, "a")
				if err != nil {
					return err
				}
				two, err := insert(ctx, "b")
				if err != nil || one != two {
					return errors.Join(err, errors.New("not the same transaction"))
				}
				tx, _ := postgres.Tx(ctx)
				var n int
				if err := tx.QueryRow(ctx, "SELECT count(*) FROM effects").Scan(&n); err != nil || n != 2 {
					return errors.Join(err, errors.New("Tx does not see what SQLTx wrote"))
				}
				_, err = tx.Exec(ctx, "INSERT INTO effects (what) VALUES ('c')")
				return err
			},
			[]string{"a", "b", "c"},
			1, "",
		},
		"committed by the callback": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				tx, err := insert(ctx, "a")
				if err != nil {
					return err
				}
				if err := tx.Commit(); !errors.Is(err, postgres.ErrTxManaged) {
					return errors.New("Commit is not refused")
				}
				return nil
			},
			nil, 2, "the callback has tried to end it",
		},
		"rolled back by the callback": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				tx, err := insert(ctx, "a")
				if err != nil {
					return err
				}
				if err := tx.Rollback(); !errors.Is(err, postgres.ErrTxManaged) {
					return errors.New("Rollback is not refused")
				}
				return nil
			},
			nil, 2, "the callback has tried to end it",
		},
		"aborted by a statement": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				tx, err := insert(ctx, "a")
				if err != nil {
					return err
				}
				_, _ = tx.ExecContext(ctx, "SELECT 1/0")
				return nil
			},
			nil, 2, "has aborted it",
		},
		"rows and statements left open": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				tx, err := insert(ctx, "a")
				if err != nil {
					return err
				}
				if _, err := tx.PrepareContext(ctx, "SELECT 1"); err != nil { //nolint:sqlclosecheck // that is the test
					return err
				}
				rows, err := tx.QueryContext(ctx, "SELECT generate_series(1, 100000)") //nolint:sqlclosecheck,rowserrcheck // that is the test
				if err == nil {
					rows.Next()
				}
				return err
			},
			nil, 2, "left rows open",
		},
		"with a context that ends first": {
			func(ctx context.Context, _ *pixmed.Notification) error {
				short, cancel := context.WithCancel(ctx)
				_, err := insert(short, "a")
				cancel()
				return err
			},
			[]string{"a"},
			1, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enginetest.Postgres(t)
			read := effects(t, s)
			var firstError string
			var in *inbox.Inbox
			opened := make(chan struct{})
			in = s.Start(t, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
				<-opened
				if n.Attempt == 1 {
					return test.callback(ctx, n)
				}
				events, err := in.History(ctx, n.TransactionID)
				if err == nil {
					firstError = events[0].LastError
				}
				return err
			}))
			close(opened)
			id := enginetest.NewTransaction()
			receive(t, in, id, pixmed.Acknowledged)
			enginetest.Await(t, in)
			history, err := in.History(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			stop(t, in)
			if diff := cmp.Diff(test.want, read()); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			if e := history[0]; e.State != inbox.Done || e.Attempts != test.attempts || !strings.Contains(firstError, test.lastError) {
				t.Errorf("%v, and the first attempt: %q", e, firstError)
			}
		})
	}
}

func TestSQLTxElsewhere(t *testing.T) {
	t.Parallel()
	if tx, err := postgres.SQLTx(t.Context()); tx != nil || !errors.Is(err, postgres.ErrNoTx) {
		t.Errorf("%v, %v, want ErrNoTx", tx, err)
	}
}

// Callbacks that use a transaction can be called by a unit test.
func TestUnitTests(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	read := effects(t, s)
	pool := s.Pool(t)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx := postgres.ContextWithTx(t.Context(), tx)
	if err := write(ctx, "a"); err != nil {
		t.Error(err)
	}
	callbacks, _ := postgres.Tx(ctx)
	if err := callbacks.Commit(ctx); !errors.Is(err, postgres.ErrTxManaged) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := postgres.SQLTx(ctx); err == nil || !strings.Contains(err.Error(), "ContextWithSQLTx") {
		t.Errorf("SQLTx of a pgx.Tx: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	sqlTx, err := s.DB(t).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := postgres.SQLTx(postgres.ContextWithSQLTx(t.Context(), sqlTx))
	if err != nil || got != sqlTx {
		t.Errorf("%v, %v", got, err)
	}
	if err := sqlTx.Rollback(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a"}, read()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}
