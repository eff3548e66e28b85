// Package sqlite opens a durable inbox in a file: no server, one process. See
// package inbox for what it does and what it promises.
package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gofrs/flock"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	_ "modernc.org/sqlite" // the driver

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
	"github.com/pixmed-go/pixmed/inbox/internal/queue"
)

// ErrLocked is what Open's error is when another process, or another inbox of
// this one, has the file open.
var ErrLocked = errors.New("the inbox is open already, in another process or in this one")

// WithMinFreeDisk sets how many bytes must be free on the file's disk, or
// notifications are answered 503: on a full disk SQLite can no longer even
// delete. Default 64 MiB; 0 switches the check off.
func WithMinFreeDisk(bytes uint64) inbox.Option {
	return func(c *config.Config) error {
		c.MinFreeDisk = &bytes
		return nil
	}
}

const defaultMinFreeDisk = 64 << 20

// Open opens the inbox in the file at path, and makes it if there is none. Beside
// it lie two files of SQLite's, with -wal and -shm behind the name, and one with
// .lock, which is never deleted. The folder must exist, and must be on a local
// disk: network file systems lose locks and writes.
//
// One process at a time may have a file open; see [ErrLocked]. That process must
// not open the file by other means, not even to read it: on most systems to close
// it again drops the locks on it. To look into it, or to back it up with VACUUM
// INTO, use another process.
//
// receiver is called by the workers once Start was called. Call Stop when you are
// done.
func Open(ctx context.Context, path string, receiver pixmed.Receiver, opts ...inbox.Option) (*inbox.Inbox, error) {
	c, err := config.New(opts)
	if err != nil {
		return nil, err
	}
	c.Workers = cmp.Or(c.Workers, config.DefaultWorkers)
	if c.Schema != "" || c.PollOnly {
		return nil, errors.New("sqlite: Open: an option of package postgres was given")
	}
	if err := inbox.CheckReceiver(receiver); err != nil {
		return nil, err
	}
	s, err := open(ctx, path, c)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	return inbox.New(s, receiver, c)
}

// River returns the client of the queue that schedules the attempts, for a look at
// it, as with riverui. Jobs are the inbox's: do not insert or change any. It fails
// if the inbox was not opened by this package.
func River(in *inbox.Inbox) (*river.Client[*sql.Tx], error) {
	s, ok := in.Store().(*store)
	if !ok {
		return nil, errors.New("sqlite: River: the inbox is not in a file of SQLite's")
	}
	return s.Client(), nil
}

// store is the engine. SQLite has one writer at a time, and writers that contend
// for it are starved, so there is one connection for writing, which the inbox and
// River take turns at, and a few for reading. No query on the writing one may be
// cancelled: that would roll back what others of its group wrote.
type store struct {
	*queue.Queue[*sql.Tx]

	config *config.Config
	log    *slog.Logger
	lock   *flock.Flock
	path   string
	write  *sql.DB // one connection
	read   *sql.DB

	stmts    writeStatements
	attempt  *sql.Stmt   // on the reading connections
	prepared []*sql.Stmt // all of them

	file    os.FileInfo // what was opened
	checkMu sync.Mutex
	checked fileCheck

	wal wal
}

func open(ctx context.Context, path string, c *config.Config) (s *store, err error) {
	if path, err = resolve(path); err != nil {
		return nil, err
	}
	s = &store{config: c, log: c.Logger, path: path, lock: flock.New(path + ".lock"), wal: wal{limit: walStep}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	locked, err := s.lock.TryLock()
	if err != nil {
		return s, fmt.Errorf("lock %s.lock: %w", path, err)
	}
	if !locked {
		return s, fmt.Errorf("%w: it holds the lock on %s.lock; use package postgres to share an inbox", ErrLocked, path)
	}
	// Not before: to close the file would drop the locks that this process holds on
	// it, those of an inbox that has it open.
	if err := ensureFile(path); err != nil {
		return s, err
	}
	if s.file, err = os.Stat(path); err != nil {
		return s, err
	}
	if s.write, err = sql.Open("sqlite", dsn(path, "_txlock=immediate", pragma("synchronous(FULL)"), pragma("cache_size(-32768)"))); err != nil {
		return s, err
	}
	s.write.SetMaxOpenConns(1)
	ctx = context.WithoutCancel(ctx)
	if err := s.migrate(ctx); err != nil {
		return s, fmt.Errorf("migrate: %w", err)
	}
	if s.read, err = sql.Open("sqlite", dsn(path, pragma("query_only(true)"), pragma("cache_size(-4096)"))); err != nil {
		return s, err
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if err := s.prepare(ctx); err != nil {
		return s, err
	}
	// River looks for notifications again and again; that is left to a reader.
	s.Queue, err = queue.New(riversqlite.New(s.write), riversqlite.New(s.read), c)
	return s, err
}

const readers = 4

// resolve returns the one name that all names of a file have, since the lock lies
// beside it. The file need not exist, its folder must.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		var folder string
		folder, err = filepath.EvalSymlinks(filepath.Dir(path))
		resolved = filepath.Join(folder, filepath.Base(path))
	}
	return resolved, err
}

// ensureFile makes the file if there is none, readable by its owner only: it
// holds personal data. SQLite gives its other files the same mode. Where the file
// may not be written it fails; SQLite would open it, and refuse every write.
func ensureFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the path is the caller's
	if err != nil {
		return err
	}
	return f.Close()
}

func dsn(path string, params ...string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/folder/file, which would be taken for a host
		path = "/" + path
	}
	u := url.URL{Scheme: "file", Path: path}
	u.RawQuery = strings.Join(append([]string{
		pragma(fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())), pragma("journal_mode(WAL)"), pragma("fullfsync(true)"), pragma("checkpoint_fullfsync(true)"),
		pragma(fmt.Sprintf("wal_autocheckpoint(%d)", walPages)),
		pragma("temp_store(MEMORY)"),
	}, params...), "&")
	return u.String()
}

func pragma(p string) string { return "_pragma=" + url.QueryEscape(p) }

// Shared implements [ledger.Store].
func (s *store) Shared() bool { return false }

// Session implements [ledger.Store].
func (s *store) Session() ledger.Session { return nil }

// Close implements [ledger.Store].
func (s *store) Close() error {
	s.Release()
	var errs []error
	for _, stmt := range s.prepared {
		errs = append(errs, stmt.Close())
	}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.write != nil {
		// What is in the -wal file goes into the main one, which can be copied then.
		if _, err := s.write.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			errs = append(errs, fmt.Errorf("checkpoint: %w", err))
		}
		errs = append(errs, s.write.Close())
	}
	return errors.Join(append(errs, s.lock.Unlock())...)
}
