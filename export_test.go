package pixmed

import (
	"os"
	"time"
)

// SetNow replaces the store's clock.
func (s *MemoryStore) SetNow(now func() time.Time) { s.now = now }

// SetBodyTimeout replaces how long a body may take to arrive where the server
// sets no limit.
func (h *Handler) SetBodyTimeout(d time.Duration) { h.bodyTimeout = d }

// SetSync replaces what makes a file or a directory durable.
func (c *Client) SetSync(sync func(*os.File) error) { c.sync = sync }

// Lines returns how many cases have calls in line.
func (s *MemoryStore) Lines() int { return s.lines.Len() }
