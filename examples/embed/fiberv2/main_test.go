package main

import (
	"testing"

	"github.com/pixmed-go/pixmed/examples/internal/embedtest"
)

func TestServe(t *testing.T) {
	t.Parallel()
	embedtest.Run(t, serve)
}
