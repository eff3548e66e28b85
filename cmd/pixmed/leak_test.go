//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// TestNothingLeaks sends 25,000 requests of all kinds to a server that is a process
// of its own, and compares what it holds with what it held after the first ones.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	gateway.FailAlways(pixmedtest.Fault{Status: http.StatusServiceUnavailable}) // so that callbacks fail
	s := startProcess(t, settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir()))
	var l leakLoad
	l.run(t, s, 5_000)
	before := s.holds(t)
	l.run(t, s, 20_000)
	after := s.holds(t)
	// Callbacks come and go, with connections of theirs, ten at a time. The rarest kind
	// of request is one in a hundred: were it to leave something, there would be 200.
	const few = 50
	for patience := time.After(time.Minute); after.goroutines > before.goroutines+few || after.files > before.files+few; after = s.holds(t) {
		select {
		case <-time.After(100 * time.Millisecond): // what ends with requests takes a moment
			continue
		case <-patience:
			t.Fatalf("it holds %+v, and held %+v before", after, before)
		}
	}
	if grown := after.heap - before.heap; grown > 8<<20 {
		t.Errorf("the heap grew by %.0f MiB", grown/(1<<20))
	}
	t.Logf("%+v, then %+v; answers: %v", before, after, l.counts())
	s.end(t)
}

// leakLoad sends requests of all kinds.
type leakLoad struct {
	sent    atomic.Int64
	answers [600]atomic.Int64
}

func (l *leakLoad) counts() map[int]int64 {
	counts := make(map[int]int64)
	for status := range l.answers {
		if n := l.answers[status].Load(); n > 0 {
			counts[status] = n
		}
	}
	return counts
}

// run sends some more, and closes all its connections.
func (l *leakLoad) run(t *testing.T, s *server, requests int64) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	until := l.sent.Load() + requests
	var senders sync.WaitGroup
	for range 32 {
		senders.Go(func() {
			for n := l.sent.Add(1); n <= until; n = l.sent.Add(1) {
				l.send(t, client, s, n)
			}
			l.sent.Add(-1)
		})
	}
	senders.Wait()
}

func (l *leakLoad) send(t *testing.T, client *http.Client, s *server, n int64) {
	t.Helper()
	ctx, body, given := t.Context(), payload(), webhookSecret
	switch n % 20 {
	case 0: // a new one now and then; writing takes longer than all the rest
		if n%100 == 0 {
			body = payload(func(i *pixmed.Infraction) { i.TransactionID = fmt.Sprintf("00000000-0000-4000-8000-%012d", n) })
		}
	case 1: // gives up half way
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(n%1000)*10*time.Microsecond)
		defer cancel()
	case 2:
		if n%100 == 2 {
			body = `{"medStatus":1}`
		}
	case 3: // too large
		body = string(bytes.Repeat([]byte(" "), 100<<10))
	case 4, 5, 6, 7, 8, 9, 10:
		body = `{"transactionStatus":"PAID"}`
	default:
		given = "a wrong one"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.webhook+webhookPath, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Error(err)
		return
	}
	r.Header.Set("X-Webhook-Secret", given)
	response, err := client.Do(r)
	if err != nil {
		l.answers[0].Add(1)
		return
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	l.answers[response.StatusCode].Add(1)
}

// holding is what a process holds.
type holding struct{ goroutines, files, heap float64 }

// holds asks the process. Its connections to the gateway are idle or gone by then.
func (s *server) holds(t *testing.T) (h holding) {
	t.Helper()
	_, metrics := get(t, http.DefaultClient, http.MethodGet, s.admin+"/metrics", "")
	for name, value := range map[string]*float64{"go_goroutines": &h.goroutines, "process_open_fds": &h.files, "go_memstats_heap_inuse_bytes": &h.heap} {
		found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(metrics)
		if found == nil {
			t.Fatalf("no %s in the metrics", name)
		}
		var err error
		if *value, err = strconv.ParseFloat(found[1], 64); err != nil {
			t.Fatal(err)
		}
	}
	return h
}
