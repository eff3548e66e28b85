package inbox

import (
	"testing"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// A worker is free again when its callback has returned, and not only when its
// attempt is settled.
func TestWorkers(t *testing.T) {
	t.Parallel()
	var none *workers
	if none.free() != 0 {
		t.Error("nobody is free where there is nobody")
	}
	begun, returning, ending := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w := &workers{max: 2, work: func(_ *ledger.Attempt, returned func()) {
		begun <- struct{}{}
		<-returning
		returned()
		returned() // a second call does nothing
		begun <- struct{}{}
		<-ending
	}}
	w.begin(nil)
	<-begun
	if got := w.free(); got != 1 {
		t.Errorf("%d are free while one runs, want 1", got)
	}
	close(returning)
	<-begun
	if got := w.free(); got != 2 {
		t.Errorf("%d are free when it has returned, want 2", got)
	}
	close(ending)
	w.attempts.Wait()
	if got := w.free(); got != 2 {
		t.Errorf("%d are free at the end, want 2", got)
	}
}
