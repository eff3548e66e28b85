//go:build !unix

package localpg_test

import (
	"errors"
	"testing"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

func TestUnsupported(t *testing.T) {
	t.Parallel()
	if _, err := localpg.Start(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}
