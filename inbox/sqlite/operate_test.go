package sqlite_test

import (
	"testing"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest/modeltest"
)

// What is quarantined can be resolved and deleted; what belongs to a case cannot.
func TestDismiss(t *testing.T) {
	t.Parallel()
	if err := modeltest.Dismisses(t.Context(), openEngine(t, enginetest.SQLite(t))); err != nil {
		t.Error(err)
	}
}
