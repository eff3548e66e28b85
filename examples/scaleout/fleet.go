package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// fleet is the replicas, and the load balancer in front of them.
type fleet struct {
	environment []string
	failed      context.CancelCauseFunc // called when a replica ends by itself

	mu       sync.Mutex
	replicas []*process
	next     int // whose turn it is
}

// process is a replica: this program again, with another environment.
type process struct {
	url    *url.URL
	cmd    *exec.Cmd
	stdin  io.Closer     // the process ends when this is closed
	ending chan struct{} // closed when it is meant to end
	ended  chan struct{} // closed when it has ended
}

// start starts replica i, the first of which is 0, and waits until it serves.
func (f *fleet) start(ctx context.Context, i int) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	p := &process{
		cmd:    exec.CommandContext(context.WithoutCancel(ctx), program),
		ending: make(chan struct{}), ended: make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), f.environment...)
	p.cmd.Env = append(p.cmd.Env, fmt.Sprintf("%s=%d", replicaVariable, i+1))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	unhook := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	address, readErr := bufio.NewReader(stdout).ReadString('\n')
	if !unhook() || readErr != nil {
		_ = p.cmd.Process.Kill()
		if err := p.cmd.Wait(); ctx.Err() == nil {
			return fmt.Errorf("replica %d did not start: %w", i+1, errors.Join(readErr, err))
		}
		return context.Cause(ctx)
	}
	p.url = &url.URL{Scheme: "http", Host: strings.TrimSpace(address)}
	go func() {
		_ = p.cmd.Wait() // its state says the same
		if !isClosed(p.ending) {
			f.failed(fmt.Errorf("replica %d ended by itself: %v", i+1, p.cmd.ProcessState))
		}
		close(p.ended)
	}()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replicas[i] = p
	return nil
}

// kill ends a replica as a crash does, without warning.
func (f *fleet) kill(i int) error {
	f.mu.Lock()
	p := f.replicas[i]
	f.mu.Unlock()
	close(p.ending)
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.ended
	return nil
}

// stop lets all replicas end, and kills those that take too long.
func (f *fleet) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	for _, p := range f.replicas {
		if p != nil && !isClosed(p.ending) {
			close(p.ending)
			_ = p.stdin.Close()
		}
	}
	for i, p := range f.replicas {
		if p == nil {
			continue
		}
		select {
		case <-p.ended:
		case <-ctx.Done():
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		f.replicas[i] = nil
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// balancer passes requests on to the replicas in turn, even to one that is dead: like
// a real one, it takes a while to notice. The gateway gets a 502 then.
func (f *fleet) balancer() http.Handler {
	return &httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: senders},
		ErrorLog:  log.New(io.Discard, "", 0),
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(f.turn()) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
	}
}

func (f *fleet) turn() *url.URL {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = (f.next + 1) % len(f.replicas)
	return f.replicas[f.next].url
}
