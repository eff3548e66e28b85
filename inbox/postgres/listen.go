package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// A notification tells other processes that something is due which this one does not
// take. It is sent in a transaction of its own, since its lock would make accepts wait
// for each other, and not too often. A lost one costs no more than the pause until the
// next look.
const (
	notifyPause    = 20 * time.Millisecond
	reconnectPause = time.Second
)

// channel is what notifications are sent on.
func (s *engine) channel() string { return s.config.Schema + "_due" }

// tell makes the notify loop tell others. It never blocks.
func (s *engine) tell() {
	select {
	case s.waiting <- struct{}{}:
	default:
	}
}

// notifyLoop tells other processes.
func (s *engine) notifyLoop() {
	if s.config.PollOnly {
		return
	}
	for {
		select {
		case <-s.waiting:
		case <-s.background.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.background, s.config.CommitTimeout)
		_, _ = s.pool.Exec(ctx, "SELECT pg_notify($1, '')", s.channel()) // others look by themselves too
		cancel()
		s.pause(notifyPause)
	}
}

// Start implements [ledger.Engine].
func (s *engine) Start(wake func()) {
	if !s.config.PollOnly {
		s.goroutines.Go(func() { s.listenLoop(wake) })
	}
}

// listenLoop listens to other processes. It logs once that it cannot, and not while the
// committer has no connection either, since that is logged too.
func (s *engine) listenLoop(wake func()) {
	for failures, logged := 0, false; s.background.Err() == nil; s.pause(reconnectPause) {
		err := s.listen(wake, func() { failures, logged = 0, false })
		if failures++; failures > 3 && !logged && s.works.Load() && s.background.Err() == nil {
			logged = true
			s.log.Warn("pixmed: cannot listen for what other processes accept; falling back to polling every second", "error", err)
		}
	}
}

func (s *engine) listen(wake, works func()) error {
	ctx, cancel := context.WithTimeout(s.background, s.config.CommitTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Conn().Close(closing) // it must not go on listening in the pool
		conn.Release()
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.channel()}.Sanitize()); err != nil {
		return err
	}
	works()
	for {
		wake() // also for what came before
		if err := conn.Conn().PgConn().WaitForNotification(s.background); err != nil {
			return err
		}
	}
}

// pause waits, unless the inbox is closed.
func (s *engine) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.background.Done():
	}
}
