package pixmed

import "time"

// SetNow replaces the store's clock.
func (s *MemoryStore) SetNow(now func() time.Time) { s.now = now }

// SetBodyTimeout replaces how long a body may take to arrive where the server
// sets no limit.
func (h *Handler) SetBodyTimeout(d time.Duration) { h.bodyTimeout = d }
