package sqlite_test

import (
	"testing"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/modeltest"
)

// Rows are inserted many at a time, and none is lost or mixed up with another.
func TestBatches(t *testing.T) {
	t.Parallel()
	if err := modeltest.Batches(t.Context(), openEngine(t, enginetest.SQLite(t))); err != nil {
		t.Error(err)
	}
}
