package pixmed

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Infraction is the payload of one infraction webhook: a Pix transaction came
// under a MED request, or such a request ended (spec: Webhook de Infração).
//
// [ParseInfraction] makes one from a request's body. The struct also decodes
// with encoding/json, so that a web framework's binding works; call Validate
// afterwards. ParseInfraction is better at it: encoding/json takes a missing
// value for zero, ignores the letter case of names, accepts duplicate members,
// and refuses an externalId or e2e_id that is a number.
type Infraction struct {
	// TransactionID is the gateway's id of the transaction, a UUID of 36
	// characters, in the letter case in which it arrived.
	TransactionID string `json:"transactionId"`
	// TransactionStatus is MED for every infraction.
	TransactionStatus TransactionStatus `json:"transactionStatus"`
	// TransactionType says which kind of transaction it is, CASH_IN in the spec.
	TransactionType TransactionType `json:"transactionType"`
	// Value is the transaction's amount.
	Value Amount `json:"value"`
	// ExternalID is the merchant's own reference. It may be empty.
	ExternalID string `json:"externalId"`
	// EndToEndID is the transaction's id in the Pix network. Gateways leave it
	// out or send malformed ones: ask its Valid method before relying on it.
	EndToEndID EndToEndID `json:"e2e_id"`
	// MEDStatus is what happened to the MED request. It may be a status that
	// this package does not know yet.
	MEDStatus MEDStatus `json:"medStatus"`
}

// Key returns what identifies the infraction's case.
func (i Infraction) Key() Key {
	return Key{TransactionID: strings.ToLower(i.TransactionID), ExternalID: i.ExternalID}
}

// String describes the infraction in a short line.
func (i Infraction) String() string {
	return fmt.Sprintf("MED %s for transaction %s (%s)", printable(string(i.MEDStatus)), printable(i.TransactionID), i.Value.BRL())
}

// LogValue groups the infraction's fields for log/slog.
func (i Infraction) LogValue() slog.Value {
	return slog.GroupValue(i.logAttrs()...)
}

func (i Infraction) logAttrs() []slog.Attr {
	return []slog.Attr{
		slog.String("transaction_id", i.TransactionID),
		slog.String("transaction_status", string(i.TransactionStatus)),
		slog.String("transaction_type", string(i.TransactionType)),
		slog.String("value", i.Value.String()),
		slog.String("external_id", i.ExternalID),
		slog.String("e2e_id", string(i.EndToEndID)),
		slog.String("med_status", string(i.MEDStatus)),
	}
}

// Key identifies a MED case: the spec asks for idempotency by transactionId
// and externalId.
type Key struct {
	TransactionID string // in lower case
	ExternalID    string // as it arrived; may be empty
}

// String returns both ids, separated by a slash.
func (k Key) String() string { return printable(k.TransactionID) + "/" + printable(k.ExternalID) }

// Notification is what a [Receiver] gets: an infraction and the circumstances
// of its delivery.
type Notification struct {
	Infraction

	// Raw is the request's body exactly as received. It belongs to the
	// Notification: keeping or changing it is fine.
	Raw []byte `json:"raw,omitempty"`
	// ReceivedAt is when the handler got the request.
	ReceivedAt time.Time `json:"receivedAt"`
	// Previous is the status that was handled before this one for the same
	// Key, empty for the first. [Deduplicate] and the durable inbox set it.
	Previous MEDStatus `json:"previous,omitempty"`
	// PreviousValue is the value that came with Previous, zero for the first.
	PreviousValue Amount `json:"previousValue,omitzero"`
	// PreviousAt is when Previous was recorded, zero for the first. It tells the
	// first notification from one that follows an empty status.
	PreviousAt time.Time `json:"previousAt,omitzero"`
	// SeenAt is when this same status, whatever its value, was last recorded
	// for the Key, zero if it never was. [Deduplicate] and the durable inbox set it.
	SeenAt time.Time `json:"seenAt,omitzero"`
	// Attempt counts the calls for this notification, from 1. It is above 1
	// only behind the durable inbox of module github.com/pixmed-go/pixmed/inbox,
	// which calls again after a failure.
	Attempt int `json:"attempt"`
}

