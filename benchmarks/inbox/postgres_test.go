package inbox_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"maragu.dev/goqite"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
)

// openPostgres opens a pool for a member. fsync and synchronous_commit are on, as
// by default, so that a commit returns when it is synced to disk.
func openPostgres(ctx context.Context, at place, schema string) (*peer, *pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(at.database)
	if err != nil {
		return nil, nil, err
	}
	c.MaxConns = int32(max(poolConns, at.workers+8))
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	p := &peer{synced: func(ctx context.Context) error { return postgresSynced(ctx, pool) }}
	p.onClose(func() error { pool.Close(); return nil })
	_, err = pool.Exec(ctx, schema)
	return p, pool, err
}

// postgresSynced checks the settings that make a commit wait for the disk.
func postgresSynced(ctx context.Context, pool *pgxpool.Pool) error {
	for _, setting := range []string{"fsync", "synchronous_commit"} {
		var value string
		if err := pool.QueryRow(ctx, "SHOW "+setting).Scan(&value); err != nil {
			return err
		}
		if value != "on" {
			return fmt.Errorf("%s is %s, want on", setting, value)
		}
	}
	return nil
}

// countRows returns a function that returns the number that a query selects.
func countRows(pool *pgxpool.Pool, query string) func(context.Context) (int, error) {
	return func(ctx context.Context) (n int, err error) {
		err = pool.QueryRow(ctx, query).Scan(&n)
		return n, err
	}
}

// startPostgresInbox starts the inbox. It commits once for all notifications that
// wait, on one connection, before it answers any of them.
func startPostgresInbox(ctx context.Context, at place, work pixmed.Receiver) (*peer, error) {
	conns, pool, err := openPostgres(ctx, at, "")
	if err != nil {
		return conns, err
	}
	in, err := postgres.Open(ctx, pool, orIgnore(work), inbox.WithWorkers(at.workers), inbox.WithLogger(silent))
	if err != nil {
		return conns, err
	}
	p, err := serveInbox(ctx, in, work != nil)
	p.synced = conns.synced
	p.closers = append(conns.closers, p.closers...)
	return p, err
}

const postgresEvents = `
CREATE TABLE events (
	id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	transaction_id uuid   NOT NULL,
	external_id    text   NOT NULL,
	med_status     text   NOT NULL,
	body           bytea  NOT NULL,
	UNIQUE (transaction_id, external_id, med_status)
)`

// startPostgresRiverTx starts what River's users would write: a unique row and a
// job, in one transaction for each request.
func startPostgresRiverTx(ctx context.Context, at place, work pixmed.Receiver) (*peer, error) {
	p, pool, err := openPostgres(ctx, at, postgresEvents)
	if err != nil {
		return p, err
	}
	p.stored = countRows(pool, "SELECT count(*) FROM events JOIN river_job ON events.id = (args ->> 'event')::bigint")
	client, err := newRiver(ctx, p, at, riverpgxv5.New(pool), work, func(ctx context.Context, event int64) (body []byte, err error) {
		err = pool.QueryRow(ctx, "SELECT body FROM events WHERE id = $1", event).Scan(&body)
		return body, err
	})
	if err != nil {
		return p, err
	}
	p.handler = storing(func(ctx context.Context, i *pixmed.Infraction, body []byte) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			var event int64
			err := tx.QueryRow(ctx, `
INSERT INTO events (transaction_id, external_id, med_status, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING id`,
				i.TransactionID, i.ExternalID, string(i.MEDStatus), body).Scan(&event)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil // a duplicate: it is stored already
			}
			if err != nil {
				return err
			}
			_, err = client.InsertTx(ctx, tx, eventArgs{event}, nil)
			return err
		})
	})
	return p, nil
}

// startPostgresRiver starts River alone: a job that holds the body, for each request.
func startPostgresRiver(ctx context.Context, at place, work pixmed.Receiver) (*peer, error) {
	p, pool, err := openPostgres(ctx, at, "")
	if err != nil {
		return p, err
	}
	p.stored = countRows(pool, "SELECT count(*) FROM river_job")
	return p, serveRiver(ctx, p, at, riverpgxv5.New(pool), work)
}

// startPostgresInsert starts what inserts the body for each request, in a
// transaction of its own, and does nothing else: there is no key, and there are no
// workers.
func startPostgresInsert(ctx context.Context, at place, _ pixmed.Receiver) (*peer, error) {
	p, pool, err := openPostgres(ctx, at, `CREATE TABLE bodies (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL)`)
	if err != nil {
		return p, err
	}
	p.stored = countRows(pool, "SELECT count(*) FROM bodies")
	p.handler = storing(func(ctx context.Context, _ *pixmed.Infraction, body []byte) error {
		_, err := pool.Exec(ctx, "INSERT INTO bodies (body) VALUES ($1)", body)
		return err
	})
	return p, nil
}

// goqitePostgres is goqiteSQLite for PostgreSQL, where goqite draws its ids with
// pgcrypto.
const goqitePostgres = `
CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE TABLE goqite (
	id       text        DEFAULT ('m_' || encode(gen_random_bytes(16), 'hex')) PRIMARY KEY,
	queue    text        NOT NULL,
	body     bytea       NOT NULL,
	priority integer     DEFAULT 0 NOT NULL,
	received integer     DEFAULT 0 NOT NULL,
	created  timestamptz DEFAULT now() NOT NULL,
	updated  timestamptz DEFAULT now() NOT NULL,
	timeout  timestamptz DEFAULT now() NOT NULL
);
CREATE INDEX goqite_next ON goqite (queue, priority DESC, created)`

// startPostgresGoqite starts goqite: a message for each request, in a transaction of
// its own.
func startPostgresGoqite(ctx context.Context, at place, _ pixmed.Receiver) (*peer, error) {
	p, pool, err := openPostgres(ctx, at, goqitePostgres)
	if err != nil {
		return p, err
	}
	db := stdlib.OpenDBFromPool(pool)
	p.onClose(db.Close)
	serveGoqite(p, db, goqite.SQLFlavorPostgreSQL)
	return p, nil
}
