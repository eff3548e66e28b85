package inbox_test

import (
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// TestFrozenProcess freezes one of three processes that share a database under
// load, again and again: for a moment, until others have taken over what it had
// claimed, or until it is killed. One that goes on does not begin what it has
// claimed, and does not settle what others have.
func TestFrozenProcess(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	e := newEffects(t, s)
	const processes = 3
	var children [processes]*child
	var p [processes]*process
	for i := range p {
		children[i] = e.child()
		children[i].AttemptTimeout, children[i].Overdue = time.Second, 1500*time.Millisecond
		p[i] = serve(t, children[i])
	}
	var addresses [processes]string
	for i := range p {
		addresses[i] = p[i].address
	}
	const none = -1
	var frozen atomic.Int64 // it does not answer
	frozen.Store(none)
	l := newLoad(t, func() string {
		if f := int(frozen.Load()); f != none {
			return addresses[(f+1+rand.N(processes-1))%processes]
		}
		return addresses[rand.N(processes)]
	})
	signal := func(i int, s syscall.Signal) {
		t.Helper()
		if err := p[i].cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	for i := range kills() {
		victim := i % processes
		l.await(t, 40+deliveries()/kills())
		signal(victim, syscall.SIGSTOP)
		frozen.Store(int64(victim))
		l.await(t, 40) // the others go on
		switch i / processes % 3 {
		case 0:
			time.Sleep(children[victim].Overdue + 500*time.Millisecond) // its leases run out
			signal(victim, syscall.SIGCONT)
		case 1:
			p[victim].kill()
			p[victim] = serve(t, children[victim])
		default:
			signal(victim, syscall.SIGCONT)
		}
		frozen.Store(none)
	}
	accepted := l.end(t)
	awaitWorked(t, p[0].stats, accepted)
	for _, p := range p {
		p.stop(t)
	}
	e.check(t, accepted)
	checkStored(t, s, accepted)
}
