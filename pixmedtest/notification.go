package pixmedtest

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
)

// Sample is the webhook in the gateway's documentation, byte for byte (spec:
// "Webhook de Infração").
const Sample = `{
  "transactionId": "5a94d48d-c9f3-46be-8448-83510ca42bde",
  "transactionStatus": "MED",
  "transactionType": "CASH_IN",
  "value": 18,
  "externalId": "T&ste378",
  "e2e_id": "E082535392025011818245238600338f",
  "medStatus": "ACKNOWLEDGED"
}`

// sample returns what [Sample] decodes to.
func sample() pixmed.Infraction {
	return pixmed.Infraction{
		TransactionID:     "5a94d48d-c9f3-46be-8448-83510ca42bde",
		TransactionStatus: pixmed.TransactionMED,
		TransactionType:   pixmed.CashIn,
		Value:             18 * pixmed.Real,
		ExternalID:        "T&ste378",
		EndToEndID:        "E082535392025011818245238600338f",
		MEDStatus:         pixmed.Acknowledged,
	}
}

// NewInfraction returns the infraction of [Sample], but with a random
// TransactionID and an EndToEndID derived from it, so that each call returns a
// different case. The functions, if any, then modify it.
func NewInfraction(modify ...func(*pixmed.Infraction)) pixmed.Infraction {
	i := sample()
	i.TransactionID = uuid.NewString()
	digits := strings.ReplaceAll(i.TransactionID, "-", "")
	i.EndToEndID = i.EndToEndID[:21] + pixmed.EndToEndID(digits[len(digits)-11:])
	for _, m := range modify {
		m(&i)
	}
	return i
}

// NewNotification returns a notification for calling a callback in a unit test: a
// [NewInfraction], of another transaction each time, received at 2025-01-18 18:25:00
// UTC in the first attempt. The functions, if any, then modify it. Raw is the
// [Payload] of the modified infraction, unless a function sets it.
func NewNotification(modify ...func(*pixmed.Notification)) *pixmed.Notification {
	n := &pixmed.Notification{
		Infraction: NewInfraction(),
		ReceivedAt: time.Date(2025, time.January, 18, 18, 25, 0, 0, time.UTC),
		Attempt:    1,
	}
	for _, m := range modify {
		m(n)
	}
	if n.Raw == nil {
		n.Raw = Payload(n.Infraction)
	}
	return n
}

// Payload returns the webhook body for an infraction, formatted like [Sample]:
// all members, in the same order, and the value as a JSON number in reais
// without trailing zeros (18, 18.5, 18.05). Invalid UTF-8 is replaced by U+FFFD.
// The infraction need not be valid.
func Payload(i pixmed.Infraction) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // the sample has an unescaped &
	_ = e.Encode(struct {  // strings and a number always encode
		TransactionID     string                   `json:"transactionId"`
		TransactionStatus pixmed.TransactionStatus `json:"transactionStatus"`
		TransactionType   pixmed.TransactionType   `json:"transactionType"`
		Value             json.Number              `json:"value"`
		ExternalID        string                   `json:"externalId"`
		EndToEndID        pixmed.EndToEndID        `json:"e2e_id"`
		MEDStatus         pixmed.MEDStatus         `json:"medStatus"`
	}{
		i.TransactionID, i.TransactionStatus, i.TransactionType, number(i.Value), i.ExternalID, i.EndToEndID, i.MEDStatus,
	})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// number returns an amount without trailing zeros.
func number(a pixmed.Amount) json.Number {
	return json.Number(strings.TrimSuffix(strings.TrimRight(a.String(), "0"), "."))
}

// NewRequest returns a webhook request to call a handler's ServeHTTP with. The
// body is usually a [Payload]. All of the signers, if any, sign it.
//
// The target is a path such as "/webhooks/med" or an absolute URL, as for
// [httptest.NewRequest]. NewRequest panics if it is neither, or if a signer is
// nil.
func NewRequest(target string, body []byte, signers ...Signer) *http.Request {
	if err := checkSigners(signers); err != nil {
		panic("NewRequest: " + err.Error())
	}
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, target, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	sign(r, body, signers)
	r.RequestURI = r.URL.String() // a signer may have changed the query
	return r
}

// Shuffled returns the given number of copies of each infraction (one if copies
// is less), all in random order. That is what a receiver gets from a gateway
// that sends duplicates out of order. The same arguments give the same order.
func Shuffled(infractions []pixmed.Infraction, copies int, seed uint64) []pixmed.Infraction {
	var all []pixmed.Infraction
	for range max(copies, 1) {
		all = append(all, infractions...)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
