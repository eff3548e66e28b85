package pixmed

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
)

const tryAgain = "The notification could not be handled. Send it again later."

// problem is the body of an answer other than 200 (RFC 9457). It holds nothing
// but what the sender sent and what it may know.
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

// bodyProblem answers an error of reading the body.
func bodyProblem(err error) problem {
	var timeout interface{ Timeout() bool }
	switch {
	case isType[*http.MaxBytesError](err):
		return parseProblem(err)
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return problem{Status: http.StatusRequestTimeout, Detail: "The body took too long to arrive."}
	case errors.Is(err, http.ErrBodyReadAfterClose):
		return problem{Status: http.StatusBadRequest, Detail: "The body was closed before this handler could read it: a middleware in front of it may have consumed it."}
	}
	return problem{Status: http.StatusBadRequest, Detail: "The body was cut off."}
}

// parseProblem answers an error of decompressing a body or of [ParseInfraction].
func parseProblem(err error) problem {
	p := problem{Status: http.StatusUnprocessableEntity, Detail: sentence(err.Error())}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		p.Status, p.Detail = http.StatusRequestEntityTooLarge, fmt.Sprintf("The body is larger than %d bytes.", large.Limit)
	} else if syntax, ok := errors.AsType[*SyntaxError](err); ok {
		p.Status = http.StatusBadRequest
		if syntax.Pointer != "" {
			p.Detail = sentence(err.Error() + " (in " + printable(syntax.Pointer) + ")")
		}
	} else if errors.Is(err, ErrEncoding) {
		p.Status = http.StatusUnsupportedMediaType
	} else if invalid, ok := errors.AsType[*ValidationError](err); ok {
		p.Errors = invalid.Fields
	}
	return p
}

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }
