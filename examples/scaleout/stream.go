package main

import (
	"context"
	"sync"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// senders is how many transactions the gateway delivers at a time.
const senders = 30

// stream is what the gateway delivers.
type stream struct {
	answered chan notification // in the order of the answers within a transaction
	senders  sync.WaitGroup
	closed   chan struct{} // when answered is

	mu    sync.Mutex
	again int // notifications that were not answered 200 at the first attempt
}

// newStream begins to deliver. The notifications of one transaction come one by one:
// each after the one before was answered 200.
func newStream(ctx context.Context, failed context.CancelCauseFunc, gateway *pixmedtest.Gateway, url string, transactions int) *stream {
	s := &stream{
		answered: make(chan notification, transactions*len(statuses)), // so that no sender waits for the reader
		closed:   make(chan struct{}),
	}
	todo := make(chan pixmed.Infraction, transactions)
	for range transactions {
		todo <- pixmedtest.NewInfraction()
	}
	close(todo)
	for range min(senders, transactions) {
		s.senders.Go(func() {
			for infraction := range todo {
				for _, status := range statuses {
					infraction.MEDStatus = status
					attempts, err := gateway.Deliver(ctx, url, infraction)
					if err != nil {
						failed(err)
						return
					}
					s.answered <- notification{infraction.TransactionID, status}
					if len(attempts) > 1 {
						s.mu.Lock()
						s.again++
						s.mu.Unlock()
					}
				}
			}
		})
	}
	go func() {
		s.senders.Wait()
		close(s.answered)
		close(s.closed)
	}()
	return s
}

// wait waits for the end and returns how many notifications were not answered 200
// at the first attempt.
func (s *stream) wait() int {
	<-s.closed
	return s.again
}
