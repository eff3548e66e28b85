package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symbolic links a path may lead through.
const maxLinks = 40

// resolve returns the path to which all paths of a file lead, since the lock's file is
// beside it. The file need not exist; its folder must.
func resolve(path string) (string, error) {
	switch {
	case path == "":
		return "", errors.New("the path is empty")
	case strings.HasPrefix(path, ":memory:"):
		return "", errors.New("an inbox in memory would lose everything: name a file")
	case strings.HasPrefix(path, "file:"):
		return "", errors.New("it is a URI: name the file itself")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for range maxLinks {
		folder, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		path = filepath.Join(folder, filepath.Base(path))
		target, err := os.Readlink(path)
		if err != nil { // it is a file, or does not exist yet
			return path, nil //nolint:nilerr // whatever else is wrong with it, opening it fails
		}
		if path = target; !filepath.IsAbs(target) {
			path = filepath.Join(folder, target)
		}
	}
	return "", errors.New("too many symbolic links")
}

// ensureFile creates the file if there is none. It fails if the file may not be
// written: SQLite would open such a file and then reject every write.
func ensureFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the path is the caller's
	if err != nil {
		return err
	}
	return f.Close()
}

// keepPrivate makes the files readable by their owner only, since they hold
// personal data. SQLite creates its other files with the mode of the main one.
func (s *engine) keepPrivate() error {
	for _, path := range []string{s.path, s.path + "-wal", s.path + "-shm"} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		mode := info.Mode().Perm()
		if !knowsModes || mode&0o077 == 0 {
			continue
		}
		switch err := os.Chmod(path, 0o600); {
		case err == nil:
			s.log.Warn("pixmed: a file of the inbox could be read by others; its mode is 0600 now", "path", path, "mode", mode.String())
		case mode&0o007 != 0:
			return fmt.Errorf("%s can be read by everybody, holds personal data, and its mode cannot be changed: %w", path, err)
		default:
			s.log.Warn("pixmed: a file of the inbox can be read by its group, and its mode cannot be changed", "path", path, "mode", mode.String(), "error", err)
		}
	}
	return nil
}

// checkOurs fails if the file is somebody else's, before anything is written.
func (s *engine) checkOurs(ctx context.Context) error {
	info, err := os.Lstat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a file")
	case links(info) > 1:
		return fmt.Errorf("the file has %d hard links: locks and SQLite's other files go by its name, so that it must have one", links(info))
	case info.Size() == 0 && !exists(s.path+"-wal"):
		return nil // it is new
	}
	mode := "mode=ro"
	if exists(s.path + "-journal") {
		mode = "mode=rw" // SQLite rolls back what a crash has cut off, whoever opens the file
	}
	db, err := sql.Open("sqlite", plainDSN(s.path, mode, pragma(fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return checkHeader(ctx, db)
}

// checkHeader fails if a database is not an inbox of a version that this program
// knows.
func checkHeader(ctx context.Context, db *sql.DB) error {
	var application, version, tables, river int64
	err := db.QueryRowContext(ctx, `
SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master),
	(SELECT count(*) FROM sqlite_master WHERE name = 'river_job')`).Scan(&application, &version, &tables, &river)
	switch {
	case err != nil:
		return fmt.Errorf("read it: %w", err)
	case application == applicationID && version >= 1 && version <= int64(len(migrations)):
		return nil
	case application == applicationID:
		return fmt.Errorf("its tables have version %d, and this program knows %d: update the program", version, len(migrations))
	case application == 0 && version == 0 && tables == 0:
		return nil // it is new
	case river > 0:
		return errors.New("it was made by a version of pixmed before v0.1.0, whose queue was River; this version does not read it: choose another file")
	default:
		return errors.New("it is somebody else's database: choose another file")
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
