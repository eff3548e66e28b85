package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// walAtMost is what the -wal file may have, in bytes: what package sqlite allows,
// and the transaction that comes on top of it.
const walAtMost = 60 << 20

// SQLite starts the -wal file over when nobody reads. Here somebody always does, for
// as long at a time as a busy machine may make it.
func TestWALStaysSmall(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	in := s.Open(t, ignore, enginetest.Configure(func(c *config.Config) { c.WALPatience = enginetest.Patience }))
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	db := s.DB(t)
	started := make(chan struct{}, 1)
	reading.Go(func() { alwaysReading(t, ctx, db, started) })
	<-started
	largest := fill(t, in, s.Path, 4*walAtMost)
	cancel()
	reading.Wait()
	if largest > walAtMost {
		t.Errorf("the -wal file had %d MiB, want %d at most", largest>>20, walAtMost>>20)
	}
}

// alwaysReading ends no read transaction before the next one has begun.
func alwaysReading(t *testing.T, ctx context.Context, db *sql.DB, started chan<- struct{}) {
	t.Helper()
	var last *sql.Tx
	for ctx.Err() == nil {
		tx := beginReading(t, db)
		if tx == nil {
			break
		}
		if last != nil {
			_ = last.Rollback()
		}
		last = tx
		select {
		case started <- struct{}{}:
		default:
		}
	}
	if last != nil {
		_ = last.Rollback()
	}
}

func beginReading(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(context.WithoutCancel(t.Context()), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Error(err)
		return nil
	}
	var n int
	if err := tx.QueryRowContext(context.WithoutCancel(t.Context()), "SELECT count(*) FROM cases WHERE transaction_id = ''").Scan(&n); err != nil {
		t.Error(err)
	}
	return tx
}

// fill writes size bytes and returns the largest size that the -wal file had.
func fill(t *testing.T, in *inbox.Inbox, path string, size int) (largest int64) {
	t.Helper()
	const raw = 2 << 20
	for range size / raw {
		n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
		n.Raw = append(n.Raw, bytes.Repeat([]byte{' '}, raw)...)
		if err := in.Receive(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		file, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, file.Size())
	}
	return largest
}

// Somebody who reads for a long time prevents that, which is logged. Writers go on, and
// afterwards the file grows no more.
func TestWALOfALongReader(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	var log strings.Builder // written before the answers to those who fill
	in := s.Open(t, ignore, inbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	long := beginReading(t, s.DB(t))
	if largest := fill(t, in, s.Path, 2*walAtMost); largest < 2*walAtMost {
		t.Errorf("the -wal file had %d MiB, and a reader needs all of it", largest>>20)
	}
	if text := log.String(); strings.Count(text, "could not be started over") != 2 || !strings.Contains(text, s.Path) {
		t.Errorf("the log, of which two lines were expected: %s", text)
	}
	if err := long.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		t.Error(err)
	}
	// SQLite writes from the file's beginning again.
	before, err := os.Stat(s.Path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if largest := fill(t, in, s.Path, walAtMost); largest > before.Size()+walAtMost/4 {
		t.Errorf("the -wal file grew from %d to %d MiB", before.Size()>>20, largest>>20)
	}
}

// What a killed process has left in the -wal file, and perhaps never synced, is synced
// before anything is answered: the main file alone has it.
func TestLeftInTheWAL(t *testing.T) {
	t.Parallel()
	s := enginetest.SQLite(t)
	in := s.Open(t, ignore)
	n := enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged)
	if err := in.Receive(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	after := copyFiles(t, s.Path, "-wal")
	in = after.Open(t, ignore)
	if err := in.Receive(t.Context(), n); !errors.Is(err, pixmed.ErrDuplicate) {
		t.Fatalf("Receive: %v, want ErrDuplicate", err)
	}
	main := filepath.Join(t.TempDir(), "inbox.db")
	b, err := os.ReadFile(after.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(main, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+main+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var events int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM events").Scan(&events); err != nil || events != 1 {
		t.Errorf("the main file has %d events, %v: the rest is in a file that nobody has synced", events, err)
	}
}

// copyFiles copies a database and the file beside it that ends in suffix, as they
// are when the process is killed.
func copyFiles(t *testing.T, path, suffix string) *enginetest.Database {
	t.Helper()
	s := enginetest.SQLite(t)
	for _, suffix := range []string{"", suffix} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.Path+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}
