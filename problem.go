package pixmed

import (
	"encoding/json"
	"net/http"
)

const tryAgain = "The notification could not be handled. Send it again later."

// problem is the body of an answer other than 200, by RFC 9457. It holds
// nothing but what the sender sent and what it may know.
type problem struct {
	Type   string       `json:"type"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail"`
	Errors []FieldError `json:"errors,omitempty"`
}

// reject writes the problem and returns the outcome.
func reject(w http.ResponseWriter, result Result, cause error, p problem) Outcome {
	p.Type = "about:blank" // the title is the status code's own
	p.Title = http.StatusText(p.Status)
	body, _ := json.Marshal(p) // strings and numbers always marshal
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // a sender that hung up misses it
	return Outcome{Result: result, StatusCode: p.Status, Err: cause}
}
