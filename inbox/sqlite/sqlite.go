// Package sqlite opens a durable inbox in a file: no server, one process. See
// package inbox for what it does and what it promises.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	_ "modernc.org/sqlite" // the driver

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/bridge"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// ErrLocked is returned by Open when another process, or another inbox of this one,
// has the file open.
var ErrLocked = errors.New("the inbox is open already, in another process or in this one")

// WithMinFreeDisk sets how many bytes must be free on the file's disk, or
// notifications are answered 503: on a full disk SQLite can no longer even delete.
// Default 64 MiB; 0 switches the check off.
func WithMinFreeDisk(bytes uint64) inbox.Option {
	return bridge.Inbox.Option("WithMinFreeDisk", func(c *config.Config) error { //nolint:forcetypeassert // it is one
		c.MinFreeDisk = &bytes
		return nil
	}).(inbox.Option)
}

const defaultMinFreeDisk = 64 << 20

// Open opens the inbox in the file at path, creating it if needed. SQLite keeps two
// files beside it, with -wal and -shm after the name, and the inbox one with .lock,
// which is never deleted. The folder must exist and must be on a local disk:
// network file systems lose locks and writes. All of them are made readable by
// their owner only, since they hold personal data.
//
// One process at a time may have a file open; see [ErrLocked]. That process must
// not open the file by other means, not even to read it: on most systems closing it
// again drops the locks on it. To look into it from another process use [OpenReader],
// and to back it up VACUUM INTO.
//
// The workers call receiver once Start has been called. Call Stop when you are done.
func Open(ctx context.Context, path string, receiver pixmed.Receiver, opts ...inbox.Option) (*inbox.Inbox, error) {
	in, err := openInbox(ctx, path, receiver, opts)
	if err != nil {
		return nil, fmt.Errorf("open the inbox in %s: %w", path, err)
	}
	return in, nil
}

func openInbox(ctx context.Context, path string, receiver pixmed.Receiver, opts []inbox.Option) (*inbox.Inbox, error) {
	c, err := bridge.Inbox.Configure(opts)
	if err != nil {
		return nil, err
	}
	if c.Schema != "" || c.PollOnly {
		return nil, errors.New("an option of package postgres is given")
	}
	if c.PollInterval == 0 {
		c.PollInterval = time.Second
	}
	if err := bridge.Inbox.CheckReceiver(receiver); err != nil {
		return nil, err
	}
	s, err := open(ctx, path, c)
	if err != nil {
		return nil, err
	}
	if c.Defence {
		if err := s.SetDefence(ctx, ledger.Defence{Window: c.Window, Before: c.Before}); err != nil {
			return nil, errors.Join(fmt.Errorf("WithDefence: %w", err), s.close(false))
		}
	}
	return bridge.Inbox.New(s, receiver, c).(*inbox.Inbox), nil //nolint:forcetypeassert // it is one
}

// engine is the [ledger.Engine]. SQLite has one writer at a time, and writers that
// contend for the lock are starved. So there is one connection for writing, which the
// committer and the purge take turns to use, and a few for reading.
type engine struct {
	reader

	config *config.Config
	log    *slog.Logger
	lock   *flock.Flock
	path   string
	write  *sql.DB // one connection
	owner  int64   // the number in the file's settings while this process has it open

	defence ledger.Defence // what the settings say; nobody else changes them

	stmts    statements
	prepared []*sql.Stmt // all of them

	file os.FileInfo // what was opened
	disk diskCheck
	wal  wal
}

var _ ledger.Engine = (*engine)(nil)

func open(ctx context.Context, path string, c *config.Config) (_ *engine, err error) {
	if path, err = resolve(path); err != nil {
		return nil, err
	}
	s := &engine{config: c, log: c.Logger, path: path, lock: flock.New(path+".lock", flock.SetPermissions(0o600)), wal: wal{limit: walStep}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(false))
		}
	}()
	locked, err := s.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s.lock: %w", path, err)
	}
	if !locked {
		return nil, fmt.Errorf("%w: it holds the lock on %s.lock; use package postgres to share an inbox", ErrLocked, path)
	}
	// Not before: closing the file would drop the locks that this process may hold on
	// it, for an inbox that has it open.
	if err := s.checkOurs(ctx); err != nil {
		return nil, err
	}
	if err := ensureFile(path); err != nil {
		return nil, err
	}
	if err := s.keepPrivate(); err != nil {
		return nil, err
	}
	if s.file, err = os.Stat(path); err != nil {
		return nil, err
	}
	if s.write, err = sql.Open("sqlite", dsn(path, "_txlock=immediate", pragma("synchronous(FULL)"), pragma("secure_delete(ON)"), pragma("cache_size(-32768)"))); err != nil {
		return nil, err
	}
	s.write.SetMaxOpenConns(1)
	ctx = context.WithoutCancel(ctx)
	if err := s.secure(ctx); err != nil {
		return nil, err
	}
	if s.read, err = sql.Open("sqlite", dsn(path, pragma("query_only(true)"), pragma("cache_size(-4096)"))); err != nil {
		return nil, err
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	s.defence, err = readDefence(ctx, s.write)
	return s, err
}

// secure syncs everything that the file holds, and marks it as this process's.
func (s *engine) secure(ctx context.Context) error {
	// A process that was killed may have left writes that it never synced: they can be
	// read, and a power cut would lose them. They must be on disk before a redelivery is
	// answered as a duplicate.
	if err := s.checkpointAtOpen(ctx); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	s.owner = int64(binary.BigEndian.Uint64(random[:]) >> 1)
	if _, err := s.write.ExecContext(ctx, "UPDATE settings SET owner = ?", s.owner); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(s.path)); err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	return nil
}

const readers = 4

func dsn(path string, params ...string) string {
	return plainDSN(path, append([]string{
		pragma(fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())), pragma("journal_mode(WAL)"), pragma("fullfsync(true)"), pragma("checkpoint_fullfsync(true)"),
		pragma(fmt.Sprintf("wal_autocheckpoint(%d)", walPages)),
		pragma("temp_store(MEMORY)"),
	}, params...)...)
}

func plainDSN(path string, params ...string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/folder/file, which would be taken for a host
		path = "/" + path
	}
	u := url.URL{Scheme: "file", Path: path}
	u.RawQuery = strings.Join(params, "&")
	return u.String()
}

func pragma(p string) string { return "_pragma=" + url.QueryEscape(p) }

// Session implements [ledger.Engine].
func (s *engine) Session() ledger.Session { return nil }

// Close implements [ledger.Engine].
func (s *engine) Close() error { return s.close(true) }

func (s *engine) close(checkpoint bool) error {
	var errs []error
	for _, stmt := range s.prepared {
		errs = append(errs, stmt.Close())
	}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.write != nil {
		if checkpoint { // so that the main file can be copied alone
			if _, err := s.checkpoint(context.Background(), closePatience); err != nil {
				errs = append(errs, fmt.Errorf("checkpoint: %w", err))
			}
		}
		errs = append(errs, s.write.Close())
	}
	return errors.Join(append(errs, s.lock.Unlock())...)
}

type diskCheck struct {
	mu  sync.Mutex
	at  time.Time
	err error
}
