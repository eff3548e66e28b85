package pixmed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxAnswer is how many bytes an answer to [Client.Get] may have.
const maxAnswer = 4 << 20

// Get sends a GET request for what this package does not model, such as the
// transaction that a webhook is about, which is worth a look before money moves.
// It uses the same credentials, retries and errors as the other methods.
//
// The path is below the base URL and does not begin with a slash, as in
// "transaction/" + url.PathEscape(id); it may have a query. A path that could lead
// elsewhere, because it has a segment "." or "..", an empty first segment or a
// control character, escaped or not, or a fragment, is [ErrInvalidPath].
//
// The answer may have up to 4 MiB. It is decoded as JSON into what into points
// to, or stored as it came if into is a *[]byte. JSON is decoded strictly, as
// encoding/json/v2 does by default: names match by case, a name that occurs twice
// and invalid UTF-8 are errors, and unknown members are ignored. Amounts should be
// decoded into an [Amount], never into a float.
//
// An answer other than 200 is an [*APIError]; a 202, which means that the answer is
// not ready yet, is retried before that and is [ErrNotReady]. A 200 with a JSON
// object that has a statusCode of 400 or more, or an error and no data, is an
// *APIError too, with that status code if there is one. It is not retried. Other
// errors are [ErrRedirect], [ErrStalled], or those of ctx and of the connection.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	path, query, _ := strings.Cut(path, "?")
	shown := c.credentials.Show(path, maxFound)
	if v := reflect.ValueOf(into); v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("get %s: into must be a pointer to store the answer in, not %T", shown, into)
	}
	if reason := invalidPath(path, query); reason != "" {
		return fmt.Errorf("%w: %s %s", ErrInvalidPath, quoted(shown), reason)
	}
	body, err := c.get(ctx, c.newCall(path, query, slog.String("path", shown)))
	if err != nil {
		return fmt.Errorf("get %s: %w", shown, err)
	}
	if raw, ok := into.(*[]byte); ok {
		*raw = body
		return nil
	}
	if err := json.Unmarshal(bytes.TrimPrefix(body, byteOrderMark), into); err != nil {
		return fmt.Errorf("get %s: unexpected JSON: %w", shown, c.credentials.Clean(err, maxText))
	}
	return nil
}

// invalidPath says what is wrong with a path, or returns "".
func invalidPath(path, query string) string {
	decoded, err := url.PathUnescape(path)
	segments := strings.Split(strings.ReplaceAll(decoded, `\`, "/"), "/")
	switch {
	case err != nil:
		return "has an incomplete escape"
	case segments[0] == "":
		return "is empty or begins with a slash: it should be relative to the base URL"
	case slices.ContainsFunc(segments, func(s string) bool { s, _, _ = strings.Cut(s, ";"); return s == "." || s == ".." }): // servlets cut a segment at a semicolon
		return `has a segment "." or ".."`
	case strings.ContainsFunc(decoded, unicode.IsControl):
		return "has a control character"
	case strings.Contains(path+query, "#"):
		return "has a fragment"
	case strings.ContainsFunc(query, func(r rune) bool { return r == ' ' || unicode.IsControl(r) }):
		return "has a query that is not escaped"
	}
	return ""
}

// get fetches a whole answer, again if it breaks off.
func (c *Client) get(ctx context.Context, call *call) ([]byte, error) {
	for {
		resp, err := c.send(ctx, call)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		_ = resp.Body.Close()
		if err == nil {
			return body, c.checkAnswer(call, resp, body)
		}
		err = fmt.Errorf("the answer broke off at byte %d: %w", len(body), err)
		if ctx.Err() != nil {
			return nil, err
		}
		if !call.retry() {
			return nil, fmt.Errorf("%w, after %s", err, attempts(call.requests))
		}
		c.logRetry(ctx, call, "pixmed: answer broke off, trying again", err)
		if stop := c.pause(ctx); stop != nil {
			return nil, fmt.Errorf("%w; before that, %w", stop, err)
		}
	}
}

// checkAnswer returns an error if an answer of 200 is too large, compressed, or
// reports an error.
func (c *Client) checkAnswer(call *call, resp *http.Response, body []byte) error {
	if err := c.checkEncoding(resp); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	var members struct {
		StatusCode jsontext.Value `json:"statusCode"`
		Error      jsontext.Value `json:"error"`
		Data       jsontext.Value `json:"data"`
	}
	_ = unmarshal(body, &members) // other JSON than an object reports nothing
	code, _ := strconv.Atoi(strings.Trim(canonical(members.StatusCode), `" `))
	if code < 400 && (saysNothing(members.Error) || !saysNothing(members.Data)) {
		return nil
	}
	e := c.newAPIError(resp, body, call.requests)
	if code >= 400 {
		e.StatusCode = code
	}
	return e
}

// saysNothing reports whether a member is absent or says nothing.
func saysNothing(v jsontext.Value) bool {
	return slices.Contains([]string{"", "null", "false", "0", `""`, "{}", "[]"}, canonical(v))
}

// canonical returns a value in the one form that RFC 8785 gives it: 400, not 4e2.
func canonical(v jsontext.Value) string {
	_ = v.Canonicalize(lenient)
	return string(v)
}
