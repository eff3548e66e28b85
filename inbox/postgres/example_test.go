package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/postgres"
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

	url := os.Getenv("DATABASE_URL") // with pool_max_conns=14 in it
	if url == "" {
		fmt.Println("no DATABASE_URL")
		return
	}
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	in, err := postgres.Open(ctx, pool, pixmed.Callbacks{Acknowledged: book, Other: pixmed.Ignore})
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
	// Output: no DATABASE_URL
}
