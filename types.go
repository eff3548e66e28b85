package pixmed

import (
	"cmp"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"
)

// Infraction is the payload of one infraction webhook: a Pix transaction came
// under a MED request, or such a request ended (spec: Webhook de Infração).
//
// [ParseInfraction] decodes one from a request's body. The struct also decodes
// with encoding/json, so a web framework's binding works; call Validate
// afterwards. Prefer ParseInfraction: encoding/json reads a missing value as
// zero, ignores the letter case of names, accepts duplicate members, and rejects
// an externalId or e2e_id that is a number.
type Infraction struct {
	// TransactionID is the gateway's id of the transaction, a UUID of 36
	// characters, in the letter case in which it arrived.
	TransactionID string `json:"transactionId"`
	// TransactionStatus is MED for every infraction.
	TransactionStatus TransactionStatus `json:"transactionStatus"`
	// TransactionType is the kind of transaction, CASH_IN in the spec.
	TransactionType TransactionType `json:"transactionType"`
	// Value is the transaction's amount.
	Value Amount `json:"value"`
	// ExternalID is the merchant's own reference. It may be empty.
	ExternalID string `json:"externalId"`
	// EndToEndID is the transaction's id in the Pix network. Gateways omit it or
	// send malformed ones: call its Valid method before relying on it.
	EndToEndID EndToEndID `json:"e2e_id"`
	// MEDStatus is what happened to the MED request. It may be a status that
	// this package does not know, or empty: the gateway's oldest webhooks have
	// none.
	MEDStatus MEDStatus `json:"medStatus"`
}

// Key returns the key of the infraction's case.
func (i Infraction) Key() Key {
	return Key{TransactionID: strings.ToLower(i.TransactionID), ExternalID: i.ExternalID}
}

// String describes the infraction in one short line.
func (i Infraction) String() string {
	return fmt.Sprintf("MED %s for transaction %s (%s)", i.MEDStatus.label(), printable(i.TransactionID), i.Value.BRL())
}

// LogValue groups the infraction's fields for log/slog. Long text is cut.
func (i Infraction) LogValue() slog.Value {
	return slog.GroupValue(i.logAttrs()...)
}

func (i Infraction) logAttrs() []slog.Attr {
	return []slog.Attr{
		slog.String("transaction_id", loggable(i.TransactionID)),
		slog.String("transaction_status", loggable(string(i.TransactionStatus))),
		slog.String("transaction_type", loggable(string(i.TransactionType))),
		slog.String("value", i.Value.String()),
		slog.String("external_id", loggable(i.ExternalID)),
		slog.String("e2e_id", loggable(string(i.EndToEndID))),
		slog.String("med_status", loggable(string(i.MEDStatus))),
	}
}

// Key identifies a stream of notifications: the spec asks for idempotency by
// transactionId and externalId (spec: Boas Práticas).
type Key struct {
	TransactionID string `json:"transactionId"` // in lower case
	ExternalID    string `json:"externalId"`    // as it arrived; may be empty
}

// String returns both ids, separated by a slash.
func (k Key) String() string { return printable(k.TransactionID) + "/" + printable(k.ExternalID) }

// Notification is what a [Receiver] gets: an infraction and the circumstances
// of its delivery.
type Notification struct {
	Infraction

	// Raw is the request's body as received, decompressed if it was compressed.
	// It belongs to the Notification: the Receiver may keep or change it.
	Raw []byte `json:"raw,omitempty"`
	// ReceivedAt is when the handler got the request.
	ReceivedAt time.Time `json:"receivedAt"`
	// Previous is the last status handled for the same Key, empty for the first
	// notification. [Deduplicate] and the durable inbox set it, and the three
	// fields that follow.
	Previous MEDStatus `json:"previous,omitempty"`
	// PreviousValue is the value that came with Previous, zero for the first
	// notification.
	PreviousValue Amount `json:"previousValue,omitzero"`
	// PreviousAt is when Previous was recorded, zero for the first notification.
	// It distinguishes the first from one that follows an empty status.
	PreviousAt time.Time `json:"previousAt,omitzero"`
	// SeenAt is when this same status, whatever its value, was last recorded
	// for the Key, zero if it never was.
	SeenAt time.Time `json:"seenAt,omitzero"`
	// Attempt counts the calls for this notification, from 1. Only the durable
	// inbox of module github.com/pixmed-go/pixmed/inbox, which calls again after a
	// failure, sets it above 1.
	Attempt int `json:"attempt"`
}

