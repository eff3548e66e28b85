package inbox

import (
	"sync"
	"sync/atomic"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// workers run attempts, each in a goroutine that starts when the attempt is claimed, so
// that no lease ages in a queue.
type workers struct {
	max      int
	work     func(a *ledger.Attempt, returned func())
	running  atomic.Int64
	attempts sync.WaitGroup
}

// free returns how many attempts may begin. An attempt whose callback has returned
// does not count, so that the transaction that settles it can claim the next one.
func (w *workers) free() int {
	if w == nil {
		return 0
	}
	return w.max - int(w.running.Load())
}

// begin starts an attempt.
func (w *workers) begin(a *ledger.Attempt) {
	w.running.Add(1)
	w.attempts.Go(func() {
		returned := sync.OnceFunc(func() { w.running.Add(-1) })
		defer returned()
		w.work(a, returned)
	})
}
