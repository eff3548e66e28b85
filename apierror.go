package pixmed

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Errors of the [Client] that errors.Is finds in an [*APIError], by its status
// code.
var (
	// ErrNotReady is returned when the gateway answers 202 until no retry is left:
	// it is still making what was asked for.
	ErrNotReady = errors.New("not ready yet")
	// ErrUnauthorized is returned when the gateway answers 401.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden is returned when the gateway answers 403.
	ErrForbidden = errors.New("forbidden")
	// ErrNotFound is returned when the gateway answers 404.
	ErrNotFound = errors.New("not found")
	// ErrRateLimited is returned when the gateway answers 429 until no retry is left.
	ErrRateLimited = errors.New("rate limited")
	// ErrUnavailable is returned when the gateway answers 5xx until no retry is left.
	ErrUnavailable = errors.New("the gateway failed or is overloaded")
)

// APIError is an answer of the gateway, or of a proxy in front of it, that is not
// 200, or to [Client.Get] a 200 that reports an error. Its texts can be shown to
// anybody: they are cut, hold no credential and no control character.
type APIError struct {
	StatusCode int           // of the last response, or the one that its body reports
	Message    string        // the gateway's own words, up to 200 bytes; may be empty
	Code       string        // the gateway's error code, if it sent one
	RequestID  string        // to quote to the gateway's support, if it sent one
	RetryAfter time.Duration // how long the gateway asked to wait, 0 if it did not
	Attempts   int           // requests that were sent
	Body       []byte        // the first 16 KiB of the response as it came; nil if it shows a credential
	Err        error         // why no further attempt was made, if not for the answer itself
}

const (
	maxErrorBody = 16 << 10
	maxMessage   = 200
)

// Error says what the gateway answered and what to do about it.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the gateway answered %d", e.StatusCode)
	if text := http.StatusText(e.StatusCode); text != "" {
		b.WriteString(" " + text)
	}
	if e.Message != "" {
		b.WriteString(": " + quoted(e.Message))
	}
	if e.Code != "" {
		b.WriteString(", code " + quoted(e.Code))
	}
	if e.RequestID != "" {
		b.WriteString(", request id " + quoted(e.RequestID))
	}
	if e.Attempts > 1 {
		b.WriteString(", after " + attempts(e.Attempts))
	}
	switch {
	case e.Err != nil:
		fmt.Fprintf(&b, "; no further attempt: %v", e.Err)
	case e.RetryAfter > 0:
		fmt.Fprintf(&b, "; it asks to wait %v, so try again then", e.RetryAfter)
	case e.StatusCode == http.StatusAccepted:
		b.WriteString("; it is not ready yet, so try again later")
	case e.StatusCode == http.StatusUnauthorized:
		b.WriteString("; check the credentials given to NewClient")
	case e.StatusCode == http.StatusForbidden:
		b.WriteString("; these credentials do not give access to it")
	case e.StatusCode == http.StatusNotFound:
		b.WriteString("; check the transaction id and the base URL")
	}
	return b.String()
}

// quoted quotes a text that has been made printable already.
func quoted(text string) string { return `"` + strings.ReplaceAll(text, `"`, `\"`) + `"` }

// Is matches the error that stands for the status code, such as [ErrNotFound].
func (e *APIError) Is(target error) bool {
	switch target { // errors.Is calls this for each error in turn
	case ErrNotReady:
		return e.StatusCode == http.StatusAccepted
	case ErrUnauthorized:
		return e.StatusCode == http.StatusUnauthorized
	case ErrForbidden:
		return e.StatusCode == http.StatusForbidden
	case ErrNotFound:
		return e.StatusCode == http.StatusNotFound
	case ErrRateLimited:
		return e.StatusCode == http.StatusTooManyRequests
	case ErrUnavailable:
		return e.StatusCode >= 500
	}
	return false
}

// Unwrap returns Err.
func (e *APIError) Unwrap() error { return e.Err }

// apiError captures a response that is about to be discarded.
func (c *Client) apiError(resp *http.Response, attempts int) *APIError {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what arrived is enough
	return c.newAPIError(resp, body, attempts)
}

func (c *Client) newAPIError(resp *http.Response, body []byte, attempts int) *APIError {
	body = body[:min(len(body), maxErrorBody)]
	message, code := describe(body)
	e := &APIError{
		StatusCode: resp.StatusCode,
		Message:    c.credentials.show(message, maxMessage),
		Code:       c.credentials.show(code, maxFound),
		RetryAfter: retryAfterOf(resp.Header),
		Attempts:   attempts,
		Body:       body,
	}
	if c.credentials.shownIn(string(body)) || e.Message == redacted || e.Code == redacted {
		e.Body = nil
	}
	for _, name := range []string{"X-Request-Id", "X-Correlation-Id", "Cf-Ray"} {
		if id := resp.Header.Get(name); id != "" {
			e.RequestID = c.credentials.show(id, maxFound)
			break
		}
	}
	return e
}

// describe finds the message in an error's body: JSON in the gateway's form or
// a similar one, a proxy's HTML page, or plain text.
func describe(body []byte) (message, code string) {
	var members struct {
		Message jsontext.Value `json:"message"`
		Error   jsontext.Value `json:"error"`
		Detail  jsontext.Value `json:"detail"`
		Code    jsontext.Value `json:"code"`
	}
	text := strings.ToValidUTF8(strings.TrimSpace(string(body)), "\ufffd")
	if unmarshal(body, &members) == nil {
		for _, raw := range []jsontext.Value{members.Message, members.Error, members.Detail} {
			if message = jsonText(raw); message != "" {
				break
			}
		}
		if code = jsonText(members.Code); message == "" && code == "" && len(text) > len("{}") {
			message = text // better than nothing
		}
		return message, code
	}
	if unmarshal(body, &message) == nil {
		return message, ""
	}
	if strings.HasPrefix(text, "<") {
		return "an HTML page", ""
	}
	return text, ""
}

// unmarshal is lenient: an error is worth reading even if it is not well written.
func unmarshal(data []byte, into any) error {
	return json.Unmarshal(data, into, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// jsonText reads a string, a number, an array of them joined by semicolons, or
// the message in an object.
func jsonText(raw jsontext.Value) string {
	switch raw.Kind() {
	case jsontext.KindString:
		text, _ := jsontext.AppendUnquote(nil, raw)
		return string(text)
	case jsontext.KindNumber:
		return string(raw)
	case jsontext.KindBeginArray:
		var items []jsontext.Value
		_ = unmarshal(raw, &items)
		var texts []string
		for _, item := range items {
			if item.Kind() == jsontext.KindBeginArray {
				continue
			}
			if text := jsonText(item); text != "" {
				texts = append(texts, text)
			}
		}
		return strings.Join(texts, "; ")
	case jsontext.KindBeginObject:
		var object struct {
			Message jsontext.Value `json:"message"`
		}
		_ = unmarshal(raw, &object)
		if object.Message.Kind() == jsontext.KindString {
			return jsonText(object.Message)
		}
	}
	return ""
}
