package pixmed

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Errors of the [Client] that errors.Is finds in an [*APIError].
var (
	ErrUnauthorized = errors.New("unauthorized")                        // 401
	ErrForbidden    = errors.New("forbidden")                           // 403
	ErrNotFound     = errors.New("not found")                           // 404
	ErrRateLimited  = errors.New("rate limited")                        // 429
	ErrUnavailable  = errors.New("the gateway failed or is overloaded") // 5xx
)

// APIError is an answer of the gateway, or of a proxy in front of it, that is
// not 200.
type APIError struct {
	StatusCode int           // of the last response
	Message    string        // the gateway's own words, or those of a proxy's page; may be empty
	Code       string        // the gateway's error code, if it sent one
	RequestID  string        // to quote to the gateway's support, if it sent one
	RetryAfter time.Duration // how long the gateway asked to wait, 0 if it did not
	Attempts   int           // requests that were sent
	Body       []byte        // the first 16 KiB of the response, credentials blotted out; nil where that cannot be
	Err        error         // why no further attempt was made, if not for the answer itself
}

const maxErrorBody = 16 << 10

// Error says what the gateway answered and what to do about it.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the gateway answered %d", e.StatusCode)
	if text := http.StatusText(e.StatusCode); text != "" {
		b.WriteString(" " + text)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %q", clip(e.Message, 200))
	}
	if e.Code != "" {
		fmt.Fprintf(&b, ", code %q", clip(e.Code, maxFound))
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, ", request id %q", clip(e.RequestID, maxFound))
	}
	if e.Attempts > 1 {
		b.WriteString(", after " + attempts(e.Attempts))
	}
	switch {
	case e.Err != nil:
		fmt.Fprintf(&b, "; no further attempt: %v", e.Err)
	case e.RetryAfter > 0:
		fmt.Fprintf(&b, "; it asks to wait %v, so try again then", e.RetryAfter)
	case e.StatusCode == http.StatusUnauthorized:
		b.WriteString("; check the credentials given to NewClient")
	case e.StatusCode == http.StatusForbidden:
		b.WriteString("; these credentials do not give access to it")
	case e.StatusCode == http.StatusNotFound:
		b.WriteString("; check the transaction id and the base URL")
	}
	return b.String()
}

// Is matches the error that stands for the status code, such as [ErrNotFound].
func (e *APIError) Is(target error) bool {
	switch target { // errors.Is calls this for each error in turn
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

// apiError keeps what there is to know of a response that will be dropped.
func (c *Client) apiError(resp *http.Response, attempts int) *APIError {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what arrived is enough
	body := c.credentials.redact(string(raw))
	body = body[:min(len(body), maxErrorBody)]
	e := &APIError{
		StatusCode: resp.StatusCode,
		RetryAfter: retryAfterOf(resp.Header),
		Attempts:   attempts,
		Body:       []byte(body),
	}
	for _, name := range []string{"X-Request-Id", "X-Correlation-Id", "Cf-Ray"} {
		if id := resp.Header.Get(name); id != "" {
			e.RequestID = c.credentials.redact(id)
			break
		}
	}
	message, code := describe(body)
	e.Message, e.Code = c.credentials.redact(message), c.credentials.redact(code)
	if e.Message != message || e.Code != code {
		e.Body = nil // it holds a credential, escaped in a way of its own
	}
	return e
}

// describe finds the message in an error's body: JSON in the gateway's form or
// a similar one, a proxy's HTML page, or plain text.
func describe(body string) (message, code string) {
	var members struct {
		Message jsontext.Value `json:"message"`
		Error   jsontext.Value `json:"error"`
		Detail  jsontext.Value `json:"detail"`
		Code    jsontext.Value `json:"code"`
	}
	trimmed := strings.ToValidUTF8(strings.TrimSpace(body), "\ufffd")
	if unmarshal([]byte(body), &members) == nil {
		for _, raw := range []jsontext.Value{members.Message, members.Error, members.Detail} {
			if message = jsonText(raw); message != "" {
				break
			}
		}
		if code = jsonText(members.Code); message == "" && code == "" && len(trimmed) > len("{}") {
			message = clip(trimmed, 200) // better than nothing
		}
		return message, code
	}
	var text string
	if unmarshal([]byte(body), &text) == nil {
		return text, ""
	}
	if strings.HasPrefix(trimmed, "<") {
		lower := strings.ToLower(trimmed) // ASCII in all that matters: the tags
		start := strings.Index(lower, "<title>")
		if start < 0 || len(lower) != len(trimmed) {
			return "an HTML page", ""
		}
		title := trimmed[start+len("<title>"):]
		if end := strings.Index(lower[start:], "</title>"); end >= 0 {
			title = title[:end-len("<title>")]
		}
		title = strings.Join(strings.Fields(html.UnescapeString(title)), " ")
		if title == "" {
			return "an HTML page", ""
		}
		return "an HTML page: " + clip(title, 200), ""
	}
	return clip(trimmed, 200), ""
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
