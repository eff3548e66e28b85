package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pixmed-go/pixmed/inbox"
)

var (
	purgeAge     = &setting{flag: "older-than", arg: "TIME", usage: "delete cases to which nothing has happened for so long, such as 400d"}
	purgeDeadToo = &setting{flag: "include-dead", usage: "delete what is dead and quarantined too"}
	deleteForce  = &setting{flag: "force", usage: "delete a case although something of it is pending and will not be processed"}
)

func newInboxPurge(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "purge", Short: "Delete cases that are old", Args: noArgs,
		Long: `Deletes the cases that have ended and to which nothing has happened for as long as
--older-than says. None that is open or holds something pending is deleted, and none with
something dead unless --include-dead is given. What is deleted is no longer recognised as
a duplicate. pixmed serve does this by itself, after its --retention.`,
		Example: `  pixmed inbox purge --older-than 400d`,
	}
	addSettings(cmd, purgeAge, purgeDeadToo)
	return onInbox(p, cmd, func(v *values, _ []string) operation {
		var options []inbox.PurgeOption
		if v.on(purgeDeadToo) {
			options = append(options, inbox.IncludeDead())
		}
		age := time.Duration(0)
		if !v.isSet(purgeAge) {
			v.problem(purgeAge, "say how old")
		} else {
			age = v.duration(purgeAge, 0, 10_000*day)
		}
		return changing(func(ctx context.Context, in *inbox.Inbox) error {
			n, err := in.Purge(ctx, age, options...)
			if err == nil {
				fmt.Fprintf(p.out, "notifications deleted: %d\n", n)
			}
			return err
		})
	})
}

func newInboxDelete(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete ID...", Short: "Delete cases, or what is in quarantine, as a person may demand by law",
		Long: `Deletes cases with all their notifications and notes, by their transactions' ids, or what
is or was in quarantine, by its own id, as the law on personal data (LGPD) may demand. It
cannot be undone. A case with something pending, its receipt included, is left alone
unless --force is given. What is deleted is no longer recognised as a duplicate.

The ids are not printed, because a command's output is often kept. Receipts that pixmed
serve has saved, backups, and your own systems are not touched.

The exit code is 1 if something was left alone.`,
		Example: `  pixmed inbox delete 5a94d48d-c9f3-46be-8448-83510ca42bde`,
		Args:    ids(1, 1000), ValidArgsFunction: cobra.NoFileCompletions,
	}
	addSettings(cmd, actBy, deleteForce)
	return onCases(p, cmd, func(v *values, args []string) operation {
		d := &deletion{process: p, by: v.person(actBy, p), force: v.on(deleteForce)}
		return changingBoth(func(ctx context.Context, inboxes ...*inbox.Inbox) error {
			d.inboxes = inboxes
			return d.run(ctx, args)
		})
	})
}

// deletion deletes from both inboxes.
type deletion struct {
	*process

	by      string
	force   bool
	inboxes []*inbox.Inbox
}

func (d *deletion) run(ctx context.Context, ids []string) error {
	cases, bodies := 0, 0
	defer func() {
		fmt.Fprintf(d.out, "deleted by %s: %s, %s from quarantine\n", d.by, plural(cases, "case", "cases"), plural(bodies, "body", "bodies"))
	}()
	for i, id := range ids {
		err := d.deleteCase(ctx, id)
		count := &cases
		if errors.Is(err, inbox.ErrNotFound) {
			err = d.inboxes[0].DeleteQuarantined(ctx, id, inbox.By(d.by))
			count = &bodies
		}
		switch {
		case errors.Is(err, inbox.ErrPending):
			fmt.Fprintf(d.err, "argument %d: left alone: something of the case is pending; --force deletes it all the same\n", i+1)
		case errors.Is(err, inbox.ErrNotFound):
			fmt.Fprintf(d.err, "argument %d: there is no case with this id, and nothing in quarantine\n", i+1)
		case err != nil:
			return err
		default:
			*count++
		}
	}
	if cases+bodies < len(ids) {
		return &exit{code: exitFailed}
	}
	return nil
}

// deleteCase deletes a case wherever it is.
func (d *deletion) deleteCase(ctx context.Context, id string) error {
	options := []inbox.ActionOption{inbox.By(d.by)}
	if d.force {
		options = append(options, inbox.Force())
	}
	for _, in := range d.inboxes { // first, so that all of it is deleted or nothing
		switch c, err := in.Case(ctx, id); {
		case err != nil && !errors.Is(err, inbox.ErrNotFound):
			return err
		case err == nil && c.Pending > 0 && !d.force:
			return inbox.ErrPending
		}
	}
	deleted := inbox.ErrNotFound
	for _, in := range d.inboxes {
		switch err := in.Delete(ctx, id, options...); {
		case err == nil:
			deleted = nil
		case !errors.Is(err, inbox.ErrNotFound):
			return err
		}
	}
	return deleted
}
