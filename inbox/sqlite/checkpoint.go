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
	// walPages is after how many pages of 4 KiB SQLite begins the -wal file anew by
	// itself: when a transaction ends in a moment in which nobody reads.
	walPages = 10_000

	// walStep is by how much the -wal file may grow until that moment is made. It is
	// a little more than walPages.
	walStep = 44 << 20

	// checkpointPatience is how long writers wait for readers then.
	checkpointPatience = 500 * time.Millisecond
	busyTimeout        = 10 * time.Second
)

// wal keeps the -wal file small. Under load somebody always reads, so that SQLite
// would never begin it anew; and the longer it is, the slower is every read.
type wal struct {
	mu    sync.Mutex
	limit int64 // in bytes
}

// trimWAL begins the -wal file anew if it has outgrown its limit. Who reads for
// longer than writers are made to wait, such as a backup, keeps it from that until
// it has grown by another step.
func (s *store) trimWAL() {
	if !s.wal.mu.TryLock() { // another transaction has ended
		return
	}
	defer s.wal.mu.Unlock()
	file, err := os.Stat(s.path + "-wal")
	if err != nil || file.Size() < s.wal.limit {
		return
	}
	trimmed, err := s.checkpoint()
	s.wal.limit = walStep
	if !trimmed {
		s.wal.limit = file.Size() + walStep
		s.log.Warn("inbox: the -wal file could not be begun anew: somebody reads the database for long, such as a backup; reads are slower until that ends",
			"path", s.path+"-wal", "mebibytes", file.Size()>>20, "error", err)
	}
}

// checkpoint moves what is in the -wal file to the main one, and empties it.
func (s *store) checkpoint() (done bool, err error) {
	ctx := context.Background() // never cancelled
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := setBusyTimeout(ctx, conn, checkpointPatience); err != nil {
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
