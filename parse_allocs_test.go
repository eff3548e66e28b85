//go:build !race

package pixmed_test

import (
	"testing"

	"github.com/pixmed-go/pixmed"
)

// Under the race detector a sync.Pool drops things at random, and nothing could
// be said about allocations.
//
//nolint:paralleltest // allocations are counted for the whole process
func TestParseInfractionAllocations(t *testing.T) {
	body := []byte(specPayload)
	allocs := testing.AllocsPerRun(1000, func() {
		if _, err := pixmed.ParseInfraction(body); err != nil {
			t.Error(err)
		}
	})
	if allocs > 4 { // the Infraction and its three strings
		t.Errorf("%v allocations, want at most 4", allocs)
	}
}
