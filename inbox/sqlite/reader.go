package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/bridge"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// readTimeout is how long one read of a [reader] beside a running server may take: the
// -wal file grows while somebody reads.
const readTimeout = 5 * time.Second

// OpenReader opens the file of an inbox for reading, beside the process that has it
// open or without one. It takes no lock and changes nothing. Each read takes 5 s at
// most. It must be called by the user who owns the file, and not in the process
// that has it open: that would drop the locks of the inbox. Call Close when you
// are done.
func OpenReader(ctx context.Context, path string) (*inbox.Reader, error) {
	r, err := openReader(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open a reader of the inbox in %s: %w", path, err)
	}
	return bridge.Inbox.NewReader(r).(*inbox.Reader), nil //nolint:forcetypeassert // it is one
}

func openReader(ctx context.Context, path string) (*reader, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a file")
	case !owns(info):
		return nil, errors.New("the file belongs to another user, and the files that SQLite creates beside it could lock that user out: run this as that user")
	}
	r := &reader{path: path}
	db, done, err := r.open()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var version int
	if err := checkHeader(ctx, db); err != nil {
		return nil, err
	}
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return nil, err
	}
	if version != len(migrations) {
		return nil, fmt.Errorf("its tables have version %d, and this program reads %d: start the new version of the service first", version, len(migrations))
	}
	return r, nil
}

// reader answers queries for pages and counts: on the connections of an open inbox, or
// each on a connection of its own.
type reader struct {
	read *sql.DB
	path string // if read is nil
}

var _ ledger.Reader = (*reader)(nil)

// open returns a database for one read.
func (r *reader) open() (db *sql.DB, done func(), err error) {
	if r.read != nil {
		return r.read, func() {}, nil
	}
	mode := "mode=ro"
	if !exists(r.path + "-wal") {
		// Nobody has it open, or nobody has written to it yet. Without this SQLite would
		// create the -wal file and leave it behind.
		mode = "immutable=1"
	}
	db, err = sql.Open("sqlite", plainDSN(r.path, mode, pragma("query_only(true)"), pragma(fmt.Sprintf("busy_timeout(%d)", readTimeout.Milliseconds()))))
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(1)
	return db, func() { _ = db.Close() }, nil
}

// do runs a read.
func (r *reader) do(ctx context.Context, read func(context.Context, *sql.DB) error) error {
	db, done, err := r.open()
	if err != nil {
		return err
	}
	defer done()
	if r.read == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readTimeout)
		defer cancel()
	}
	return read(ctx, db)
}
