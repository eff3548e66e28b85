package inbox

import "github.com/pixmed-go/pixmed/inbox/internal/ledger"

// Reader reads an inbox beside the processes that have it open, and changes nothing.
// Open one with sqlite.OpenReader or postgres.OpenReader. Its methods may be called
// concurrently.
type Reader struct {
	reads
	close func() error
}

// Close ends the reader.
func (r *Reader) Close() error { return r.close() }

// reads is what Inbox and Reader have in common.
type reads struct{ from ledger.Reader }