// MaybeReopened reports whether the notification may open anew a case that had
// ended: its status is not final, comes after a final one and was seen before.
//
// The payload has neither an event id nor a time, so a late redelivery looks
// the same. Treat the money as blocked and look the case up at the gateway.
// A first ACKNOWLEDGED that merely arrives late does not count.
func (n *Notification) MaybeReopened() bool {
	return !n.MEDStatus.Final() && n.Previous.Final() && !n.SeenAt.IsZero()
}

// String describes the notification in a short line, without the raw body.
func (n Notification) String() string {
	s := n.Infraction.String()
	if n.Previous != "" {
		s += ", after " + printable(string(n.Previous))
	}
	if n.Attempt > 1 {
		s += fmt.Sprintf(", attempt %d", n.Attempt)
	}
	return s
}

// LogValue groups the notification's fields for log/slog, with the length of
// the raw body in the place of its content.
func (n Notification) LogValue() slog.Value {
	return slog.GroupValue(append(n.logAttrs(),
		slog.Int("raw_bytes", len(n.Raw)),
		slog.Time("received_at", n.ReceivedAt),
		slog.String("previous", string(n.Previous)),
		slog.String("previous_value", n.PreviousValue.String()),
		slog.Time("previous_at", n.PreviousAt),
		slog.Time("seen_at", n.SeenAt),
		slog.Int("attempt", n.Attempt),
	)...)
}

// MEDStatus is the state of a MED request. A status that this package does not
// know is data, not an error: it reaches [Callbacks].Other.
type MEDStatus string

const (
	// Acknowledged is a MED request that was received: the transaction's value
	// is blocked (spec: Webhook de Infração).
	Acknowledged MEDStatus = "ACKNOWLEDGED"
	// Cancelled is a MED request that was withdrawn: the value is released to
	// the account again (spec: Webhook de Infração).
	Cancelled MEDStatus = "CANCELLED"
	// Debited is a MED request that was upheld: the value went back to the
	// payer, in whole or in part. The spec does not list it; the gateway's
	// later documentation does.
	Debited MEDStatus = "DEBITED"
)

// Known reports whether s is one of the constants.
func (s MEDStatus) Known() bool { return s == Acknowledged || s == Cancelled || s == Debited }

// Final reports whether s ends a case: CANCELLED or DEBITED.
func (s MEDStatus) Final() bool { return s == Cancelled || s == Debited }

// TransactionStatus is the state of a transaction.
type TransactionStatus string

// TransactionMED is a transaction that is under a MED request, the only status
// of an infraction webhook (spec: Webhook de Infração).
const TransactionMED TransactionStatus = "MED"

// Known reports whether s is one of the constants.
func (s TransactionStatus) Known() bool { return s == TransactionMED }

// TransactionType is the kind of a transaction.
type TransactionType string

// CashIn is a Pix that was received, the only kind that the spec mentions for
// infractions.
const CashIn TransactionType = "CASH_IN"

// Known reports whether t is one of the constants.
func (t TransactionType) Known() bool { return t == CashIn }

// EndToEndID is a transaction's id in the Pix network, 32 characters: E, the
// ISPB of the payer's institution (8), the time in UTC as yyyyMMddHHmm (12),
// and 11 letters and digits.
//
// A malformed one is never a reason to refuse a notification.
type EndToEndID string

// Valid reports whether the id is well formed.
func (id EndToEndID) Valid() bool {
	_, ok := id.parse()
	return ok
}

// ISPB returns the eight characters that identify the payer's institution,
// or "" when the id is malformed. They are digits, or letters and digits since
// version 2.9.0 of the Pix API.
func (id EndToEndID) ISPB() string {
	if !id.Valid() {
		return ""
	}
	return string(id[1:9])
}

// Time returns the UTC time in the id, to the minute, or the zero time when
// the id is malformed. Institutions may be off by up to twelve hours.
func (id EndToEndID) Time() time.Time {
	t, _ := id.parse()
	return t
}

func (id EndToEndID) parse() (time.Time, bool) {
	if len(id) != 32 || id[0] != 'E' {
		return time.Time{}, false
	}
	for _, c := range []byte(id) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return time.Time{}, false
		}
	}
	t, err := time.Parse("200601021504", string(id[9:21]))
	return t, err == nil
}
