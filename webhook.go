package pixmed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// Defaults of a [Handler].
const (
	// DefaultBodyLimit is the largest webhook body that is accepted, in bytes.
	DefaultBodyLimit = 64 << 10
	// DefaultCallbackTimeout is how long a Receiver may take.
	DefaultCallbackTimeout = 10 * time.Second

	retryAfter = "10" // seconds, with a 503
)

// Handler is an http.Handler for infraction webhooks. It verifies, reads,
// decodes and validates a request, and hands the notification to a [Receiver]
// before it answers:
//
//	200  handled, or a duplicate of what was handled
//	400  malformed JSON, an empty body, a body that was cut off
//	401  rejected by the verifier, before the body is parsed
//	405  not a POST
//	408  the body took longer than 10 seconds, or the server's ReadTimeout
//	413  the body is over the limit, as it came or decompressed
//	415  the body is compressed in another way than gzip
//	422  well formed, but not a valid infraction; the fields are named
//	500  the Receiver failed, or it or the verifier panicked: the gateway sends
//	     the notification again
//	503  the Receiver failed after its deadline or is busy, with Retry-After
//
// Errors are application/problem+json (RFC 9457). Content-Type is not checked:
// gateways send anything. Content-Encoding is ignored where the body shows
// what it is: gzip is decompressed, and what begins like a JSON object is taken
// as it is. A Handler is safe for concurrent use.
type Handler struct {
	receiver        Receiver
	verifier        Verifier // nil only WithoutVerification
	fallback        http.Handler
	invalid         func(context.Context, []byte, error) error
	observe         func(context.Context, Outcome)
	logger          *slog.Logger
	bodyLimit       int64
	bodyTimeout     time.Duration
	callbackTimeout time.Duration
}

