// Command gorm books blocked values with GORM, exactly once: what the callback
// writes commits together with the fact that its notification is done.
//
//	PIXMED_DB=postgres://… go run ./examples/gorm
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// BlockedValue is a row of the books.
type BlockedValue struct {
	ID            uint
	TransactionID string
	Centavos      int64
}

// book is the callback. GORM gets the inbox's transaction as its connection, so it
// makes no difference whether GORM begins a transaction of its own.
func book(ctx context.Context, n *pixmed.Notification) error {
	tx, err := postgres.SQLTx(ctx)
	if err != nil {
		return err
	}
	db, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: tx}), &gorm.Config{})
	if err != nil {
		return err
	}
	return db.WithContext(ctx).Create(&BlockedValue{TransactionID: n.TransactionID, Centavos: int64(n.Value)}).Error
}

func main() {
	ctx := context.Background()
	if err := run(ctx, os.Getenv("PIXMED_DB")); err != nil {
		log.Fatal(err)
	}
}

// run receives one notification and waits until it is booked.
func run(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	booked := make(chan error, 1)
	receiver := pixmed.ReceiverFunc(func(ctx context.Context, n *pixmed.Notification) error {
		err := book(ctx, n)
		booked <- err
		return err
	})
	in, err := postgres.Open(ctx, pool, receiver)
	if err != nil {
		return err
	}
	if err := in.Start(ctx); err != nil {
		return err
	}
	i, err := pixmed.ParseInfraction([]byte(sample))
	if err != nil {
		return err
	}
	if err := in.Receive(ctx, &pixmed.Notification{Infraction: *i}); err != nil {
		return err
	}
	if err := <-booked; err != nil {
		return err
	}
	fmt.Println("booked", i.Value.BRL())
	return in.Stop(ctx)
}

const sample = `{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"MED","transactionType":"CASH_IN","value":18,"externalId":"order-1","medStatus":"ACKNOWLEDGED"}`
