package pixmed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

// Deduplicate returns a [Receiver] that calls next once for each notification.
// A delivery whose medStatus and value equal the last ones recorded for its
// transactionId and externalId is answered 200 without calling next. Any change
// is delivered, even back to an earlier status, because dropping a reopened case
// would cost the money. Without a medStatus, only bodies that are equal byte for
// byte are duplicates. Deduplicate sets Previous, PreviousValue, PreviousAt and
// SeenAt.
//
// Two debits of the same value in a row look like a redelivery. Never add debits
// up: look the transaction up at the gateway.
//
// If next fails, nothing is recorded, so the redelivery is handled. If next
// returns [ErrDuplicate], the notification is recorded as handled. Identical
// deliveries that are in flight at once call next once and share its outcome; if
// that call runs out of time, the others get [ErrBusy].
//
// The durable inbox of module github.com/pixmed-go/pixmed/inbox finds duplicates
// itself and needs no Deduplicate in front of it.
func Deduplicate(store StatusStore, next Receiver) Receiver {
	return &deduplicator{store, next}
}

// StatusStore remembers what was handled last for each key, for [Deduplicate].
type StatusStore interface {
	// Do runs fn unless r equals the last record of key, and records r if fn
	// returns nil. Calls for one key never overlap.
	//
	// duplicate is true if fn was not run because r is the last record, or
	// because an identical call that was in flight has just recorded it. err is
	// fn's, or the store's own.
	//
	// fn gets the last record and when it was made (both zero if there is none),
	// and when a record with r's status, whatever its value, was last made (zero
	// if never). It must not call Do for the same key, since it would wait for
	// itself.
	Do(ctx context.Context, key Key, r Recorded, fn func(previous Recorded, previousAt, seenAt time.Time) error) (duplicate bool, err error)
}

// Recorded is what a [StatusStore] records of a notification. Two that are equal
// are duplicates.
type Recorded struct {
	Status MEDStatus // at most 64 bytes
	Value  Amount
	Digest string // of the body, in hex, with the empty status; otherwise ""
}

type deduplicator struct {
	store StatusStore
	next  Receiver
}

func (d *deduplicator) Validate() error {
	return errors.Join(validate("Deduplicate: the StatusStore", d.store), validate("Deduplicate: the Receiver", d.next))
}

func (d *deduplicator) Receive(ctx context.Context, n *Notification) error {
	r := Recorded{Status: n.MEDStatus, Value: n.Value}
	if r.Status == "" { // which distinguishes nothing
		digest := sha256.Sum256(n.Raw)
		r.Digest = hex.EncodeToString(digest[:])
	}
	var known error
	duplicate, err := d.store.Do(ctx, n.Key(), r, func(previous Recorded, previousAt, seenAt time.Time) error {
		n.Previous, n.PreviousValue, n.PreviousAt, n.SeenAt = previous.Status, previous.Value, previousAt, seenAt
		err := d.next.Receive(ctx, n)
		if isDuplicate(err) { // next has handled it before, so it is recorded
			known, err = err, nil
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case duplicate:
		return ErrDuplicate
	}
	return known
}
