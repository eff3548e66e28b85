package inbox

import (
	"bytes"
	"context"
	"time"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

const (
	searchTimeout = 5 * time.Second
	searchBodies  = 1000 // how many quarantined bodies a search reads
	searchPage    = 50   // how many at a time
)

// searchContext bounds how long a search takes.
func searchContext(ctx context.Context, text string) (context.Context, context.CancelFunc) {
	if text == "" {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, searchTimeout)
}

// searchBodies returns a page of quarantined events whose body contains a text.
func (r *reads) searchBodies(ctx context.Context, f ledger.Filter, text string) (found []*ledger.Event, err error) {
	folded := ledger.Fold(text)
	most := f.Limit
	f.Bare, f.Limit = false, searchPage
	for read := 0; read < searchBodies; read += searchPage {
		events, err := r.from.List(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			if !bytes.Contains(ledger.Fold(string(e.Raw)), folded) {
				continue
			}
			if found = append(found, e); len(found) == most {
				return found, nil
			}
		}
		if len(events) < searchPage {
			break
		}
		f.Before = events[len(events)-1].ID
	}
	return found, nil
}
