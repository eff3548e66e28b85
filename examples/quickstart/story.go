package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// story is what happens around your side: what the gateway posts, and what an
// operator sees.
type story struct {
	gateway  *pixmedtest.Gateway
	inbox    *inbox.Inbox
	receipts *inbox.Inbox // that of the second step
	url      string
	say      *narrator
}

// resume starts the inboxes and waits until what an earlier process has left is done.
func (s *story) resume(ctx context.Context) error {
	stats, err := s.count(ctx)
	if err != nil {
		return err
	}
	if n := total(stats); n > 0 {
		s.say.Printf("It holds %d notifications from before: %s.", n, describe(stats))
	} else {
		s.say.Printf("It is empty.")
	}
	var pending []*inbox.Event
	for _, in := range []*inbox.Inbox{s.inbox, s.receipts} {
		events, err := in.List(ctx, inbox.Filter{State: inbox.Pending, Limit: 1000})
		if err != nil {
			return err
		}
		pending = append(pending, events...)
	}
	for _, event := range pending {
		infraction, err := event.Infraction()
		if err != nil {
			return err
		}
		s.gateway.AddReceipt(*infraction) // by now the gateway has the receipts that were missing
	}
	if err := errors.Join(s.receipts.Start(ctx), s.inbox.Start(ctx)); err != nil {
		return err
	}
	for _, event := range pending {
		if err := s.await(ctx, event.Key.TransactionID); err != nil {
			return err
		}
	}
	return nil
}

// tell has the gateway post what gateways post, and shows what came of it.
func (s *story) tell(ctx context.Context) error {
	sample, err := pixmed.ParseInfraction([]byte(pixmedtest.Sample))
	if err != nil {
		return err
	}
	s.gateway.AddReceipt(*sample)
	with := func(status pixmed.MEDStatus) []byte {
		i := *sample
		i.MEDStatus = status
		return pixmedtest.Payload(i)
	}

	type step struct {
		what string
		body []byte
	}
	steps := []step{
		{"The gateway posts the specification's sample: ACKNOWLEDGED.", []byte(pixmedtest.Sample)},
		{"It posts the same again, as gateways do. The callback is not called.", []byte(pixmedtest.Sample)},
		{"It posts a broken body. A gateway may give up without a 200, so the body is kept for a person.", []byte(pixmedtest.Sample)[:100]},
		{"It posts CANCELLED for the same transaction.", with(pixmed.Cancelled)},
	}
	before, err := s.inbox.History(ctx, sample.TransactionID)
	if err != nil {
		return err
	}
	if len(before) > 0 {
		last := before[len(before)-1].Status
		steps = slices.Insert(steps, 0, step{
			fmt.Sprintf("The gateway posts %s again. The inbox knows it from before: the callback is not called.", last), with(last),
		})
	}

	s.gateway.Fail(pixmedtest.Fault{Status: http.StatusServiceUnavailable}) // the first download fails
	for i, step := range steps {
		s.say.Printf("%d. %s", i+1, step.what)
		if attempt := s.gateway.Post(ctx, s.url, step.body); attempt.StatusCode != http.StatusOK {
			return fmt.Errorf("want the answer 200, got: %v", attempt)
		}
		if err := s.await(ctx, sample.TransactionID); err != nil {
			return err
		}
	}

	stats, err := s.count(ctx)
	if err != nil {
		return err
	}
	history, err := s.inbox.History(ctx, sample.TransactionID)
	if err != nil {
		return err
	}
	s.say.Printf("What an operator sees: %s. The transaction's history:", describe(stats))
	for _, event := range history {
		s.say.Printf("   %d. %-12s %s, attempts: %d", event.Seq, event.Status, event.State, event.Attempts)
	}
	return nil
}

// await waits until nothing of a transaction is pending, in either step. A service
// does not need this: here it keeps the lines in order.
func (s *story) await(ctx context.Context, transactionID string) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for _, in := range []*inbox.Inbox{s.inbox, s.receipts} {
		for {
			events, err := in.History(ctx, transactionID)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(events, func(e *inbox.Event) bool { return e.State == inbox.Pending }) {
				break
			}
			select {
			case <-poll.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// count counts what the inbox holds.
func (s *story) count(ctx context.Context) (inbox.Received, error) {
	const all = 100 * 365 * 24 * time.Hour
	counts, err := s.inbox.CountReceived(ctx, time.Unix(0, 0), all, 1)
	if err != nil {
		return inbox.Received{}, err
	}
	return counts[0], nil
}

func total(c inbox.Received) int64 { return c.Done + c.Pending + c.Dead + c.Quarantined }

func describe(c inbox.Received) string {
	return fmt.Sprintf("%d done, %d pending, %d dead, %d in quarantine", c.Done, c.Pending, c.Dead, c.Quarantined)
}
