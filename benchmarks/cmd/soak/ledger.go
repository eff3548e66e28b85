package main

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
)

// story is what happens to every transaction, in this order.
var story = []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited}

// A ledger knows every notification that was answered 200, and every effect. It
// allocates everything at the start, so that it does not look like a leak.
type ledger struct {
	accepted []atomic.Uint32 // by transaction: how many of its story
	effects  []atomic.Uint32 // the same

	repeated      atomic.Int64 // effects that came again
	disordered    atomic.Int64 // effects that skipped one
	unknown       atomic.Int64 // effects of notifications that were never sent
	wrongReceipts atomic.Int64
}

func newLedger(transactions int) *ledger {
	return &ledger{accepted: make([]atomic.Uint32, transactions), effects: make([]atomic.Uint32, transactions)}
}

// transactionID returns an id that holds a transaction's number.
func transactionID(number int) string {
	id := uuid.UUID{6: 0x40, 8: 0x80}
	binary.BigEndian.PutUint32(id[12:], uint32(number))
	return id.String()
}

func (l *ledger) number(transactionID string) (int, bool) {
	id, err := uuid.Parse(transactionID)
	if err != nil {
		return 0, false
	}
	number := int(binary.BigEndian.Uint32(id[12:]))
	return number, number < len(l.effects)
}

// effect records that a callback has done its work.
func (l *ledger) effect(n *pixmed.Notification) {
	number, ok := l.number(n.TransactionID)
	if !ok {
		l.unknown.Add(1)
		return
	}
	step := uint32(0)
	for story[step] != n.MEDStatus {
		step++
	}
	switch had := l.effects[number].Load(); {
	case had == step:
		l.effects[number].Store(step + 1)
	case had > step:
		l.repeated.Add(1)
	default:
		l.disordered.Add(1)
	}
}

// missing counts the notifications that were answered 200 and had no effect.
func (l *ledger) missing() (missing, accepted int64) {
	for i := range l.accepted {
		all, done := int64(l.accepted[i].Load()), int64(l.effects[i].Load())
		accepted += all
		missing += max(0, all-done)
	}
	return missing, accepted
}
