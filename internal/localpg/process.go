package localpg

import (
	"errors"
	"os/exec"
	"runtime"
	"time"
)

// A process is a child of this one.
type process struct {
	cmd      *exec.Cmd
	quitting bool // it was told to end
	err      error
	done     chan struct{} // closed when it has ended, and err is set
}

// spawn starts cmd, and waits for it in the background.
func spawn(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux ends the child with the thread that started it, not with the
		// process; so that thread waits for the child and does nothing else.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// result returns how the process ended; it must have.
func (p *process) result() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// quit tells the process to end at once. That it has ended already is no error,
// and there can be no other.
func (p *process) quit() {
	p.quitting = true
	_ = quit(p.cmd.Process)
}

// end ends the process and returns when it has.
func (p *process) end() {
	p.quit()
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}
