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
)

// forwarder posts notifications to the team's own application, as Standard Webhooks
// (standardwebhooks.com) says. An error means to try again later: the inbox does.
type forwarder struct {
	url     string
	keys    [][]byte
	client  *http.Client
	timeout time.Duration

	mu        sync.Mutex
	notBefore time.Time // when the application wants to be asked again
}

func newForwarder(c *config, base http.RoundTripper) *forwarder {
	return &forwarder{
		url: c.forward.String(), keys: c.forwardKeys, timeout: c.forwardTimeout,
		client: &http.Client{
			Transport:     base,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// message is what the application gets.
type message struct {
	Type      string    `json:"type"`      // infraction.acknowledged, .cancelled, .debited, or .other
	Timestamp time.Time `json:"timestamp"` // when the gateway's request came
	Data      data      `json:"data"`
}

// data is a notification: the gateway's own members by the names that it gives them,
// the value always as text with two decimals, and what the inbox knows besides.
type data struct {
	pixmed.Infraction

	Previous      pixmed.MEDStatus `json:"previous,omitempty"`     // the status handled before this one, absent for the first
	PreviousValue pixmed.Amount    `json:"previousValue,omitzero"` // its value
	PreviousAt    time.Time        `json:"previousAt,omitzero"`    // when it came
	SeenAt        time.Time        `json:"seenAt,omitzero"`        // when this same status came last, absent if never
	MaybeReopened bool             `json:"maybeReopened"`          // whether a case that had ended may be open again
	Raw           json.RawMessage  `json:"raw"`                    // the gateway's body
}

// messageID returns the id by which the application knows a notification again when
// it comes twice. It is the same for each attempt: what it is made of does not change
// after the notification was accepted.
func messageID(n *pixmed.Notification) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", n.ReceivedAt.UnixMicro(), n.Raw))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// newMessage returns a notification as the application gets it.
func newMessage(n *pixmed.Notification) ([]byte, error) {
	kind := "other"
	if n.MEDStatus.Known() {
		kind = strings.ToLower(string(n.MEDStatus))
	}
	return json.Marshal(message{
		Type: "infraction." + kind, Timestamp: n.ReceivedAt.UTC(),
		Data: data{
			Infraction: n.Infraction, Previous: n.Previous, PreviousValue: n.PreviousValue, PreviousAt: n.PreviousAt, SeenAt: n.SeenAt,
			MaybeReopened: n.MaybeReopened(), Raw: bytes.TrimPrefix(n.Raw, []byte("\ufeff")),
		},
	})
}

// notification posts a notification. It returns nil once the application has answered
// with a status from 200 to 299.
func (f *forwarder) notification(ctx context.Context, n *pixmed.Notification) error {
	body, err := newMessage(n)
	if err != nil {
		return err
	}
	if err := f.wait(ctx); err != nil {
		return err
	}
	return f.post(ctx, messageID(n), body)
}

// wait waits until the application wants to be asked, or fails at once if that is
// later than there is time for.
func (f *forwarder) wait(ctx context.Context) error {
	f.mu.Lock()
	until := f.notBefore
	f.mu.Unlock()
	wait := time.Until(until)
	if wait <= 0 {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && until.Add(f.timeout).After(deadline) {
		return fmt.Errorf("not forwarded: the application asked to wait until %s (Retry-After)", until.UTC().Format(time.RFC3339))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
		return fmt.Errorf("not forwarded: the application does not answer: %w", withoutURL(err))
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
	if wait := retryAfter(response.Header.Get("Retry-After"), now); wait > 0 {
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

// retryAfter reads the header of that name: seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now).Round(time.Second)
	}
	return max(0, min(wait, longestWait))
}
