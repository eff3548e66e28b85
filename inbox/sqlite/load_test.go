package sqlite_test

import (
	"testing"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/modeltest"
)

// An operation gets the events that it needs, and no others.
func TestLoads(t *testing.T) {
	t.Parallel()
	if err := modeltest.Loads(t.Context(), openEngine(t, enginetest.SQLite(t))); err != nil {
		t.Error(err)
	}
}
