package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
	"github.com/pixmed-go/pixmed/internal/text"
)

// The database may be told by a flag, as long as it holds no password.
var (
	databaseAt     = &setting{flag: "db", variable: "PIXMED_DB", arg: "DB", value: "inbox.db", usage: "the inbox: path of a SQLite file, or a postgres:// URL"}
	databasePooler = &setting{flag: "db-pooler", variable: "PIXMED_DB_POOLER", usage: "PostgreSQL is behind a pooler in transaction mode, such as PgBouncer: poll for work, and use no prepared statements"}
	databaseSecret = &setting{variable: databaseAt.variable, usage: "the inbox, if its postgres:// URL has a password"}
)

var databaseSettings = []*setting{databaseAt, databasePooler, databaseSecret}

// inboxQueue is for commands that look at one of the two inboxes of pixmed serve.
var inboxQueue = &setting{flag: "queue", variable: "PIXMED_QUEUE", arg: "QUEUE", value: queueNotifications, usage: "work on notifications, or on receipts, which pixmed serve --gateway stores and tries separately"}

const (
	queueNotifications = "notifications"
	queueReceipts      = "receipts"
)

// database is where an inbox is.
type database struct {
	path   string          // of a SQLite file
	pool   *pgxpool.Config // nil for SQLite
	schema string          // in PostgreSQL
	pooler bool            // whether a pooler in transaction mode is in between
}

// receipts is where the inbox of receipts is: beside the other one.
func (d *database) receipts() *database {
	second := *d
	if d.pool != nil {
		second.pool, second.schema = d.pool.Copy(), receiptsSchema
		return &second
	}
	extension := filepath.Ext(d.path)
	second.path = strings.TrimSuffix(d.path, extension) + "-receipts" + extension
	return &second
}

const receiptsSchema = "pixmed_receipts"

// readDatabase reads the settings.
func readDatabase(v *values) *database {
	d := readFirstDatabase(v)
	if v.flags.Lookup(inboxQueue.flag) != nil && v.oneOf(inboxQueue, queueNotifications, queueReceipts) == queueReceipts && (d.path != "" || d.pool != nil) {
		return d.receipts()
	}
	return d
}

func readFirstDatabase(v *values) *database {
	fromFlag := v.flags.Changed(databaseAt.flag)
	at := v.text(databaseAt)
	if !fromFlag {
		if hidden := v.hidden(databaseSecret); hidden != "" {
			at = strings.TrimSpace(hidden)
		}
	}
	scheme, _, isURL := strings.Cut(at, "://")
	switch {
	case at == "":
		v.problem(databaseAt, "it is empty")
		return &database{}
	case isURL && scheme != "postgres" && scheme != "postgresql":
		v.problem(databaseAt, "want the path of a file or a postgres:// URL, not another kind of URL")
		return &database{}
	case !isURL && (strings.Contains(at, "host=") || strings.Contains(at, "dbname=") || strings.Contains(at, "password=")):
		v.problem(databaseAt, "write PostgreSQL's parameters as a URL, postgres://user@host/database")
		return &database{}
	case !isURL && v.on(databasePooler):
		v.problem(databasePooler, "it is for PostgreSQL, but the inbox is a SQLite file")
		return &database{}
	case !isURL:
		return &database{path: at}
	}
	u, err := url.Parse(at)
	if err != nil {
		v.problem(databaseAt, "it does not parse as a URL; it should look like postgres://user@host/database")
		return &database{}
	}
	secrets := databaseSecrets(u)
	if len(secrets) > 0 && fromFlag {
		v.problem(databaseAt, "it contains a password, which everybody on the machine can see: set %s instead", databaseAt.variable)
		return &database{}
	}
	pool, err := pgxpool.ParseConfig(at)
	if err != nil {
		if cause := errors.Unwrap(err); cause != nil { // the text around it repeats the URL
			err = cause
		}
		v.problem(databaseAt, "a part of the URL cannot be used: %s", text.NewSecrets(secrets...).Redact(err.Error()))
		return &database{}
	}
	d := &database{pool: pool, schema: postgres.DefaultSchema, pooler: v.on(databasePooler)}
	if d.pooler {
		pool.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	return d
}

// databaseSecrets returns what a URL holds of passwords and the like: the user's, and
// those of parameters such as sslpassword.
func databaseSecrets(u *url.URL) (secrets []string) {
	if password, _ := u.User.Password(); password != "" {
		secrets = append(secrets, password)
	}
	for name, values := range u.Query() {
		name = strings.ToLower(name)
		if !strings.Contains(name, "password") && !strings.Contains(name, "secret") && !strings.Contains(name, "token") {
			continue
		}
		for _, value := range values {
			if value != "" {
				secrets = append(secrets, value)
			}
		}
	}
	return secrets
}

// open opens the inbox with that many workers. closePool must be called after the
// inbox is stopped.
func (d *database) open(ctx context.Context, receiver pixmed.Receiver, workers int, options ...inbox.Option) (in *inbox.Inbox, closePool func(), err error) {
	options = append(options, inbox.WithWorkers(workers))
	if d.pool == nil {
		in, err := sqlite.Open(ctx, d.path, receiver, options...)
		if errors.Is(err, sqlite.ErrLocked) {
			err = fmt.Errorf("%s is open in another process, and only one may have it open: is pixmed serve running? With PostgreSQL several can work at once", d.path)
		}
		return in, func() {}, err
	}
	d.pool.MaxConns = max(d.pool.MaxConns, int32(connections(workers)))
	options = append(options, postgres.WithSchema(d.schema))
	pool, err := pgxpool.NewWithConfig(ctx, d.pool)
	if err != nil {
		return nil, nil, err
	}
	if d.pooler {
		options = append(options, postgres.WithPollOnly())
	}
	in, err = postgres.Open(ctx, pool, receiver, options...)
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	return in, pool.Close, nil
}

// openReader opens the inbox to look into it. closePool must be called when that is done.
func (d *database) openReader(ctx context.Context) (in *inbox.Reader, closePool func(), err error) {
	if d.pool == nil {
		in, err = sqlite.OpenReader(ctx, d.path)
		return in, func() {}, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, d.pool)
	if err != nil {
		return nil, nil, err
	}
	if in, err = postgres.OpenReader(ctx, pool, postgres.WithSchema(d.schema)); err != nil {
		pool.Close()
	}
	return in, pool.Close, err
}

// connections is how many an inbox in PostgreSQL may have at a time.
func connections(workers int) int { return workers + 4 }
