package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/pixmed-go/pixmed"
)

// progress tells of results: with a bar on a terminal, where what has failed is
// written above it, and otherwise with a line for each.
type progress struct {
	lines io.Writer
	bars  *mpb.Progress // nil without a terminal
	bar   *mpb.Bar
}

func newProgress(s streams, receipts int) *progress {
	if !s.terminal {
		return &progress{lines: s.err}
	}
	bars := mpb.New(mpb.WithOutput(s.err), mpb.WithWidth(48), mpb.WithAutoRefresh())
	bar := bars.AddBar(int64(receipts), mpb.AppendDecorators(decor.CountersNoUnit("%d of %d receipts")))
	return &progress{bars, bars, bar}
}

func (p *progress) tell(r result) {
	switch {
	case errors.Is(r.err, context.Canceled):
		// The summary counts them.
	case r.err != nil:
		fmt.Fprintf(p.lines, "%s: failed: %v%s\n", r.id, r.err, advice(r.err))
	case p.bars != nil:
	case r.skipped:
		fmt.Fprintf(p.lines, "%s: there already, %d bytes\n", r.id, r.size)
	default:
		fmt.Fprintf(p.lines, "%s: saved, %d bytes\n", r.id, r.size)
	}
	if p.bars != nil {
		p.bar.Increment()
	}
}

// end waits for the bar to be drawn for the last time.
func (p *progress) end() {
	if p.bars != nil {
		p.bars.Wait()
	}
}

// advice says what to do about an error, if there is more to say than it does.
func advice(err error) string {
	switch {
	case errors.Is(err, pixmed.ErrUnauthorized), errors.Is(err, pixmed.ErrForbidden):
		return " (check GATEWAY_KEY and GATEWAY_SECRET)"
	case errors.Is(err, pixmed.ErrNotFound):
		return " (check the id and GATEWAY_URL)"
	case errors.Is(err, pixmed.ErrRateLimited), errors.Is(err, pixmed.ErrUnavailable):
		return " (run the command again later: what is there is not fetched again)"
	case errors.Is(err, pixmed.ErrReceiptTooLarge):
		return " (raise -max-size)"
	}
	return ""
}
