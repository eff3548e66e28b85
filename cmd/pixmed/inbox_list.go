package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pixmed-go/pixmed/inbox"
)

var (
	listState  = &setting{flag: "state", arg: "STATE", usage: "only those that are pending, done, dead, quarantined or resolved"}
	listError  = &setting{flag: "error", arg: "TEXT", usage: "only those whose last error holds this text"}
	listSince  = &setting{flag: "since", arg: "TIME", usage: "only those received since then: 2026-01-31, 2026-01-31T12:00:00Z, or 2d for two days ago"}
	listUntil  = &setting{flag: "until", arg: "TIME", usage: "only those received before then"}
	listSearch = &setting{flag: "search", arg: "TEXT", usage: "only those of transactions of which an id begins with this text: the transaction id, an external or end-to-end id; with --state quarantined those with this text in their body"}
	listLimit  = &setting{flag: "limit", arg: "N", value: "100", usage: "how many at most"}
)

func newInboxList(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List notifications, the newest first", Args: noArgs,
		Long: `Lists notifications, the newest first, with their ids, which replay, resolve, retry and
discard take. With --json there is one object a line; raw is the body in base64.`,
		Example: `  pixmed inbox list --state dead --since 2d
  pixmed inbox list --state quarantined --json | jq -r '.raw | @base64d'`,
	}
	addSettings(cmd, listState, listError, listSince, listUntil, listSearch, listLimit, asJSON)
	return onInbox(p, cmd, func(v *values, _ []string) operation {
		encode := v.on(asJSON)
		f := inbox.Filter{
			Error: v.text(listError), Since: v.since(listSince), Until: v.since(listUntil),
			Search: v.text(listSearch), Limit: v.number(listLimit, 1_000_000),
		}
		if v.isSet(listState) {
			f.State = inbox.State(v.oneOf(listState, states...))
		}
		return reading(func(ctx context.Context, in reader) error {
			if encode {
				encoder := json.NewEncoder(p.out)
				return each(ctx, in, f, func(e *inbox.Event) error { return encoder.Encode(e) })
			}
			w := newEventTable(p.out)
			return errors.Join(each(ctx, in, f, w.add), w.Flush())
		})
	})
}

var states = []string{string(inbox.Pending), string(inbox.Done), string(inbox.Dead), string(inbox.Quarantined), string(inbox.Resolved)}

// each calls do with up to f.Limit events.
func each(ctx context.Context, in reader, f inbox.Filter, do func(*inbox.Event) error) error {
	return pages(f.Limit, 1000, do, func(limit int, last *inbox.Event) ([]*inbox.Event, error) {
		if f.Limit = limit; last != nil {
			f.After = last.ID
		}
		return in.List(ctx, f)
	})
}

// pages calls do with up to left items, which it reads in pages of at most so many.
// page gets the last item of the page before, nil for the first page.
func pages[T any](left, most int, do func(*T) error, page func(limit int, last *T) ([]*T, error)) error {
	var last *T
	for left > 0 {
		limit := min(left, most)
		items, err := page(limit, last)
		if err != nil {
			return err
		}
		for _, last = range items {
			if err := do(last); err != nil {
				return err
			}
		}
		if len(items) < limit {
			return nil
		}
		left -= len(items)
	}
	return nil
}

// eventTable is a table of notifications.
type eventTable struct{ *tabwriter.Writer }

func newEventTable(out io.Writer) eventTable {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "EVENT\tSTATE\tRECEIVED\tSTATUS\tVALUE\tTRANSACTION\tATTEMPTS\tLAST ERROR")
	return eventTable{w}
}

func (t eventTable) add(e *inbox.Event) error {
	value := ""
	if e.Key.TransactionID != "" {
		value = e.Value.String()
	}
	_, err := fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", e.ID, stateOf(e), when(e.ReceivedAt),
		statusOf(e), dash(value), dash(e.Key.TransactionID), e.Attempts, oneLine(e.LastError, 100))
	return err
}

func stateOf(e *inbox.Event) string {
	if e.Discarded {
		return string(e.State) + ", discarded"
	}
	return string(e.State)
}

func statusOf(e *inbox.Event) string { return dash(printable(string(e.Status), 64)) }
