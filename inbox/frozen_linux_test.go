package inbox_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

// A process that was frozen while it claimed does not begin what it has claimed:
// others have taken it over.
func TestFrozenProcess(t *testing.T) {
	t.Parallel()
	s := enginetest.Postgres(t)
	e := newEffects(t, s)
	var children [3]*child
	var p [3]*process
	for i := range p {
		children[i] = e.child()
		children[i].AttemptTimeout, children[i].Overdue = time.Second, 1500*time.Millisecond
		p[i] = serve(t, children[i])
	}
	l := newLoad(t, func() string { return p[0].address })
	for i := range kills() {
		l.await(t, 40)
		frozen := p[1+i%2]
		if err := frozen.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		l.await(t, 40) // the others go on
		if i%2 == 0 {  // until its leases have run out
			time.Sleep(2 * time.Second)
		}
		if err := frozen.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	accepted := l.end(t)
	awaitWorked(t, p[0].stats, accepted)
	for _, p := range p {
		p.stop(t)
	}
	e.check(t, accepted)
	checkStored(t, s, accepted)
}
