package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	// walPages is the size of the -wal file, in pages of 4 KiB, at which SQLite starts it
	// over by itself, once a transaction ends while nobody reads.
	walPages = 10_000

	// walStep is how many bytes the -wal file may grow before writers wait for such a
	// moment. It is a little more than walPages.
	walStep = 44 << 20

	// openPatience and closePatience are how long Open and Close wait for readers.
	openPatience  = 30 * time.Second
	closePatience = 500 * time.Millisecond
	busyTimeout   = 10 * time.Second
)

// wal keeps the -wal file small. Under load somebody always reads, so SQLite would
// never start it over; and the longer it is, the slower every read is.
type wal struct {
	mu    sync.Mutex
	limit int64 // in bytes
}

// trimWAL starts the -wal file over if it has outgrown its limit. If somebody, such as
// a backup, reads for longer than writers may be made to wait, it tries again when the
// file has grown by another step.
func (s *engine) trimWAL() {
	if !s.wal.mu.TryLock() { // another transaction has ended
		return
	}
	defer s.wal.mu.Unlock()
	file, err := os.Stat(s.path + "-wal")
	if err != nil || file.Size() < s.wal.limit {
		return
	}
	done, err := s.checkpoint(context.Background(), s.config.WALPatience)
	s.wal.limit = walStep
	if done {
		return
	}
	s.wal.limit = file.Size() + walStep
	if err != nil {
		s.log.Error("pixmed: the -wal file could not be moved into the database: its disk is failing", "path", s.path+"-wal", "mebibytes", file.Size()>>20, "error", err)
		return
	}
	s.log.Warn("pixmed: the -wal file could not be started over: somebody, such as a backup, has been reading the database for a long time; reads are slower until that ends",
		"path", s.path+"-wal", "mebibytes", file.Size()>>20)
}

// checkpointAtOpen syncs what is in the -wal file and moves it to the main one.
func (s *engine) checkpointAtOpen(ctx context.Context) error {
	done, err := s.checkpoint(ctx, openPatience)
	if err != nil {
		return fmt.Errorf("sync what the last process has left in the -wal file: %w", err)
	}
	if !done {
		return fmt.Errorf("sync what the last process has left in the -wal file: somebody has been reading the database for %v, which prevents it: end that and try again", openPatience)
	}
	return nil
}

// checkpoint syncs what is in the -wal file, moves it to the main one, and empties
// it. done is false if somebody was reading all the time.
func (s *engine) checkpoint(ctx context.Context, patience time.Duration) (done bool, err error) {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := setBusyTimeout(ctx, conn, patience); err != nil {
		return false, err
	}
	var busy, inWAL, moved int
	err = conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &inWAL, &moved)
	return err == nil && busy == 0, errors.Join(err, setBusyTimeout(ctx, conn, busyTimeout))
}

func setBusyTimeout(ctx context.Context, conn *sql.Conn, d time.Duration) error {
	_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", d.Milliseconds()))
	return err
}
