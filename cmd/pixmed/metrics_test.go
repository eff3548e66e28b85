package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pixmed-go/pixmed/inbox"
)

// slowCounts takes long to count, and knows how often it did.
type slowCounts struct{ now, most, all atomic.Int64 }

func (c *slowCounts) Stats(context.Context) (inbox.Stats, error) {
	n := c.now.Add(1)
	defer c.now.Add(-1)
	c.all.Add(1)
	if n > c.most.Load() {
		c.most.Store(n)
	}
	time.Sleep(2 * time.Second)
	return inbox.Stats{Open: 7}, nil
}

func (c *slowCounts) CountReceived(context.Context, time.Time, time.Duration, int) ([]inbox.Received, error) {
	return make([]inbox.Received, 1), nil
}

// However many scrape, the inbox counts once for all of them.
func TestScrapesShareCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, counts := newMetrics(), new(slowCounts)
		m.collect(&inboxCollector{inbox: counts}, keepCounts)
		var scraping sync.WaitGroup
		for range 16 {
			scraping.Go(func() {
				w := httptest.NewRecorder()
				m.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
				if !strings.Contains(w.Body.String(), "pixmed_cases_open 7") {
					t.Errorf("%d: %.200s", w.Code, w.Body)
				}
			})
		}
		scraping.Wait()
		if all, most := counts.all.Load(), counts.most.Load(); all != 1 || most != 1 {
			t.Errorf("it counted %d times, %d at once", all, most)
		}
		time.Sleep(time.Minute) // what the timeouts of the scrapes wait for
	})
}
