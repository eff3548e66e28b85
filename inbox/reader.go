package inbox

import "github.com/pixmed-go/pixmed/inbox/internal/ledger"

// Reader reads an inbox beside the processes that have it open, and changes nothing.
// Open one with sqlite.OpenReader or postgres.OpenReader. It holds nothing open between
// two calls, so there is nothing to close. Its methods may be called concurrently.
type Reader struct{ reads }

// reads is what Inbox and Reader have in common.
type reads struct{ from ledger.Reader }
