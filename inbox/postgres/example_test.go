package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// What the callback writes through Tx happens exactly once.
func ExampleTx() {
	book := func(ctx context.Context, n *pixmed.Notification) error {
		tx, ok := postgres.Tx(ctx)
		if !ok {
			return errors.New("this callback belongs behind an inbox in PostgreSQL")
		}
		_, err := tx.Exec(ctx, "INSERT INTO blocked_values (transaction_id, centavos) VALUES ($1, $2)", n.TransactionID, int64(n.Value))
		return err // nil commits both the row and that the notification is done
	}
	serve(pixmed.Callbacks{Acknowledged: book, Other: pixmed.Ignore})
	// Output: no PIXMED_DB
}

// The same with database/sql. GORM, bun and sqlc take the transaction too.
func ExampleSQLTx() {
	book := func(ctx context.Context, n *pixmed.Notification) error {
		tx, err := postgres.SQLTx(ctx)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO blocked_values (transaction_id, centavos) VALUES ($1, $2)", n.TransactionID, int64(n.Value))
		return err // nil commits both the row and that the notification is done
	}
	serve(pixmed.Callbacks{Acknowledged: book, Other: pixmed.Ignore})
	// Output: no PIXMED_DB
}

// A unit test calls a callback with a transaction of its own, and rolls it back.
func ExampleContextWithSQLTx() {
	book := func(ctx context.Context, n *pixmed.Notification) error {
		tx, err := postgres.SQLTx(ctx)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO blocked_values (transaction_id, centavos) VALUES ($1, $2)", n.TransactionID, int64(n.Value))
		return err
	}
	test := func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if err := book(postgres.ContextWithSQLTx(ctx, tx), pixmedtest.NewNotification()); err != nil {
			return err
		}
		var rows int
		return tx.QueryRowContext(ctx, "SELECT count(*) FROM blocked_values").Scan(&rows)
	}
	_ = test // in a unit test it is called with a database
	// Output:
}

// serve works an inbox for a moment.
func serve(receiver pixmed.Receiver) {
	url := os.Getenv("PIXMED_DB") // with pool_max_conns=13 in it: ten workers, and three for the inbox
	if url == "" {
		fmt.Println("no PIXMED_DB")
		return
	}
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	in, err := postgres.Open(ctx, pool, receiver)
	if err != nil {
		panic(err)
	}
	if err := in.Start(ctx); err != nil {
		panic(err)
	}
	// Now serve a handler that pixmed.NewHandler makes of the inbox, until it is
	// time to go.
	if err := in.Stop(ctx); err != nil {
		panic(err)
	}
}
