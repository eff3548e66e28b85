package main

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/examples/internal/testpg"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// newTable returns a pool for a database with the books.
func newTable(t *testing.T) (pool *pgxpool.Pool, url string) {
	t.Helper()
	url = testpg.URL(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(t.Context(), "CREATE TABLE blocked_values (id bigserial PRIMARY KEY, transaction_id text, centavos bigint)"); err != nil {
		t.Fatal(err)
	}
	return pool, url
}

func rows(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM blocked_values").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRun(t *testing.T) {
	t.Parallel()
	pool, url := newTable(t)
	if err := run(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, pool); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// With and without GORM's own transactions, what a failed attempt wrote is gone.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	for name, skip := range map[string]bool{"GORM's default": false, "SkipDefaultTransaction": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, _ := newTable(t)
			done := make(chan struct{})
			in, err := postgres.Open(t.Context(), pool, pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
				tx, err := postgres.SQLTx(ctx)
				if err != nil {
					return err
				}
				db, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: tx}), &gorm.Config{SkipDefaultTransaction: skip})
				if err != nil {
					return err
				}
				if err := db.WithContext(ctx).Create(&BlockedValue{TransactionID: n.TransactionID}).Error; err != nil {
					return err
				}
				if n.Attempt == 1 {
					return errors.New("not yet")
				}
				close(done)
				return nil
			}), inbox.WithBackoff(1, 1))
			if err != nil {
				t.Fatal(err)
			}
			if err := in.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := in.Receive(t.Context(), pixmedtest.NewNotification()); err != nil {
				t.Fatal(err)
			}
			<-done
			if err := in.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := rows(t, pool); n != 1 {
				t.Errorf("%d rows of two attempts, of which one failed", n)
			}
		})
	}
}
