package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A load sends notifications at a steady rate whatever the answers are. One that is
// due while the service is away waits, and its latency counts from when it was due.
type load struct {
	settings settings
	url      string
	ledger   *ledger
	client   *http.Client
	due      chan time.Time
	begun    atomic.Int64 // transactions

	retried atomic.Int64 // requests that were not answered 200

	mu     sync.Mutex
	total  *hdrhistogram.Histogram // in microseconds, as the next
	recent *hdrhistogram.Histogram // since the last sample
}

func newLoad(s settings, url string, l *ledger) *load {
	return &load{
		settings: s, url: url, ledger: l,
		client: &http.Client{
			Timeout:   20 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: s.senders},
		},
		due:   make(chan time.Time, 60*s.rate),
		total: newHistogram(), recent: newHistogram(),
	}
}

// newHistogram returns a histogram of a microsecond to ten minutes, exact to 1 %.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 2)
}

// run sends the planned notifications and returns when each was answered 200.
func (l *load) run(ctx context.Context, planned int) {
	defer l.client.CloseIdleConnections()
	var senders sync.WaitGroup
	for range l.settings.senders {
		senders.Go(func() { l.send(ctx) })
	}
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for sent := 0; sent < planned && ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case now := <-tick.C:
			for ; sent < planned && float64(sent) < now.Sub(began).Seconds()*float64(l.settings.rate); sent++ {
				select {
				case l.due <- now:
				case <-ctx.Done():
				}
			}
		}
	}
	close(l.due)
	senders.Wait()
}

// send takes one transaction after the other through its story. As a gateway does, it
// sends a status once the one before was answered 200.
func (l *load) send(ctx context.Context) {
	for {
		number := int(l.begun.Add(1)) - 1
		for step, status := range story {
			due, ok := <-l.due
			if !ok {
				return
			}
			body := pixmedtest.Payload(pixmedtest.NewInfraction(func(i *pixmed.Infraction) {
				i.TransactionID, i.MEDStatus = transactionID(number), status
			}))
			if !l.deliver(ctx, body) {
				return
			}
			l.ledger.accepted[number].Store(uint32(step) + 1)
			l.record(time.Since(due))
			if (number+step)%20 == 0 { // and now and then once more
				l.deliver(ctx, body)
			}
		}
	}
}

// deliver sends a body until it is answered 200.
func (l *load) deliver(ctx context.Context, body []byte) bool {
	for {
		if l.post(ctx, body) == http.StatusOK {
			return true
		}
		l.retried.Add(1)
		pause := time.NewTimer(200 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return false
		}
	}
}

func (l *load) post(ctx context.Context, body []byte) (status int) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(secretHeader, secret)
	response, err := l.client.Do(request)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func (l *load) record(latency time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.total.RecordValue(max(1, latency.Microseconds()))
	_ = l.recent.RecordValue(max(1, latency.Microseconds()))
}

func (l *load) latencies() *hdrhistogram.Histogram {
	l.mu.Lock()
	defer l.mu.Unlock()
	return hdrhistogram.Import(l.total.Export())
}

// takeRecent returns the 99th percentile since it was last called.
func (l *load) takeRecent() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	p99 := time.Duration(l.recent.ValueAtQuantile(99)) * time.Microsecond
	l.recent.Reset()
	return p99
}
