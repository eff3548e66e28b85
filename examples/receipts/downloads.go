package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pixmed-go/pixmed"
)

// downloads fetches receipts into a folder.
type downloads struct {
	streams

	client   *pixmed.Client
	dir      string
	parallel int
	timeout  time.Duration
}

// result is what became of one receipt.
type result struct {
	id      string
	size    int64
	sum     string
	skipped bool // it was there and whole
	err     error
}

// run fetches what is not there. When the gateway refuses the credentials it stops:
// the other receipts would fare no better.
func (d *downloads) run(ctx context.Context, ids []string) error {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		fmt.Fprintln(d.err, "receipts:", err)
		return err
	}
	known, err := readSums(d.dir)
	if err != nil {
		fmt.Fprintln(d.err, "receipts:", err)
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	progress := newProgress(d.streams, len(ids))
	results := make(chan result)
	go func() {
		defer close(results)
		var group errgroup.Group
		group.SetLimit(d.parallel)
		for _, id := range ids {
			size, sum, ok := known.whole(id + ".pdf")
			if ok {
				results <- result{id: id, size: size, sum: sum, skipped: true}
				continue
			}
			group.Go(func() error {
				results <- d.fetch(ctx, id)
				return nil
			})
		}
		_ = group.Wait()
	}()

	var total summary
	for r := range results {
		if r.err == nil && !r.skipped {
			r.err = known.set(r.id+".pdf", r.sum)
		}
		total.add(r)
		if errors.Is(r.err, pixmed.ErrUnauthorized) || errors.Is(r.err, pixmed.ErrForbidden) {
			stop()
		}
		if r.err == nil {
			fmt.Fprintf(d.out, "%s\t%d\t%s\t%s\n", r.id, r.size, r.sum, filepath.Join(d.dir, r.id+".pdf"))
		}
		progress.tell(r)
	}
	progress.end()
	fmt.Fprintln(d.err, total.String())
	return errors.Join(total.errs...)
}

func (d *downloads) fetch(ctx context.Context, id string) result {
	if ctx.Err() != nil {
		return result{id: id, err: context.Cause(ctx)}
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	info, err := d.client.SaveReceipt(ctx, id, filepath.Join(d.dir, id+".pdf"))
	if err != nil {
		return result{id: id, err: err}
	}
	return result{id: id, size: info.Size, sum: info.SHA256}
}

// summary counts results.
type summary struct {
	saved, skipped, cancelled int
	bytes                     int64 // of what is there
	errs                      []error
}

func (s *summary) add(r result) {
	switch {
	case errors.Is(r.err, context.Canceled):
		s.cancelled++
		s.errs = append(s.errs, r.err)
	case r.err != nil:
		s.errs = append(s.errs, r.err)
	case r.skipped:
		s.skipped++
		s.bytes += r.size
	default:
		s.saved++
		s.bytes += r.size
	}
}

func (s *summary) String() string {
	return fmt.Sprintf("%d saved, %d there already, %d failed, %d not fetched; %d bytes in all",
		s.saved, s.skipped, len(s.errs)-s.cancelled, s.cancelled, s.bytes)
}
