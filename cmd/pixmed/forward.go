package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/internal/retryafter"
)

// forwarder posts notifications and reminders to the team's own application, as
// Standard Webhooks (standardwebhooks.com) says. An error means to try again later: the inbox does.
type forwarder struct {
	url     string
	keys    [][]byte
	client  *http.Client
	timeout time.Duration
	posted  func(took time.Duration, err error) // is told of each POST

	mu        sync.Mutex
	notBefore time.Time // when the application wants to be asked again
}

func newForwarder(c *config, base http.RoundTripper, posted func(took time.Duration, err error)) *forwarder {
	return &forwarder{
		url: c.forward.String(), keys: c.forwardKeys, timeout: c.forwardTimeout, posted: posted,
		client: &http.Client{
			Transport:     base,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// message is what the application gets.
type message struct {
	Type      string    `json:"type"`      // infraction.acknowledged, .cancelled, .debited, .other, or .reminder
	Timestamp time.Time `json:"timestamp"` // when the gateway's request came, or the reminder was made
	Data      any       `json:"data"`      // a notification or a reminder
}

// notification is one as the application gets it: the gateway's own members by the names that it gives them,
// the value always as text with two decimals, and what the inbox knows besides.
type notification struct {
	pixmed.Infraction

	Previous      pixmed.MEDStatus `json:"previous,omitempty"`     // the status handled before this one, absent for the first
	PreviousValue pixmed.Amount    `json:"previousValue,omitzero"` // its value
	PreviousAt    time.Time        `json:"previousAt,omitzero"`    // when it came
	SeenAt        time.Time        `json:"seenAt,omitzero"`        // when this same status came last, absent if never
	MaybeReopened bool             `json:"maybeReopened"`          // whether a case that had ended may be open again
	Raw           json.RawMessage  `json:"raw"`                    // the gateway's body
}

// reminder is what the application is told before a case is due. Members that a
// notification has too have the same names.
type reminder struct {
	TransactionID string            `json:"transactionId"`
	ExternalID    string            `json:"externalId"`
	EndToEndID    pixmed.EndToEndID `json:"e2e_id,omitempty"`
	MEDStatus     pixmed.MEDStatus  `json:"medStatus"`
	Value         pixmed.Amount     `json:"value"`
	OpenedAt      time.Time         `json:"openedAt"`
	DueAt         time.Time         `json:"dueAt"`
}

// messageID returns the id by which the application knows a message again when it
// comes twice. It is the same for each attempt, since what it is made of is.
func messageID(format string, of ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, format, of...))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// notification posts a notification. It returns nil once the application has answered
// with a status from 200 to 299.
func (f *forwarder) notification(ctx context.Context, n *pixmed.Notification) error {
	kind := "other"
	if n.MEDStatus.Known() {
		kind = strings.ToLower(string(n.MEDStatus))
	}
	id := messageID("%d %s", n.ReceivedAt.UnixMicro(), n.Raw)
	return f.send(ctx, id, message{"infraction." + kind, n.ReceivedAt.UTC(), notification{
		Infraction: n.Infraction, Previous: n.Previous, PreviousValue: n.PreviousValue, PreviousAt: n.PreviousAt, SeenAt: n.SeenAt,
		MaybeReopened: n.MaybeReopened(), Raw: bytes.TrimPrefix(n.Raw, []byte("\ufeff")),
	}})
}

// reminder posts that a case is due soon, as notification does.
func (f *forwarder) reminder(ctx context.Context, c *inbox.Case) error {
	before := 0 // reminders of the case that are done or given up
	for _, note := range c.Notes {
		if note.Action == inbox.ReminderCalled || note.Action == inbox.ReminderGivenUp {
			before++
		}
	}
	r := reminder{
		TransactionID: c.TransactionID, ExternalID: c.ExternalID, MEDStatus: c.Status, Value: c.Value,
		OpenedAt: c.OpenedAt, DueAt: c.DueAt,
	}
	for _, e := range c.Events {
		if i, err := e.Infraction(); err == nil && e.Key.ExternalID == c.ExternalID {
			r.EndToEndID = i.EndToEndID
		}
	}
	id := messageID("reminder %d of %s, opened %d", before+1, c.TransactionID, c.OpenedAt.UnixMicro())
	return f.send(ctx, id, message{"infraction.reminder", time.Now().UTC(), r})
}

// send posts a message when the application wants to be asked.
func (f *forwarder) send(ctx context.Context, id string, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := f.early(); err != nil {
		return err
	}
	start := time.Now()
	err = f.post(ctx, id, body)
	f.posted(time.Since(start), err)
	return err
}

// early puts a message off if it is too early for the application. That nothing was
// posted uses up no attempt.
func (f *forwarder) early() error {
	f.mu.Lock()
	until := f.notBefore
	f.mu.Unlock()
	wait := time.Until(until)
	if wait <= 0 {
		return nil
	}
	return inbox.PutOff(fmt.Errorf("not forwarded: the application asked to wait until %s (Retry-After)", until.UTC().Format(time.RFC3339)), wait)
}

func (f *forwarder) post(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	now := time.Now()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "pixmed-forward")
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("Webhook-Signature", signature(f.keys, id, now, body))
	response, err := f.client.Do(r)
	if err != nil {
		return fmt.Errorf("not forwarded: the application did not answer: %w", withoutURL(err))
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be used again
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return nil
	}
	text := strings.TrimSpace(fmt.Sprintf("not forwarded: the application answered %d %s", response.StatusCode, http.StatusText(response.StatusCode)))
	if response.StatusCode >= 300 && response.StatusCode < 400 {
		text += ", and redirects are not followed: set the URL that it leads to"
	}
	if wait := min(retryafter.Parse(response.Header.Get("Retry-After"), now).Round(time.Second), longestWait); wait > 0 {
		f.mu.Lock()
		f.notBefore = now.Add(wait)
		f.mu.Unlock()
		text += fmt.Sprintf("; it asks to wait %v", wait)
	}
	return errors.New(text)
}

// signature signs a message with every key, the way that Standard Webhooks names v1.
func signature(keys [][]byte, id string, at time.Time, body []byte) string {
	var signatures []string
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, " ")
}

// longestWait is that of the inbox, and the most that a Retry-After is believed.
const longestWait = 4 * time.Hour
