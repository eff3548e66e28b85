package pixmed

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/pixmed-go/pixmed/internal/text"
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

const maxErrorBody, maxMessage = 16 << 10, 200

// Error says what the gateway answered and what to do about it.
func (e *APIError) Error() string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(fmt.Sprintf("the gateway answered %d %s", e.StatusCode, http.StatusText(e.StatusCode))))
	for _, part := range []struct{ before, text string }{{": ", e.Message}, {", code ", e.Code}, {", request id ", e.RequestID}} {
		if part.text != "" {
			b.WriteString(part.before + quoted(part.text))
		}
	}
	if e.Attempts > 1 {
		b.WriteString(", after " + attempts(e.Attempts))
	}
	switch {
	case e.Err != nil:
		fmt.Fprintf(&b, "; no further attempt: %v", e.Err)
	case e.RetryAfter > 0:
		fmt.Fprintf(&b, "; it asks to wait %v, so try again then", e.RetryAfter)
	case e.kind().hint != "":
		b.WriteString("; " + e.kind().hint)
	}
	return b.String()
}

type answerKind struct {
	err  error
	hint string // what to do
}

// kind returns what the status code means.
func (e *APIError) kind() answerKind {
	kinds := map[int]answerKind{
		http.StatusOK:              {nil, "its body reports an error"},
		http.StatusAccepted:        {ErrNotReady, "it is not ready yet, so try again later"},
		http.StatusUnauthorized:    {ErrUnauthorized, "check the credentials given to NewClient"},
		http.StatusForbidden:       {ErrForbidden, "these credentials do not give access to it"},
		http.StatusNotFound:        {ErrNotFound, "check the transaction id and the base URL"},
		http.StatusTooManyRequests: {ErrRateLimited, ""},
	}
	if e.StatusCode >= 500 {
		return answerKind{ErrUnavailable, ""}
	}
	return kinds[e.StatusCode]
}

// quoted quotes a text that has been made printable already.
func quoted(text string) string { return `"` + strings.ReplaceAll(text, `"`, `\"`) + `"` }

// Is matches the error of the status code, such as [ErrNotFound].
func (e *APIError) Is(target error) bool { return target == e.kind().err }

// Unwrap returns Err.
func (e *APIError) Unwrap() error { return e.Err }

// newAPIError captures a response that is about to be discarded.
func (c *Client) newAPIError(resp *http.Response, body []byte, attempts int) *APIError {
	body = body[:min(len(body), maxErrorBody)]
	message, code := describe(body)
	header := resp.Header
	e := &APIError{
		StatusCode: resp.StatusCode,
		Message:    c.credentials.Show(message, maxMessage),
		Code:       c.credentials.Show(code, maxFound),
		RequestID:  c.credentials.Show(cmp.Or(header.Get("X-Request-Id"), header.Get("X-Correlation-Id"), header.Get("Cf-Ray")), maxFound),
		RetryAfter: retryAfterOf(resp),
		Attempts:   attempts,
		Body:       body,
	}
	if c.credentials.In(string(body)) || e.Message == text.Redacted || e.Code == text.Redacted {
		e.Body = nil
	}
	return e
}

// describe finds the message in an error's body: JSON in the gateway's form or
// a similar one, a proxy's HTML page, or plain text.
func describe(body []byte) (message, code string) {
	text := strings.ToValidUTF8(strings.TrimSpace(string(body)), "\ufffd")
	var value any
	if unmarshal(body, &value) != nil {
		if strings.HasPrefix(text, "<") {
			return "an HTML page", ""
		}
		return text, ""
	}
	members, isObject := value.(map[string]any)
	if !isObject {
		return cmp.Or(words(value), text), ""
	}
	message = cmp.Or(words(members["message"]), words(members["error"]), words(members["detail"]))
	code = words(members["code"])
	if message == "" && code == "" && len(members) > 0 {
		message = text // better than nothing
	}
	return message, code
}

// lenient is for errors, which are worth reading even if they are not well written.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

func unmarshal(data []byte, into any) error {
	return json.Unmarshal(bytes.TrimPrefix(data, byteOrderMark), into, lenient)
}

// words returns the text in a value: a string, a number, those in an array joined
// by semicolons, or the message in an object.
func words(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64)
	case []any:
		var texts []string
		for _, item := range value {
			if text := words(item); text != "" {
				texts = append(texts, text)
			}
		}
		return strings.Join(texts, "; ")
	case map[string]any:
		message, _ := value["message"].(string)
		return message
	}
	return ""
}
