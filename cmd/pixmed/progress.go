package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// progress tells how far a command is: on a terminal by a line that is written again
// and again, and otherwise by a line for each result and, while there is none, by one
// now and then.
type progress struct {
	process *process
	of      int // receipts

	mu      sync.Mutex // held while writing
	started time.Time
	done    int
	waiting string // why there is no result yet, if that is known
	told    time.Time
	stop    chan struct{} // nil before begin and after end
	stopped chan struct{}
}

func newProgress(p *process, of int) *progress { return &progress{process: p, of: of} }

const (
	redraw = time.Second      // of the line on a terminal
	remind = 15 * time.Second // that nothing happens
)

// begin starts to tell. It ends with end.
func (p *progress) begin() {
	every := remind
	if p.process.terminal {
		every = redraw
	}
	every = cmp.Or(p.process.tick, every)
	p.started, p.told = time.Now(), time.Now()
	p.stop, p.stopped = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(p.stopped)
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		for {
			select {
			case <-p.stop:
				return
			case now := <-ticks.C:
				p.mu.Lock()
				if p.process.terminal {
					p.draw()
				} else if now.Sub(p.told) >= every {
					p.told = now
					fmt.Fprintln(p.process.err, p.line())
				}
				p.mu.Unlock()
			}
		}
	}()
}

// wait remembers why there is nothing new.
func (p *progress) wait(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = why
}

// line says how far it is.
func (p *progress) line() string {
	line := fmt.Sprintf("%d of %d receipts after %v", p.done, p.of, time.Since(p.started).Round(time.Second))
	if p.waiting != "" {
		line += "; waiting: " + p.waiting
	}
	return line
}

const clearLine = "\r\x1b[K"

func (p *progress) draw() { _, _ = io.WriteString(p.process.rawErr, clearLine+escape(p.line())) }

// tell tells of a result. On a terminal only what failed gets a line of its own.
func (p *progress) tell(r result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	p.waiting, p.told = "", time.Now()
	text := ""
	switch {
	case errors.Is(r.err, context.Canceled):
		// The summary counts them.
	case r.err != nil:
		text = fmt.Sprintf("%s: failed: %s\n", r.id, explain(r.err)+advise(r.err))
	case p.process.terminal:
	case r.skipped:
		text = fmt.Sprintf("%s: already there, %d bytes\n", r.id, r.size)
	default:
		text = fmt.Sprintf("%s: saved, %d bytes\n", r.id, r.size)
	}
	if p.process.terminal {
		_, _ = io.WriteString(p.process.rawErr, clearLine)
	}
	_, _ = io.WriteString(p.process.err, text)
	if p.process.terminal {
		p.draw()
	}
}

// end stops to tell.
func (p *progress) end() {
	close(p.stop)
	<-p.stopped
	if p.process.terminal {
		_, _ = io.WriteString(p.process.rawErr, clearLine)
	}
}
