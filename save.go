package pixmed

import (
	"context"
	"fmt"

	"github.com/pixmed-go/pixmed/internal/atomicfile"
)

// SaveReceipt fetches the receipt of a transaction into the file at path: it
// writes a temporary file in the same directory, syncs it and renames it, so
// that path holds the whole PDF or what it held before; a symbolic link is
// replaced. The file is readable by its owner only (0600). The directory must
// exist.
//
// A process that is killed may leave its temporary file, .receipt-*.tmp, behind.
// SaveReceipt removes those in the directory that are older than an hour.
//
// Broken downloads are resumed as in [Client.Receipt]. Errors are those of Receipt
// and of the file system.
func (c *Client) SaveReceipt(ctx context.Context, transactionID, path string) (*ReceiptInfo, error) {
	if _, err := c.newReceiptCall(transactionID); err != nil {
		return nil, err
	}
	file, err := atomicfile.Create(path, ".receipt-", c.sync) // fails before any request is sent
	if err != nil {
		return nil, fmt.Errorf("cannot save the receipt: %w", err)
	}
	defer file.Discard() // what is not saved

	var info ReceiptInfo
	err = c.fetch(ctx, transactionID, func(r *ReceiptReader) error {
		if err := file.Reset(); err != nil { // there may have been an attempt before
			return fmt.Errorf("cannot save the receipt: %w", err)
		}
		_, err := r.WriteTo(file)
		info = r.Info()
		return err
	})
	if err != nil {
		return nil, err
	}
	saved, err := file.Commit()
	switch {
	case saved && err != nil:
		return nil, fmt.Errorf("the receipt is saved, but may not survive a crash: %w", err)
	case err != nil:
		return nil, fmt.Errorf("cannot save the receipt: %w", err)
	}
	return &info, nil
}