// NewHandler returns a [Handler] that hands notifications to receiver.
//
// The gateway specifies no signature, so one of [WithVerifier] and
// [WithoutVerification] is required. If receiver or the verifier has a method
// Validate() error, NewHandler calls it and returns its error, so that a
// mistake in a configuration shows at the start and not with the first request.
// The error names everything that is wrong with the arguments.
func NewHandler(receiver Receiver, opts ...HandlerOption) (*Handler, error) {
	c := handlerConfig{
		Handler: Handler{
			receiver:        receiver,
			bodyLimit:       DefaultBodyLimit,
			bodyTimeout:     bodyTimeout,
			callbackTimeout: DefaultCallbackTimeout,
			logger:          slog.Default(),
		},
		given: given{},
	}
	errs := []error{
		validate("the Receiver", receiver),
		applyEach(opts, func(o HandlerOption) error { return o.applyHandler(&c) }),
	}
	if c.verifier != nil {
		errs = append(errs, validate("the Verifier", c.verifier))
	}
	switch {
	case c.verifier == nil && !c.unverified:
		errs = append(errs, errors.New("no verifier: use WithVerifier, or WithoutVerification if something in front of the handler verifies requests"))
	case c.verifier != nil && c.unverified:
		errs = append(errs, errors.New("WithVerifier and WithoutVerification contradict each other"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &c.Handler, nil
}

// ServeHTTP handles a webhook request. See [Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	// A panic of the fallback is the server's to handle, as any handler's is, and
	// a callback may end the goroutine. Both are logged and observed.
	o := Outcome{Result: ResultFailed, Err: errUnanswered}
	defer func() {
		o.Duration = time.Since(start)
		h.log(r, o)
		if h.observe != nil {
			_, _ = h.guard(r.Context(), "observer", func() error {
				h.observe(r.Context(), o)
				return nil
			})
		}
	}()
	o = h.serve(w, r, start)
}

var errUnanswered = errors.New("no answer was written: the fallback panicked, or a callback called runtime.Goexit")

// serve answers the request, the cheapest checks first.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, start time.Time) Outcome {
	body := sync.OnceValues(func() ([]byte, error) { return h.readBody(w, r) })
	if r.Method != http.MethodPost {
		h.limitBody(w, r)
		w.Header().Set("Allow", http.MethodPost)
		return reject(w, ResultRefused, fmt.Errorf("method %s instead of POST", printable(r.Method)),
			problem{Status: http.StatusMethodNotAllowed, Detail: "Webhooks are sent with POST."})
	}
	if outcome, ok := h.verify(w, r, body); !ok {
		return outcome
	}
	raw, err := body()
	if err != nil {
		return reject(w, ResultInvalid, err, bodyProblem(err))
	}
	if blank(raw) {
		detail := "The body is empty."
		if len(raw) == 0 && r.ContentLength != 0 {
			detail = "The body is empty, though the request announced one: a middleware in front of this handler may have consumed it."
		}
		return reject(w, ResultInvalid, &SyntaxError{Reason: emptyBody},
			problem{Status: http.StatusBadRequest, Detail: detail})
	}

	text, err := decompress(raw, r.Header, h.bodyLimit)
	var infraction *Infraction
	if err == nil {
		infraction, err = ParseInfraction(text)
	}
	switch {
	case err == nil:
		n := &Notification{Infraction: *infraction, Raw: text, ReceivedAt: start, Attempt: 1}
		key, status := n.Key(), n.MEDStatus // the Receiver may change n
		o := h.call(w, r, "Receiver", func(ctx context.Context) error { return h.receiver.Receive(ctx, n) })
		o.Key, o.MEDStatus = key, status
		return o
	case errors.Is(err, ErrNotInfraction):
		return h.other(w, r, text, err)
	case h.invalid != nil && !isType[*http.MaxBytesError](err):
		o := h.call(w, r, "WithInvalid callback", func(ctx context.Context) error { return h.invalid(ctx, raw, err) })
		if o.Result == ResultAccepted {
			o.Result, o.Err = ResultInvalid, err
		}
		return o
	default:
		return reject(w, ResultInvalid, err, parseProblem(err))
	}
}

// verify reports whether the request may go on.
func (h *Handler) verify(w http.ResponseWriter, r *http.Request, body func() ([]byte, error)) (Outcome, bool) {
	if h.verifier == nil {
		return Outcome{}, true
	}
	var bodyErr error
	panicked, err := h.guard(r.Context(), "Verifier", func() error {
		return h.verifier.Verify(r, func() (b []byte, err error) {
			b, bodyErr = body()
			return b, bodyErr
		})
	})
	if err == nil {
		return Outcome{}, true
	}
	h.limitBody(w, r) // the server reads the rest of it
	switch {
	case panicked:
		return reject(w, ResultFailed, err, problem{Status: http.StatusInternalServerError, Detail: tryAgain}), false
	case bodyErr != nil: // not the verifier's verdict
		return reject(w, ResultInvalid, bodyErr, bodyProblem(bodyErr)), false
	}
	if v, ok := h.verifier.(verifier); ok && v.challenge != "" {
		w.Header().Set("WWW-Authenticate", v.challenge)
	}
	return reject(w, ResultRefused, err,
		problem{Status: http.StatusUnauthorized, Detail: "The request could not be verified to come from the gateway."}), false
}

// call runs a callback of the user and answers by its outcome.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, what string, callback func(context.Context) error) Outcome {
	// A client that hangs up must not undo half of the callback's work, so the
	// context keeps the request's values but not its end.
	start := time.Now()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(r.Context()), start.Add(h.callbackTimeout))
	defer cancel()
	var duplicate, busy bool
	_, err := h.guard(ctx, what, func() error {
		err := callback(ctx)
		if err != nil { // its methods are the user's, and may panic as well
			duplicate, busy = isDuplicate(err), errors.Is(err, ErrBusy)
			_ = err.Error()
		}
		return err
	})
	took := time.Since(start)

	var o Outcome
	switch {
	case err == nil || duplicate:
		o = Outcome{Result: ResultAccepted, StatusCode: http.StatusOK, Err: err}
		if duplicate {
			o.Result = ResultDuplicate
		}
		w.WriteHeader(http.StatusOK)
	case busy, ctx.Err() != nil:
		w.Header().Set("Retry-After", retryAfter)
		o = reject(w, ResultBusy, err, problem{Status: http.StatusServiceUnavailable, Detail: tryAgain})
	default:
		o = reject(w, ResultFailed, err, problem{Status: http.StatusInternalServerError, Detail: tryAgain})
	}
	o.Callback = took
	return o
}

// isDuplicate is errors.Is(err, ErrDuplicate), except that an error joined with
// ErrDuplicate is a failure, which a 200 would lose.
func isDuplicate(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if err == ErrDuplicate { //nolint:errorlint // see above
			return true
		}
	}
	return false
}

// guard calls f and turns a panic into an error, after logging its stack.
func (h *Handler) guard(ctx context.Context, what string, f func() error) (panicked bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			if cause, ok := v.(error); ok {
				v = unquoted(fmt.Sprint(v), cause) // Sprint survives an error that panics
			}
			panicked, err = true, fmt.Errorf("the %s panicked: %v", what, v)
			h.logger.LogAttrs(ctx, slog.LevelError, "pixmed: recovered from a panic",
				slog.String("error", err.Error()), slog.String("stack", string(debug.Stack())))
		}
	}()
	return false, f()
}
