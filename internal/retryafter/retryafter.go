// Package retryafter reads the header Retry-After (RFC 9110, section 10.2.3).
package retryafter

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxLen is longer than any number or date that means anything.
const maxLen = 64

// Parse returns how long a header's value asks to wait from now, or 0 if it does
// not ask. It never overflows.
func Parse(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if len(value) > maxLen {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		const most = uint64(1<<63-1) / uint64(time.Second)
		return time.Duration(min(seconds, most)) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}
