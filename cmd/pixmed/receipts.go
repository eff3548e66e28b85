package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/pixmed-go/pixmed"
)

var (
	receiptsDir = &setting{flag: "receipts", variable: "PIXMED_RECEIPTS", arg: "DIR", value: "receipts", usage: "folder for receipts, created if it is missing"}
	idsFile     = &setting{flag: "ids", variable: "PIXMED_IDS", arg: "FILE", usage: "read ids from this file, one per line; empty lines and # comments are skipped; - is standard input"}
	parallelism = &setting{flag: "parallel", variable: "PIXMED_PARALLEL", arg: "N", value: "4", usage: "how many at a time"}
	timeLimit   = &setting{flag: "timeout", variable: "PIXMED_TIMEOUT", arg: "TIME", usage: "how long one may take, retries included; a delivery 10s and a receipt 5m unless set"}
	maxSize     = &setting{flag: "max-size", variable: "PIXMED_MAX_SIZE", arg: "MIB", value: "32", usage: "largest receipt to accept, in MiB"}
)

func newReceipts(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receipts [ID...]",
		Short: "Download the receipts of transactions",
		Long: `Downloads the receipts of transactions, each to ID.pdf in the folder --receipts.

Ids come from the arguments and from --ids. A receipt that is already there and matches
its line in the folder's SHA256SUMS is not downloaded again, so the command can be
repeated; sha256sum -c reads that file too. With --receipts - a single receipt goes to
standard output.

Each receipt is a line on standard output, separated by tabs: transaction id, size in
bytes, SHA-256, path. Everything else goes to standard error. The exit code is 0 if all
receipts are there, and 3 if the gateway rejects the credentials.`,
		Example: `  export PIXMED_GATEWAY=https://gateway.example/v1 PIXMED_GATEWAY_KEY=... PIXMED_GATEWAY_SECRET=...
  pixmed receipts b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5
  pixmed receipts --ids ids.txt --receipts evidence
  pixmed receipts b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5 --receipts - > receipt.pdf`,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	addSettings(cmd, append(gatewaySettings, receiptsDir, idsFile, parallelism, timeLimit, maxSize)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v := newValues(cmd, p)
		d := &downloads{process: p, dir: v.text(receiptsDir), parallel: v.number(parallelism, 64), timeout: timeout(v, 5*time.Minute)}
		ids, errs := collectIDs(args, v.text(idsFile), p.in)
		v.errs = append(v.errs, errs...)
		switch {
		case len(errs) == 0 && len(ids) == 0:
			v.errs = append(v.errs, errors.New("no transaction ids: give some as arguments, or a file of them with --ids"))
		case d.dir == "-" && len(ids) > 1:
			v.problem(receiptsDir, "- is for a single receipt, not for %d", len(ids))
		case d.dir == "":
			v.problem(receiptsDir, "it is empty")
		}
		size := v.number(maxSize, 1<<20)
		g := readGateway(v)
		if g.url == "" {
			v.problem(gatewayURL, "it is not set; receipts are downloaded from there")
		}
		d.progress = newProgress(p, len(ids))
		if err := v.err(); err != nil {
			return err
		}
		var err error
		d.client, err = g.client(&watcher{g.transport, d.progress}, pixmed.WithMaxReceiptSize(int64(size)<<20),
			pixmed.WithLogger(slog.New(slog.DiscardHandler))) // the errors say it all
		if err != nil {
			return err
		}
		if d.dir == "-" {
			return d.print(cmd.Context(), ids[0])
		}
		return d.run(cmd.Context(), ids)
	}
	return cmd
}

// downloads fetches receipts into a folder.
type downloads struct {
	*process

	client   *pixmed.Client
	progress *progress
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
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	known, err := readSums(d.dir)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	d.progress.begin()
	results := make(chan result)
	go func() {
		defer close(results)
		var group errgroup.Group
		group.SetLimit(d.parallel)
		for _, id := range ids {
			size, sum, err := known.whole(id + ".pdf")
			if err != nil || sum != "" {
				results <- result{id, size, sum, err == nil, err}
				continue
			}
			group.Go(func() error {
				results <- d.fetch(running, id)
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
		if isRefused(r.err) {
			stop()
		}
		if r.err == nil {
			fmt.Fprintf(d.out, "%s\t%d\t%s\t%s\n", r.id, r.size, r.sum, filepath.Join(d.dir, r.id+".pdf"))
		}
		d.progress.tell(r)
	}
	d.progress.end()
	fmt.Fprintln(d.err, total.String())
	return total.exit(ctx)
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

// print writes a receipt to standard output, byte for byte.
func (d *downloads) print(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	d.progress.begin()
	r, err := d.client.OpenReceipt(ctx, id)
	d.progress.end() // before anything is written: both may be one terminal
	if err == nil {
		_, err = io.Copy(d.raw, r)
		err = errors.Join(err, r.Close())
	}
	if err == nil {
		return nil
	}
	var total summary
	total.add(result{id: id, err: err})
	fmt.Fprintf(d.err, "%s: failed: %s\n", id, explain(err)+advise(err))
	return total.exit(ctx)
}

func isRefused(err error) bool {
	return errors.Is(err, pixmed.ErrUnauthorized) || errors.Is(err, pixmed.ErrForbidden)
}

// summary counts results.
type summary struct {
	saved, skipped, cancelled, failed int
	bytes                             int64 // of what is there
	refused                           bool  // whether the gateway refused the credentials
}

func (s *summary) add(r result) {
	s.refused = s.refused || isRefused(r.err)
	switch {
	case errors.Is(r.err, context.Canceled):
		s.cancelled++
	case r.err != nil:
		s.failed++
	case r.skipped:
		s.skipped++
		s.bytes += r.size
	default:
		s.saved++
		s.bytes += r.size
	}
}

func (s *summary) String() string {
	return fmt.Sprintf("%d saved, %d already there, %d failed, %d not fetched; %d bytes in all",
		s.saved, s.skipped, s.failed, s.cancelled, s.bytes)
}

// exit says how the command ends. All has been said by then.
func (s *summary) exit(ctx context.Context) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return &exit{code: exitInterrupted}
	case s.refused:
		return &exit{code: exitRefused}
	case s.failed+s.cancelled > 0:
		return &exit{code: exitFailed}
	}
	return nil
}

// watcher tells the progress what the gateway answers while the client tries again.
type watcher struct {
	base     http.RoundTripper
	progress *progress
}

func (w *watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.base.RoundTrip(r)
	switch {
	case err != nil:
		w.progress.wait("the gateway does not answer")
	case response.StatusCode != http.StatusOK:
		w.progress.wait(strings.TrimSpace(fmt.Sprintf("the gateway answers %d %s", response.StatusCode, http.StatusText(response.StatusCode))))
	}
	return response, err
}

// CloseIdleConnections is for http.Client's method of that name.
func (w *watcher) CloseIdleConnections() {
	if c, ok := w.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
