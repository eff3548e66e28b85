package retryafter_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed/internal/retryafter"
)

func TestParse(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	const longest = 9_223_372_036 * time.Second
	for value, want := range map[string]time.Duration{
		"":                                0,
		"0":                               0,
		"120":                             2 * time.Minute,
		" 1 ":                             time.Second,
		"-1":                              0,
		"1.5":                             0,
		"soon":                            0,
		"9223372036":                      longest,
		"9223372037":                      longest,
		"18446744073709551616":            longest,
		strings.Repeat("9", 64):           longest,
		strings.Repeat("9", 65):           0,
		strings.Repeat("0", 9000) + "1":   0,
		"Tue, 03 Feb 2026 04:05:06 GMT":   0,
		"Tue, 03 Feb 2026 04:06:06 GMT":   time.Minute,
		"Tue, 03 Feb 2026 04:04:06 GMT":   0,
		"Tuesday, 03-Feb-26 04:06:06 GMT": time.Minute,
		"Tue Feb  3 04:06:06 2026":        time.Minute,
		"Fri, 31 Dec 9999 23:59:59 GMT":   math.MaxInt64,
	} {
		if got := retryafter.Parse(value, now); got != want {
			t.Errorf("Parse(%.40q) = %v, want %v", value, got, want)
		}
	}
}