// MaybeReopened reports whether the notification may reopen a case that had
// ended: its status is not final, follows a final one, and was seen before.
//
// The payload has neither an event id nor a time, so a late redelivery looks
// the same. Treat the money as blocked and look the case up at the gateway.
// A first ACKNOWLEDGED that merely arrives late does not count.
func (n *Notification) MaybeReopened() bool {
	return !n.MEDStatus.Final() && n.Previous.Final() && !n.SeenAt.IsZero()
}

// String describes the notification in one short line, without the raw body.
func (n Notification) String() string {
	s := n.Infraction.String()
	if n.Previous != "" || !n.PreviousAt.IsZero() {
		s += ", after " + n.Previous.label()
	}
	if n.Attempt > 1 {
		s += fmt.Sprintf(", attempt %d", n.Attempt)
	}
	return s
}

// LogValue groups the notification's fields for log/slog, with the length of
// the raw body in place of its content.
func (n Notification) LogValue() slog.Value {
	return slog.GroupValue(append(n.logAttrs(),
		slog.Int("raw_bytes", len(n.Raw)),
		slog.Time("received_at", n.ReceivedAt),
		slog.String("previous", loggable(string(n.Previous))),
		slog.String("previous_value", n.PreviousValue.String()),
		slog.Time("previous_at", n.PreviousAt),
		slog.Time("seen_at", n.SeenAt),
		slog.Int("attempt", n.Attempt),
	)...)
}

// MEDStatus is the state of a MED request. A status that this package does not
// know is data, not an error, and so is an empty one: both reach
// [Callbacks].Other.
type MEDStatus string

const (
	// Acknowledged is a MED request that was received: the transaction's value
	// is blocked (spec: Webhook de Infração).
	Acknowledged MEDStatus = "ACKNOWLEDGED"
	// Cancelled is a MED request that was withdrawn: the value is released
	// (spec: Webhook de Infração).
	Cancelled MEDStatus = "CANCELLED"
	// Debited is a MED request that was upheld: the value, or a part of it, went
	// back to the payer. The spec does not list it; the gateway's later
	// documentation does.
	Debited MEDStatus = "DEBITED"
)

// maxStatus is the longest medStatus that is accepted, in bytes.
const maxStatus = 64

// Known reports whether s is one of the constants.
func (s MEDStatus) Known() bool { return s == Acknowledged || s == Cancelled || s == Debited }

// Final reports whether s ends a case: CANCELLED or DEBITED.
func (s MEDStatus) Final() bool { return s == Cancelled || s == Debited }

func (s MEDStatus) label() string { return cmp.Or(printable(string(s)), "(no status)") }

// TransactionStatus is the state of a transaction.
type TransactionStatus string

// TransactionMED is a transaction under a MED request, the only status of an
// infraction webhook (spec: Webhook de Infração).
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
// A notification is never rejected for a malformed one.
type EndToEndID string

// Valid reports whether the id is well formed.
func (id EndToEndID) Valid() bool {
	_, ok := id.parse()
	return ok
}

// ISPB returns the eight characters that identify the payer's institution,
// or "" if the id is malformed. They are digits, or letters and digits since
// version 2.9.0 of the Pix API.
func (id EndToEndID) ISPB() string {
	if !id.Valid() {
		return ""
	}
	return string(id[1:9])
}

// Time returns the UTC time in the id, to the minute, or the zero time if the
// id is malformed. Institutions may be off by up to twelve hours.
func (id EndToEndID) Time() time.Time {
	t, _ := id.parse()
	return t
}

var endToEndForm = regexp.MustCompile("^E[0-9A-Za-z]{31}$")

func (id EndToEndID) parse() (time.Time, bool) {
	if !endToEndForm.MatchString(string(id)) {
		return time.Time{}, false
	}
	t, err := time.Parse("200601021504", string(id[9:21]))
	return t, err == nil
}
