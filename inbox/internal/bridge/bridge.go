// Package bridge gives the engines, packages sqlite and postgres, what they need
// of package inbox and nobody else may see.
package bridge

import (
	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// Inbox is what package inbox gives, before anything else runs.
var Inbox Functions

// Set sets [Inbox]. Package inbox calls it, once.
func Set(f Functions) bool {
	Inbox = f
	return true
}

// Functions are functions of package inbox. They return and take its types as any,
// since that package imports this one.
type Functions struct {
	// Option returns an inbox.Option. name is that of the function that an option
	// comes from.
	Option func(name string, set func(*config.Config) error) any
	// Configure returns what a []inbox.Option sets.
	Configure func(options any) (*config.Config, error)
	// CheckReceiver reports a receiver that is nil or incomplete.
	CheckReceiver func(pixmed.Receiver) error
	// New returns an *inbox.Inbox that owns the engine.
	New func(ledger.Engine, pixmed.Receiver, *config.Config) any
	// NewReader returns an *inbox.Reader.
	NewReader func(ledger.Reader) any
}
